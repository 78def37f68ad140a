// A moment of the video beside its cut-out, and the choice of who is cut out.

import { makePaint } from "./paint.js";
import { clock, makeScrub } from "./scrub.js";
import { jobAddress, load, post } from "./server.js";
import { sentence, sentences, words } from "./words.js";

const WAIT = 150; // until a moment that is scrubbed over is looked at [ms]
const JUDGED = 2000; // until it is asked how sure the cut-out is [ms]
const NEAR = 1; // a mark for this moment holds so long before and after it [s]
const HERE = 0.5; // the click is shown so long before and after its time [s]
const MOST = 64; // marks

/** Whether the person was chosen at a time that is not converted. */
const isOutside = ({ person, start, end }) => person && (person.at < (start ?? 0) || person.at >= (end ?? Infinity));

/** Whether nothing of a picture can be seen. */
function isEmpty(image) {
  const small = new OffscreenCanvas(64, 64).getContext("2d");
  small.drawImage(image, 0, 0, 64, 64);
  return small.getImageData(0, 0, 64, 64).data.every((value, index) => index % 4 < 3 || value < 26);
}

/**
 * Wire up a card's look at a moment.
 *
 * `name` gives the clip's name and `quality` what was chosen for it. `changed` is called when
 * the choice was, which is `kept`, and `drawn` when the moment is shown.
 */
export function makeLook(card, id, { name, quality, changed, drawn, kept }) {
  const find = (selector) => card.querySelector(selector);
  const original = find(".original img");
  const stage = find(".stage");
  const cutout = find(".cutout");
  const busy = find(".busy");
  const layer = find(".layer");
  const tools = find(".tools");
  const scrub = makeScrub(card, id, {
    moved: later, trimmed: () => change(scrub.part()), visible: () => visible,
  });
  const paint = makePaint(layer, [stage], { tool, clicked, painted });
  let choice = { start: null, end: null, person: null, marks: [] };
  let before = []; // earlier choices, for undo
  let turn = 0; // of what is shown; older requests are dropped
  let timer = 0;
  let visible = false;
  let verdict = null;
  let problem = "";
  let missed = false; // whether the last click was on nobody, and was taken back
  let made = false; // whether the cut-out shown is the one asked for

  const value = (name) => tools.querySelector(`[name^=${name}]:checked`)?.value ?? tools.querySelector(`select[name=${name}]`)?.value;

  function tool() {
    return { what: value("tool"), box: value("shape") === "box", size: Number(tools.querySelector("[name=size]").value) / 100 };
  }

  function change(next) {
    before.push(choice);
    choose({ ...choice, ...next });
  }

  function choose(next) {
    const differs = next.person !== choice.person || next.marks !== choice.marks;
    choice = next;
    missed = false;
    scrub.setPart(choice);
    kept.set(choice);
    changed();
    say();
    if (differs) refresh();
  }

  /** Take back a click on nobody, so that Undo does not bring it back. */
  function takeBack({ person }) {
    before = before.filter((each) => each.person !== person);
    const last = before.at(-1);
    choose({ ...choice, person: last?.person ?? null });
    if (["start", "end", "marks"].every((name) => last?.[name] === choice[name])) before.pop();
    missed = true;
    say();
  }

  function clicked([x, y]) {
    change({ person: { x, y, at: Number(scrub.time().toFixed(3)), keep: tool().what === "keep" } });
  }

  function painted(points, size) {
    const now = scrub.time();
    const round = (time) => Number(time.toFixed(3));
    const [since, until] = {
      whole: [0, null],
      near: [Math.max(0, round(now - NEAR)), round(now + NEAR)],
      after: [round(now), null],
      before: [0, round(now)],
    }[value("holds")];
    const mark = { keep: tool().what === "include", points, size, since, until };
    change({ marks: [...choice.marks, mark].slice(-MOST) });
  }

  find(".undo").addEventListener("click", () => {
    if (before.length) choose(before.pop());
  });
  find(".clear").addEventListener("click", () => change({ person: null, marks: [] }));
  card.querySelector(".look").addEventListener("keydown", (event) => {
    if (event.key === "z" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      find(".undo").click();
    }
  });
  tools.addEventListener("input", say);
  find(".again").addEventListener("click", () => refresh());

  // Pictures

  /** Show a picture that was loaded, and let go of the one before. */
  function replace(image, content) {
    URL.revokeObjectURL(image.dataset.loaded);
    image.src = image.dataset.loaded = URL.createObjectURL(content);
  }

  function later() {
    const near = scrub.thumbnail();
    if (near) original.src = near;
    clearTimeout(timer);
    timer = setTimeout(refresh, WAIT);
    made = false;
    verdict = null;
    say();
  }

  /** Load the moment's pictures; the one before stays, dimmed, until they are there. */
  function refresh() {
    clearTimeout(timer);
    const mine = ++turn;
    const at = Number(scrub.time().toFixed(3));
    const wanted = () => visible && mine === turn;
    [made, verdict, problem] = [false, null, ""];
    say();
    if (!visible) return;
    load(jobAddress(id, `still/frame?at=${at}`), {
      urgent: true,
      wanted: () => mine === turn,
      ready(content) { replace(original, content); drawn(); },
      failed: () => {},
    });
    load(jobAddress(id, "cutout"), {
      urgent: true,
      wanted,
      options: post({ at, quality: quality(), choice: { person: choice.person, marks: choice.marks } }),
      ready(content) {
        cutout.onload = () => {
          made = true;
          if (isEmpty(cutout) && !describe()) verdict = { nobody: true };
          say();
          timer = setTimeout(judge, JUDGED);
        };
        replace(cutout, content);
      },
      failed(text) {
        // The server has no other word for it.
        if (choice.person && text?.startsWith("nobody is there")) { takeBack(choice); return; }
        problem = text ? sentence(text, name()) : words().noPreview;
        say();
      },
    });
  }

  function judge() {
    const mine = turn;
    load(jobAddress(id, "judgement"), {
      wanted: () => visible && mine === turn,
      options: post({ at: Number(scrub.time().toFixed(3)), quality: quality() }),
      async ready(content) { verdict = JSON.parse(await content.text()); say(); },
      failed: () => {},
    });
  }

  // What is in sight does not wait for other clips.
  new IntersectionObserver((entries) => {
    visible = entries.at(-1).isIntersecting;
    if (!visible) return;
    scrub.loadThumbnails();
    if (!made) refresh();
    else if (!verdict) judge();
  }).observe(stage);

  // Words

  function describe() {
    const parts = [];
    if (choice.person) parts.push(choice.person.keep ? words().keptOne : words().droppedOne);
    if (isOutside(choice)) parts.push(words().outside);
    for (const keep of [true, false]) {
      const count = choice.marks.filter((mark) => mark.keep === keep).length;
      if (count) parts.push((keep ? words().added : words().erased)(count));
    }
    return parts.join(" · ");
  }

  function say() {
    const now = scrub.time();
    paint.show(
      choice.marks.filter((mark) => mark.since <= now && (mark.until === null || now < mark.until)),
      choice.person && Math.abs(choice.person.at - now) < HERE ? choice.person : null,
    );
    scrub.show();
    stage.classList.toggle("old", !made);
    busy.textContent = problem || words().making;
    busy.hidden = made;
    busy.classList.toggle("failed", problem !== "");
    find(".again").hidden = problem === "";
    const doubt = verdict && ["nobody", "unsure", "edges"].find((name) => verdict[name]);
    find(".verdict").textContent = !verdict ? ""
      : doubt ? sentences([words()[doubt], ...(doubt === "edges" ? [] : [words().closer])]) : words().sureHere;
    find(".chosen").textContent = sentences([missed ? words().missed : "", describe()].filter(Boolean));
    find(".undo").disabled = !before.length;
    find(".clear").disabled = !choice.person && !choice.marks.length;
    find(".whole").disabled = choice.start === null && choice.end === null;
    find(".part").textContent = choice.start === null && choice.end === null ? "" : words().part(clock(scrub.seconds()));
    const painting = ["include", "exclude"].includes(tool().what);
    find(".brush").disabled = !painting;
    find(".look").classList.toggle("painting", painting);
    find(".thickness").hidden = tool().box;
    find(".tool-hint").textContent = painting ? words().paintHint : words().clickHint;
  }

  return {
    open(info, saved) {
      for (const radio of tools.querySelectorAll("[type=radio]")) radio.name = `tool-${id}`;
      for (const frame of card.querySelectorAll(".frame")) {
        frame.style.aspectRatio = `${info.width} / ${info.height}`;
        frame.style.setProperty("--shape", info.width / info.height);
      }
      scrub.open(info);
      choice = { ...choice, ...saved, ...kept.get() };
      scrub.setPart(choice);
      say();
    },
    refresh,
    say,
    /** Who is cut out of which part. */
    choice: () => choice,
    /** The picture of the moment, for a blurred background. */
    room: () => original.src,
  };
}
