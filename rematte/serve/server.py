"""The page's HTTP server, which only this machine's user can reach.

Every request must name this server as its host, hold the token in its address and, if
it changes anything, come from the page itself. docs/serve.md explains each of these.
"""

import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rematte.errors import OutputError, WeightsError

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.datastructures import Headers, MutableHeaders
    from starlette.responses import JSONResponse, RedirectResponse
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ImportError as error:
    raise ImportError(
        "rematte serve needs starlette and uvicorn: pip install 'rematte[web]'"
    ) from error

from rematte.serve.delivery import open_output
from rematte.serve.jobs import Jobs
from rematte.serve.page import ANSWERED, Page, answer_error
from rematte.serve.processes import Networks, WorkError
from rematte.workers.pool import machine_memory

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


def make_app(
    jobs: Jobs,
    token: str,
    port: int,
    upload_limit: int,
    ending: Callable[[], bool] = lambda: False,
) -> ASGIApp:
    """Make the application, including its checks of every request.

    The token is the first part of every address, and the port the one that browsers
    use; `upload_limit` is in bytes, and `ending` says whether the server is to end.
    """
    app = Starlette(
        routes=Page(jobs, upload_limit, ending).routes(),
        exception_handlers=dict.fromkeys(ANSWERED, answer_error),
    )
    return _Guard(app, token, port)


class _Server(uvicorn.Server):
    """Ends at Ctrl-C even if somebody still sends or takes a file."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Requests that are cut off would be reported with tracebacks.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)


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
            server = _Server(
                uvicorn.Config(
                    app,
                    http="h11",
                    ws="none",
                    lifespan="off",
                    log_level="warning",
                    access_log=False,
                    server_header=False,
                    timeout_graceful_shutdown=1,
                )
            )
            report(f"http://127.0.0.1:{port}/{token}/")
            server.run(sockets=[listener])
        except KeyboardInterrupt:  # the usual end
            pass
        finally:
            queue.close()
