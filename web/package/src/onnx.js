// The ONNX file in ONNX Runtime Web, on WebGPU or in WebAssembly with SIMD and threads.

import {cores, read} from '#platform';
import {shifted} from './shift.js';

const STATES = ['r1o', 'r2o', 'r3o', 'r4o'];

/**
 * Load the network.
 *
 * @param {'webgpu' | 'wasm'} backend
 * @param {string} models The folder of the models, with a slash at its end.
 * @returns {Promise<import('./answer.js').Engine>}
 */
export async function open(backend, models) {
  /** @type {typeof import('onnxruntime-common')} */
  const ort = backend === 'webgpu'
    ? await import('onnxruntime-web/webgpu')
    : await import(/** @type {any} */ ('#wasm'));
  const threads = backend === 'wasm' ? manyThreads() : 0;
  ort.env.wasm.numThreads = threads || 1;
  const session = await ort.InferenceSession.create(await read(`${models}network.onnx`), {
    executionProviders: [backend],
    logSeverityLevel: 3, // not that sizes are computed on the CPU
    preferredOutputLocation: backend === 'webgpu'
      ? Object.fromEntries(STATES.map(name => [name, /** @type {const} */ ('gpu-buffer')])) : 'cpu',
  });
  const zeros = () => STATES.map(() => new ort.Tensor('float32', [0], [1, 1, 1, 1]));
  let states = zeros();
  const forget = () => states.forEach(tensor => tensor.dispose());

  return {
    threads,
    async step(pixels, width, height, ratio) {
      const src = new ort.Tensor('float32', planar(pixels), [1, 3, height, width]);
      const [r1i, r2i, r3i, r4i] = states;
      const downsample_ratio = new ort.Tensor('float32', [ratio], [1]);
      const out = await session.run({src, r1i, r2i, r3i, r4i, downsample_ratio});
      forget();
      states = STATES.map(name => /** @type {any} */ (out[name]));
      return interleaved(/** @type {any} */ (out.fgr.data), /** @type {any} */ (out.pha.data));
    },
    async state(number) {
      const [, channels, height, width] = states[number - 1].dims;
      // Read from the GPU; the next step sends it there again.
      const values = await states[number - 1].getData(true);
      return {values: /** @type {Float32Array} */ (values), channels, height, width};
    },
    reset() {
      forget();
      states = zeros();
    },
    exchange(other) {
      const before = states;
      states = other ?? zeros();
      return before;
    },
    dispose: other => other.forEach((/** @type {{dispose(): void}} */ tensor) => tensor.dispose()),
    async move(down, right) {
      const before = states;
      states = await Promise.all(before.map(async (tensor, level) => {
        const [, , height, width] = tensor.dims;
        const cell = 8 >> level; // state 1 is of half the size, state 4 of a sixteenth
        const values = /** @type {Float32Array} */ (await tensor.getData(true));
        return new ort.Tensor(
          'float32', shifted(values, height, width, down * cell, right * cell), tensor.dims);
      }));
      before.forEach(tensor => tensor.dispose());
    },
    tensors: () => states.length,
  };
}

/** One for each core, of which browsers count most twice; all of two. */
function manyThreads() {
  const many = cores();
  return Math.min(many, Math.max(2, Math.ceil(many / 2)), 8);
}

/**
 * RGBA bytes to RGB planes in [0, 1].
 *
 * @param {Uint8ClampedArray} pixels
 */
function planar(pixels) {
  const count = pixels.length / 4;
  const planes = new Float32Array(3 * count);
  for (let at = 0; at < count; at++) {
    planes[at] = pixels[4 * at] / 255;
    planes[count + at] = pixels[4 * at + 1] / 255;
    planes[2 * count + at] = pixels[4 * at + 2] / 255;
  }
  return planes;
}

/**
 * Planes of foreground and alpha to RGBA bytes.
 *
 * @param {Float32Array} fgr
 * @param {Float32Array} pha
 */
function interleaved(fgr, pha) {
  const count = pha.length;
  const matte = new Uint8ClampedArray(4 * count);
  for (let at = 0; at < count; at++) {
    matte[4 * at] = 255 * fgr[at];
    matte[4 * at + 1] = 255 * fgr[count + at];
    matte[4 * at + 2] = 255 * fgr[2 * count + at];
    matte[4 * at + 3] = 255 * pha[at];
  }
  return matte;
}
