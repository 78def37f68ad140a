// One card for each job: settings, progress, result.

import { makeCompare } from "./compare.js";
import * as server from "./server.js";
import { translate, words } from "./words.js";

const template = document.getElementById("job-card");
const choice = document.getElementById("preview-choice");

/** Make the card of a job; gives the element and what updates it. */
export function makeCard(id) {
  const card = template.content.firstElementChild.cloneNode(true);
  const find = (selector) => card.querySelector(selector);
  const form = find("form");
  const compare = makeCompare(card);
  let job = null;
  let begun = null; // when, and at which frame, this run was first seen
  let backdrop = ""; // what the previews show

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

  // Previews

  function makePreviews() {
    // What "auto" would take, or the nearest.
    const usual = Math.min(1, 512 / Math.max(job.info.width, job.info.height));
    const far = job.info.ratios.map((ratio) => Math.abs(ratio - usual));
    job.info.ratios.forEach((ratio, index) => {
      const preview = choice.content.firstElementChild.cloneNode(true);
      const radio = preview.querySelector("input");
      Object.assign(radio, { name: `ratio-${id}`, value: ratio, checked: far[index] === Math.min(...far) });
      const cutout = preview.querySelector(".cutout");
      preview.querySelector(".stage").style.aspectRatio = `${job.info.width} / ${job.info.height}`;
      preview.classList.add("loading");
      cutout.addEventListener("load", () => preview.classList.remove("loading"));
      cutout.addEventListener("error", () => preview.classList.replace("loading", "broken"));
      cutout.loading = "lazy"; // not while the settings are closed
      cutout.src = server.jobAddress(id, `preview/${index + 1}`);
      find(".previews").append(preview);
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
        : background === "blur" ? server.jobAddress(id, "preview/0")
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
  new ResizeObserver(() => { if (job) paint(); }).observe(find(".previews"));

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

  function showResult() {
    compare.show(server.jobAddress(id, `files/compare?${job.turn}`));
    find(".downloads").replaceChildren(...job.settings.outputs.map((kind) => {
      const link = document.createElement("a");
      link.href = server.jobAddress(id, `files/${kind}`);
      link.download = "";
      link.dataset.kind = kind;
      link.className = "button";
      return link;
    }));
    find(".notes").replaceChildren(...job.notes.map((note) => {
      const item = document.createElement("li");
      item.textContent = note;
      return item;
    }));
  }

  function say() {
    translate(card);
    compare.say();
    if (!job) return;
    find(".badge").textContent = words().states[job.state];
    find(".facts").textContent = words().facts(job);
    find("summary").textContent = job.state === "done" ? words().again : words().setup;
    card.querySelectorAll(".preview").forEach((preview, index) => {
      preview.querySelector(".name").textContent = words().details[index];
      preview.querySelector(".ratio").textContent = String(Number(job.info.ratios[index].toFixed(3)));
      preview.querySelector(".stage").dataset.broken = words().noPreview;
    });
    for (const link of card.querySelectorAll(".downloads a")) {
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
      makePreviews();
    }
    const busy = job.state === "queued" || job.state === "running";
    if (before?.state !== job.state || before?.turn !== job.turn) {
      card.dataset.state = job.state;
      find(".running").hidden = !busy;
      find(".result").hidden = job.state !== "done";
      find(".setup").hidden = busy;
      find(".setup").open = !busy && job.state !== "done";
      find(".error").hidden = !job.error;
      find(".error").textContent = job.error;
      if (job.state === "done") showResult();
      else compare.show("");
      say();
    }
    if (backdrop !== job.backdrop || !before) paint();
    backdrop = job.backdrop;
    if (busy) showProgress();
    return before !== null && before.state !== job.state;
  }

  return { element: card, update, say };
}
