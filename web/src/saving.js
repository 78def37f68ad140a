// Saves the whole video: the choice of a file, progress, time left, cancelling.

import {draw} from './picture.js';
import {chooseTarget} from './target.js';
import {PageError} from './page-error.js';
import {put, say} from './words.js';

const FORMATS = ['webm', 'mp4', 'png'];
const SOLID = ['green', 'white', 'blur', 'image']; // what may lie behind an opaque video
const SUFFIXES = {webm: '.webm', mp4: '.mp4', png: '.zip'};
const TYPES = {webm: 'video/webm', mp4: 'video/mp4', png: 'application/zip'};
const WARM = 3; // frames whose times say nothing of the next ones yet

/**
 * @param {object} page
 * @param {Record<string, HTMLElement>} page.at The elements of the page.
 * @param {() => {matter: ?import('rematte-web').Matter, file: ?File, view: string,
 *   picture: ?ImageBitmap}} page.now What is open and chosen.
 * @param {() => Promise<() => void>} page.pause Stop the frames that are shown; gives what
 *   starts them again.
 * @param {(work: () => Promise<any>) => Promise<any>} page.attempt Say what goes wrong.
 * @returns {{words: () => void, busy: () => boolean}} `words` puts the words of the section in
 *   place; `busy` is whether a video is being saved.
 */
export function saving({at, now, pause, attempt}) {
  let control = null; // stops what runs
  let state = []; // words of the last outcome
  at.format.append(...FORMATS.map(name => new Option(name, name)));

  const behind = () => {
    const {view, picture} = now();
    return SOLID.includes(view) && (view !== 'image' || picture) ? view : 'green';
  };

  function words() {
    for (const option of at.format.options) {
      option.textContent = say(`format_${option.value}`, say(behind()).replace('…', ''));
    }
    at.formatNote.textContent = say(`about_${at.format.value}`);
    at.save.disabled = Boolean(control) || !now().file || !now().matter;
    at.save.textContent = say('saveAll');
    at.cancel.hidden = at.progress.hidden = at.left.hidden = !control;
    put(at.outcome, state.length ? say(...state) : '');
    at.progress.setAttribute('aria-label', say('progress'));
    at.download.textContent = at.download.download && say('saved', at.download.download);
  }

  function report() {
    let from = 0;
    let fromShare = 0;
    return (frames, share) => {
      const time = performance.now();
      if (frames <= WARM) [from, fromShare] = [time, share];
      at.progress.value = share;
      const left = (time - from) / 1000 / (share - fromShare) * (1 - share);
      at.left.textContent = say('framesDone', frames, Math.round(100 * share),
        frames > WARM && Number.isFinite(left) ? duration(left) : '');
    };
  }

  async function save() {
    const {file} = now();
    const name = file.name.replace(/\.[^.]*$/, '') + `-cutout${SUFFIXES[at.format.value]}`;
    const {signal} = control = new AbortController();
    state = [];
    at.download.hidden = true;
    at.progress.value = 0;
    at.left.textContent = '';
    words();
    try {
      // Asked for before anything else: the browser wants a click right before it.
      const target = await chooseTarget(name, TYPES[at.format.value]);
      if (target) await write(target, name, file, signal);
    } catch (error) {
      state = signal.aborted ? ['cancelled'] : ['notSaved', name];
      if (!signal.aborted) throw explained(error);
    } finally {
      control = null;
      words();
      at.save.focus();
    }
  }

  async function write(target, name, file, signal) {
    state = ['savingNow', name];
    const {matter, picture} = now();
    const goOn = await pause();
    words();
    at.cancel.focus();
    const laid = document.createElement('canvas');
    const look = behind();
    const opaque = at.format.value === 'mp4';
    const lay = (canvas, matte, frame, view) => {
      draw(canvas, matte, view, view === 'blur' ? frame : picture, false);
      return canvas;
    };
    try {
      const {convert} = await import('./convert.js');
      const {frames, silent, short} = await convert({
        file, matter, signal,
        format: at.format.value,
        region: at.closer.checked ? 'auto' : 'full',
        writable: target.writable,
        over: (matte, frame) => lay(laid, matte, frame, look),
        show: (matte, frame) => lay(at.canvas, matte, frame, opaque ? look : 'transparent'),
        report: report(),
      });
      const made = await target.finish();
      if (made) offer(at.download, made, name);
      state = ['savedAll', name, frames, silent, short];
    } catch (error) {
      await target.abandon();
      throw error;
    } finally {
      goOn();
    }
  }

  at.save.addEventListener('click', () => attempt(save));
  at.cancel.addEventListener('click', () => {
    control?.abort(); // takes effect after the frame in work
    state = ['cancelling'];
    words();
  });
  at.format.addEventListener('change', words);
  return {words, busy: () => Boolean(control)};
}

/** Download a file, and show a link that does so again. */
export function offer(link, file, name) {
  URL.revokeObjectURL(link.href);
  Object.assign(link, {
    href: URL.createObjectURL(file), download: name, textContent: say('saved', name), hidden: false,
  });
  link.click();
}

function explained(error) {
  if (error instanceof PageError) return error;
  if (error?.name === 'QuotaExceededError') return new PageError('full');
  return new PageError('broken', error?.message ?? String(error));
}

/** A time in words, in steps that change seldom. */
function duration(seconds) {
  if (seconds < 60) return say('seconds', Math.max(5, 5 * Math.ceil(seconds / 5)));
  if (seconds < 3600) return say('minutes', Math.ceil(seconds / 60));
  return say('hours', (seconds / 3600).toFixed(1));
}
