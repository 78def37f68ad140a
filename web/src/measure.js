// How many frames a second each backend gives on this machine.

import {BACKENDS, Matting} from './matting.js';

export const SIZES = [[256, 144], [512, 288]];
const WARM = 1; // shaders are made with the first frame
const SECONDS = 4;
const MOST = 60;

/**
 * Run every backend at every size, at ratio 1, page and worker together.
 *
 * @param {CanvasImageSource} picture What the frames show.
 * @param {(row: {backend, rates}) => void} tell Called for each backend: frames/s at
 *   each size, null where it does not run.
 */
export async function measure(picture, tell) {
  for (const backend of BACKENDS) {
    const rates = [];
    try {
      const matting = await new Matting(backend).open();
      for (const [width, height] of SIZES) rates.push(await rate(matting, picture, width, height));
      matting.close();
    } catch {
      while (rates.length < SIZES.length) rates.push(null);
    }
    tell({backend, rates});
  }
}

async function rate(matting, picture, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext('2d', {willReadFrequently: true});
  let begin = 0;
  for (let count = 0; ; count++) {
    if (count === WARM) begin = performance.now();
    const seconds = (performance.now() - begin) / 1000;
    if (count > WARM && (seconds > SECONDS || count - WARM === MOST)) {
      return (count - WARM) / seconds;
    }
    context.drawImage(picture, 0, 0, width, height);
    const {data: pixels} = context.getImageData(0, 0, width, height);
    await matting.step({pixels, width, height, ratio: 1, view: 'green'});
  }
}
