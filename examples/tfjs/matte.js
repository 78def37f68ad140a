// Matte a clip with TensorFlow.js in Node: raw RGB in, the person over green out.
//
//     rematte export tfjs
//     npm install --prefix examples/tfjs
//     ffmpeg -i clip.mp4 -f rawvideo -pix_fmt rgb24 - |
//       node examples/tfjs/matte.js rvm_mobilenetv3_fp32_tfjs 1280 720 0.375 |
//       ffmpeg -f rawvideo -pix_fmt rgb24 -s 1280x720 -i - out.mp4
//
// In a browser, all of `loadFolder` is `tf.loadGraphModel('model/model.json')`, and src
// is `tf.tidy(() => tf.browser.fromPixels(video).expandDims(0).div(255))`.

const fs = require('fs');
const path = require('path');
const tf = require('@tensorflow/tfjs');
const wasm = require('@tensorflow/tfjs-backend-wasm');

function loadFolder(folder) {
  const read = name => fs.readFileSync(path.join(folder, name));
  return tf.loadGraphModel({
    load: async () => {
      const model = JSON.parse(read('model.json'));
      const [{paths, weights}] = model.weightsManifest;
      const weightData = new Uint8Array(Buffer.concat(paths.map(read))).buffer;
      return {...model, weightSpecs: weights, weightData};
    },
  });
}

async function* framesOf(stream, size) {
  let rest = Buffer.alloc(0);
  for await (const piece of stream) {
    rest = Buffer.concat([rest, piece]);
    for (; rest.length >= size; rest = rest.subarray(size)) yield rest.subarray(0, size);
  }
}

async function main(folder, width, height, ratio) {
  wasm.setWasmPaths(path.dirname(require.resolve('@tensorflow/tfjs-backend-wasm')) + path.sep);
  await tf.setBackend('wasm');
  const model = await loadFolder(folder);

  // Initial recurrent states.
  let [r1i, r2i, r3i, r4i] = [tf.tensor(0.), tf.tensor(0.), tf.tensor(0.), tf.tensor(0.)];
  const downsample_ratio = tf.tensor(ratio);  // Adjust based on your video.
  const green = tf.tensor([0.47, 1, 0.6]);

  for await (const pixels of framesOf(process.stdin, 3 * width * height)) {
    const src = tf.tidy(() => tf.tensor(pixels, [1, height, width, 3]).div(255));
    const [fgr, pha, r1o, r2o, r3o, r4o] = await model.executeAsync(
      {src, r1i, r2i, r3i, r4i, downsample_ratio},  // Provide inputs.
      ['fgr', 'pha', 'r1o', 'r2o', 'r3o', 'r4o']);  // Select outputs.
    const composite = tf.tidy(() =>
      fgr.mul(pha).add(green.mul(tf.sub(1, pha))).mul(255).round().cast('int32'));
    process.stdout.write(Buffer.from(await composite.data()));

    tf.dispose([src, fgr, pha, composite, r1i, r2i, r3i, r4i]);  // Free the memory.
    [r1i, r2i, r3i, r4i] = [r1o, r2o, r3o, r4o];  // Update recurrent states.
  }
}

const [folder, ...numbers] = process.argv.slice(2);
main(folder, ...numbers.map(Number));
