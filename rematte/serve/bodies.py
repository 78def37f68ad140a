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
    """Read a body that is a JSON object.

    Args:
        request: The request.
        what: What errors call the object.

    Raises:
        HTTPException: If it is not, or is too large.
    """
    body = b"".join([part async for part in limited(request, _LARGEST_JSON)])
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"{what} must be a JSON object") from error
    if not isinstance(data, dict):
        raise HTTPException(400, f"{what} must be a JSON object")
    return data


def read_number(name: str, value: Any, most: float) -> float:
    """Check a number of a body.

    Args:
        name: What errors call it.
        value: What the body holds.
        most: The largest number that is allowed.

    Raises:
        ValueError: If it is no number, negative or too large.
    """
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    if not plain or not 0 <= value <= most:
        raise ValueError(
            f"{name} must be a number from 0 to {most:g}, got {value!r:.60}"
        )
    return float(value)
