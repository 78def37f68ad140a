// One card for each job: settings, progress, result.

import { makeLook } from "./look.js";
import { makePlayer } from "./player.js";
import * as server from "./server.js";
import { backgroundOf, describe, estimate, isOver, makeSettings, pictureOf, qualityIndex, rateOf, toSettings } from "./settings.js";
import { list, sentence, size, translate, words } from "./words.js";

const template = document.getElementById("job-card");
// Outputs of photos are played like those of videos.
const SHOWN_AS = { png: "mov", webp: "mov", jpg: "mp4", mask: "alpha" };

/**
 * Make the card of a job; gives the element and what updates it.
 *
 * `common` has the choices for all clips, and `own` those of this one, or null. `kept` has
 * who is cut out of which part of it, or null.
 */
export function makeCard(id, common, own, kept) {
  const card = template.content.firstElementChild.cloneNode(true);
  const find = (selector) => card.querySelector(selector);
  const form = find("form");
  const player = makePlayer(card);
  const look = makeLook(card, id, {
    name: () => job.name, quality: () => value().quality, changed: common.follow, drawn: () => paint(), kept,
  });
  let job = null;
  let started = null; // when, and at which frame, this run was first seen
  let shown = null; // the run whose result is shown

  let quality = null; // what the look shows

  const choices = makeSettings(form, (next) => {
    own.set(next);
    follow();
  });

  const value = () => own.get() ?? common.value();

  /** The length of the part that is converted [s]; null for all of it. */
  function partLength() {
    const { start, end } = look.choice();
    return start === null && end === null ? null : (end ?? job.info.frames / job.info.rate) - (start ?? 0);
  }

  const seconds = () => estimate(job.info, value(), common.speeds(), partLength());

  /** Show the choices that this clip has now. */
  function follow() {
    choices.show(value());
    find(".same").hidden = !own.get();
    find(".own > summary").textContent = own.get() ? words().ownNow : words().own;
    if (!job) return;
    const parts = [describe(value(), job.info.photo)];
    if (seconds()) parts.push(words().about(seconds()));
    find(".plan").textContent = parts.join(" · ");
    paint();
    if (quality && quality !== value().quality) look.refresh();
    quality = value().quality;
  }

  function refuse(text) {
    find(".refused").hidden = !text;
    find(".refused").textContent = text;
  }

  async function attempt(action) {
    try {
      refuse("");
      await action();
    } catch (error) {
      refuse(sentence(error.message, job.name));
    }
  }

  /** Show the background behind the cut-out, as it will be. */
  function paint() {
    const background = backgroundOf(value());
    const over = isOver(value());
    const stage = find(".stage");
    const behind = stage.querySelector(".behind");
    stage.classList.toggle("squares", !over);
    stage.style.backgroundColor = over && background.startsWith("#") ? background : "";
    const source = !over ? "" : background === "blur" ? look.room() : pictureOf(background);
    behind.hidden = !source;
    if (source && behind.getAttribute("src") !== source) behind.src = source;
    // As of the converter: a standard deviation of 1/80 of the longer side.
    const side = Math.max(stage.clientWidth, stage.clientHeight);
    behind.classList.toggle("blurred", background === "blur");
    behind.style.filter = background === "blur" ? `blur(${side / 80}px)` : "";
  }

  form.addEventListener("input", () => { refuse(""); paint(); });
  new ResizeObserver(() => { if (job) paint(); }).observe(find(".stage"));

  find(".same").addEventListener("click", () => {
    own.set(null);
    follow();
    find(".own > summary").focus();
  });

  /** Start the conversion with the choices that this clip has. */
  async function start() {
    const wanted = { ...toSettings(value(), job.info.photo), choice: look.choice() };
    if (!wanted.outputs.length) throw new Error(words().nothing);
    await server.start(id, wanted);
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(start);
  });
  find(".cancel").addEventListener("click", () => attempt(() => server.cancel(id)));
  find(".remove").addEventListener("click", () => {
    if (job.state === "ready" || confirm(words().sure(job.name))) attempt(() => server.remove(id));
  });

  // What the server says

  function showProgress() {
    const bar = find(".running progress");
    const { done, frames } = job;
    if (job.state === "queued" || done === 0) {
      bar.removeAttribute("value");
      find(".eta").textContent = job.state === "queued" ? words().waiting : words().steps[job.step] ?? words().steps.look;
      started = null;
      return;
    }
    started ??= { time: Date.now(), done };
    bar.value = frames ? Math.min(1, done / frames) : 0;
    const rate = (done - started.done) / ((Date.now() - started.time) / 1000);
    const parts = [words().frames(done, frames && Math.max(done, frames))]; // it is an estimate
    if (frames && done >= frames) parts.push(words().finishing);
    else if (frames && rate > 0 && done - started.done > 10) parts.push(words().left((frames - done) / rate));
    find(".eta").textContent = parts.join(" · ");
  }

  function makeLinks({ run, settings, sizes }) {
    return settings.outputs.map((kind) => {
      const link = document.createElement("a");
      link.href = server.jobAddress(id, `files/${kind}?run=${run}`);
      link.download = "";
      link.dataset.kind = kind;
      if (sizes) link.dataset.size = sizes[kind];
      return link;
    });
  }

  function showResults() {
    const [newest, ...earlier] = job.results;
    find(".result").hidden = !newest;
    find(".earlier").hidden = !earlier.length;
    if (!newest || shown === newest.run) return;
    shown = newest.run;
    player.show(server.jobAddress(id, `files/playable?run=${shown}`), newest.settings.outputs.map((kind) => SHOWN_AS[kind] ?? kind), rateOf(job.info, newest.settings), job.info.sound);
    find(".downloads").replaceChildren(...makeLinks(newest));
    for (const link of card.querySelectorAll(".downloads a")) link.className = "button";
    find(".earlier ul").replaceChildren(...earlier.map((result) => {
      const item = document.createElement("li");
      const text = document.createElement("span");
      text.dataset.run = result.run;
      item.append(text, ...makeLinks(result));
      return item;
    }));
  }

  function sayNotes({ notes, copies }) {
    const said = notes.map((note) => sentence(note, job.name));
    const all = copies?.length ? [...said, words().copies(list(copies))] : said;
    find(".notes").replaceChildren(...all.map((note) => {
      const item = document.createElement("li");
      item.textContent = note;
      return item;
    }));
  }

  function nameResult({ settings }) {
    const parts = [words().details[qualityIndex(settings)]];
    const [kind, name] = settings.background.split(":");
    if (settings.outputs.some((output) => ["mp4", "jpg"].includes(output))) {
      parts.push({ blur: words().blur, ready: words().ready[name], file: words().background }[kind] ?? kind);
    }
    return parts.join(" · ");
  }

  function say() {
    translate(card);
    player.say();
    if (!job) return;
    look.say();
    find(".badge").textContent = words().states[job.state];
    find(".facts").textContent = list([words().facts(job), job.info.bytes && size(job.info.bytes)].filter(Boolean));
    choices.say();
    follow();
    find(".setup > summary").textContent = job.results.length ? words().again : words().setup;
    find(".previous").hidden = job.state === "done";
    if (job.results.length) sayNotes(job.results[0]);
    for (const result of job.results.slice(1)) {
      const text = card.querySelector(`.earlier [data-run="${result.run}"]`);
      if (text) text.textContent = nameResult(result);
    }
    for (const link of card.querySelectorAll(".result a")) {
      link.textContent = words().files[link.dataset.kind];
      if (link.dataset.size) link.textContent += ` · ${size(link.dataset.size)}`;
      link.setAttribute("aria-label", `${words().download}: ${link.textContent}`);
    }
    showProgress();
  }

  function update(next) {
    const before = job;
    job = next;
    if (!before) {
      find("h3").textContent = job.name;
      card.setAttribute("aria-label", job.name);
      card.classList.toggle("photo", Boolean(job.info.photo));
      if (job.info.photo) find(".look > legend").dataset.word = "lookPhoto";
      look.open(job.info, job.settings.choice);
    }
    const busy = job.state === "queued" || job.state === "running";
    if (before?.state !== job.state || before?.turn !== job.turn) {
      card.dataset.state = job.state;
      find(".running").hidden = !busy;
      find(".setup").hidden = busy;
      find(".setup").open = !busy && job.state !== "done";
      find(".error").hidden = !job.error;
      find(".error").textContent = job.error && sentence(job.error, job.name);
      showResults();
      say();
      const { activeElement } = document;
      if (card.contains(activeElement) && !activeElement.checkVisibility()) find("h3").focus({ preventScroll: true }); // what was pressed is gone
    }
    if (!before) paint();
    if (busy) showProgress();
    return before !== null && before.state !== job.state;
  }

  return {
    element: card, update, say, follow, start,
    job: () => job,
    forget: () => refuse(""),
    offer: choices.offer,
    seconds,
  };
}
