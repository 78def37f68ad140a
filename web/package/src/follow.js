// One window that follows people, so that the network sees them larger; the same rule as
// `rematte live --region auto`, without looking ahead. The coarse pass keeps its size and
// moves in whole cells, with which the recurrent states are moved exactly. Now and then the
// network glances at the whole frame, with states of its own, for people who come in. Where
// it sees nobody, it looks at a larger copy now and then, for people far away. An empty
// window stays where it is: without its states, other things would be taken for people.

import {contains, findBoxes, pad, union} from './boxes.js';

/**
 * @typedef {import('./answer.js').Engine} Engine
 * @typedef {import('./boxes.js').Box} Box
 * @typedef {{left: number, top: number, width: number, height: number, ratio: number, step: number}}
 *   Window A part of the frame; `step` is the side of a cell [pixels].
 */

const CELL = 16; // side of the network's coarsest cell [pixels of the coarse pass]
// Frames for which a smaller window must suffice before it is used. The number doubles each
// time that a window turns out too small, up to the maximum.
const [WAIT, MOST_WAIT] = [15, 120];
const SELDOM = 4; // where whole frames are seen, one matte in so many is searched
const GLANCE = 8; // frames from one glance at the whole frame to the next
const [LARGER, AGAIN] = [2, 16]; // how much larger that copy is; frames from one to the next
// How much larger than necessary a new window is, and one that replaces a too small one.
const [ROOM, MORE_ROOM] = [1.1, 1.3];
const WORTH = 0.75; // a smaller window must save a quarter of the pixels
const AHEAD = 2; // frames for which people's last movement is extrapolated
const CHANGE = 0.06; // least mean change of a pixel at a cut, as a share of the whole range

export class Follower {
  /** @type {?Window} */
  window = null;
  #shape = '';
  #size = [0, 0]; // width and height of the frame [pixels]
  #coarse = [0, 0];
  #ratio = 1;
  #can = false; // whether there is room for a smaller window
  #count = 0;
  #since = 0;
  /** @type {?number} When the last larger copy was seen; null before the first frame. */
  #looked = null;
  #wait = WAIT;
  /** @type {?Box} */
  #people = null;
  /** @type {{count: number, box: ?Box}[]} */
  #recent = [];
  /** @type {?Float32Array} */
  #small = null;
  /** @type {any} */
  #glanced = null; // states of the glances

  /** @param {Engine} engine */
  constructor(engine) {
    this.engine = engine;
  }

  /** Forget everything. */
  reset() {
    this.engine.reset();
    this.#forgetGlances();
    this.#shape = '';
    this.#looked = null;
    this.window = null;
  }

  /**
   * Matte the next frame.
   *
   * @param {Uint8ClampedArray} pixels RGBA bytes.
   * @param {number} width
   * @param {number} height
   * @param {number} ratio For whole frames.
   * @returns {Promise<Uint8ClampedArray>} RGBA bytes of the whole frame, 0 outside the window.
   */
  async matte(pixels, width, height, ratio) {
    const small = shrink(pixels, width, height);
    const shape = `${width}x${height} ${ratio}`;
    const cut = this.#small && difference(this.#small, small) > CHANGE;
    if (shape !== this.#shape || cut) {
      this.reset();
      this.#shape = shape;
      this.#size = [width, height];
      this.#ratio = ratio;
      this.#coarse = [Math.floor(width * ratio), Math.floor(height * ratio)];
      this.#can = ratio < 1 && Math.min(...this.#coarse) >= 3 * CELL;
      this.#lookEverywhere();
    }
    this.#small = small;
    const rgba = await this.#step(pixels, this.window);
    this.#count++;
    return this.#can ? this.#learn(pixels, rgba) : rgba;
  }

  /**
   * @param {Uint8ClampedArray} pixels
   * @param {?Window} window
   */
  async #step(pixels, window) {
    const [width, height] = this.#size;
    if (!window) return this.engine.step(pixels, width, height, this.#ratio);
    const part = cutOut(pixels, width, height, window);
    const matte = await this.engine.step(part, window.width, window.height, window.ratio);
    return pasted(matte, width, height, window);
  }

  /**
   * Find the people, and choose where to look next.
   *
   * @param {Uint8ClampedArray} pixels
   * @param {Uint8ClampedArray} rgba
   * @returns {Promise<Uint8ClampedArray>} The matte; another one if somebody is far away.
   */
  async #learn(pixels, rgba) {
    const [width, height] = this.#size;
    const {window} = this;
    if (!window && this.#count % SELDOM && this.#looked !== null) return rgba;
    const every = Math.max(1, Math.round(2 / (window ?? {ratio: 2 * this.#ratio}).ratio));
    const boxes = findBoxes(rgba, width, height, every);
    if (window && (this.#count - this.#since) % GLANCE === 0) {
      const states = this.engine.exchange(this.#glanced);
      const whole = await this.engine.step(pixels, width, height, this.#ratio);
      this.#glanced = this.engine.exchange(states);
      const seen = findBoxes(whole, width, height, Math.max(1, Math.round(1 / this.#ratio)));
      boxes.push(...seen.filter(box => !contains(boxOf(window), box)));
    }
    const far = !boxes.length && this.#count - (this.#looked ?? -AGAIN) >= AGAIN;
    if (far) await this.#lookFar(pixels);
    else await this.#choose(boxes.length ? union(boxes) : null);
    this.#looked ??= 0;
    if (!this.window || this.window === window || this.window.step === window?.step) return rgba;
    // The new window starts with what the network sees in it now.
    this.engine.reset();
    const seen = await this.#step(pixels, this.window);
    return far ? seen : rgba;
  }

  /**
   * Look for people in a larger copy of the whole frame, and at once where they are.
   *
   * @param {Uint8ClampedArray} pixels
   */
  async #lookFar(pixels) {
    const [width, height] = this.#size;
    const ratio = Math.min(1, LARGER * this.#ratio);
    const states = this.engine.exchange(null);
    const whole = await this.engine.step(pixels, width, height, ratio);
    this.engine.dispose(this.engine.exchange(states));
    this.#looked = this.#count;
    const boxes = findBoxes(whole, width, height, Math.max(1, Math.round(1 / ratio)));
    if (!boxes.length) return;
    this.#people = union(boxes);
    const box = pad(this.#people, this.#size);
    await this.#lookIn(box, this.#needed(box) * ROOM);
  }

  /** @param {?Box} people */
  async #choose(people) {
    const {window} = this;
    const box = people && pad(this.#lead(people), this.#size);
    this.#people = people;
    this.#recent.push({count: this.#count, box});
    while (this.#recent[0].count < this.#count - this.#wait) this.#recent.shift();
    if (window && box && !contains(boxOf(window), box)) {
      const needed = this.#needed(box);
      if (needed > window.step) this.#wait = Math.min(2 * this.#wait, MOST_WAIT);
      return this.#lookIn(box, needed > window.step ? needed * MORE_ROOM : window.step);
    }
    if (this.#count - this.#since < this.#wait) return;
    const boxes = this.#recent.flatMap(each => each.box ? [each.box] : []);
    if (!boxes.length) return;
    const all = union(boxes);
    const step = this.#needed(all) * ROOM;
    const now = window?.step ?? CELL / this.#ratio;
    if (step ** 2 <= WORTH * now ** 2) await this.#lookIn(all, step);
  }

  #lookEverywhere() {
    if (this.window) this.engine.reset();
    this.window = null;
    this.#wait = WAIT;
    this.#people = null;
    this.#settle();
  }

  #settle() {
    this.#since = this.#count;
    this.#recent = [];
    this.#forgetGlances();
  }

  #forgetGlances() {
    if (this.#glanced) this.engine.dispose(this.#glanced);
    this.#glanced = null;
  }

  /**
   * Enlarge the box around people by their movement in the next frames.
   *
   * @param {Box} people
   * @returns {Box}
   */
  #lead(people) {
    const before = this.#people;
    if (!before) return people;
    const most = (people[3] - people[1]) / 2;
    return /** @type {Box} */ (people.map((side, at) => {
      const sign = at < 2 ? -1 : 1;
      return side + sign * Math.min(most, AHEAD * Math.max(0, sign * (side - before[at])));
    }));
  }

  /**
   * The side of a cell of the smallest window that holds a box [pixels].
   *
   * @param {Box} box
   */
  #needed([left, top, right, bottom]) {
    // One cell is spare, since windows are placed on a grid of cells.
    const [columns, rows] = this.#coarse.map(side => Math.floor(side / CELL) - 1);
    return Math.max(CELL + 1, Math.ceil((right - left) / columns), Math.ceil((bottom - top) / rows));
  }

  /**
   * Look in a window around a box, or everywhere if it would save too little.
   *
   * @param {Box} box
   * @param {number} side Of a cell [pixels].
   */
  async #lookIn(box, side) {
    const step = Math.ceil(side);
    if (step ** 2 > WORTH * (CELL / this.#ratio) ** 2) {
      const wait = this.#wait;
      this.#lookEverywhere();
      this.#wait = wait;
      return;
    }
    const [width, height] = this.#coarse.map(each => Math.ceil(each * step / CELL));
    const [left, top] = [width, height].map((each, axis) => place(box, each, step, this.#size[axis], axis));
    const old = this.window;
    const ratio = ratioFor([width, height], this.#coarse);
    this.window = {left, top, width, height, ratio, step};
    if (old?.step !== step) return this.#settle();
    await this.engine.move((old.top - top) / step, (old.left - left) / step);
  }
}

/**
 * The left or top edge of a window around a box, on a grid of cells.
 *
 * @param {Box} box
 * @param {number} side Of the window [pixels].
 * @param {number} step
 * @param {number} frame Side of the frame [pixels].
 * @param {number} axis
 */
function place(box, side, step, frame, axis) {
  const middle = (box[axis] + box[axis + 2] - side) / 2;
  // Within the frame where possible, but always around the box.
  const first = Math.min(Math.max(middle, 0), Math.max(0, frame - side));
  const cell = Math.floor(first / step);
  return step * (cell * step + side < box[axis + 2] ? cell + 1 : cell);
}

/**
 * The ratio that leads to a coarse pass of a given size.
 *
 * @param {number[]} size
 * @param {number[]} coarse
 */
function ratioFor(size, coarse) {
  let ratio = Math.max(...coarse.map((small, axis) => small / size[axis]));
  // The network rounds down, in 32 bits.
  while (size.some((side, axis) => Math.floor(Math.fround(ratio) * side) < coarse[axis])) ratio += 1e-7;
  return ratio;
}

/** @param {Window} window @returns {Box} */
const boxOf = ({left, top, width, height}) => [left, top, left + width, top + height];

/**
 * Cut a window out; beyond the edge the last pixels are repeated.
 *
 * @param {Uint8ClampedArray} pixels
 * @param {number} width
 * @param {number} height
 * @param {Window} window
 */
function cutOut(pixels, width, height, window) {
  const from = new Uint32Array(pixels.buffer, pixels.byteOffset, width * height);
  const to = new Uint32Array(window.width * window.height);
  for (let y = 0; y < window.height; y++) {
    const row = width * Math.min(height - 1, Math.max(0, window.top + y));
    for (let x = 0; x < window.width; x++) {
      to[y * window.width + x] = from[row + Math.min(width - 1, Math.max(0, window.left + x))];
    }
  }
  return new Uint8ClampedArray(to.buffer);
}

/**
 * The matte of the whole frame: that of a window in its place.
 *
 * @param {Uint8ClampedArray} matte
 * @param {number} width
 * @param {number} height
 * @param {Window} window
 */
function pasted(matte, width, height, window) {
  const whole = new Uint8ClampedArray(4 * width * height);
  const [left, right] = [Math.max(0, window.left), Math.min(width, window.left + window.width)];
  for (let y = Math.max(0, window.top); y < Math.min(height, window.top + window.height); y++) {
    const first = (y - window.top) * window.width - window.left;
    whole.set(matte.subarray(4 * (first + left), 4 * (first + right)), 4 * (y * width + left));
  }
  return whole;
}

/**
 * A small gray picture in [0, 1].
 *
 * @param {Uint8ClampedArray} pixels
 * @param {number} width
 * @param {number} height
 */
function shrink(pixels, width, height) {
  const [columns, rows] = [64, 36];
  const small = new Float32Array(columns * rows);
  for (let row = 0; row < rows; row++) {
    const y = Math.floor((row + 0.5) * height / rows);
    for (let x = 0; x < width; x++) {
      const at = 4 * (y * width + x);
      const column = Math.floor(x * columns / width);
      small[row * columns + column] += (pixels[at] + pixels[at + 1] + pixels[at + 2]) / 765 * columns / width;
    }
  }
  return small;
}

/** @param {Float32Array} old @param {Float32Array} now */
function difference(old, now) {
  return old.reduce((sum, value, at) => sum + Math.abs(now[at] - value), 0) / old.length;
}
