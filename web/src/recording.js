// Records the canvas to WebM.

const TYPES = ['video/webm;codecs=vp9', 'video/webm;codecs=vp8', 'video/webm'];

export class Recording {
  #pieces = [];
  #recorder;

  /** The kind of file this browser writes; undefined if none. */
  static type = TYPES.find(type => globalThis.MediaRecorder?.isTypeSupported(type));

  constructor(canvas) {
    this.#recorder = new MediaRecorder(canvas.captureStream(), {
      mimeType: Recording.type, videoBitsPerSecond: 8e6,
    });
    this.#recorder.ondataavailable = ({data}) => this.#pieces.push(data);
    this.#recorder.start(1000);
  }

  /** End it; gives the file. */
  async stop() {
    const ended = new Promise(resolve => { this.#recorder.onstop = resolve; });
    this.#recorder.stop();
    await ended;
    this.#recorder.stream.getTracks().forEach(track => track.stop());
    return new Blob(this.#pieces, {type: 'video/webm'});
  }
}
