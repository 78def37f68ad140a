"""Colour and alpha in one opaque picture, and the page that plays it."""

import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Tags, make_clip
from fakes import read
from numpy.typing import NDArray
from PIL import Image
from test_recomposition import BEHIND, Disc, as_pillow, draw

from rematte.convert import convert_video

PAGE = Path(__file__).parents[2] / "examples" / "packed_alpha.html"
SIZE = (100, 70)  # no multiple of 16
# Name, arrangement, how alpha is used, further options.
FILES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a.mp4": ("side", "straight", {}),
    "b.mp4": ("stacked", "premultiplied", {}),
    "c.webm": ("side", "premultiplied", {}),
    "d.mp4": ("stacked", "straight", {"codec": "av1"}),
    "e.mkv": ("side", "straight", {"codec": "hevc"}),
}
Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    # A full-range source, whose range may not reach the file.
    pictures = [np.pad(draw(), ((3, 3), (2, 2), (0, 0)), "edge")] * 3
    source = make_clip(
        folder / "in.mkv", pictures, codec="ffv1", pix_fmt="yuv444p", rate=10,
        tags=Tags(1, 2, 1, 1),
    )  # fmt: skip
    convert = partial(
        convert_video, Disc(), source, progress=False, edge_colour="clean"
    )
    convert(output=folder / "png/%02d.png")
    for name, (packed, mode, more) in FILES.items():
        convert(output=folder / name, packed=packed, alpha_mode=mode, **more)
    return folder


def halves(path: Path, packed: str) -> tuple[Floats, Floats]:
    """The colours and the alpha of the first frame, in [0, 1]."""
    whole = read(path)[0].pixels / 255
    colours, alpha = np.split(whole, 2, 1 if packed == "side" else 0)
    return colours, alpha


@pytest.mark.parametrize("name", FILES)
def test_the_halves_are_colour_and_alpha(made: Path, name: str) -> None:
    packed, mode, _ = FILES[name]
    colours, alpha = halves(made / name, packed)
    assert colours.shape == (80, 112, 3)
    width, height = SIZE
    expected = as_pillow(made / "png/00.png")
    colours, alpha = colours[:height, :width], alpha[:height, :width, 1:2]
    share = expected[..., 3:]
    error = np.abs(alpha - share) * 255
    assert np.percentile(error, 99) <= 2
    assert error.max() <= 3
    # What is clear and what is solid stays so, but for what the codec adds.
    assert alpha[share == 0].max() * 255 <= 3
    assert alpha[share == 1].min() * 255 >= 252
    light = colours * alpha if mode == "straight" else colours
    error = np.abs(light - expected[..., :3] * share) * 255
    assert np.percentile(error, 99) <= 3


def test_the_room_is_hidden(made: Path) -> None:
    """Where alpha is 0, straight colours are averages of the person's own."""
    colours, _ = halves(made / "a.mp4", "side")
    expected = as_pillow(made / "png/00.png")
    clear = expected[..., 3] == 0
    hidden = colours[: SIZE[1], : SIZE[0]][clear]
    seen = expected[~clear, :3]
    assert (hidden >= seen.min(0) - 0.02).all()
    assert (hidden <= seen.max(0) + 0.02).all()


def test_what_cannot_be_packed_says_so(made: Path, tmp_path: Path) -> None:
    convert = partial(convert_video, Disc(), made / "in.mkv", progress=False)
    for path, more, text in [
        ("o.gif", {}, r"cannot be packed .*\.mp4"),
        ("o/%d.png", {}, "cannot be packed"),
        ("o.mov", {"codec": "prores"}, "cannot be packed .*h264"),
        ("o.mp4", {"background": "red"}, "packed .*has no effect"),
    ]:
        with pytest.raises(ValueError, match=text):
            convert(output=tmp_path / path, packed="side", **more)
    assert not [*tmp_path.iterdir()]


@pytest.fixture(scope="module")
def page(launch: Callable[..., Any], made: Path) -> Iterator[Any]:
    browser = launch(
        *("--force-color-profile=srgb", "--use-angle=swiftshader"),
        *("--enable-unsafe-swiftshader", "--autoplay-policy=no-user-gesture-required"),
    )
    tab = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})

    def serve(route: Any) -> None:
        name = route.request.url.split("/")[-1].split("?")[0]
        path = PAGE if name == PAGE.name else made / name
        route.fulfill(path=path)

    tab.route("http://packed.test/**", serve)
    yield tab
    browser.close()


@pytest.mark.parametrize(
    ("name", "most"),
    # Halving the resolution of multiplied colours alone is off by 4.
    [("a.mp4", 3), ("b.mp4", 4), ("c.webm", 4), ("d.mp4", 4)],
)
def test_chromium_plays_it_over_any_background(
    page: Any, made: Path, name: str, most: float
) -> None:
    packed, mode, _ = FILES[name]
    page.goto(
        f"http://packed.test/{PAGE.name}?src={name}&size={SIZE[0]}x{SIZE[1]}"
        f"&packed={packed}&alpha={mode}"
    )
    page.wait_for_function("document.title === 'shown'")
    cut = as_pillow(made / "png/00.png")
    alpha = cut[..., 3:]
    for colour in BEHIND.values():
        page.evaluate(f"document.body.style.background = 'rgb{colour}'")
        with Image.open(io.BytesIO(page.screenshot())) as image:
            shown = np.asarray(image.convert("RGB")).astype(float)
        expected = 255 * cut[..., :3] * alpha + (1 - alpha) * np.array(colour)
        error = np.abs(shown - expected.round())
        assert np.percentile(error, 99) <= 3, colour
        assert error.max() <= most, colour
        assert error.mean() <= 0.6, colour
