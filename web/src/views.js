// Turns a matte into what the page shows of it.

/**
 * Give the picture of a view.
 *
 * @param {import('rematte-web').Matte} matte
 * @param {string} view "alpha", "foreground", "r1" to "r4"; all others show the cut-out.
 * @param {import('rematte-web').Matter} matter What made it.
 * @returns {Promise<ImageData>} Straight RGBA.
 */
export async function looks(matte, view, matter) {
  if (/^r[1-4]$/.test(view)) return grid(await matter.state(Number(view[1])));
  const {rgba} = matte;
  if (view === 'alpha') {
    for (let at = 0; at < rgba.length; at += 4) rgba.fill(rgba[at + 3], at, at + 3);
  }
  if (view === 'alpha' || view === 'foreground') {
    for (let at = 3; at < rgba.length; at += 4) rgba[at] = 255;
  }
  return new ImageData(rgba, matte.width, matte.height);
}

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
  return new ImageData(pixels, across, rows * height);
}
