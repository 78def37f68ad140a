"""Reads the bodies of requests, up to a limit."""

import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

_LARGEST_JSON = 400_000  # strokes have many points [bytes]


async def limited(request: Request, most: int) -> AsyncIterator[bytes]:
    """Stream the parts of a body.

    Raises:
        HTTPException: If it is larger than `most` [bytes].
    """
    text = f"too large: at most {most / 1e6:g} MB"
    if int(request.headers.get("content-length", 0)) > most:
        raise HTTPException(413, text)
    count = 0
    async for part in request.stream():
        count += len(part)
        if count > most:
            raise HTTPException(413, text)
        yield part


async def read_json(request: Request, what: str) -> Any:
    """Read a body that is a JSON object, which errors call `what`.

    Raises:
        HTTPException: If it is not, or is too large.
    """
    body = b"".join([part async for part in limited(request, _LARGEST_JSON)])
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise HTTPException(400, f"{what} must be a JSON object")
    return data
