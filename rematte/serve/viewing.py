"""Answers the page's requests to look at a moment of a video before converting it."""

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from rematte.serve import look
from rematte.serve.bodies import read_json
from rematte.serve.choice import LONGEST, read_choice, read_number
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
        return await self._answer(request, look.still, ".jpg", at, side)

    async def _cutout(self, request: Request) -> Response:
        data = await read_json(request, "a moment")
        choice = read_choice(data.get("choice"))
        return await self._answer(request, look.cutout, ".png", *_moment(data), choice)

    async def _judge(self, request: Request) -> Response:
        data = await read_json(request, "a moment")
        return await self._answer(request, look.judge, ".json", *_moment(data))

    async def _answer(self, request: Request, *how: Any) -> Response:
        """Give a file of `Jobs.look` that is made soon; else the page asks again."""
        job = self._job(request)
        for _ in range(round(_HELD / _POLL_PERIOD)):
            path = await run_in_threadpool(self._jobs.look, job, *how)
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
