// Cuts people out of frames that come one after the other, in one worker.

import {startWorker} from '#platform';
import {BACKENDS, inOrder} from './backends.js';

export {BACKENDS};

/**
 * @typedef {import('./backends.js').Backend} Backend
 *
 * @typedef {string | URL} Address
 *
 * @typedef {object} MatterOptions
 * @property {Address | ((backend: Backend) => Address)} models Address of the folder of the
 *   models, which `tools/web_models.py` writes, or what gives it for a backend. Nothing else is
 *   fetched.
 * @property {Backend | 'automatic'} [backend] What computes. By default the first that has
 *   a real GPU and gives the right numbers, else WebAssembly.
 * @property {number} [size] Longer side of the small copy that the network sees, at least
 *   64 [pixels]; 512 by default. Larger is slower and finds people who are further away.
 * @property {AbortSignal} [signal] Stops the loading.
 *
 * @typedef {object} Pixels
 * @property {Uint8ClampedArray | Uint8Array} data RGBA bytes, row by row.
 * @property {number} width
 * @property {number} height
 *
 * @typedef {object} Matte
 * @property {Uint8ClampedArray<ArrayBuffer>} rgba Straight foreground with its alpha, row by
 *   row.
 * @property {Uint8ClampedArray} alpha Coverage of each pixel, 0 to 255; made when it is read.
 * @property {number} width
 * @property {number} height
 * @property {number} milliseconds How long the network took.
 *
 * @typedef {import('./answer.js').State} State
 */

const SMALLEST = 16; // pixels that the network needs of each side

/**
 * Load the network.
 *
 * Its alpha is compared with that of PyTorch on three frames before it is used.
 *
 * @param {MatterOptions} options
 * @returns {Promise<Matter>}
 * @throws {RangeError} If an option has a value that is not allowed.
 * @throws {Error} If no backend runs here; the message has the reason for each.
 */
export async function createMatter({models, backend = 'automatic', size = 512, signal}) {
  if (!models) throw new RangeError('models is missing; give the address of the models\' folder');
  if (backend !== 'automatic' && !BACKENDS.includes(backend)) {
    throw new RangeError(`backend is ${backend}; use automatic, ${BACKENDS.join(', ')}`);
  }
  if (!(size >= 64)) throw new RangeError(`size is ${size}; use 64 or more`);
  const failures = [];
  for (const each of backend === 'automatic' ? await inOrder() : [backend]) {
    signal?.throwIfAborted();
    const matter = new Matter(each, size);
    signal?.addEventListener('abort', () => matter.close(), {once: true});
    try {
      const folder = `${typeof models === 'function' ? models(each) : models}`;
      return await matter.open(
        new URL(folder.replace(/\/?$/, '/'), globalThis.document?.baseURI).href);
    } catch (error) {
      matter.close();
      failures.push(`${each}: ${/** @type {Error} */ (error).message}`);
    }
  }
  signal?.throwIfAborted();
  throw new Error(failures.join('; '));
}

/** A network in a worker of its own, with what it remembers of the last frames. */
export class Matter {
  /** @type {Worker} */
  #worker = startWorker();
  #last = Promise.resolve();
  #fail = /** @type {(error: Error) => void} */ (() => {});
  #closed = false;
  #size;

  /** How many threads compute; 0 on a GPU. */
  threads = 0;
  /** Mean difference of alpha to PyTorch, in [0, 1]. */
  difference = NaN;

  /**
   * Use `createMatter`.
   *
   * @param {Backend} backend
   * @param {number} size
   */
  constructor(backend, size) {
    /** What computes. */
    this.backend = backend;
    this.#size = size;
  }

  /**
   * Load it; `createMatter` does.
   *
   * @param {string} models
   */
  async open(models) {
    return Object.assign(this, await this.#ask('open', {backend: this.backend, models}));
  }

  /**
   * Matte the next frame of a video. A frame of another size resets the states.
   *
   * @param {Pixels | CanvasImageSource} frame RGBA bytes, such as an ImageData, or in browsers
   *   what a canvas can draw: a VideoFrame, an ImageBitmap, a video.
   * @param {{ratio?: number, region?: 'full' | 'auto'}} [options] `ratio` is the size of the
   *   small copy relative to the frame, in (0, 1]; it follows from `size` by default. With the
   *   region `auto` the network sees a window that follows the people, in which they are
   *   larger; alpha is 0 outside. Where nobody is seen, it now and then sees a larger copy.
   * @returns {Promise<Matte>}
   * @throws {RangeError} If the frame is too small.
   */
  async matte(frame, {ratio, region = 'full'} = {}) {
    const {data, width, height} = 'data' in frame ? frame : drawn(frame);
    ratio ??= Math.min(1, this.#size / Math.max(width, height));
    if (Math.min(width, height) * ratio < SMALLEST) {
      throw new RangeError(`a frame of ${width}x${height} at ratio ${ratio} leaves less than `
        + `${SMALLEST} pixels; use a larger frame, size or ratio`);
    }
    const own = Uint8ClampedArray.from(data); // the worker takes its bytes away
    const matte = await this.#ask('matte', {data: own, width, height, ratio, region}, [own.buffer]);
    return {...matte, get alpha() { return alphaOf(matte.rgba); }};
  }

  /**
   * Read what the network remembers.
   *
   * @param {1 | 2 | 3 | 4} number
   * @returns {Promise<State>}
   */
  state(number) {
    return this.#ask('state', number);
  }

  /**
   * Where the network looks with the region `auto`; null for the whole frame.
   *
   * @returns {Promise<?{left: number, top: number, width: number, height: number}>}
   */
  window() {
    return this.#ask('window');
  }

  /** Forget the last frames, before another video. */
  async reset() {
    await this.#ask('reset');
  }

  /**
   * How many tensors are held; stays the same from frame to frame.
   *
   * @returns {Promise<number>}
   */
  tensors() {
    return this.#ask('tensors');
  }

  /** End the worker and free its memory; what is still asked for fails. */
  close() {
    this.#closed = true;
    this.#worker.terminate();
    this.#fail(new Error('the matter was closed'));
  }

  /**
   * @param {string} name
   * @param {any} [argument]
   * @param {Transferable[]} [moved]
   * @returns {Promise<any>}
   */
  #ask(name, argument, moved = []) {
    const answer = this.#last.then(() => new Promise((resolve, reject) => {
      if (this.#closed) return reject(new Error('the matter was closed'));
      this.#fail = reject;
      this.#worker.onerror = event => reject(new Error(event.message || 'its worker failed'));
      this.#worker.onmessage = ({data: {result, error}}) =>
        error === undefined ? resolve(result) : reject(new Error(error));
      this.#worker.postMessage({name, argument}, moved);
    }));
    this.#last = answer.then(() => {}, () => {});
    return answer;
  }
}

/**
 * Read the pixels of a picture.
 *
 * @param {CanvasImageSource} picture
 */
function drawn(picture) {
  const any = /** @type {any} */ (picture);
  const width = any.displayWidth ?? any.videoWidth ?? any.naturalWidth ?? any.width;
  const height = any.displayHeight ?? any.videoHeight ?? any.naturalHeight ?? any.height;
  canvas ??= new OffscreenCanvas(width, height).getContext('2d', {willReadFrequently: true});
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas);
  Object.assign(context.canvas, {width, height});
  context.drawImage(picture, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

/** @type {OffscreenCanvasRenderingContext2D | null} */
let canvas = null;

/** @param {Uint8ClampedArray} rgba */
function alphaOf(rgba) {
  const alpha = new Uint8ClampedArray(rgba.length / 4);
  for (let at = 0; at < alpha.length; at++) alpha[at] = rgba[4 * at + 3];
  return alpha;
}
