// The page: files in, cards for the jobs.

import { makeCommon, ownChoices, ownLook } from "./common.js";
import { makeCard } from "./job.js";
import { listen, upload } from "./server.js";
import { sentence, switchLanguage, translate, words } from "./words.js";

const find = (id) => document.getElementById(id);
const cards = new Map();
let limit = Infinity;

const announce = (text) => { find("live").textContent = text; };
const common = makeCommon(cards, announce);

function say() {
  translate(document);
  find("language").textContent = words().other;
  common.say();
  for (const card of cards.values()) card.say();
}

find("language").addEventListener("click", () => { switchLanguage(); say(); });

// Uploads

function addFile(file) {
  const row = find("upload-row").content.firstElementChild.cloneNode(true);
  const status = row.querySelector(".status");
  const button = row.querySelector("button");
  translate(row);
  row.querySelector(".name").textContent = file.name;
  find("uploads").append(row);

  function fail(text) {
    row.classList.add("failed");
    row.querySelector("progress").hidden = true;
    status.textContent = text === null ? words().lost : sentence(text, file.name);
    if (text === null) {
      const again = document.createElement("button");
      again.dataset.word = "tryAgain";
      again.onclick = () => { row.remove(); addFile(file); };
      button.before(again);
    }
    button.textContent = "✕";
    delete button.dataset.word;
    button.dataset.wordLabel = "remove";
    translate(row);
    button.onclick = () => { row.remove(); find("files").focus({ preventScroll: true }); };
  }

  if (file.size > limit) {
    fail(words().tooLarge(limit / 1e9));
    return;
  }
  status.textContent = words().waiting;
  const cancel = upload(file, {
    progress(part) {
      row.querySelector("progress").value = part;
      status.textContent = part < 1 ? `${Math.floor(part * 100)} %` : words().checking;
    },
    done: () => row.remove(),
    failed: fail,
  });
  button.onclick = cancel;
}

function addFiles(files) {
  for (const file of files) addFile(file);
}

find("files").addEventListener("change", (event) => {
  addFiles(event.target.files);
  event.target.value = "";
});
// The whole page takes files, so that a near miss does not open the video instead.
addEventListener("dragover", (event) => { event.preventDefault(); find("drop").classList.add("over"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) find("drop").classList.remove("over"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  find("drop").classList.remove("over");
  addFiles(event.dataTransfer.files);
});

// Jobs

function showTitle(jobs) {
  const running = jobs.find((job) => job.state === "running" && job.frames);
  const part = running ? Math.floor((100 * running.done) / running.frames) : null;
  document.title = part === null ? "rematte" : `${part} % · rematte`;
}

listen((state) => {
  limit = state.limit;
  for (const job of state.jobs) {
    if (!cards.has(job.id)) {
      const made = makeCard(job.id, common, ownChoices(job.id), ownLook(job.id));
      cards.set(job.id, made);
      find("jobs").prepend(made.element);
    }
    if (!cards.get(job.id).update(job)) continue;
    // One sentence announces all clips that were started together.
    if (common.startedTogether(job.id) && job.state === "queued") continue;
    announce(`${job.name}: ${words().states[job.state]}`);
  }
  const there = new Set(state.jobs.map((job) => job.id));
  for (const [id, card] of cards) {
    if (!there.has(id)) {
      const left = card.element.contains(document.activeElement);
      card.element.remove();
      cards.delete(id);
      if (left) find(cards.size ? "jobs-title" : "files").focus({ preventScroll: true });
    }
  }
  common.update(state);
  find("jobs-title").hidden = cards.size === 0;
  showTitle(state.jobs);
}, (reached) => {
  if (reached && !find("offline").hidden) for (const card of cards.values()) card.forget();
  find("offline").hidden = reached;
});

say();
