// What the page asks of the server. Addresses are relative: the token is in the page's.

import { words } from "./words.js";

const json = { "content-type": "application/json" };

/** Ask for something; errors are sentences. */
async function ask(address, options) {
  const answer = await fetch(address, options).catch(() => { throw new Error(words().lost); });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.error ?? words().failed);
  return body;
}

export const jobAddress = (id, rest) => `api/jobs/${id}/${rest}`;

export const start = (id, settings) =>
  ask(jobAddress(id, "start"), post(settings));

export const cancel = (id) => ask(jobAddress(id, "cancel"), { method: "POST" });

export const remove = (id) => ask(`api/jobs/${id}`, { method: "DELETE" });

/** Upload a background for all clips; gives its id. */
export const addBackground = async (file) =>
  (await ask(`api/backgrounds?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file })).id;

export const removeBackground = (id) => ask(`api/backgrounds/${id}`, { method: "DELETE" });

/** Runs at most `most` asynchronous functions at a time, urgent ones first. */
function makeQueue(most) {
  const waiting = [];
  let running = 0;
  async function next() {
    if (running >= most || !waiting.length) return;
    running += 1;
    await waiting.shift()().catch(() => {});
    running -= 1;
    next();
  }
  return (act, urgent) => {
    if (urgent) waiting.unshift(act);
    else waiting.push(act);
    next();
  };
}

// A browser opens six connections to one server, and the news of all tabs hold one. What loads by
// itself leaves some of them for clicks.
const loads = makeQueue(2);
const uploads = makeQueue(2);
const POLL = 400; // between two questions whether something is made [ms]
const AWAY = 1500; // between two while the server is away [ms]

/** The options of a request that sends an object. */
export const post = (data) => ({ method: "POST", headers: json, body: JSON.stringify(data) });

/**
 * Load what the server makes, once it is made; `ready` gets its content.
 *
 * `failed` gets a sentence, `ignored` is called where it was no longer wanted. While the
 * server is away it is tried again and again.
 */
export function load(address, how) {
  const { options, urgent, wanted, ready, failed, ignored } = how;
  loads(async () => {
    if (!wanted()) { ignored?.(); return; }
    const again = () => load(address, how);
    let answer, content;
    try {
      answer = await fetch(address, options);
      content = await answer.blob();
    } catch {
      setTimeout(again, AWAY);
      return;
    }
    if (!wanted()) ignored?.(); // something newer was asked for meanwhile
    else if (answer.status === 202) setTimeout(again, POLL);
    else if (answer.ok) ready(content);
    else failed(JSON.parse(await content.text()).error);
  }, urgent);
}

/** Send a file; fetch cannot tell how far it is. Gives a function that cancels it. */
export function upload(file, { progress, done, failed }) {
  const request = new XMLHttpRequest();
  let cancelled = false;
  uploads(() => new Promise((end) => {
    if (cancelled) { end(); return; }
    request.open("POST", `api/jobs?name=${encodeURIComponent(file.name)}`);
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => progress(event.loaded / event.total));
    request.addEventListener("load", () =>
      request.status === 201 ? done() : failed(request.response?.error ?? words().failed));
    request.addEventListener("error", () => failed(null));
    request.addEventListener("loadend", end);
    request.send(file);
  }));
  return () => { cancelled = true; request.abort(); done(); };
}

/** Connect to events.js; a browser without shared workers runs it in the tab itself. */
function connect() {
  if ("SharedWorker" in window) return new SharedWorker("events.js").port;
  const { port1, port2 } = new MessageChannel();
  import("./events.js").then(() => dispatchEvent(new MessageEvent("connect", { ports: [port2] })));
  return port1;
}

/** Call `news` with the state of everything whenever it changes. */
export function listen(news, reached) {
  const port = connect();
  port.addEventListener("message", ({ data: { state, lost } }) => {
    reached(!lost);
    if (!lost) news(JSON.parse(state));
  });
  port.start();
  addEventListener("pagehide", () => port.postMessage("closed"));
}
