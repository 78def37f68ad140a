"""Answers the page's requests to look at a moment of a video before converting it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from rematte.serve import look
from rematte.serve.bodies import read_json, read_number
from rematte.serve.choice import LONGEST, read_choice
from rematte.serve.job import Job
from rematte.serve.jobs import Jobs
from rematte.serve.settings import check_quality

_SIDES = {"thumb": 160, "frame": look.SIDE}
_HELD, _POLL_PERIOD = 1.0, 0.05  # how long a request waits for its picture [s]


class Viewing:
    """The handlers that give pictures of a moment.

    Args:
        jobs: The jobs.
        job: Finds the job that a request names.
    """

    def __init__(self, jobs: Jobs, job: Callable[[Request], Job]) -> None:
        self._jobs, self._job = jobs, job

    def routes(self, one: str) -> list[Route]:
        """The addresses below that of one job."""
        return [
            Route(f"{one}/still/{{kind}}", self._still),
            Route(f"{one}/cutout", self._cutout, methods=["POST"]),
            Route(f"{one}/judgement", self._judge, methods=["POST"]),
        ]

    async def _still(self, request: Request) -> Response:
        side = _SIDES.get(request.path_params["kind"])
        if side is None:
            raise HTTPException(404, f"a still is one of {', '.join(_SIDES)}")
        at = _time(_seconds(request.query_params.get("at", "0")))
        return await _answer(self._jobs.still, self._job(request), at, side)

    async def _cutout(self, request: Request) -> Response:
        job, data = await self._asked(request)
        choice = read_choice(data.get("choice"))
        at, quality = _moment(data)
        return await _answer(self._jobs.cutout, job, at, quality, choice)

    async def _judge(self, request: Request) -> Response:
        job, data = await self._asked(request)
        at, quality = _moment(data)
        return await _answer(self._jobs.judgement, job, at, quality)

    async def _asked(self, request: Request) -> tuple[Job, dict[str, Any]]:
        return self._job(request), await read_json(request, "a moment")


async def _answer(make: Any, *args: Any) -> Response:
    """Give a file that is made soon; else the page asks again."""
    for _ in range(round(_HELD / _POLL_PERIOD)):
        path: Path | None = await run_in_threadpool(make, *args)
        if path is not None:
            return FileResponse(path)
        await asyncio.sleep(_POLL_PERIOD)
    return Response(status_code=202)


def _seconds(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _time(value: Any) -> float:
    return round(read_number("at", value, LONGEST), 3)


def _moment(data: dict[str, Any]) -> tuple[float, str]:
    """Check a time, and the quality for it."""
    return _time(data.get("at")), check_quality(data)
