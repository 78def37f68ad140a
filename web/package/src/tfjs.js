// The graph model in TensorFlow.js, on WebGL. States are tensors and stay on the GPU.

import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-webgl';
import {loadGraphModel} from '@tensorflow/tfjs-converter';
import {shifted} from './shift.js';

const OUTPUTS = ['fgr', 'pha', 'r1o', 'r2o', 'r3o', 'r4o'];

/**
 * Load the network; see onnx.js.
 *
 * @param {string} _
 * @param {string} models
 * @returns {Promise<import('./answer.js').Engine>}
 */
export async function open(_, models) {
  if (!await tf.setBackend('webgl')) throw new Error('this browser has no WebGL');
  const model = await loadGraphModel(`${models}tfjs/model.json`);
  /** @returns {tf.Tensor[]} */
  const zeros = () => [0, 0, 0, 0].map(value => tf.scalar(value));
  let states = zeros();

  /** @type {(pixels: Uint8ClampedArray, width: number, height: number, ratio: number) => tf.Tensor[]} */
  function run(pixels, width, height, ratio) {
    const picture = {data: new Uint8Array(pixels.buffer), width, height};
    const src = tf.expandDims(tf.div(tf.cast(tf.browser.fromPixels(picture, 3), 'float32'), 255));
    const [r1i, r2i, r3i, r4i] = states;
    const given = {src, r1i, r2i, r3i, r4i, downsample_ratio: tf.scalar(ratio)};
    const [fgr, pha, ...after] = /** @type {tf.Tensor[]} */ (model.execute(given, OUTPUTS));
    return [tf.mul(tf.concat([fgr, pha], 3), 255), ...after];
  }

  return {
    threads: 0,
    async step(...given) {
      const [matte, ...after] = tf.tidy(() => run(...given));
      tf.dispose(states);
      states = after;
      const values = await matte.data();
      matte.dispose();
      return new Uint8ClampedArray(values);
    },
    async state(number) {
      const planes = tf.transpose(states[number - 1], [0, 3, 1, 2]);
      const [, channels, height, width] = planes.shape;
      const values = /** @type {Float32Array} */ (await planes.data());
      planes.dispose();
      return {values, channels, height, width};
    },
    reset() {
      tf.dispose(states);
      states = zeros();
    },
    exchange(other) {
      const before = states;
      states = other ?? zeros();
      return before;
    },
    dispose: other => tf.dispose(other),
    async move(down, right) {
      const before = states;
      states = await Promise.all(before.map(async (tensor, level) => {
        const planes = tf.transpose(tensor, [0, 3, 1, 2]);
        const [, , height, width] = planes.shape;
        const cell = 8 >> level; // state 1 is of half the size, state 4 of a sixteenth
        const values = /** @type {Float32Array} */ (await planes.data());
        const moved = shifted(values, height, width, down * cell, right * cell);
        const {shape} = planes;
        planes.dispose();
        return tf.tidy(() => tf.transpose(tf.tensor(moved, shape), [0, 2, 3, 1]));
      }));
      tf.dispose(before);
    },
    tensors: () => tf.memory().numTensors,
  };
}
