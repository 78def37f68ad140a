// What to make of clips: a form for all of them, and one for each that differs.

import * as server from "./server.js";
import { list, sentence, translate, words } from "./words.js";

const template = document.getElementById("settings");
const STORE = "rematte-settings";
const QUALITIES = ["fast", "balanced", "best"];
// What each receiver takes: of a video, and of a photo.
const RECEIVERS = {
  resolve: ["mov", "png"], web: ["webm", "webp"], slides: ["mp4", "jpg"],
  whatsapp: ["webp", "webp"], telegram: ["webm", "webp"],
};
const LONGEST = { whatsapp: 10, telegram: 3 }; // what they take of a clip [s]
const MOST_RATE = { web: 30, slides: 30, whatsapp: 15, telegram: 30 }; // frames/s of what they get
const NETWORK_SHARE = 0.5; // as on the server
const OVER = ["mp4", "jpg"];
const [GREEN, WHITE] = ["#78ff9b", "#ffffff"];
const DEFAULT = {
  receiver: "", clear: true, format: "mov", mp4: true, alpha: false, background: "colour", tint: "", quality: "balanced",
};

/** What the browser has stored under a name; {} if there is nothing that can be read. */
export function stored(name) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? {};
  } catch {
    return {};
  }
}

/** What was chosen for all clips before, as far as it is still possible. */
export function remembered() {
  const found = { ...DEFAULT, ...stored(STORE) };
  const fits = QUALITIES.includes(found.quality) && (!found.receiver || found.receiver in RECEIVERS);
  return fits ? found : DEFAULT;
}

export const remember = (value) => localStorage.setItem(STORE, JSON.stringify(value));

/** The settings of a conversion, as the server takes them. */
export function toSettings(value, photo) {
  let outputs = [
    value.clear && (photo ? { mov: "png", webm: "webp" }[value.format] : value.format),
    value.mp4 && (photo ? "jpg" : "mp4"),
    value.alpha && (photo ? "mask" : "alpha"),
  ].filter(Boolean);
  if (value.receiver) outputs = [RECEIVERS[value.receiver][photo ? 1 : 0]];
  return {
    outputs,
    background: outputs.some((kind) => OVER.includes(kind)) ? backgroundOf(value) : "green", // not used
    quality: value.quality,
    preset: photo ? null : value.receiver || null,
  };
}

export const qualityIndex = (value) => QUALITIES.indexOf(value.quality);

/** Whether a background will be seen. */
export const isOver = (value) => value.receiver ? value.receiver === "slides" : value.mp4;

/** The colour that was chosen; until then slides are white and all else is green. */
const tintOf = (value) => value.tint || (value.receiver === "slides" ? WHITE : GREEN);

/** The background, as the server takes it. */
export const backgroundOf = (value) => value.background === "colour" ? tintOf(value) : value.background;

/** The picture of a background that is a file; "" for others. */
export function pictureOf(background) {
  const [kind, name] = background.split(":");
  return { ready: `backgrounds/${name}.webp`, file: `api/backgrounds/${name}` }[kind] ?? "";
}

/** In how many seconds this machine converts a clip; null if it cannot know. */
export function estimate(info, value, speeds, seconds = null) {
  const speed = speeds[value.quality];
  const length = seconds ?? info.frames / info.rate;
  const frames = Math.min(length, LONGEST[value.receiver] ?? length) * info.rate;
  const size = NETWORK_SHARE + (info.width * info.height) / 1e6;
  return speed && frames && !info.photo ? speed * frames * size : null;
}

/** How many frames per second a result has. */
export const rateOf = (info, { preset }) => Math.min(info.rate, MOST_RATE[preset] ?? Infinity);

/** A sentence on what will be made. */
export function describe(value, photo) {
  const { outputs } = toSettings(value, photo);
  const files = list(outputs.map((kind) => words().files[kind]));
  return `${files || words().nothing} · ${words().details[qualityIndex(value)]}`;
}

/**
 * Fill a form with the choices; gives functions to read, show and say them.
 *
 * `changed` is called after each choice of the user.
 */
export function makeSettings(form, changed) {
  form.querySelector(".settings").append(template.content.cloneNode(true));
  const find = (selector) => form.querySelector(selector);
  let value = DEFAULT;
  let files = []; // the uploaded backgrounds
  let waited = null; // a background that was uploaded and is not in the list yet

  function show(next) {
    value = next;
    for (const name of ["receiver", "format"]) form[name].value = value[name];
    for (const name of ["clear", "mp4", "alpha"]) form[name].checked = value[name];
    form.quality.value = value.quality;
    form.background.value = value.background;
    adapt();
  }

  /** Show only what matters to the receiver. */
  function adapt() {
    find(".outputs").hidden = value.receiver !== "";
    find(".makes").hidden = value.receiver === "";
    find(".makes").textContent = words().makes[value.receiver] ?? "";
    form.format.disabled = !value.clear;
    form.tint.value = tintOf(value);
    find(".backgrounds").hidden = !isOver(value);
  }

  function read() {
    value = {
      ...value,
      receiver: form.receiver.value,
      clear: form.clear.checked,
      format: form.format.value,
      mp4: form.mp4.checked,
      alpha: form.alpha.checked,
      background: form.background.value || "colour",
      quality: form.quality.value,
    };
    adapt();
    changed(value);
  }

  find(".settings").addEventListener("input", (event) => {
    if (event.target.name === "tint") {
      form.background.value = "colour";
      value = { ...value, tint: form.tint.value };
    }
    if (find(".picked.failed")) report("");
    if (event.target.type !== "file") read();
  });

  form.upload.addEventListener("change", async () => {
    const [file] = form.upload.files;
    form.upload.value = "";
    if (!file) return;
    report(words().adding(file.name));
    try {
      waited = `file:${await server.addBackground(file)}`;
      report("");
      choose(waited);
    } catch (error) {
      report(`${file.name}: ${sentence(error.message, file.name)}`, true);
    }
  });

  function report(text, failed = false) {
    find(".picked").textContent = text;
    find(".picked").classList.toggle("failed", failed);
  }

  function choose(background) {
    if (!files.some(({ id }) => background === `file:${id}`)) return;
    waited = null;
    form.background.value = background;
    read();
  }

  /** Offer the uploaded backgrounds. */
  function offer(next) {
    if (JSON.stringify(next) === JSON.stringify(files)) return;
    files = next;
    find(".own-files").replaceChildren(...files.map(({ id, name, video }) => {
      const item = document.getElementById("background-file").content.firstElementChild.cloneNode(true);
      item.querySelector("input").value = `file:${id}`;
      item.querySelector("img").src = pictureOf(`file:${id}`);
      item.querySelector(".name").textContent = video ? `▶ ${name}` : name;
      const remove = item.querySelector("button");
      remove.setAttribute("aria-label", words().discard(name));
      remove.addEventListener("click", () => {
        server.removeBackground(id).catch((error) => report(sentence(error.message, name), true));
      });
      return item;
    }));
    if (waited) choose(waited);
    form.background.value = value.background;
    if (!form.background.value) { // it was removed
      form.background.value = "colour";
      read();
    }
  }

  function say() {
    translate(form);
    for (const option of form.receiver.options) option.textContent = words().receivers[option.value];
    for (const option of form.format.options) option.textContent = words().formats[option.value];
    form.querySelectorAll(".qualities label").forEach((label, index) => {
      label.querySelector(".name").textContent = words().details[index];
      label.querySelector(".muted").textContent = words().qualities[index];
    });
    for (const label of form.querySelectorAll("[data-ready]")) label.textContent = words().ready[label.dataset.ready];
    adapt();
  }

  say();
  show(value);
  return { show, offer, say, value: () => value };
}
