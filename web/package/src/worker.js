import {answer} from './answer.js';

self.onmessage = async ({data}) => {
  const {message, moved} = await answer(data);
  self.postMessage(message, {transfer: moved});
};
