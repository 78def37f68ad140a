// Boxes around people: finds them in alpha, pads and joins them.

/** @typedef {[number, number, number, number]} Box Left, top, right and bottom [pixels]. */

const [SOME, SURE] = [25, 127]; // alpha above which a person may be there, and surely is
const [SIDE, LEAST] = [8, 24]; // of the squares that are connected; fewest sure samples
const SHARE = 0.25; // least number of sure samples, as a share of those above SOME
const [PADDING, LEAST_PADDING] = [0.12, 24]; // around a box: share of its sides, and [pixels]

/**
 * Find the boxes around connected parts of alpha.
 *
 * Parts with few samples above `SURE` are left out, as noise or things.
 *
 * @param {Uint8ClampedArray} rgba
 * @param {number} width
 * @param {number} height
 * @param {number} every Pixels from one sample to the next.
 * @returns {Box[]}
 */
export function findBoxes(rgba, width, height, every) {
  const squares = squaresOf(rgba, width, height, every);
  const boxes = [];
  for (const first of squares.values()) {
    if (first.taken) continue;
    first.taken = true;
    const part = [first];
    for (const {row, column} of part) {
      for (let at = 0; at < 9; at++) {
        const next = squares.get(`${row + Math.floor(at / 3) - 1} ${column + at % 3 - 1}`);
        if (!next || next.taken) continue;
        next.taken = true;
        part.push(next);
      }
    }
    const [some, sure] = [sum(part.map(each => each.some)), sum(part.map(each => each.sure))];
    if (sure < Math.max(LEAST, SHARE * some)) continue;
    const [left, top, right, bottom] = union(part.map(each => each.box)).map(side => side * every);
    boxes.push(/** @type {Box} */ ([left, top, Math.min(width, right), Math.min(height, bottom)]));
  }
  return boxes;
}

/**
 * The squares of samples with some alpha.
 *
 * @param {Uint8ClampedArray} rgba
 * @param {number} width
 * @param {number} height
 * @param {number} every
 */
function squaresOf(rgba, width, height, every) {
  /** @type {Map<string, {row: number, column: number, some: number, sure: number, taken: boolean, box: Box}>} */
  const squares = new Map();
  for (let y = 0; y * every < height; y++) {
    for (let x = 0; x * every < width; x++) {
      const alpha = rgba[4 * (y * every * width + x * every) + 3];
      if (alpha <= SOME) continue;
      const [row, column] = [Math.floor(y / SIDE), Math.floor(x / SIDE)];
      const key = `${row} ${column}`;
      const square = squares.get(key)
        ?? {row, column, some: 0, sure: 0, taken: false, box: /** @type {Box} */ ([x, y, x + 1, y + 1])};
      squares.set(key, square);
      square.some++;
      if (alpha > SURE) square.sure++;
      square.box = union([square.box, [x, y, x + 1, y + 1]]);
    }
  }
  return squares;
}

/** @param {number[]} values */
const sum = values => values.reduce((all, value) => all + value, 0);

/**
 * The smallest box that holds some boxes.
 *
 * @param {Box[]} boxes
 * @returns {Box}
 */
export function union(boxes) {
  const joined = /** @type {Box} */ ([...boxes[0]]);
  for (const box of boxes) {
    for (let at = 0; at < 4; at++) {
      joined[at] = at < 2 ? Math.min(joined[at], box[at]) : Math.max(joined[at], box[at]);
    }
  }
  return joined;
}

/**
 * Whether a box lies within another.
 *
 * @param {Box} outer
 * @param {Box} inner
 */
export function contains(outer, inner) {
  return inner.every((side, at) => at < 2 ? outer[at] <= side : side <= outer[at]);
}

/**
 * Enlarge a box by how far alpha may reach beyond it, within the frame.
 *
 * @param {Box} box
 * @param {number[]} frame Width and height of the frame [pixels].
 * @returns {Box}
 */
export function pad([left, top, right, bottom], [width, height]) {
  const x = Math.max(LEAST_PADDING, Math.round(PADDING * (right - left)));
  const y = Math.max(LEAST_PADDING, Math.round(PADDING * (bottom - top)));
  return [Math.max(0, left - x), Math.max(0, top - y), Math.min(width, right + x), Math.min(height, bottom + y)];
}
