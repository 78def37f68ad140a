// Plays a result. One small video holds all views side by side, so they never drift apart.

import { clock } from "./scrub.js";
import { load } from "./server.js";
import { words } from "./words.js";

const SQUARE = 12; // side of a square that stands for transparency [pixels]
const SQUARES = ["#ebebeb", "#cdcdcd"];

/** The views that the video holds, from left to right, as `views_of` on the server. */
function panels(outputs) {
  const clear = ["mov", "webm", "alpha"].some((kind) => outputs.includes(kind));
  return ["original", ...(clear ? ["cutout", "alpha"] : []), ...(outputs.includes("mp4") ? ["mp4"] : [])];
}

/** Wire up a card's player; gives functions to show a result and to say words. */
export function makePlayer(card) {
  const player = card.querySelector(".player");
  const find = (name) => player.querySelector(name);
  const [canvas, wipe, seek, view, tint] = ["canvas", ".wipe", ".seek", ".view", ".player-tint"].map(find);
  const picture = canvas.getContext("2d");
  const scratch = document.createElement("canvas").getContext("2d");
  const video = document.createElement("video");
  Object.assign(video, { loop: true, playsInline: true, preload: "auto" });
  let held = []; // panels of the video
  let rate = 25;
  let compared = true; // with the original, by the slider

  const squares = document.createElement("canvas");
  squares.width = squares.height = 2 * SQUARE;
  const tile = squares.getContext("2d");
  for (const [x, y] of [[0, 0], [1, 0], [0, 1], [1, 1]]) {
    tile.fillStyle = SQUARES[(x + y) % 2];
    tile.fillRect(x * SQUARE, y * SQUARE, SQUARE, SQUARE);
  }

  function panel(target, name, width, height, from = 0) {
    const left = held.indexOf(name) * width;
    target.drawImage(video, left + from, 0, width - from, height, from, 0, width - from, height);
  }

  /** Lay the cut-out, which is multiplied by alpha, over what the canvas shows. */
  function layCutout(width, height) {
    if (scratch.canvas.width !== width || scratch.canvas.height !== height) {
      Object.assign(scratch.canvas, { width, height });
    }
    scratch.globalCompositeOperation = "copy";
    panel(scratch, "alpha", width, height);
    scratch.globalCompositeOperation = "difference"; // 1 - alpha
    scratch.fillStyle = "#fff";
    scratch.fillRect(0, 0, width, height);
    picture.globalCompositeOperation = "multiply";
    picture.drawImage(scratch.canvas, 0, 0);
    picture.globalCompositeOperation = "lighter";
    panel(picture, "cutout", width, height);
    picture.globalCompositeOperation = "source-over";
  }

  function draw() {
    const width = video.videoWidth / held.length;
    const height = video.videoHeight;
    if (!width || !video.duration) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    player.style.setProperty("--shape", width / height);
    if (held.includes(view.value)) {
      panel(picture, view.value, width, height);
    } else {
      picture.fillStyle = view.value === "colour" ? tint.value : picture.createPattern(squares, "repeat");
      picture.fillRect(0, 0, width, height);
      layCutout(width, height);
    }
    if (!wipe.hidden) {
      const split = Math.round((width * wipe.value) / 1000);
      if (split > 0) picture.drawImage(video, 0, 0, split, height, 0, 0, split, height);
      drawHandle(split, height);
    }
    canvas.dataset.drawn = video.currentTime;
    seek.value = video.currentTime;
    seek.setAttribute("aria-valuetext", clock(video.currentTime));
    find(".clock").textContent = `${clock(video.currentTime)} / ${clock(video.duration)}`;
  }

  function drawHandle(x, height) {
    const unit = canvas.width / (canvas.clientWidth || canvas.width); // a pixel of the page
    picture.fillStyle = "#fff";
    picture.fillRect(x - unit, 0, 2 * unit, height);
    picture.beginPath();
    picture.arc(x, height / 2, 14 * unit, 0, 2 * Math.PI);
    picture.fill();
    picture.fillStyle = "#1b2430";
    for (const side of [-1, 1]) {
      picture.beginPath();
      picture.moveTo(x + side * 9 * unit, height / 2);
      picture.lineTo(x + side * 3 * unit, height / 2 - 5 * unit);
      picture.lineTo(x + side * 3 * unit, height / 2 + 5 * unit);
      picture.fill();
    }
  }

  function loop() {
    draw();
    if (!video.paused) requestAnimationFrame(loop);
  }

  /** Go to the middle of a frame, so that rounding does not matter. */
  function step(count) {
    video.pause();
    const last = Math.round(video.duration * rate) - 1;
    const frame = Math.min(last, Math.max(0, Math.floor(video.currentTime * rate) + count));
    video.currentTime = (frame + 0.5) / rate;
  }

  function say() {
    find(".play").textContent = video.paused ? words().play : words().pause;
    find(".mute").textContent = video.muted ? words().unmute : words().mute;
    find(".full").textContent = document.fullscreenElement === player ? words().small : words().full;
    for (const option of view.options) option.textContent = words().views[option.value];
    tint.hidden = view.value !== "colour";
    wipe.hidden = !compared || view.value === "original";
    for (const chip of player.querySelectorAll(".chip")) chip.hidden = wipe.hidden;
    find(".wiped").hidden = view.value === "original"; // there is nothing to compare it with
    find(".wiped").setAttribute("aria-pressed", String(compared));
  }

  function fail() {
    player.hidden = true;
  }

  const press = (name, act) => find(name).addEventListener("click", act);
  press(".play", () => (video.paused ? video.play() : video.pause()));
  press(".step-back", () => step(-1));
  press(".step-on", () => step(1));
  press(".mute", () => { video.muted = !video.muted; say(); });
  press(".wiped", () => { compared = !compared; say(); draw(); });
  press(".full", () => (document.fullscreenElement ? document.exitFullscreen() : player.requestFullscreen()));
  player.addEventListener("fullscreenchange", () => { say(); draw(); });
  for (const input of [wipe, tint]) input.addEventListener("input", draw);
  view.addEventListener("change", () => { say(); draw(); });
  seek.addEventListener("input", () => { video.currentTime = seek.value; });
  for (const event of ["loadeddata", "canplay", "canplaythrough", "seeked"]) video.addEventListener(event, draw);
  video.addEventListener("loadedmetadata", () => { seek.max = video.duration; });
  video.addEventListener("play", () => { say(); loop(); });
  video.addEventListener("pause", say);
  video.addEventListener("error", fail);

  fail();
  let address = "";
  return {
    say,
    /**
     * Show the small video at an address, which was made of a result with these outputs.
     *
     * `sound` is false where the clip has none; older lists of clips do not say.
     */
    show(next, outputs, framesPerSecond, sound) {
      find(".mute").hidden = sound === false;
      address = next;
      rate = framesPerSecond;
      load(next, {
        wanted: () => card.isConnected && address === next,
        ready(content) {
          held = panels(outputs);
          const views = [
            ...(held.includes("mp4") ? ["mp4"] : []),
            ...(held.includes("cutout") ? ["squares", "colour", "alpha"] : []),
            "original",
          ];
          view.replaceChildren(...views.map((name) => new Option("", name)));
          URL.revokeObjectURL(video.src);
          player.hidden = false;
          video.src = URL.createObjectURL(content);
          video.requestVideoFrameCallback?.(draw); // loaded is not always decoded
          say();
        },
        failed: fail,
      });
    },
  };
}
