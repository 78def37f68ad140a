// Keeps what the page has loaded, so that it works offline. What the server has goes
// first, so that a new version is seen at once.

const KEPT = 'rematte';

self.addEventListener('install', event => {
  self.skipWaiting();
  event.waitUntil(keep(FILES));
});

// What is large and not needed at first, once the network has been loaded.
self.addEventListener('message', event => event.waitUntil(keep(LATER)));

async function keep(files) {
  const cache = await caches.open(KEPT);
  const missing = await Promise.all(files.map(async file => await cache.match(file) ? [] : [file]));
  await cache.addAll(missing.flat());
}

self.addEventListener('activate', event => event.waitUntil(self.clients.claim()));

self.addEventListener('fetch', event => {
  const {request} = event;
  const own = new URL(request.url).origin === self.location.origin;
  // Videos are asked for in ranges, which cannot be kept.
  if (!own || request.method !== 'GET' || request.headers.has('range')) return;
  event.respondWith(fromServerOrKept(request));
});

async function fromServerOrKept(request) {
  const cache = await caches.open(KEPT);
  try {
    const response = await fetch(request);
    // Where there is no room to keep it, it is still of use now.
    if (response.status === 200) await cache.put(request, response.clone()).catch(() => {});
    return response;
  } catch (error) {
    const kept = await cache.match(request, {ignoreSearch: true, ignoreVary: true});
    if (kept) return kept;
    throw error;
  }
}
