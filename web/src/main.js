// The page: choices in, pictures and figures out.

import {BACKENDS, createMatter} from 'rematte-web';
import {measure, SIZES} from './measure.js';
import {draw, resize} from './picture.js';
import {Recording} from './recording.js';
import {offer, saving} from './saving.js';
import {cameras, Source} from './source.js';
import {PageError} from './page-error.js';
import {looks} from './views.js';
import {change, place, put, say} from './words.js';

const VIEWS = ['green', 'white', 'transparent', 'blur', 'image', 'video', 'alpha', 'foreground'];
const STATES = ['r1', 'r2', 'r3', 'r4'];
const LONGER_SIDES = [256, 384, 512, 640, 960, 1280, 0]; // 0: as the source
const RATIOS = [0, 1, 0.8, 0.6, 0.5, 0.4, 0.25, 0.125]; // 0: automatic
const NETWORKS = ['automatic', 'fine', 'fast'];
const SMALLEST = 16; // pixels that the network needs of each side

const at = Object.fromEntries([...document.querySelectorAll('[id]')].map(e => [e.id, e]));
const source = new Source();
const input = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const behind = {image: null, video: null};
let view = 'green';
let matter = null;
let recording = null;
let held = false; // frames are asked for one by one
let opening = new AbortController(); // of the backend that was chosen last
let working = Promise.resolve();
let times = []; // of the last frames
let reported = []; // words of the message, to say them again in the other language

/** The network that is chosen; without a GPU "automatic" is the fast one. */
function network(backend) {
  const {value} = at.weights;
  return value !== 'automatic' ? value : backend === 'wasm' ? 'fast' : 'fine';
}

const models = backend => `./models/${network(backend)}/`;

// ---- one frame -------------------------------------------------------------------

/** Matte the frame that the source shows and draw it; gives what went in and came out. */
async function step() {
  await source.opened;
  const begin = performance.now();
  const {videoWidth, videoHeight} = source.video;
  if (!videoWidth) throw new PageError('nothingOpen');
  const longer = Math.max(videoWidth, videoHeight);
  const scale = Math.min(1, (Number(at.size.value) || longer) / longer);
  const [width, height] = [videoWidth, videoHeight].map(side => Math.round(side * scale));
  const ratio = Number(at.ratio.value) || Math.min(1, 512 / Math.max(width, height));
  if (Math.min(width, height) * ratio < SMALLEST) throw new PageError('tooSmall');
  resize(input.canvas, width, height);
  input.drawImage(source.video, 0, 0, width, height);
  const {data: pixels} = input.getImageData(0, 0, width, height);
  const now = view;
  const matte = await matter.matte({data: pixels, width, height}, {ratio});
  const shown = await looks(matte, now, matter);
  draw(at.canvas, shown, now, now === 'blur' ? input.canvas : behind[now], Boolean(recording));
  const left = at.empty.contains(document.activeElement);
  at.empty.hidden = true;
  if (left) at.pause.focus(); // what was pressed is gone
  at.record.disabled = false; // the canvas has the size of the picture
  tellFigures(begin, matte.milliseconds, `${width}×${height}`);
  return {width, height, ratio, given: pixels, shown};
}

function tellFigures(begin, network, picture) {
  const now = performance.now();
  times = [...times.filter((time, index) => time > now - 1000 || index === times.length - 1), now];
  at.rate.textContent = ((times.length - 1) * 1000 / (now - times[0]) || 0).toFixed(1);
  at.network.textContent = say('ms', network.toFixed(0));
  at.whole.textContent = say('ms', (now - begin).toFixed(0));
  at.picture.textContent = picture;
}

/** Do some work, and show what went wrong. */
async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    report(...(error instanceof PageError ? [error.message, ...error.given] : ['noEngine', error.message]));
    return null;
  }
}

async function forever() {
  for (;;) {
    await source.next();
    const used = matter;
    if (held || !used || !source.video.videoWidth) continue;
    working = step().catch(error => {
      if (used === matter) attempt(() => { throw error; });
    });
    await working;
  }
}

/** Show the same frame again, where no next one comes. */
function again() {
  if (!held && source.video.paused && source.video.videoWidth && matter) attempt(step);
}

// ---- words -----------------------------------------------------------------------

function report(...words) {
  reported = words;
  at.message.textContent = words.length ? say(...words) : '';
}

function sayAll() {
  place();
  put(at.message, reported.length ? say(...reported) : '');
  at.canvas.setAttribute('aria-label', say('canvas'));
  at.pause.textContent = say(source.video.paused ? 'play' : 'pause');
  at.record.textContent = say(recording ? 'stop' : 'record');
  at.saved.textContent = at.saved.download && say('saved', at.saved.download);
  const dark = document.documentElement.dataset.theme === 'dark';
  at.theme.textContent = say(dark ? 'light' : 'dark');
  put(at.engine, matter ? say('ready', say(matter.backend), network(matter.backend), matter.threads) : say('loading'));
  at.wait.textContent = matter || reported.length ? '' : say('loading');
  for (const option of [...at.backend.options, ...at.weights.options]) {
    option.textContent = say(option.value);
  }
  at.size.options[LONGER_SIDES.length - 1].textContent = say('original');
  at.ratio.options[0].textContent = say('automatic');
  sayBehind();
}

const whole = saving({
  at, pause, attempt,
  now: () => ({matter, file: source.file, view, picture: behind.image}),
});

function sayBehind() {
  whole.words();
  const needed = view === 'image' || view === 'video';
  at.behind.hidden = !needed;
  at.behind.textContent = say('choose');
}

// ---- what the user does ----------------------------------------------------------

const OPEN = {
  camera: () => attempt(async () => {
    await source.openCamera(at.camera.value || undefined);
    await started();
    await listCameras();
  }),
  file: () => at.video.click(),
  sample: () => attempt(async () => {
    const answer = await fetch('./sample.mp4').catch(() => null);
    if (!answer?.ok) throw new PageError('noSample');
    await openFile(new File([await answer.blob()], 'sample.mp4', {type: 'video/mp4'}));
  }),
};

async function openFile(file) {
  at.pause.disabled = true;
  try {
    await source.openFile(file);
  } catch (error) {
    await working; // its picture is of the file before, which is closed
    at.empty.hidden = false;
    at.record.disabled = !recording;
    for (const each of [at.rate, at.network, at.whole, at.picture]) each.textContent = '–';
    throw error;
  } finally {
    sayAll();
  }
  await started();
}

async function started() {
  report();
  at.pause.disabled = false;
  await matter?.reset();
  sayAll();
}

/** Stop the frames that are shown; gives what starts them again. */
async function pause() {
  const before = [held, source.video.paused];
  held = true;
  await working;
  source.video.pause();
  const panel = at.panel.querySelectorAll('fieldset:not(#saving), #format, #closer, #measure');
  const others = [...panel, at.pause, at.record].filter(each => !each.disabled);
  for (const each of others) each.disabled = true;
  return () => {
    for (const each of others) each.disabled = false;
    times = [];
    held = before[0];
    if (!before[1]) source.video.play().catch(() => {});
  };
}

async function listCameras() {
  const found = await cameras();
  const used = source.video.srcObject?.getVideoTracks()[0]?.getSettings().deviceId;
  at.cameras.hidden = found.length < 2;
  at.camera.replaceChildren(...found.map(each => new Option(each.label, each.deviceId)));
  at.camera.value = used;
}

async function openBackend() {
  opening.abort(); // another one was chosen
  opening = new AbortController();
  const {signal} = opening;
  const before = matter;
  matter = null;
  before?.close();
  sayAll();
  try {
    await kept;
    const opened = await createMatter({models, backend: at.backend.value, signal});
    if (signal.aborted) return opened.close();
    matter = opened;
    navigator.serviceWorker?.ready.then(({active}) => active.postMessage('loaded'));
    report();
  } catch (error) {
    if (!signal.aborted) report('noEngine', error.message);
  }
  sayAll();
  again();
}

async function openBehind(kind, file) {
  if (!file) return;
  const address = URL.createObjectURL(file);
  await attempt(async () => {
    if (kind === 'image') {
      behind.image = await createImageBitmap(file).catch(() => { throw new PageError('noImage', file.name); });
      URL.revokeObjectURL(address);
      return;
    }
    const video = Object.assign(document.createElement('video'), {
      muted: true, loop: true, playsInline: true, src: address,
    });
    await video.play().catch(() => { throw new PageError('unreadable', file.name); });
    if (behind.video) URL.revokeObjectURL(behind.video.src);
    behind.video = video;
  });
  again();
}

async function record() {
  if (!Recording.type) return report('noRecorder');
  if (!recording) {
    recording = new Recording(at.canvas);
  } else {
    const file = await recording.stop();
    recording = null;
    const name = `rematte-${new Date().toISOString().slice(0, 19).replace(/[T:]/g, '-')}.webm`;
    offer(at.saved, file, name);
  }
  sayAll();
}

async function measureAll() {
  at.measure.disabled = held = true;
  await working;
  at.measured.hidden = false;
  at.measured.replaceChildren();
  const row = (tag, cells) => at.measured.insertRow().append(...cells.map(text =>
    Object.assign(document.createElement(tag), {textContent: text})));
  row('th', [say('engine'), ...SIZES.map(size => size.join('×'))]);
  const rows = [];
  await measure(models, input.canvas, ({backend, rates}) => {
    rows.push({backend, rates});
    row('td', [say(backend), ...rates.map(rate => rate?.toFixed(1) ?? say('fails'))]);
  });
  at.measure.disabled = held = false;
  return rows;
}

// ---- putting it together ---------------------------------------------------------

function tile(name, label) {
  const element = document.createElement('label');
  element.className = 'tile';
  const radio = Object.assign(document.createElement('input'), {
    type: 'radio', name: 'view', value: name, checked: name === view,
  });
  const text = document.createElement('span');
  text.dataset.view = name;
  if (label) text.textContent = label;
  else text.dataset.word = name;
  element.append(radio, text);
  return element;
}

function fill() {
  at.views.append(...VIEWS.map(name => tile(name)));
  at.states.append(...STATES.map(name => tile(name, name)));
  at.size.append(...LONGER_SIDES.map(side => new Option(side, side, false, side === 512)));
  at.ratio.append(...RATIOS.map(ratio => new Option(ratio, ratio)));
  at.backend.append(...['automatic', ...BACKENDS].map(name => new Option(name, name)));
  at.weights.append(...NETWORKS.map(name => new Option(name, name)));
}

function listen() {
  at.panel.addEventListener('submit', event => event.preventDefault());
  at.panel.addEventListener('change', event => {
    if (event.target.name !== 'view') return;
    view = event.target.value;
    sayBehind();
    again();
  });
  for (const button of document.querySelectorAll('[data-source]')) {
    button.addEventListener('click', () => OPEN[button.dataset.source]());
  }
  at.video.addEventListener('change', () => take(at.video.files[0]));
  at.image.addEventListener('change', () => openBehind('image', at.image.files[0]));
  at.backdrop.addEventListener('change', () => openBehind('video', at.backdrop.files[0]));
  at.behind.addEventListener('click', () => (view === 'image' ? at.image : at.backdrop).click());
  at.camera.addEventListener('change', OPEN.camera);
  at.backend.addEventListener('change', openBackend);
  at.weights.addEventListener('change', openBackend);
  at.size.addEventListener('change', again);
  at.ratio.addEventListener('change', again);
  at.pause.addEventListener('click', () => {
    if (source.video.paused) source.video.play();
    else source.video.pause();
  });
  for (const event of ['play', 'pause']) source.video.addEventListener(event, sayAll);
  at.record.addEventListener('click', record);
  at.measure.addEventListener('click', measureAll);
  at.language.addEventListener('click', () => { change(); sayAll(); });
  at.theme.addEventListener('click', () => {
    const theme = document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark';
    document.documentElement.dataset.theme = localStorage.theme = theme;
    sayAll();
  });
  document.addEventListener('dragover', event => event.preventDefault());
  document.addEventListener('drop', event => {
    event.preventDefault();
    if (whole.busy()) return; // the network is needed
    const [file] = event.dataTransfer.files;
    if (file?.type.startsWith('image/')) openBehind('image', file);
    else take(file);
  });
}

function take(file) {
  if (file) attempt(() => openFile(file));
}

/** Keep what is loaded for use offline; wait until that works, but not forever. */
async function keepOffline() {
  if (!import.meta.env.PROD || !navigator.serviceWorker) return;
  const controlled = new Promise(resolve => {
    navigator.serviceWorker.addEventListener('controllerchange', resolve, {once: true});
  });
  const worker = navigator.serviceWorker;
  await worker.register('./sw.js').catch(() => {});
  if (!worker.controller) {
    await Promise.race([controlled, new Promise(resolve => { setTimeout(resolve, 3000); })]);
  }
}

/** For tests and scripts: frames one by one. See docs/web.md. */
window.rematte = {
  async hold() {
    held = true;
    await working;
    if (!source.video.srcObject) source.video.pause(); // a camera goes on
    await matter.reset();
  },
  release() {
    held = false;
    return source.video.play();
  },
  seek: time => source.seek(time),
  step,
  tensors: () => matter.tensors(),
  window: () => matter.window(),
  file: () => source.file,
  measure: measureAll,
  behind,
};

document.documentElement.dataset.theme = localStorage.theme
  ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
fill();
listen();
const kept = keepOffline();
openBackend();
forever();
