// One connection to the server for all tabs, since browsers open six in all: a shared worker, where
// there are any.

const ports = new Set();
let last = null; // what every tab was sent last

function send(message) {
  last = message;
  for (const port of ports) port.postMessage(message);
}

function listen() {
  const source = new EventSource("api/events");
  source.addEventListener("message", (event) => send({ state: event.data }));
  source.addEventListener("error", () => {
    send({ ...last, lost: true });
    // A browser tries again by itself, but not after some errors.
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 1000);
  });
}

addEventListener("connect", ({ ports: [port] }) => {
  ports.add(port);
  port.addEventListener("message", () => ports.delete(port)); // the tab was closed
  port.start();
  if (last) port.postMessage(last);
});
listen();
