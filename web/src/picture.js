// What is seen: the network's picture over a background.

const SOLID = {white: '#fff', green: 'rgb(120 255 155)'}; // the documented green

/**
 * Draw a frame. The canvas takes the size of what is shown unless it is fixed.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {ImageData} shown Straight RGBA.
 * @param {string} view
 * @param {CanvasImageSource} behind The frame itself for "blur"; a picture or video.
 * @param {boolean} fixed
 */
export function draw(canvas, shown, view, behind, fixed) {
  if (!fixed) {
    resize(canvas, shown.width, shown.height);
    canvas.style.setProperty('--aspect', shown.width / shown.height);
  }
  const context = canvas.getContext('2d');
  const {width, height} = canvas;
  context.clearRect(0, 0, width, height);
  if (SOLID[view]) {
    context.fillStyle = SOLID[view];
    context.fillRect(0, 0, width, height);
  } else if (view === 'blur') {
    drawBlurred(context, behind, width, height);
  } else if (view === 'image' || view === 'video') {
    cover(context, behind, width, height);
  }
  resize(front, shown.width, shown.height);
  front.getContext('2d').putImageData(shown, 0, 0);
  const scale = Math.min(width / shown.width, height / shown.height);
  const [across, down] = [shown.width * scale, shown.height * scale];
  context.drawImage(front, (width - across) / 2, (height - down) / 2, across, down);
}

/** Give a canvas its size. Where it has it already, nothing is cleared. */
export function resize(canvas, width, height) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
}

const front = new OffscreenCanvas(1, 1);
const small = new OffscreenCanvas(1, 1);

function drawBlurred(context, behind, width, height) {
  if ('filter' in context) {
    const radius = Math.max(width, height) / 50;
    context.filter = `blur(${radius}px)`;
    // Beyond the edges, since the blur of nothing would shine in there.
    const more = 2 * radius;
    context.drawImage(behind, -more, -more, width + 2 * more, height + 2 * more);
    context.filter = 'none';
    return;
  }
  resize(small, Math.ceil(width / 24), Math.ceil(height / 24));
  small.getContext('2d').drawImage(behind, 0, 0, small.width, small.height);
  context.drawImage(small, 0, 0, width, height);
}

/** Fill all of the canvas and cut off what is too much. */
function cover(context, behind, width, height) {
  const [w, h] = [behind?.videoWidth ?? behind?.width, behind?.videoHeight ?? behind?.height];
  if (!w) return;
  const scale = Math.max(width / w, height / h);
  context.drawImage(behind, (width - w * scale) / 2, (height - h * scale) / 2, w * scale, h * scale);
}
