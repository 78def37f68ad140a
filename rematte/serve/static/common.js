// What concerns all clips: the choices for them, starting them, and their files.

import * as server from "./server.js";
import { describe, makeSettings, remember, remembered, stored } from "./settings.js";
import { list, size, words } from "./words.js";

const CLOSED = "rematte-settings-closed";
// What was chosen for single clips, by the id of the job.
const OWN = "rematte-own"; // choices that differ from those for all
const LOOK = "rematte-look"; // who is cut out of which part
const form = document.getElementById("common");
const bar = document.getElementById("all");
const find = (selector) => form.querySelector(selector);

/** Something that was chosen for one clip, or null, which outlives the page. */
const kept = (store) => (id) => {
  let chosen = stored(store)[id] ?? null;
  return {
    get: () => chosen,
    set(value) {
      chosen = value;
      const { [id]: _, ...others } = stored(store);
      try {
        localStorage.setItem(store, JSON.stringify(value ? { ...others, [id]: value } : others));
      } catch { /* There is no room for it: it holds until the page is closed. */ }
    },
  };
};
export const ownChoices = kept(OWN);
export const ownLook = kept(LOOK);

/** Wire up the choices for all; `cards` has the cards by id, `announce` says a sentence. */
export function makeCommon(cards, announce) {
  let state = { jobs: [], backgrounds: [], speeds: {} };
  let shown = ""; // the part of the state that matters here
  const together = new Set(); // ids of clips that were started as one
  const choices = makeSettings(form, (value) => {
    remember(value);
    follow();
  });
  choices.show(remembered());
  find(".choices").open = localStorage.getItem(CLOSED) === null;
  find(".choices").addEventListener("toggle", () => {
    if (find(".choices").open) localStorage.removeItem(CLOSED);
    else localStorage.setItem(CLOSED, "yes");
  });

  // In the order of the page, so that the clip that runs is in sight.
  const ready = () => [...cards.values()].filter((card) => card.job().state === "ready").reverse();
  const done = () => state.jobs.filter((job) => job.state === "done");

  /** Show what depends on the choices, or on the clips. */
  function follow() {
    for (const card of cards.values()) card.follow();
    find(".choices > summary").textContent = describe(choices.value(), false);
    const seconds = ready().map((card) => card.seconds());
    const known = seconds.filter(Boolean);
    const videos = ready().filter((card) => !card.job().info.photo);
    find(".estimate").textContent = known.length && known.length === videos.length
      ? words().about(known.reduce((sum, part) => sum + part, 0))
      : videos.length ? words().noEstimate
      : ready().length ? "" : words().nothingReady;
    find(".start").textContent = words().startAll(ready().length);
    find(".start").hidden = !ready().length;
  }

  function say() {
    choices.say();
    find(".output").textContent = state.output ? words().copied(state.output) : "";
    const finished = state.jobs.filter((job) => job.results.length);
    const files = finished.flatMap((job) => Object.values(job.results[0].sizes ?? {}));
    bar.hidden = !state.jobs.length;
    const [zip, clear, space] = ["a", ".clear-done", ".space"].map((name) => bar.querySelector(name));
    zip.hidden = files.length < 2; // one has a link of its own
    zip.textContent = words().downloadAll(files.length, size(files.reduce((sum, part) => sum + part, 0)));
    clear.hidden = !done().length;
    clear.textContent = words().clearDone(done().length);
    space.textContent = words().space(size(state.used ?? 0), size(state.free ?? 0));
    follow();
  }

  function refuse(text) {
    find(".refused").hidden = !text;
    find(".refused").textContent = text;
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    refuse("");
    const failed = [];
    let count = 0;
    for (const card of ready()) {
      const { id, name } = card.job();
      together.add(id);
      await card.start().then(() => { count += 1; }, (error) => {
        together.delete(id);
        failed.push(`${name} (${error.message})`);
      });
    }
    if (failed.length) refuse(words().unstarted(list(failed)));
    if (!count) return;
    announce(words().allStarted(count));
    document.getElementById("jobs-title").focus(); // the button is gone
  });

  bar.querySelector(".clear-done").addEventListener("click", async () => {
    const jobs = done();
    if (!confirm(words().sureAll(jobs.length))) return;
    for (const job of jobs) await server.remove(job.id).catch((error) => refuse(error.message));
    announce(words().cleared);
    document.getElementById("files").focus();
  });

  return {
    value: choices.value,
    speeds: () => state.speeds,
    say,
    follow,
    /** Whether a clip was started with others; asked once. */
    startedTogether: (id) => together.delete(id),
    /** Take what the server says. */
    update(next) {
      state = next;
      const key = JSON.stringify({ ...next, jobs: next.jobs.map(({ id, state, turn }) => [id, state, turn]) });
      if (key === shown) return;
      shown = key;
      const ids = new Set(state.jobs.map((job) => job.id));
      for (const [store, clips] of [[OWN, ownChoices], [LOOK, ownLook]]) {
        for (const id of Object.keys(stored(store))) if (!ids.has(id)) clips(id).set(null);
      }
      form.hidden = !state.jobs.length;
      choices.offer(state.backgrounds);
      for (const card of cards.values()) card.offer(state.backgrounds);
      say();
    },
  };
}
