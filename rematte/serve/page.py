"""The handlers of the page's addresses, and how they answer errors."""

import asyncio
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from rematte.serve import look, work
from rematte.serve.choice import LONGEST, read_choice, read_number
from rematte.serve.delivery import file_name
from rematte.serve.job import IMAGES, PILLOW_IMAGES, Job, check_name
from rematte.serve.jobs import Jobs
from rematte.serve.processes import WorkError
from rematte.serve.settings import FILES, check_quality
from rematte.video.values import parse_number_or_word
from rematte.workers.planning import VIDEOS

_STATIC = Path(__file__).parent / "static"
_NEWS_PERIOD = 0.2  # between two looks for news [s]
_SIDES = {"thumb": 160, "frame": look.SIDE}
_HELD, _LOOK_PERIOD = 1.0, 0.05  # how long a request waits for its picture [s]
_LARGEST_JSON = 400_000  # strokes have many points [bytes]
# The errors that `answer_error` turns into sentences.
ANSWERED = (
    *(HTTPException, WorkError, ClientDisconnect, ValueError, OSError),
    *(sqlite3.Error, RuntimeError),
)


class Page:
    """The handlers of all addresses; see `server.make_app` for the arguments."""

    def __init__(
        self, jobs: Jobs, upload_limit: int, ending: Callable[[], bool]
    ) -> None:
        self._jobs, self._limit, self._ending = jobs, upload_limit, ending
        self._examining = CapacityLimiter(2)

    def routes(self) -> list[Route | Mount]:
        """Return the addresses, without the token."""
        one, jobs = "/api/jobs/{id}", self._jobs
        backdrops = VIDEOS | {*IMAGES}
        upload = partial(self._receive, backdrops | {*PILLOW_IMAGES}, jobs.add)
        add_background = partial(self._receive, backdrops, jobs.backgrounds.add)
        return [
            Route("/api/events", self._events),
            Route("/api/jobs", upload, methods=["POST"]),
            Route(one, partial(self._do, jobs.remove), methods=["DELETE"]),
            Route(f"{one}/start", self._start, methods=["POST"]),
            Route(f"{one}/cancel", partial(self._do, jobs.cancel), methods=["POST"]),
            Route("/api/backgrounds", add_background, methods=["POST"]),
            Route("/api/backgrounds/{id}", self._remove_background, methods=["DELETE"]),
            Route("/api/backgrounds/{id}", self._background),
            Route("/api/rematte.zip", self._all_files),
            Route(f"{one}/still/{{kind}}", self._still),
            Route(f"{one}/cutout", self._cutout, methods=["POST"]),
            Route(f"{one}/judgement", self._judge, methods=["POST"]),
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
            await asyncio.sleep(_NEWS_PERIOD)
            quiet += _NEWS_PERIOD

    async def _receive(
        self,
        suffixes: set[str],
        add: Callable[[str, str, str], object],
        request: Request,
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

    async def _do(self, act: Callable[[Job], object], request: Request) -> Response:
        await run_in_threadpool(act, self._job(request))
        return Response(status_code=204)

    async def _start(self, request: Request) -> Response:
        job = self._job(request)
        settings = await _read_json(request, "settings")
        await run_in_threadpool(self._jobs.start, job, settings)
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
        path = self._jobs.outputs(job, results[0]["run"]) / files.get(kind, "none")
        if not path.is_file():
            raise HTTPException(404, f"{job.name} has no result {kind[:20]!r}")
        name = file_name(job.name, path.name)
        return FileResponse(path, filename=None if kind == "playable" else name)

    async def _still(self, request: Request) -> Response:
        side = _SIDES.get(request.path_params["kind"])
        if side is None:
            raise HTTPException(404, f"a still is one of {', '.join(_SIDES)}")
        at = _time(parse_number_or_word(request.query_params.get("at", "0")))
        return await self._answer(self._job(request), look.still, ".jpg", at, side)

    async def _cutout(self, request: Request) -> Response:
        job, data = self._job(request), await _read_json(request, "a moment")
        choice = read_choice(data.get("choice"))
        return await self._answer(job, look.cutout, ".png", *_moment(data), choice)

    async def _judge(self, request: Request) -> Response:
        job, data = self._job(request), await _read_json(request, "a moment")
        return await self._answer(job, look.judge, ".json", *_moment(data))

    async def _answer(self, job: Job, *how: Any) -> Response:
        """Give a file of `Jobs.look` that is made soon; else the page asks again."""
        for _ in range(round(_HELD / _LOOK_PERIOD)):
            path = await run_in_threadpool(self._jobs.look, job, *how)
            if path is not None:
                return FileResponse(path)
            await asyncio.sleep(_LOOK_PERIOD)
        return Response(status_code=202)


def _time(value: Any) -> float:
    return round(read_number("at", value, LONGEST), 3)


def _moment(data: dict[str, Any]) -> tuple[float, str]:
    """Check a time, and the quality for it."""
    return _time(data.get("at")), check_quality(data)


async def _limited(request: Request, most: int) -> AsyncIterator[bytes]:
    """Stream the parts of a body of at most so many bytes."""
    text = f"too large: at most {most / 1e6:g} MB"
    if int(request.headers.get("content-length", 0)) > most:
        raise HTTPException(413, text)
    count = 0
    async for part in request.stream():
        count += len(part)
        if count > most:
            raise HTTPException(413, text)
        yield part


async def _read_json(request: Request, what: str) -> Any:
    """Read a body that is a JSON object, which errors call `what`."""
    body = b"".join([part async for part in _limited(request, _LARGEST_JSON)])
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise HTTPException(400, f"{what} must be a JSON object")
    return data


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
        async for part in _limited(request, most):
            await run_in_threadpool(file.write, part)


async def answer_error(request: Request, error: Exception) -> Response:
    """Turn an error into a sentence for the page."""
    if isinstance(error, ClientDisconnect):  # no one is there to read it
        return Response(status_code=400)
    text, status = str(error), 400
    if isinstance(error, HTTPException):
        text, status = error.detail, error.status_code
    elif isinstance(error, WorkError):
        status = 422
    elif isinstance(error, OSError | sqlite3.Error):
        why = getattr(error, "strerror", None) or error
        text, status = f"cannot be written: {why}", 507
    elif isinstance(error, RecursionError):
        text = "the JSON object is nested too deeply"
    elif isinstance(error, RuntimeError):  # a file that was deleted meanwhile
        text, status = "it was deleted a moment ago", 404
    return JSONResponse({"error": text}, status)
