// A bar of thumbnails: the moment that is looked at, and the part that is converted.

import { jobAddress, load } from "./server.js";

const THUMBNAILS = 10;

/** A time as minutes and seconds, with tenths. */
export function clock(seconds) {
  const tenths = Math.round(seconds * 10);
  return `${Math.floor(tenths / 600)}:${String(Math.floor(tenths / 10) % 60).padStart(2, "0")}.${tenths % 10}`;
}

/**
 * Wire up a card's bar. Positions are numbers of frames.
 *
 * `moved` is called when another moment is looked at, `trimmed` when a handle was let go; thumbnails
 * are loaded while `visible`.
 */
export function makeScrub(card, id, { moved, trimmed, visible }) {
  const bar = card.querySelector(".scrub");
  const [at, first, last] = [".at", ".first", ".last"].map((name) => bar.querySelector(name));
  const strip = bar.querySelector(".strip");
  let rate = 1;
  let count = 1;

  const number = (input) => Number(input.value);

  function show() {
    bar.style.setProperty("--first", number(first) / Math.max(1, count - 1));
    bar.style.setProperty("--last", number(last) / Math.max(1, count - 1));
    for (const input of [at, first, last]) input.setAttribute("aria-valuetext", clock(number(input) / rate));
    card.querySelector(".now").textContent = clock(number(at) / rate);
  }

  function move(frame) {
    at.value = Math.min(count - 1, Math.max(0, frame));
    show();
    moved();
  }

  /** Set the ends of the part; gives them in order, at least one frame apart. */
  function trim(from, to, which) {
    if (from > to) [from, to] = which === first ? [to, to] : [from, from];
    [first.value, last.value] = [from, to];
    show();
  }

  at.addEventListener("input", () => move(number(at)));
  for (const end of [first, last]) {
    end.addEventListener("input", () => { trim(number(first), number(last), end); move(number(end)); });
    end.addEventListener("change", () => trimmed());
  }
  const press = (name, act) => card.querySelector(name).addEventListener("click", act);
  press(".moment .step-back", () => move(number(at) - 1));
  press(".moment .step-on", () => move(number(at) + 1));
  press(".start-here", () => { trim(number(at), number(last), last); trimmed(); });
  press(".end-here", () => { trim(number(first), number(at), first); trimmed(); });
  press(".whole", () => { trim(0, count - 1); trimmed(); });

  function loadThumbnails() {
    for (const picture of strip.querySelectorAll(".missing")) {
      picture.classList.remove("missing");
      load(jobAddress(id, `still/thumb?at=${picture.dataset.at}`), {
        wanted: visible,
        ready(content) { picture.src = URL.createObjectURL(content); },
        failed: () => {},
        ignored: () => picture.classList.add("missing"),
      });
    }
  }

  return {
    /** Show a video. */
    open(info) {
      rate = info.rate;
      count = info.frames ?? 1;
      for (const input of [at, first, last]) input.max = count - 1;
      at.value = 0;
      trim(0, count - 1);
      bar.hidden = card.querySelector(".moment").hidden = count < 2;
      const length = count < 2 ? 0 : Math.min(THUMBNAILS, count);
      for (let index = 0; index < length; index += 1) {
        const picture = Object.assign(document.createElement("img"), { alt: "", className: "missing" });
        picture.dataset.at = (((index + 0.5) * count) / length / rate).toFixed(3);
        strip.append(picture);
      }
    },
    /** Load those that are missing. */
    loadThumbnails,
    /** The nearest thumbnail's address, or undefined. */
    thumbnail: () => strip.children[Math.floor((number(at) / count) * strip.children.length)]?.src,
    /** The middle of the frame that is looked at [s]. */
    time: () => (number(at) + 0.5) / rate,
    /** Where the part begins and ends [s]; null at the ends of the video. */
    part() {
      // A little more or less than the frame's own time, which may have been rounded.
      const start = number(first) === 0 ? null : Number((number(first) / rate + 1e-6).toFixed(6));
      const end = number(last) >= count - 1 ? null : Number(((number(last) + 1) / rate - 1e-6).toFixed(6));
      return { start, end };
    },
    setPart({ start, end }) {
      trim(Math.round((start ?? 0) * rate), end === null ? count - 1 : Math.round(end * rate) - 1);
    },
    seconds: () => (number(last) - number(first) + 1) / rate,
    show,
  };
}
