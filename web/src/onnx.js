// The ONNX file in ONNX Runtime Web, on WebGPU or in WebAssembly with SIMD and threads.

const RUNTIMES = {
  webgpu: () => Promise.all([
    import('onnxruntime-web/webgpu'),
    import('onnxruntime-web/ort-wasm-simd-threaded.asyncify.mjs?url'),
    import('onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url'),
  ]),
  wasm: () => Promise.all([
    import('onnxruntime-web/wasm'),
    import('onnxruntime-web/ort-wasm-simd-threaded.mjs?url'),
    import('onnxruntime-web/ort-wasm-simd-threaded.wasm?url'),
  ]),
};
const STATES = ['r1o', 'r2o', 'r3o', 'r4o'];

/**
 * Load the network.
 *
 * @param {'webgpu' | 'wasm'} backend
 * @param {string} models The folder of the models, with a slash at its end.
 * @returns An engine: `step(pixels, width, height, ratio, state)` takes RGBA bytes and
 *   gives `{matte}`, RGBA bytes of foreground and alpha, or, with a number from 0 to 3
 *   as `state`, that state's `{values, channels, height, width}`, planar. `reset()`
 *   forgets the states, `tensors()` counts what is held, `about` is for the user.
 */
export async function open(backend, models) {
  const [ort, mjs, wasm] = await RUNTIMES[backend]();
  ort.env.wasm.wasmPaths = {mjs: mjs.default, wasm: wasm.default};
  const threads = backend === 'wasm' && self.crossOriginIsolated ? manyThreads() : 1;
  ort.env.wasm.numThreads = threads;
  const onGpu = Object.fromEntries(STATES.map(name => [name, 'gpu-buffer']));
  const session = await ort.InferenceSession.create(`${models}network.onnx`, {
    executionProviders: [backend],
    logSeverityLevel: 3, // not that sizes are computed on the CPU
    preferredOutputLocation: backend === 'webgpu' ? onGpu : 'cpu',
  });
  const zeros = () => STATES.map(() => new ort.Tensor('float32', [0], [1, 1, 1, 1]));
  let states = zeros();
  const forget = () => states.forEach(tensor => tensor.dispose());

  return {
    about: backend === 'wasm' ? `${threads}` : '',
    async step(pixels, width, height, ratio, state) {
      const src = new ort.Tensor('float32', planar(pixels), [1, 3, height, width]);
      const [r1i, r2i, r3i, r4i] = states;
      const downsample_ratio = new ort.Tensor('float32', [ratio], [1]);
      const out = await session.run({src, r1i, r2i, r3i, r4i, downsample_ratio});
      forget();
      states = STATES.map(name => out[name]);
      if (state === null) return {matte: interleaved(out.fgr.data, out.pha.data)};
      const [, channels, rows, columns] = states[state].dims;
      // Read from the GPU; the next step sends it there again.
      const values = await states[state].getData(true);
      return {values, channels, height: rows, width: columns};
    },
    reset() {
      forget();
      states = zeros();
    },
    tensors: () => states.length,
  };
}

/** One for each core, of which browsers count most twice; all of two. */
function manyThreads() {
  const cores = navigator.hardwareConcurrency;
  return Math.min(cores, Math.max(2, Math.ceil(cores / 2)), 8);
}

/** RGBA bytes to RGB planes in [0, 1]. */
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

/** Planes of foreground and alpha to RGBA bytes. */
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
