"""What Chromium shows of transparent files, against rematte's own composition."""

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from test_recomposition import BEHIND, SIZE, composition, made

KINDS = {kind: f"image/{kind}" for kind in ("png", "apng", "webp", "avif")}

__all__ = ["made"]  # the fixture


@pytest.fixture(scope="module")
def page(launch: Callable[..., Any]) -> Iterator[Any]:
    browser = launch("--disable-gpu", "--force-color-profile=srgb")
    yield browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
    browser.close()


def shown(page: Any, path: Path, behind: tuple[int, ...]) -> NDArray[Any]:
    """What a page shows of a file over a colour, RGB."""
    data = base64.b64encode(path.read_bytes()).decode()
    suffix = path.suffix[1:]
    if suffix == "webm":
        tag = f'<video id="it" muted src="data:video/webm;base64,{data}"></video>'
        ready = (
            "e => new Promise(r => { e.requestVideoFrameCallback(r); "
            "e.currentTime = 0.05 })"
        )
    else:
        tag = f'<img id="it" src="data:{KINDS[suffix]};base64,{data}">'
        ready = "e => e.decode()"
    page.set_content(
        f'<body style="margin: 0; background: rgb{behind}">'
        f"<style>#it {{ display: block }}</style>{tag}"
    )
    painted = "new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))"
    page.evaluate(
        f"async () => {{ await ({ready})(document.getElementById('it')); "
        f"await {painted} }}"
    )
    with Image.open(io.BytesIO(page.screenshot())) as image:
        return np.asarray(image.convert("RGB")).astype(float)


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("png/00.png", 1),
        ("cut.apng", 1),
        ("webp/00.webp", 2),  # Chromium rounds it twice where alpha is low
        ("cut.webp", 3),
        ("fine.avif", 4),
        ("cut.webm", 3),
    ],
)
@pytest.mark.parametrize("behind", BEHIND)
def test_chromium_shows_the_composition(
    page: Any, made: Path, name: str, most: float, behind: str
) -> None:
    error = np.abs(shown(page, made / name, BEHIND[behind]) - composition(made, behind))
    assert error.max() <= most
    assert error.mean() <= 0.5
