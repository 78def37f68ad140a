// Before and after: one video holds both, side by side, so they never drift apart.

import { load } from "./server.js";
import { words } from "./words.js";

/** Wire up a card's comparison; gives functions to show a video and to say words. */
export function makeCompare(card) {
  const canvas = card.querySelector("canvas");
  const range = card.querySelector(".compare input");
  const button = card.querySelector(".play");
  const picture = canvas.getContext("2d");
  const video = document.createElement("video");
  Object.assign(video, { muted: true, loop: true, playsInline: true, preload: "auto" });

  function draw() {
    const width = video.videoWidth / 2;
    const height = video.videoHeight;
    if (!width) return;
    if (canvas.width !== width || canvas.height !== height) {
      Object.assign(canvas, { width, height });
    }
    const split = Math.round((width * range.value) / 1000);
    picture.drawImage(video, width, 0, width, height, 0, 0, width, height);
    if (split > 0) picture.drawImage(video, 0, 0, split, height, 0, 0, split, height);
    drawHandle(split, height);
    canvas.dataset.drawn = video.currentTime;
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

  function hide() {
    card.querySelector(".compare").hidden = button.hidden = true;
  }

  function say() {
    button.textContent = video.paused ? words().play : words().pause;
  }

  button.addEventListener("click", () => (video.paused ? video.play() : video.pause()));
  range.addEventListener("input", draw);
  for (const event of ["loadeddata", "canplay", "canplaythrough", "seeked"]) {
    video.addEventListener(event, draw);
  }
  video.addEventListener("play", () => { say(); loop(); });
  video.addEventListener("pause", say);
  video.addEventListener("error", hide);

  hide();
  let address = "";
  return {
    say,
    /** Show a video. */
    show(next) {
      address = next;
      load(next, {
        wanted: () => card.isConnected && address === next,
        ready(source) {
          URL.revokeObjectURL(video.src);
          card.querySelector(".compare").hidden = button.hidden = false;
          video.src = source;
          video.requestVideoFrameCallback?.(draw); // loaded is not always decoded
          say();
        },
        failed: hide,
      });
    },
  };
}
