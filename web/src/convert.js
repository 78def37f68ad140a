// A whole video to a file: every frame at its own time, with the sound.

import {makeZip} from 'client-zip';
import {
  BlobSource, Conversion, Input, MATROSKA, MP4, Mp4OutputFormat, MPEG_TS, Output, QTFF, Quality,
  StreamTarget, VideoSampleSink, WEBM, WebMOutputFormat,
} from 'mediabunny';
import {resize} from './picture.js';
import {PageError} from './page-error.js';

// Of H.264: bits a second for each pixel of a frame, and in all.
const [BITS, LEAST_BITRATE] = [6, 2e6];

/**
 * Matte every frame of a file. A frame is asked for when the one before is done, so that
 * memory does not grow with the video.
 *
 * @param {object} options
 * @param {File} options.file
 * @param {'webm' | 'mp4' | 'png'} options.format All but MP4 are transparent.
 * @param {'full' | 'auto'} options.region Where the network looks.
 * @param {import('rematte-web').Matter} options.matter Forgets what it remembers, before
 *   and after.
 * @param {(matte: ImageData, frame: OffscreenCanvas) => CanvasImageSource} options.over Lays
 *   a matte over the background, for files that are not transparent.
 * @param {(matte: ImageData, frame: OffscreenCanvas) => void} options.show Shows a matte.
 * @param {WritableStream} options.writable Where the file goes. It is not closed.
 * @param {(frames: number, share: number) => void} options.report Called for every frame:
 *   how many are done, and the share of the video, in [0, 1].
 * @param {AbortSignal} options.signal
 * @returns {Promise<{frames: number, silent: boolean, short: boolean}>} How many frames were
 *   written, whether sound was lost, and whether the file ended before its time.
 */
export async function convert({file, format, region, matter, over, show, writable, report, signal}) {
  const transparent = format !== 'mp4';
  const input = new Input({source: new BlobSource(file), formats: [MP4, QTFF, MATROSKA, WEBM, MPEG_TS]});
  const context = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
  let frames = 0;
  let end = 0;

  async function cutOut(sample) {
    signal.throwIfAborted();
    const [width, height] = [sample.displayWidth, sample.displayHeight];
    resize(context.canvas, width, height);
    sample.draw(context, 0, 0, width, height);
    const {rgba} = await matter.matte(
      context.getImageData(0, 0, width, height), {region});
    if (transparent) hide(rgba);
    const matte = new ImageData(rgba, width, height);
    show(matte, context.canvas);
    frames++;
    end = sample.timestamp + 2 * sample.duration; // of the next frame
    report(frames, Math.min(1, (sample.timestamp + sample.duration) / length));
    return transparent ? matte : over(matte, context.canvas);
  }

  const video = await input.getPrimaryVideoTrack().catch(() => { throw new PageError('unreadable', file.name); });
  if (!video) throw new PageError('noPicture', file.name);
  if (!await video.canDecode()) throw new PageError('unreadable', file.name);
  const length = await video.computeDuration();
  await matter.reset();
  try {
    const tracks = await input.getAudioTracks();
    const silent = format === 'png'
      ? await writePictures(video, cutOut, writable, signal).then(() => tracks.length > 0)
      : await writeVideo({input, video, cutOut, format, writable, signal});
    if (!frames) throw new PageError('unreadable', file.name);
    return {frames, silent, short: end < length};
  } finally {
    input.dispose();
    await matter.reset();
  }
}

/** Set the colour to 0 where alpha is 0, so that nothing of the background remains. */
function hide(rgba) {
  const pixels = new Uint32Array(rgba.buffer);
  for (let at = 0; at < pixels.length; at++) {
    if (rgba[4 * at + 3] === 0) pixels[at] = 0;
  }
}

async function writePictures(video, cutOut, writable, signal) {
  const context = new OffscreenCanvas(1, 1).getContext('2d');
  async function* pictures() {
    let number = 0;
    for await (const sample of new VideoSampleSink(video).samples()) {
      const matte = await cutOut(sample);
      sample.close();
      resize(context.canvas, matte.width, matte.height);
      context.putImageData(matte, 0, 0);
      const name = `${String(++number).padStart(6, '0')}.png`;
      yield {name, input: await context.canvas.convertToBlob(), lastModified: new Date()};
    }
  }
  await makeZip(pictures()).pipeTo(writable, {signal, preventClose: true, preventAbort: true});
}

/** Write a video; gives whether sound was lost. */
async function writeVideo({input, video, cutOut, format, writable, signal}) {
  const transparent = format !== 'mp4';
  const writer = writable.getWriter();
  // A stream of its own, since Mediabunny closes it when it is cancelled, too.
  const stream = new WritableStream({write: chunk => writer.write(chunk)});
  const output = new Output({
    format: transparent ? new WebMOutputFormat() : new Mp4OutputFormat(),
    target: new StreamTarget(stream, {chunked: true}),
  });
  const process = async sample => {
    const made = await cutOut(sample);
    if (!transparent) return made;
    return new VideoFrame(made.data, {
      format: 'RGBA', codedWidth: made.width, codedHeight: made.height,
      timestamp: sample.microsecondTimestamp, duration: sample.microsecondDuration,
    });
  };
  const pixels = await video.getDisplayWidth() * await video.getDisplayHeight();
  const bitrate = Math.max(LEAST_BITRATE, BITS * pixels);
  const conversion = await Conversion.init({
    input, output,
    showWarnings: false,
    trim: {start: Math.max(0, Math.min(0, await input.getFirstTimestamp()))},
    video: track => track.number === video.number ? {
      process,
      codec: transparent ? 'vp9' : 'avc',
      alpha: transparent ? 'keep' : 'discard',
      // Lossy alpha shows at hair first. Chromium's own H.264 knows no constant quality.
      quality: new Quality(transparent ? 'very-high' : {bitrate}),
      allowTransformationMetadata: false,
      forceTranscode: true,
    } : {discard: true},
  });
  const cancel = () => conversion.cancel();
  signal.addEventListener('abort', cancel);
  try {
    const lost = conversion.discardedTracks.filter(({reason}) => reason !== 'discarded_by_user');
    if (!conversion.isValid || lost.some(({track}) => track.isVideoTrack())) {
      throw new PageError('noEncoder', format);
    }
    signal.throwIfAborted();
    await conversion.execute();
    return lost.some(({track}) => track.isAudioTrack());
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    signal.removeEventListener('abort', cancel);
    writer.releaseLock();
  }
}
