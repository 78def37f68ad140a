import {readFileSync} from 'node:fs';
import {defineConfig} from 'vite';

// Nothing but the page's own files is loaded, and nothing is sent. Mediabunny makes a worker
// from a blob; videos and pictures of the user are blobs.
const POLICY = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "worker-src 'self' blob:",
  "style-src 'self'",
  "img-src 'self' blob:",
  "media-src 'self' blob:",
  "connect-src 'self'",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
].join('; ');
// Threads of WebAssembly need a page that is isolated from others. The policy of a header
// covers workers, too; that in the page needs no server that sends it.
const headers = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
};

const policy = {
  name: 'content-security-policy',
  apply: 'build',
  transformIndexHtml: () => [{
    tag: 'meta', attrs: {'http-equiv': 'Content-Security-Policy', content: POLICY}, injectTo: 'head-prepend',
  }],
};

/** Writes sw.js with the names of the page's own files, which it keeps from the start. */
const serviceWorker = {
  name: 'service-worker',
  apply: 'build',
  generateBundle(_, bundle) {
    // Runtimes of megabytes are kept when one of them has been used.
    const files = Object.keys(bundle).filter(name => !/\.(wasm|map)$|ort\.|tfjs/.test(name));
    const saving = files.filter(name => /convert-/.test(name));
    const own = ['./', 'icon.svg', 'manifest.webmanifest', ...files.filter(name => !saving.includes(name))];
    const source = readFileSync(new URL('src/sw.js', import.meta.url), 'utf8');
    this.emitFile({
      type: 'asset',
      fileName: 'sw.js',
      source: source.replace('(FILES)', `(${JSON.stringify(own)})`)
        .replace('LATER', JSON.stringify(['sample.mp4', ...saving])),
    });
  },
};

export default defineConfig({
  base: './',
  plugins: [policy, serviceWorker],
  build: {target: 'es2022', chunkSizeWarningLimit: 2000},
  worker: {format: 'es'},
  server: {headers, host: '127.0.0.1'},
  preview: {
    headers: {...headers, 'Content-Security-Policy': POLICY}, host: '127.0.0.1', port: 8010,
  },
});
