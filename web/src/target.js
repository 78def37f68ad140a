// Where a file goes while it grows: straight to the disk, whole or not at all.

import {PageError} from './page-error.js';

/**
 * Ask where to save, in browsers that let one; others keep the file in the browser's own
 * storage and download it from there.
 *
 * @param {string} name
 * @param {string} type Its MIME type.
 * @returns {Promise<?{writable: WritableStream, finish: () => Promise<?File>,
 *   abandon: () => Promise<void>}>} `finish` gives what remains to be downloaded; null if the
 *   user chose no file.
 */
export async function chooseTarget(name, type) {
  const chosen = Boolean(globalThis.showSaveFilePicker);
  const handle = await (chosen ? picked(name, type) : stored(name));
  if (!handle) return null;
  const empty = !(await handle.getFile()).size;
  // The file changes when this is closed, and not before.
  const writable = await handle.createWritable();
  // Private windows of Chromium lose files that nothing has asked for in ten minutes.
  const awake = setInterval(() => handle.getFile().catch(() => {}), 60_000);
  return {
    writable,
    async finish() {
      clearInterval(awake);
      await writable.close();
      return chosen ? null : handle.getFile();
    },
    async abandon() {
      clearInterval(awake);
      await writable.abort().catch(() => {});
      if (empty) await handle.remove?.().catch(() => {});
    },
  };
}

async function picked(suggestedName, type) {
  const suffix = suggestedName.slice(suggestedName.lastIndexOf('.'));
  try {
    return await showSaveFilePicker({suggestedName, types: [{accept: {[type]: [suffix]}}]});
  } catch (error) {
    if (error.name === 'AbortError') return null;
    throw error;
  }
}

async function stored(name) {
  const folder = await navigator.storage?.getDirectory?.().catch(() => null);
  if (!folder) throw new PageError('noStorage');
  for await (const old of folder.keys()) await folder.removeEntry(old).catch(() => {});
  return folder.getFileHandle(name, {create: true});
}
