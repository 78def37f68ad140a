// node chromium.mjs MODEL FRAMES OUT BACKEND B,H,W,3 RATIO: as node.mjs, in the browser
// at CHROMIUM, with a GPU that is emulated. Nothing but this machine is asked.

import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import {fileURLToPath} from 'node:url';
import {chromium} from 'playwright-core';

const here = path.dirname(fileURLToPath(import.meta.url));
const [folder, input, output, backend, shape, ratio] = process.argv.slice(2);
const TYPES = {'.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript',
  '.json': 'application/json', '.wasm': 'application/wasm'};

const server = http.createServer((request, response) => {
  if (request.method === 'POST') {
    request.pipe(fs.createWriteStream(output)).on('finish', () => response.end());
    return;
  }
  const file = request.url === '/frames' ? input
    : request.url.startsWith('/model/') ? path.join(folder, request.url.slice(7))
    : path.join(here, request.url);
  if (!fs.existsSync(file)) {
    response.writeHead(404).end();
    return;
  }
  response.setHeader('Content-Type', TYPES[path.extname(file)] ?? 'application/octet-stream');
  fs.createReadStream(file).pipe(response);
});
await new Promise(ready => server.listen(0, '127.0.0.1', ready));

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--enable-unsafe-webgpu',
    '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan', '--use-angle=swiftshader'],
});
try {
  const page = await browser.newPage();
  page.on('console', message => console.error(message.text()));
  await page.goto(`http://127.0.0.1:${server.address().port}/page.html`);
  await page.waitForFunction('window.check');
  await page.evaluate(([b, s, r]) => window.check(b, s, r),
    [backend, shape.split(',').map(Number), Number(ratio)]);
} finally {
  await browser.close();
  server.close();
}
