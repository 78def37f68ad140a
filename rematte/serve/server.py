"""The page's HTTP server, which only this machine's user can reach.

Every request must name this server as its host, hold the token in its address and, if
it changes anything, come from the page itself. docs/serve.md explains each of these.
"""

import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

from rematte.errors import OutputError, WeightsError

try:
    import uvicorn
    from anyio import CapacityLimiter, to_thread
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.datastructures import Headers, MutableHeaders
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import (
        FileResponse,
        JSONResponse,
        RedirectResponse,
        Response,
        StreamingResponse,
    )
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ImportError as error:
    raise ImportError(
        "rematte serve needs starlette and uvicorn: pip install 'rematte[web]'"
    ) from error

from rematte.serve import work
from rematte.serve.bodies import limited, read_json
from rematte.serve.delivery import file_name, open_output
from rematte.serve.job import IMAGES, PILLOW_IMAGES, Job, check_name
from rematte.serve.jobs import Jobs
from rematte.serve.networks import Networks
from rematte.serve.processes import WorkError
from rematte.serve.settings import FILES
from rematte.serve.viewing import Viewing
from rematte.workers.planning import VIDEOS
from rematte.workers.pool import machine_memory

_STATIC = Path(__file__).parent / "static"
_POLL_PERIOD = 0.2  # [s]
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src "
    "'self'; img-src 'self' blob:; media-src blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class _Guard:
    """Refuses requests that the page did not make; takes the token off the address."""

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app, self._token = app, token.encode()
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    def _refusal(self, scope: Scope, token: str) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if host not in self._hosts:  # another name that resolves to this machine
            return 421, f"host must be one of {', '.join(sorted(self._hosts))}"
        if not secrets.compare_digest(token.encode(), self._token):
            return 404, "wrong address; open the one that `rematte serve` printed"
        changes = scope["method"] not in ("GET", "HEAD")
        if changes and headers.get("origin") != f"http://{host}":
            return 403, "refused: not sent by this page (header Origin)"
        return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        token, slash, _ = scope["path"][1:].partition("/")
        app = self._app
        refused = self._refusal(scope, token)
        if refused is not None:
            app = JSONResponse({"error": refused[1]}, refused[0])
        elif not slash:  # the page's own addresses are relative
            app = RedirectResponse(f"/{token}/")
        scope = dict(scope, root_path=f"/{token}")
        await app(scope, receive, send_guarded)


class _Page:
    """The handlers of all addresses.

    Args:
        jobs: The jobs.
        upload_limit: The largest upload [bytes].
        ending: Whether the server is about to end.
    """

    def __init__(
        self, jobs: Jobs, upload_limit: int, ending: Callable[[], bool]
    ) -> None:
        self._jobs, self._limit, self._ending = jobs, upload_limit, ending
        self._examining = CapacityLimiter(2)

    def routes(self) -> list[Route | Mount]:
        """The addresses, without the token."""
        one = "/api/jobs/{id}"
        return [
            Route("/api/events", self._events),
            Route("/api/jobs", self._upload, methods=["POST"]),
            Route(one, self._remove, methods=["DELETE"]),
            Route(f"{one}/start", self._start, methods=["POST"]),
            Route(f"{one}/cancel", self._cancel, methods=["POST"]),
            Route("/api/backgrounds", self._add_background, methods=["POST"]),
            Route("/api/backgrounds/{id}", self._remove_background, methods=["DELETE"]),
            Route("/api/backgrounds/{id}", self._background),
            Route("/api/rematte.zip", self._all_files),
            *Viewing(self._jobs, self._job).routes(one),
            Route(f"{one}/files/{{kind}}", self._file),
            Mount("/", StaticFiles(directory=_STATIC, html=True)),
        ]

    def _job(self, request: Request) -> Job:
        job = self._jobs.get(request.path_params["id"])
        if job is None:
            raise HTTPException(404, "no such job; it may have been removed")
        return job

    async def _events(self, request: Request) -> Response:
        return StreamingResponse(self._stream_events(), media_type="text/event-stream")

    async def _stream_events(self) -> AsyncIterator[str]:
        seen, quiet = -1, 0.0
        while not self._ending():
            if seen != self._jobs.version:
                seen, quiet = self._jobs.version, 0.0
                state = await run_in_threadpool(self._jobs.state)
                yield f"data: {json.dumps({'limit': self._limit, **state})}\n\n"
            elif quiet > 15:  # so that a closed page is noticed
                quiet = 0.0
                yield ": still here\n\n"
            await asyncio.sleep(_POLL_PERIOD)
            quiet += _POLL_PERIOD

    async def _upload(self, request: Request) -> Response:
        suffixes = VIDEOS | {*IMAGES, *PILLOW_IMAGES}
        return await self._receive(request, suffixes, self._jobs.add)

    async def _add_background(self, request: Request) -> Response:
        add = self._jobs.backgrounds.add
        return await self._receive(request, VIDEOS | {*IMAGES}, add)

    async def _receive(
        self,
        request: Request,
        suffixes: set[str],
        add: Callable[[str, str, str], object],
    ) -> Response:
        """Write an upload into a folder of its own, and add it to a list."""
        name = request.query_params.get("name", "")
        file = f"source{check_name(name, suffixes)}"
        store = self._jobs.store
        id = store.new_folder()
        try:
            await _write(request, store.folder(id) / file, self._limit)
            # A limiter of its own, so that other requests do not wait.
            await to_thread.run_sync(add, id, name, file, limiter=self._examining)
        except BaseException:
            store.discard(id)
            raise
        return JSONResponse({"id": id}, 201)

    async def _remove(self, request: Request) -> Response:
        await run_in_threadpool(self._jobs.remove, self._job(request))
        return Response(status_code=204)

    async def _start(self, request: Request) -> Response:
        job = self._job(request)
        settings = await read_json(request, "settings")
        await run_in_threadpool(self._jobs.start, job, settings)
        return Response(status_code=204)

    async def _cancel(self, request: Request) -> Response:
        await run_in_threadpool(self._jobs.cancel, self._job(request))
        return Response(status_code=204)

    async def _remove_background(self, request: Request) -> Response:
        id = request.path_params["id"]
        await run_in_threadpool(self._jobs.backgrounds.remove, id)
        return Response(status_code=204)

    async def _background(self, request: Request) -> Response:
        path = self._jobs.backgrounds.shown(request.path_params["id"])
        if path is None:
            raise HTTPException(404, "no such background; it may have been removed")
        return FileResponse(path)

    async def _all_files(self, request: Request) -> Response:
        headers = {"content-disposition": 'attachment; filename="rematte.zip"'}
        files = self._jobs.all_files()
        return StreamingResponse(files, media_type="application/zip", headers=headers)

    async def _file(self, request: Request) -> Response:
        job, kind = self._job(request), request.path_params["kind"]
        wanted = request.query_params.get("run")
        results = [r for r in job.results if wanted in (None, str(r["run"]))]
        if not results:
            raise HTTPException(404, f"{job.name} has no such result")
        made = results[0]["settings"]["outputs"]
        files = {each: FILES[each] for each in made} | {"playable": work.PLAYABLE}
        path = self._jobs.output(job, results[0]["run"], files.get(kind, "none"))
        if not path.is_file():
            raise HTTPException(404, f"{job.name} has no result {kind[:20]!r}")
        name = file_name(job.name, path.name)
        return FileResponse(path, filename=None if kind == "playable" else name)


async def _write(request: Request, path: Path, most: int) -> None:
    """Write a body to a file, part by part."""
    length = int(request.headers.get("content-length", 0))
    free = shutil.disk_usage(path.parent).free
    if length > free:
        raise HTTPException(
            507,
            f"{length / 1e6:.0f} MB do not fit: {free / 1e6:.0f} MB are free; "
            "remove jobs that are done with",
        )
    with path.open("xb") as file:
        async for part in limited(request, most):
            await run_in_threadpool(file.write, part)


async def _answer_error(request: Request, error: Exception) -> Response:
    """Turn an error into a sentence for the page."""
    if isinstance(error, ClientDisconnect):  # no one is there to read it
        return Response(status_code=400)
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code)
    if isinstance(error, WorkError):
        return JSONResponse({"error": str(error)}, 422)
    if isinstance(error, OSError | sqlite3.Error):
        why = getattr(error, "strerror", None) or error
        return JSONResponse({"error": f"cannot be written: {why}"}, 507)
    if isinstance(error, RecursionError):
        return JSONResponse({"error": "the JSON object is nested too deeply"}, 400)
    if isinstance(error, RuntimeError):  # a file that was deleted meanwhile
        return JSONResponse({"error": "it was deleted a moment ago"}, 404)
    return JSONResponse({"error": str(error)}, 400)


def make_app(
    jobs: Jobs,
    token: str,
    port: int,
    upload_limit: int,
    ending: Callable[[], bool] = lambda: False,
) -> ASGIApp:
    """Make the application, including its checks of every request.

    Args:
        jobs: The jobs.
        token: The first part of every address.
        port: The port in the addresses that browsers use.
        upload_limit: The largest upload [bytes].
        ending: Whether the server is about to end.
    """
    kinds = (
        *(HTTPException, WorkError, ClientDisconnect, ValueError, OSError),
        *(sqlite3.Error, RuntimeError),
    )
    app = Starlette(
        routes=_Page(jobs, upload_limit, ending).routes(),
        exception_handlers=dict.fromkeys(kinds, _answer_error),
    )
    return _Guard(app, token, port)


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    if os.name == "posix":  # elsewhere it lets others take the port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()  # now, so that the address works once it is printed
    except (OSError, OverflowError) as error:
        listener.close()
        raise OutputError(
            f"port {port} cannot be used ({error}); give another (--port), or 0 for "
            "any that is free"
        ) from error
    return listener


def serve(
    folder: Path,
    load: Callable[[], Any],
    *,
    fast: Callable[[], Any] | None = None,
    port: int = 8770,
    jobs: int = 1,
    upload_limit: float = 20.0,
    memory_limit: float | None = None,
    output: Path | None = None,
    report: Callable[[str], object] = print,
    note: Callable[[str], object] = lambda note: None,
) -> None:
    """Serve the page to this machine until Ctrl-C.

    Args:
        folder: The work folder: uploads, results and the list of jobs.
        load: Loads the network in other processes; must be picklable.
        fast: Loads the network of the quality "fast", in the same way; with None, the
            other one sees a smaller copy for it.
        port: On 127.0.0.1; 0 takes any that is free.
        jobs: Number of videos that are converted at a time.
        upload_limit: The largest upload [GB].
        memory_limit: Memory limit of each conversion, and of the previews [GB]; None
            takes three quarters of the machine's, divided by `jobs`. Without effect on
            Windows.
        output: The folder that finished files are copied to; None copies none.
        report: Called with the address once it can be opened.
        note: Called with each remark about the work folder.

    Raises:
        ValueError: If a number is out of its range.
        WeightsError: If the model cannot be loaded.
        OutputError: If the folder or the port cannot be used.
    """
    for name, value in ("upload_limit", upload_limit), ("memory_limit", memory_limit):
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"{name} must be above 0 GB, got {value}")
    memory = round(memory_limit * 1e9) if memory_limit else None
    if memory is None and (all_of_it := machine_memory()) is not None:
        memory = all_of_it * 3 // 4 // max(1, jobs)
    output = None if output is None else open_output(output)
    listener = _listen(port)
    with listener:
        port = listener.getsockname()[1]
        threads = max(1, (os.cpu_count() or 1) // max(1, jobs))
        networks = partial(Networks, load, fast)
        queue = Jobs(folder, networks, jobs, threads, memory, output)
        # Uvicorn sends itself the signal again once all connections are closed.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            try:
                queue.check_model()
            except WorkError as error:
                raise WeightsError(str(error)) from error
            token = queue.store.token()
            for text in queue.store.notes:
                note(text)
            app = make_app(
                queue, token, port, int(upload_limit * 1e9), lambda: server.should_exit
            )
            # No log of requests: the token is in their addresses.
            server = uvicorn.Server(
                uvicorn.Config(
                    app,
                    http="h11",
                    ws="none",
                    lifespan="off",
                    log_level="warning",
                    access_log=False,
                    server_header=False,
                )
            )
            report(f"http://127.0.0.1:{port}/{token}/")
            server.run(sockets=[listener])
        except KeyboardInterrupt:  # the usual end
            pass
        finally:
            queue.close()
