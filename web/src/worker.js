// Runs the network beside the page, so that the page never waits. A worker serves one
// backend; the page ends it to change to another, which frees all of its memory.

const MODELS = new URL('../models/', self.location.href).href;
// Of alpha, on average over a frame with people. Half precision stays below 0.001.
const WRONG = 0.01;

let engine = null;
let shape = '';

const COMMANDS = {
  /** Load the backend and prove its numbers. */
  async open(backend) {
    const runtime = backend === 'webgl' ? await import('./tfjs.js') : await import('./onnx.js');
    engine = await runtime.open(backend, MODELS);
    const {width, height, ratio, frames, alpha} = await (await fetch(`${MODELS}check.json`)).json();
    let found;
    for (const frame of frames) {
      const pixels = new Uint8ClampedArray(4 * width * height);
      for (let at = 0; at < width * height; at++) {
        pixels.set(frame.slice(3 * at, 3 * at + 3), 4 * at);
      }
      found = (await engine.step(pixels, width, height, ratio, null)).matte;
    }
    let sum = 0;
    alpha.forEach((value, at) => { sum += Math.abs(value - found[4 * at + 3]); });
    const difference = sum / alpha.length / 255;
    if (!(difference < WRONG)) {
      throw new Error(`its alpha is off by ${difference.toFixed(3)} on average`);
    }
    engine.reset();
    return {about: engine.about, difference};
  },

  /** Matte one frame; `view` says what of it is wanted, as RGBA bytes. */
  async step({pixels, width, height, ratio, view}) {
    const now = `${width}x${height} ${ratio}`;
    if (shape !== now) engine.reset(); // states belong to one size
    shape = now;
    const begin = performance.now();
    const state = /^r[1-4]$/.test(view) ? Number(view[1]) - 1 : null;
    const out = await engine.step(pixels, width, height, ratio, state);
    const milliseconds = performance.now() - begin;
    if (state !== null) return {...grid(out), milliseconds};
    return {pixels: PICTURES[view]?.(out.matte) ?? out.matte, width, height, milliseconds};
  },

  reset: () => engine.reset(),
  tensors: () => engine.tensors(),
};

const PICTURES = {
  alpha(matte) {
    for (let at = 0; at < matte.length; at += 4) {
      matte.fill(matte[at + 3], at, at + 3);
      matte[at + 3] = 255;
    }
    return matte;
  },
  foreground(matte) {
    for (let at = 3; at < matte.length; at += 4) matte[at] = 255;
    return matte;
  },
};

/** All channels of a state side by side, -1 black and 1 white. */
function grid({values, channels, height, width}) {
  let columns = Math.ceil(Math.sqrt(channels));
  while (channels % columns) columns++;
  const rows = channels / columns;
  const across = columns * width;
  const pixels = new Uint8ClampedArray(4 * across * rows * height).fill(255);
  for (let channel = 0; channel < channels; channel++) {
    const left = channel % columns * width;
    const top = Math.floor(channel / columns) * height;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const gray = 127.5 * (1 + values[(channel * height + y) * width + x]);
        const at = 4 * ((top + y) * across + left + x);
        pixels[at] = pixels[at + 1] = pixels[at + 2] = gray;
      }
    }
  }
  return {pixels, width: across, height: rows * height};
}

self.onmessage = async ({data: {name, argument}}) => {
  try {
    const result = await COMMANDS[name](argument);
    self.postMessage({result}, result?.pixels ? [result.pixels.buffer] : []);
  } catch (error) {
    self.postMessage({error: error?.message ?? String(error)});
  }
};
