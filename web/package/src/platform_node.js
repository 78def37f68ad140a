// What differs between browsers and Node; this is for Node, see platform.js.

import {readFile} from 'node:fs/promises';
import {availableParallelism} from 'node:os';
import {Worker} from 'node:worker_threads';
import {read as fetched} from './platform.js';

/** A thread with the events of a browser's worker. */
export function startWorker() {
  const thread = new Worker(new URL('./worker_node.js', import.meta.url));
  const worker = /** @type {any} */ (thread);
  thread.on('message', data => worker.onmessage?.({data}));
  thread.on('error', error => worker.onerror?.(error));
  return worker;
}

export {availableParallelism as cores};

/** @param {string} address */
export async function read(address) {
  return address.startsWith('file:') ? new Uint8Array(await readFile(new URL(address))) : fetched(address);
}
