import {parentPort} from 'node:worker_threads';
import {answer} from './answer.js';

parentPort?.on('message', async data => {
  const {message, moved} = await answer(data);
  parentPort?.postMessage(message, moved);
});
