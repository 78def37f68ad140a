// node node.mjs MODEL FRAMES OUT BACKEND B,H,W,3 RATIO: what the model makes of frames.

import fs from 'node:fs';
import {createRequire} from 'node:module';
import path from 'node:path';
import {run} from './frames.mjs';

const require = createRequire(import.meta.url);
const tf = require('@tensorflow/tfjs');
const wasm = require('@tensorflow/tfjs-backend-wasm');

const [folder, input, output, backend, shape, ratio] = process.argv.slice(2);
wasm.setWasmPaths(path.dirname(require.resolve('@tensorflow/tfjs-backend-wasm')) + path.sep);
if (!await tf.setBackend(backend)) throw new Error(`no backend ${backend}`);

// In a browser this would be `tf.loadGraphModel('model/model.json')`.
const model = await tf.loadGraphModel({load: async () => {
  const {weightsManifest, ...rest} = JSON.parse(fs.readFileSync(path.join(folder, 'model.json')));
  const [{paths, weights}] = weightsManifest;
  const shards = paths.map(name => fs.readFileSync(path.join(folder, name)));
  return {...rest, weightSpecs: weights, weightData: new Uint8Array(Buffer.concat(shards)).buffer};
}});
const frames = new Float32Array(new Uint8Array(fs.readFileSync(input)).buffer);
const found = await run(tf, model, frames, shape.split(',').map(Number), Number(ratio));
fs.writeFileSync(output, Buffer.concat(found.map(array => new Uint8Array(array.buffer, array.byteOffset, array.byteLength))));
