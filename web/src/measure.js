// How many frames a second each backend gives on this machine.

import {BACKENDS, createMatter} from 'rematte-web';

export const SIZES = [[256, 144], [512, 288]];
const WARM = 1; // shaders are made with the first frame
const SECONDS = 4;
const MOST = 60;

/**
 * Run every backend at every size, at ratio 1, page and worker together.
 *
 * @param {(backend: string) => string} models Gives the folder of a backend's models.
 * @param {CanvasImageSource} picture What the frames show.
 * @param {(row: {backend, rates}) => void} report Called for each backend: frames/s at
 *   each size, null where it does not run.
 */
export async function measure(models, picture, report) {
  for (const backend of BACKENDS) {
    const rates = [];
    try {
      const matter = await createMatter({models, backend});
      for (const [width, height] of SIZES) rates.push(await rate(matter, picture, width, height));
      matter.close();
    } catch {
      while (rates.length < SIZES.length) rates.push(null);
    }
    report({backend, rates});
  }
}

async function rate(matter, picture, width, height) {
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
    await matter.matte(context.getImageData(0, 0, width, height), {ratio: 1});
  }
}
