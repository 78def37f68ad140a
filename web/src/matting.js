// The network as the page sees it: one worker, asked one thing at a time.

export const BACKENDS = ['webgpu', 'webgl', 'wasm'];

/** A backend in a worker of its own. */
export class Matting {
  #worker = new Worker(new URL('./worker.js', import.meta.url), {type: 'module'});
  #last = Promise.resolve();
  #fail = () => {};

  constructor(backend) {
    this.backend = backend;
  }

  /** Load it. Throws where the backend does not run here, or gives wrong numbers. */
  async open() {
    try {
      Object.assign(this, await this.#ask('open', this.backend));
    } catch (error) {
      this.close();
      throw error;
    }
    return this;
  }

  /** See worker.js; takes the pixels away from the caller. */
  step(frame) {
    return this.#ask('step', frame, [frame.pixels.buffer]);
  }

  /** Forget the recurrent states. */
  reset() {
    return this.#ask('reset');
  }

  /** How many tensors are held. */
  tensors() {
    return this.#ask('tensors');
  }

  /** End the worker, and with it all that it holds; what is asked for fails. */
  close() {
    this.#worker.terminate();
    this.#fail(new Error('the backend was changed'));
  }

  #ask(name, argument, moved = []) {
    const answer = this.#last.then(() => new Promise((resolve, reject) => {
      this.#fail = reject;
      this.#worker.onerror = event => reject(new Error(event.message || 'its worker failed'));
      this.#worker.onmessage = ({data: {result, error}}) =>
        error === undefined ? resolve(result) : reject(new Error(error));
      this.#worker.postMessage({name, argument}, moved);
    }));
    this.#last = answer.catch(() => {});
    return answer;
  }
}

/**
 * The backends worth trying here, the fastest first. A GPU that is emulated is slower
 * than WebAssembly, so it comes last.
 */
export async function inOrder() {
  const real = {webgpu: await realWebGpu(), webgl: realWebGl(), wasm: true};
  return [...BACKENDS].sort((a, b) => real[b] - real[a]);
}

async function realWebGpu() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && !adapter.info?.isFallbackAdapter
    && !emulated(`${adapter.info?.vendor} ${adapter.info?.architecture} ${adapter.info?.description}`);
}

function realWebGl() {
  const context = new OffscreenCanvas(1, 1).getContext('webgl2');
  const names = context?.getExtension('WEBGL_debug_renderer_info');
  const renderer = context?.getParameter(names?.UNMASKED_RENDERER_WEBGL ?? context.RENDERER);
  context?.getExtension('WEBGL_lose_context')?.loseContext();
  return Boolean(context) && !emulated(renderer);
}

const emulated = name => /swiftshader|llvmpipe|software|basic render/i.test(name);

/** Open the first backend that runs here and gives the right numbers, while wanted. */
export async function openAny(wanted) {
  const failures = [];
  for (const backend of await inOrder()) {
    if (!wanted()) break;
    try {
      return await new Matting(backend).open();
    } catch (error) {
      failures.push(`${backend}: ${error.message}`);
    }
  }
  throw new Error(failures.join('; '));
}
