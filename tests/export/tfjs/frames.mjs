// Runs a graph model over frames, in the documentation's own loop; for Node and browser.

const OUTPUTS = ['fgr', 'pha', 'r1o', 'r2o', 'r3o', 'r4o'];

/**
 * @param tf TensorFlow.js, its backend chosen.
 * @param model A graph model.
 * @param {Float32Array} frames RGB in [0, 1], one frame after the other.
 * @param {number[]} shape Of a frame: batch, height, width, 3.
 * @param {number} ratio The downsample ratio.
 * @returns {Promise<Float32Array[]>} All outputs of all frames.
 */
export async function run(tf, model, frames, shape, ratio) {
  const found = [];
  const size = shape.reduce((a, b) => a * b);
  const downsample_ratio = tf.tensor(ratio);
  let [r1i, r2i, r3i, r4i] = [tf.tensor(0.), tf.tensor(0.), tf.tensor(0.), tf.tensor(0.)];
  let tensors = null;
  for (let at = 0; at < frames.length; at += size) {
    const src = tf.tensor(frames.slice(at, at + size), shape);
    const inputs = {src, r1i, r2i, r3i, r4i, downsample_ratio};
    // Both ways by turns.
    const out = at / size % 2
      ? model.execute(inputs, OUTPUTS)
      : await model.executeAsync(inputs, OUTPUTS);
    for (const tensor of out) found.push(await tensor.data());
    const [fgr, pha, r1o, r2o, r3o, r4o] = out;
    tf.dispose([src, fgr, pha, r1i, r2i, r3i, r4i]);
    [r1i, r2i, r3i, r4i] = [r1o, r2o, r3o, r4o];
    const now = tf.memory().numTensors;
    if (tensors !== null && now !== tensors) throw new Error(`${now - tensors} tensors leak`);
    tensors = now;
  }
  tf.dispose([r1i, r2i, r3i, r4i, downsample_ratio]);
  return found;
}
