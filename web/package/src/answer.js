// What the worker does when it is asked: it holds one engine and its recurrent states.

import {read} from '#platform';
import {Follower} from './follow.js';

/**
 * @typedef {object} Engine
 * @property {number} threads 0 where a GPU computes.
 * @property {(pixels: Uint8ClampedArray, width: number, height: number, ratio: number) =>
 *   Promise<Uint8ClampedArray>} step Mattes RGBA bytes; gives those of foreground and alpha.
 * @property {(number: number) => Promise<State>} state Reads recurrent state 1 to 4.
 * @property {() => void} reset Forgets the states.
 * @property {(states: any) => any} exchange Takes other states, or none if null; gives those
 *   from before.
 * @property {(states: any) => void} dispose Frees states that are not in use.
 * @property {(down: number, right: number) => Promise<void>} move Moves what the states
 *   show by whole cells; what comes in from outside is 0.
 * @property {() => number} tensors Counts the tensors that are held.
 *
 * @typedef {object} State
 * @property {Float32Array} values Planes, one after the other, in [-1, 1].
 * @property {number} channels
 * @property {number} height
 * @property {number} width
 */

// Mean difference of alpha on frames with people that is still right. Half precision
// stays below 0.001.
const WRONG = 0.01;

/** @type {Engine} */
let engine;
/** @type {Follower} */
let follower;
let shape = '';

/** @type {Record<string, (argument: any) => any>} */
const COMMANDS = {
  /** Load a backend and compare its alpha with the network's in PyTorch. */
  async open({backend, models}) {
    const runtime = backend === 'webgl' ? await import('./tfjs.js') : await import('./onnx.js');
    engine = await runtime.open(backend, models);
    const check = JSON.parse(new TextDecoder().decode(await read(`${models}check.json`)));
    const {width, height, ratio, frames, alpha} = check;
    /** @type {Uint8ClampedArray} */
    let found = new Uint8ClampedArray();
    for (const frame of frames) {
      const pixels = new Uint8ClampedArray(4 * width * height);
      for (let at = 0; at < width * height; at++) {
        pixels.set(frame.slice(3 * at, 3 * at + 3), 4 * at);
      }
      found = await engine.step(pixels, width, height, ratio);
    }
    let sum = 0;
    for (let at = 0; at < alpha.length; at++) sum += Math.abs(alpha[at] - found[4 * at + 3]);
    const difference = sum / alpha.length / 255;
    if (!(difference < WRONG)) {
      throw new Error(`its alpha is off by ${difference.toFixed(3)} on average`);
    }
    engine.reset();
    follower = new Follower(engine);
    return {threads: engine.threads, difference};
  },

  /** Matte one frame. */
  async matte({data, width, height, ratio, region}) {
    const now = `${width}x${height} ${ratio} ${region}`;
    if (shape !== now) follower.reset(); // states belong to one size
    shape = now;
    const begin = performance.now();
    const rgba = await (region === 'auto' ? follower.matte(data, width, height, ratio)
      : engine.step(data, width, height, ratio));
    return {rgba, width, height, milliseconds: performance.now() - begin};
  },

  state: number => engine.state(number),
  reset: () => follower.reset(),
  window: () => follower.window,
  tensors: () => engine.tensors(),
};

/**
 * Do what a message asks for.
 *
 * @param {{name: string, argument: any}} request
 * @returns {Promise<{message: {result?: any, error?: string}, moved: ArrayBuffer[]}>} The
 *   answer, and the buffers in it that need no copy.
 */
export async function answer({name, argument}) {
  try {
    const result = await COMMANDS[name](argument);
    return {message: {result}, moved: result?.rgba ? [result.rgba.buffer] : []};
  } catch (error) {
    return {message: {error: error instanceof Error ? error.message : String(error)}, moved: []};
  }
}
