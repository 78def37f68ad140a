// Which runtimes there are, and which are worth trying here.

/** @typedef {'webgpu' | 'webgl' | 'wasm'} Backend */

/** @type {Backend[]} */
export const BACKENDS = ['webgpu', 'webgl', 'wasm'];

/**
 * The backends in the order of their speed here. A GPU that is emulated is slower than
 * WebAssembly, so it comes last. Node has WebAssembly alone.
 */
export async function inOrder() {
  if (typeof OffscreenCanvas === 'undefined') return BACKENDS.slice(-1);
  const real = {webgpu: await realWebGpu(), webgl: realWebGl(), wasm: true};
  return [...BACKENDS].sort((a, b) => Number(real[b]) - Number(real[a]));
}

async function realWebGpu() {
  const gpu = /** @type {any} */ (navigator).gpu;
  const info = (await gpu?.requestAdapter().catch(() => null))?.info;
  return Boolean(info) && !info.isFallbackAdapter
    && !emulated(`${info.vendor} ${info.architecture} ${info.description}`);
}

function realWebGl() {
  const context = new OffscreenCanvas(1, 1).getContext('webgl2');
  if (!context) return false;
  const names = context.getExtension('WEBGL_debug_renderer_info');
  const renderer = context.getParameter(names?.UNMASKED_RENDERER_WEBGL ?? context.RENDERER);
  context.getExtension('WEBGL_lose_context')?.loseContext();
  return !emulated(renderer);
}

/** @param {string} name */
const emulated = name => /swiftshader|llvmpipe|software|basic render/i.test(name);
