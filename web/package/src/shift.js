// Moves recurrent states, when a window moves.

/**
 * Move planes by some rows and columns; what comes in from outside is 0.
 *
 * @param {Float32Array} planes
 * @param {number} height
 * @param {number} width
 * @param {number} down
 * @param {number} right
 */
export function shifted(planes, height, width, down, right) {
  const moved = new Float32Array(planes.length);
  const [first, end] = [Math.max(0, -right), Math.min(width, width - right)];
  if (first >= end) return moved;
  for (let start = 0; start < planes.length; start += width * height) {
    for (let y = Math.max(0, down); y < Math.min(height, height + down); y++) {
      const from = start + (y - down) * width;
      moved.set(planes.subarray(from + first, from + end), start + y * width + first + right);
    }
  }
  return moved;
}
