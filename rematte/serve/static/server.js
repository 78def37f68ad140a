// What the page asks of the server. Addresses are relative: the token is in the page's.

const json = { "content-type": "application/json" };

async function ask(address, options) {
  const answer = await fetch(address, options);
  if (!answer.ok) {
    const body = await answer.json().catch(() => ({}));
    throw new Error(body.error ?? `${answer.status} ${answer.statusText}`);
  }
}

export const jobAddress = (id, rest) => `api/jobs/${id}/${rest}`;

export const start = (id, settings) =>
  ask(jobAddress(id, "start"), { method: "POST", headers: json, body: JSON.stringify(settings) });

export const cancel = (id) => ask(jobAddress(id, "cancel"), { method: "POST" });

export const remove = (id) => ask(`api/jobs/${id}`, { method: "DELETE" });

export const setBackground = (id, file) =>
  ask(jobAddress(id, `background?name=${encodeURIComponent(file.name)}`), { method: "PUT", body: file });

/** Send a file; fetch cannot tell how far it is. Gives the request, to abort it. */
export function upload(file, { progress, done, failed }) {
  const request = new XMLHttpRequest();
  request.open("POST", `api/jobs?name=${encodeURIComponent(file.name)}`);
  request.responseType = "json";
  request.upload.addEventListener("progress", (event) => progress(event.loaded / event.total));
  request.addEventListener("load", () =>
    request.status === 201 ? done() : failed(request.response?.error ?? String(request.status)));
  request.addEventListener("error", () => failed(null));
  request.addEventListener("abort", done);
  request.send(file);
  return request;
}

/** Call `news` with the state of everything whenever it changes. */
export function listen(news, reached) {
  const source = new EventSource("api/events");
  source.addEventListener("message", (event) => { reached(true); news(JSON.parse(event.data)); });
  source.addEventListener("error", () => {
    reached(false);
    // A browser tries again by itself, but not after some errors.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => listen(news, reached), 1000);
  });
}
