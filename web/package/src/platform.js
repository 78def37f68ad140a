// What differs between browsers and Node; this is for browsers.

/** Start the worker that runs the network. */
export function startWorker() {
  return new Worker(new URL('./worker.js', import.meta.url), {type: 'module'});
}

/** How many threads may share memory. Pages must be isolated from others for more than one. */
export function cores() {
  return crossOriginIsolated ? navigator.hardwareConcurrency : 1;
}

/**
 * Read a file.
 *
 * @param {string} address
 * @returns {Promise<Uint8Array>}
 */
export async function read(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address} cannot be read: status ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}
