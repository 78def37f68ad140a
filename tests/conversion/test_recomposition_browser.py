"""What Chromium shows of transparent files, against rematte's own composition."""

import base64
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from test_recomposition import BEHIND, SIZE, composition, made

CHROMIUM = Path("/usr/bin/chromium")
REQUIRED = os.environ.get("REMATTE_REQUIRE_WEB")

try:
    from playwright.sync_api import sync_playwright
except ImportError:
    if REQUIRED:
        raise
    pytest.skip("no playwright; install rematte[dev]", allow_module_level=True)
if not CHROMIUM.exists() and not REQUIRED:
    pytest.skip(f"no browser at {CHROMIUM}", allow_module_level=True)

FLAGS = ["--no-sandbox", "--disable-gpu", "--force-color-profile=srgb"]
KINDS = {"png": "image/png", "apng": "image/apng", "webp": "image/webp"}

__all__ = ["made"]  # the fixture


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
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
    [("png/00.png", 1), ("cut.apng", 1), ("cut.webp", 3), ("cut.webm", 3)],
)
@pytest.mark.parametrize("behind", BEHIND)
def test_chromium_shows_the_composition(
    page: Any,
    made: Path,
    name: str,
    most: float,
    behind: str,
) -> None:
    error = np.abs(shown(page, made / name, BEHIND[behind]) - composition(made, behind))
    assert np.quantile(error, 0.99 if most > 1 else 1) <= most
    assert error.mean() <= 0.5
