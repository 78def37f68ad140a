// One card for each job: settings, progress, result.

import { makeLook } from "./look.js";
import { makePlayer } from "./player.js";
import * as server from "./server.js";
import { translate, words } from "./words.js";

const template = document.getElementById("job-card");
const choice = document.getElementById("preview-choice");

/** Make the card of a job; gives the element and what updates it. */
export function makeCard(id) {
  const card = template.content.firstElementChild.cloneNode(true);
  const find = (selector) => card.querySelector(selector);
  const form = find("form");
  const player = makePlayer(card);
  const look = makeLook(card, id, { ratio: () => settings().ratio, changed: () => paint() });
  let job = null;
  let begun = null; // when, and at which frame, this run was first seen
  let backdrop = ""; // what the previews show
  let shown = null; // the run whose result is shown

  for (const radio of card.querySelectorAll(".backgrounds [type=radio]")) {
    radio.name = `background-${id}`;
  }

  function chosen(name) {
    return form.querySelector(`[name="${name}-${id}"]:checked`)?.value;
  }

  function settings() {
    const outputs = [];
    if (form.clear.checked) outputs.push(form.format.value);
    if (form.mp4.checked) outputs.push("mp4");
    if (form.alpha.checked) outputs.push("alpha");
    const kind = chosen("background");
    return {
      outputs,
      background: kind === "colour" ? form.tint.value : kind,
      ratio: Number(chosen("ratio")),
      choice: look.choice(),
    };
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
      refuse(error.message);
    }
  }

  // The look at a moment

  function makeDetails() {
    // What "auto" would take, or the nearest.
    const usual = Math.min(1, 512 / Math.max(job.info.width, job.info.height));
    const far = job.info.ratios.map((ratio) => Math.abs(ratio - usual));
    job.info.ratios.forEach((ratio, index) => {
      const detail = choice.content.firstElementChild.cloneNode(true);
      Object.assign(detail.querySelector("input"), {
        name: `ratio-${id}`, value: ratio, checked: far[index] === Math.min(...far),
      });
      detail.addEventListener("change", () => look.refresh());
      find(".previews").append(detail);
    });
  }

  /** Show the background behind each preview, as it will be in the MP4. */
  function paint() {
    const { background } = settings();
    const over = form.mp4.checked;
    find(".backgrounds").disabled = !over;
    form.format.disabled = !form.clear.checked;
    for (const stage of card.querySelectorAll(".stage")) {
      const behind = stage.querySelector(".behind");
      stage.classList.toggle("squares", !over || (background === "image" && !job.backdrop));
      stage.style.backgroundColor = over && background.startsWith("#") ? background : "";
      const source = !over ? ""
        : background === "blur" ? look.room()
        : background === "image" && job.backdrop ? server.jobAddress(id, `background?${job.backdrop}`)
        : "";
      behind.hidden = !source;
      if (source && behind.getAttribute("src") !== source) behind.src = source;
      // As of the converter: a standard deviation of 1/80 of the longer side.
      const side = Math.max(stage.clientWidth, stage.clientHeight);
      behind.classList.toggle("blurred", background === "blur");
      behind.style.filter = background === "blur" ? `blur(${side / 80}px)` : "";
    }
  }

  form.addEventListener("input", () => { refuse(""); paint(); });
  new ResizeObserver(() => { if (job) paint(); }).observe(find(".stage"));

  form.backdrop.addEventListener("change", () => attempt(async () => {
    const [file] = form.backdrop.files;
    if (!file) return;
    form.querySelector(`[name="background-${id}"][value=image]`).checked = true;
    await server.setBackground(id, file);
    find(".picked").textContent = file.name;
  }));

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(async () => {
      const wanted = settings();
      if (!wanted.outputs.length) throw new Error(words().nothing);
      if (wanted.background === "image" && !job.backdrop && form.mp4.checked) throw new Error(words().needImage);
      if (!form.mp4.checked) wanted.background = "green"; // not used
      await server.start(id, wanted);
    });
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
      find(".eta").textContent = job.state === "queued" ? words().waiting : words().beginning;
      begun = null;
      return;
    }
    begun ??= { time: Date.now(), done };
    bar.value = frames ? Math.min(1, done / frames) : 0;
    const rate = (done - begun.done) / ((Date.now() - begun.time) / 1000);
    const parts = [words().frames(done, frames)];
    if (frames && done >= frames) parts.push(words().finishing);
    else if (frames && rate > 0 && done - begun.done > 10) parts.push(words().left((frames - done) / rate));
    find(".eta").textContent = parts.join(" · ");
  }

  function makeLinks({ run, settings }) {
    return settings.outputs.map((kind) => {
      const link = document.createElement("a");
      link.href = server.jobAddress(id, `files/${kind}?run=${run}`);
      link.download = "";
      link.dataset.kind = kind;
      return link;
    });
  }

  function showResults() {
    const [newest, ...earlier] = job.results;
    find(".result").hidden = !newest;
    find(".earlier").hidden = !earlier.length;
    if (!newest || shown === newest.run) return;
    shown = newest.run;
    player.show(server.jobAddress(id, `files/playable?run=${shown}`), newest.settings.outputs, job.info.rate);
    find(".downloads").replaceChildren(...makeLinks(newest));
    for (const link of card.querySelectorAll(".downloads a")) link.className = "button";
    find(".notes").replaceChildren(...newest.notes.map((note) => {
      const item = document.createElement("li");
      item.textContent = note;
      return item;
    }));
    find(".earlier ul").replaceChildren(...earlier.map((result) => {
      const item = document.createElement("li");
      const text = document.createElement("span");
      text.dataset.run = result.run;
      item.append(text, ...makeLinks(result));
      return item;
    }));
  }

  function describe({ settings }) {
    const index = job.info.ratios.indexOf(settings.ratio);
    const parts = [index < 0 ? String(settings.ratio) : words().details[index]];
    const { background } = settings;
    if (settings.outputs.includes("mp4")) parts.push({ blur: words().blur, image: words().image }[background] ?? background);
    return parts.join(" · ");
  }

  function say() {
    translate(card);
    player.say();
    if (!job) return;
    look.say();
    find(".badge").textContent = words().states[job.state];
    find(".facts").textContent = words().facts(job);
    find(".setup > summary").textContent = job.results.length ? words().again : words().setup;
    find(".previous").hidden = job.state === "done";
    for (const result of job.results.slice(1)) {
      const text = card.querySelector(`.earlier [data-run="${result.run}"]`);
      if (text) text.textContent = describe(result);
    }
    card.querySelectorAll(".preview").forEach((preview, index) => {
      preview.querySelector(".name").textContent = words().details[index];
      preview.querySelector(".ratio").textContent = String(Number(job.info.ratios[index].toFixed(3)));
    });
    for (const link of card.querySelectorAll(".result a")) {
      link.textContent = words().files[link.dataset.kind];
      link.setAttribute("aria-label", `${words().download}: ${link.textContent}`);
    }
    showProgress();
  }

  function update(next) {
    const before = job;
    job = next;
    if (!before) {
      find("h3").textContent = job.name;
      makeDetails();
      look.open(job.info, job.settings.choice);
    }
    const busy = job.state === "queued" || job.state === "running";
    if (before?.state !== job.state || before?.turn !== job.turn) {
      card.dataset.state = job.state;
      find(".running").hidden = !busy;
      find(".setup").hidden = busy;
      find(".setup").open = !busy && job.state !== "done";
      find(".error").hidden = !job.error;
      find(".error").textContent = job.error;
      showResults();
      say();
    }
    if (backdrop !== job.backdrop || !before) paint();
    backdrop = job.backdrop;
    if (busy) showProgress();
    return before !== null && before.state !== job.state;
  }

  return { element: card, update, say };
}
