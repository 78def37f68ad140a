// The graph model in TensorFlow.js, on WebGL. States are tensors and stay on the GPU.

import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-webgl';
import {loadGraphModel} from '@tensorflow/tfjs-converter';

const OUTPUTS = ['fgr', 'pha', 'r1o', 'r2o', 'r3o', 'r4o'];

/** See onnx.js: the same for another runtime. */
export async function open(_, models) {
  if (!await tf.setBackend('webgl')) throw new Error('this browser has no WebGL');
  const model = await loadGraphModel(`${models}tfjs/model.json`);
  const zeros = () => [0, 0, 0, 0].map(value => tf.scalar(value));
  let states = zeros();

  function run(pixels, width, height, ratio, state) {
    const picture = {data: new Uint8Array(pixels.buffer), width, height};
    const src = tf.expandDims(tf.div(tf.cast(tf.browser.fromPixels(picture, 3), 'float32'), 255));
    const [r1i, r2i, r3i, r4i] = states;
    const given = {src, r1i, r2i, r3i, r4i, downsample_ratio: tf.scalar(ratio)};
    const [fgr, pha, ...after] = model.execute(given, OUTPUTS);
    const shown = state === null
      ? tf.mul(tf.concat([fgr, pha], 3), 255)
      : tf.transpose(after[state], [0, 3, 1, 2]);
    return [shown, ...after];
  }

  return {
    about: '',
    async step(...given) {
      const [shown, ...after] = tf.tidy(() => run(...given));
      tf.dispose(states);
      states = after;
      const values = await shown.data();
      shown.dispose();
      if (given[4] === null) return {matte: new Uint8ClampedArray(values)};
      const [, channels, height, width] = shown.shape;
      return {values, channels, height, width};
    },
    reset() {
      tf.dispose(states);
      states = zeros();
    },
    tensors: () => tf.memory().numTensors,
  };
}
