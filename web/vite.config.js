import {readFileSync} from 'node:fs';
import {defineConfig} from 'vite';

// Threads of WebAssembly need a page that is isolated from others.
const headers = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
};

/** Writes sw.js with the names of the page's own files, which it keeps from the start. */
const serviceWorker = {
  name: 'service-worker',
  apply: 'build',
  generateBundle(_, bundle) {
    // Runtimes of several megabytes are kept when one of them has been used.
    const files = Object.keys(bundle).filter(name => !/\.(wasm|map)$/.test(name));
    const source = readFileSync(new URL('src/sw.js', import.meta.url), 'utf8');
    this.emitFile({
      type: 'asset',
      fileName: 'sw.js',
      source: source.replace('FILES', JSON.stringify(['./', 'icon.svg', ...files])),
    });
  },
};

export default defineConfig({
  base: './',
  plugins: [serviceWorker],
  build: {target: 'es2022', chunkSizeWarningLimit: 2000},
  worker: {format: 'es'},
  server: {headers, host: '127.0.0.1'},
  preview: {headers, host: '127.0.0.1', port: 8010},
});
