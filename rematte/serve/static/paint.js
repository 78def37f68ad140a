// The layer over the original: clicks on people, and painted areas, by pointer and keys.

const STEP = 0.02; // of a press of an arrow key, as a share of the picture
const NEAR = 0.005; // points of a stroke are at least this far apart
const MOST = 250; // points of a stroke
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const COLOURS = { true: "rgb(40 200 120 / .55)", false: "rgb(230 60 60 / .55)" };

/**
 * Wire up the layer.
 *
 * `tool` gives what is chosen: `what` ("keep", "drop", "include", "exclude"), `box` and
 * `size`. `clicked` is called with a place, `painted` with points and size; places are
 * shares of the picture. `surfaces` are other elements that show the same picture.
 */
export function makePaint(layer, surfaces, { tool, clicked, painted }) {
  const picture = layer.getContext("2d");
  let cursor = null; // while the keyboard has it
  let points = null; // of what is being painted
  let marks = [];
  let person = null;

  const isClick = () => ["keep", "drop"].includes(tool().what);
  const clamp = (value) => Math.min(1, Math.max(0, value));

  function trace(shape, width, height) {
    const scaled = shape.points.map(([x, y]) => [x * width, y * height]);
    picture.beginPath();
    if (!shape.size) {
      const [[left, top], [right, bottom]] = [scaled[0], scaled.at(-1)];
      picture.rect(left, top, right - left, bottom - top);
      picture.fill();
      return;
    }
    picture.lineWidth = shape.size * width;
    picture.moveTo(...scaled[0]);
    for (const place of scaled) picture.lineTo(...place);
    picture.stroke();
  }

  function draw() {
    const { clientWidth, clientHeight } = layer;
    const scale = devicePixelRatio;
    const [width, height] = [clientWidth * scale, clientHeight * scale].map(Math.round);
    if (layer.width !== width || layer.height !== height) Object.assign(layer, { width, height });
    picture.clearRect(0, 0, width, height);
    picture.lineCap = picture.lineJoin = "round";
    const shown = [...marks];
    if (points && !isClick()) {
      const { what, box, size } = tool();
      shown.push({ keep: what === "include", points, size: box ? 0 : size });
    }
    for (const mark of shown) {
      picture.fillStyle = picture.strokeStyle = COLOURS[mark.keep];
      trace(mark, width, height);
    }
    if (person) ring(person.x * width, person.y * height, scale, person.keep ? "#17b26a" : "#e5484d");
    if (cursor) cross(cursor[0] * width, cursor[1] * height, scale);
  }

  function ring(x, y, scale, colour) {
    for (const [line, style] of [[6, "#fff"], [3, colour]]) {
      picture.lineWidth = line * scale;
      picture.strokeStyle = style;
      picture.beginPath();
      picture.arc(x, y, 10 * scale, 0, 2 * Math.PI);
      picture.stroke();
    }
  }

  function cross(x, y, scale) {
    for (const [line, style] of [[5, "#fff"], [2, "#000"]]) {
      picture.lineWidth = line * scale;
      picture.strokeStyle = style;
      picture.beginPath();
      for (const [across, down] of Object.values(ARROWS)) {
        picture.moveTo(x + 3 * across * scale, y + 3 * down * scale);
        picture.lineTo(x + 14 * across * scale, y + 14 * down * scale);
      }
      picture.stroke();
    }
  }

  function begin(place) {
    points = [place];
    draw();
  }

  function extend(place) {
    if (!points) return;
    const last = points.at(-1);
    if (tool().box) points = [points[0], place];
    else if (Math.hypot(place[0] - last[0], place[1] - last[1]) >= NEAR && points.length < MOST) points.push(place);
    draw();
  }

  function finish() {
    const done = points;
    points = null;
    if (!done) return;
    const { box, size } = tool();
    const rounded = done.map((place) => place.map((value) => Number(value.toFixed(4))));
    if (isClick()) clicked(rounded[0]);
    else if (!box) painted(rounded, size);
    else if (rounded.length === 2) painted(rounded, 0);
    draw();
  }

  function stop() {
    points = null;
    draw();
  }

  for (const surface of [layer, ...surfaces]) {
    const place = (event) => {
      const { left, top, width, height } = surface.getBoundingClientRect();
      return [clamp((event.clientX - left) / width), clamp((event.clientY - top) / height)];
    };
    surface.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      event.preventDefault();
      surface.setPointerCapture(event.pointerId);
      cursor = null;
      begin(place(event));
    });
    surface.addEventListener("pointermove", (event) => extend(place(event)));
    surface.addEventListener("pointerup", finish);
    surface.addEventListener("pointercancel", stop);
  }

  layer.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = ARROWS[event.key];
    if (step) {
      const far = event.shiftKey ? 5 * STEP : STEP;
      cursor = (cursor ?? [0.5, 0.5]).map((value, axis) => clamp(value + step[axis] * far));
      extend(cursor);
    } else if (event.key === "Enter" || event.key === " ") {
      cursor ??= [0.5, 0.5];
      if (points) finish();
      else begin(cursor);
      if (points && isClick()) finish();
    } else if (event.key === "Escape" && points) {
      stop();
    } else {
      return;
    }
    event.preventDefault();
    draw();
  });
  layer.addEventListener("focus", () => {
    if (layer.matches(":focus-visible")) cursor ??= [0.5, 0.5];
    draw();
  });
  layer.addEventListener("blur", () => { cursor = null; draw(); });
  new ResizeObserver(draw).observe(layer);

  return {
    /** Show marks and the chosen person, if there is one. */
    show(nextMarks, nextPerson) {
      [marks, person] = [nextMarks, nextPerson];
      draw();
    },
  };
}
