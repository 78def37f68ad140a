// Where frames come from: a camera or a file, both through a video element.

import {PageError} from './page-error.js';

const REFUSED = {NotAllowedError: 'denied', NotFoundError: 'noCamera', OverconstrainedError: 'noCamera'};

export class Source {
  video = Object.assign(document.createElement('video'), {
    muted: true, loop: true, playsInline: true,
  });
  file = null; // what is open, unless it is a camera
  opened = Promise.resolve(); // once the file that was given last has a picture
  #fresh = false;
  #wake = () => {};

  constructor() {
    const again = () => {
      this.#fresh = true;
      this.#wake();
      this.video.requestVideoFrameCallback(again);
    };
    this.video.requestVideoFrameCallback(again);
  }

  /** Read the camera of this id, or the system's first. */
  async openCamera(deviceId) {
    let stream;
    try {
      const wanted = {width: {ideal: 1280}, height: {ideal: 720}, deviceId};
      stream = await navigator.mediaDevices.getUserMedia({video: wanted});
    } catch (error) {
      throw new PageError(REFUSED[error.name] ?? 'busy');
    }
    this.close();
    this.video.srcObject = stream;
    await this.video.play();
  }

  /** Read a file. */
  openFile(file) {
    this.close();
    this.opened = this.#load(file);
    return this.opened;
  }

  async #load(file) {
    const {video} = this;
    const address = URL.createObjectURL(file);
    video.src = address;
    // What play() promises is broken by a pause, too, and by the next file.
    video.play().catch(() => {});
    await new Promise(resolve => {
      for (const event of ['loadeddata', 'error']) {
        video.addEventListener(event, resolve, {once: true});
      }
    });
    if (video.getAttribute('src') !== address) return;
    const playable = !video.error;
    if (playable && video.videoWidth) {
      this.file = file;
      return;
    }
    this.close();
    throw new PageError(playable ? 'noPicture' : 'unreadable', file.name);
  }

  /** Let go of the camera or the file. */
  close() {
    this.video.srcObject?.getTracks().forEach(track => track.stop());
    this.video.srcObject = null;
    if (this.video.src.startsWith('blob:')) URL.revokeObjectURL(this.video.src);
    this.video.removeAttribute('src');
    this.video.load();
    this.file = null;
    this.#fresh = false;
    this.opened = Promise.resolve();
  }

  /** Wait for a frame that was not given yet. Those that came meanwhile are dropped. */
  async next() {
    if (!this.#fresh) await new Promise(resolve => { this.#wake = resolve; });
    this.#fresh = false;
  }

  /** Go to a time [s] of a file. */
  async seek(time) {
    const there = new Promise(resolve => {
      this.video.addEventListener('seeked', resolve, {once: true});
    });
    this.video.currentTime = time;
    await there;
  }
}

/** The cameras of this machine; their names are known once one was allowed. */
export async function cameras() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.filter(device => device.kind === 'videoinput' && device.label);
}
