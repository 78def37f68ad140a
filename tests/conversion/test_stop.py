"""A conversion that is stopped from outside, and one from and to open files."""

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_clip
from fakes import Fake, Slow, colours, convert, decode, names, save_images, threads

from rematte import Cancelled, InputError, TimedOut

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def clip() -> Path:
    return make_clip(Path("in.mp4"), colours(8, (64, 48)))


@pytest.mark.parametrize("after", [0, 3])
def test_a_conversion_that_is_cancelled_leaves_nothing(after: int, clip: Path) -> None:
    event = threading.Event()
    if not after:
        event.set()

    def progress(done: int, total: int | None) -> None:
        if done == after:
            event.set()

    how = {"output_alpha": "alpha", "progress": progress, "cancel": event}
    Path("alpha").mkdir()
    with pytest.raises(Cancelled, match=f"after {after} frames"):
        convert(clip, "out.mkv", **how)
    assert names(Path()) == {"in.mp4", "alpha"}
    assert names(Path("alpha")) == set()


def test_a_conversion_that_takes_too_long_leaves_nothing(clip: Path) -> None:
    before = threads()
    with pytest.raises(TimedOut, match=r"timeout=0\.5 seconds after \d frame"):
        convert(clip, "out.mkv", Slow(seconds=0.3), timeout=0.5)
    assert names(Path()) == {"in.mp4"}
    assert threads() <= before


def test_the_look_for_people_stops(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    event = threading.Event()

    def look(shots: Any, *rest: Any) -> None:
        event.set()
        list(shots)

    monkeypatch.setattr("rematte.conversion.look.find_regions", look)
    big = make_clip(Path("big.mp4"), 2, size=(640, 480))
    given = {"downsample_ratio": None, "region": "auto"}
    with pytest.raises(Cancelled, match="after 0 frames"):
        convert(big, "out.mkv", cancel=event, **given)
    assert names(Path()) == {"in.mp4", "big.mp4"}


def test_open_files_go_in_and_out(clip: Path) -> None:
    output, alpha = io.BytesIO(), io.BytesIO()
    with clip.open("rb") as source:
        report = convert(source, output, output_alpha=alpha, format="mkv")
    assert report.outputs["output"] == "the open file"
    convert(clip, "out.mkv")
    Path("back.mkv").write_bytes(output.getvalue())
    assert np.array_equal(decode("back.mkv"), decode("out.mkv"))
    assert len(alpha.getvalue()) > 1000
    with Path("named.webm").open("wb") as named:  # its name says the format
        convert(clip, named)
    assert b"webm" in Path("named.webm").read_bytes()[:64]


class Unreadable:
    """An open file on a server that does not answer."""

    def read(self, size: int) -> bytes:
        raise TimeoutError("timed out")


def test_open_files_that_cannot_be_used_are_refused(clip: Path) -> None:
    empty = io.BytesIO()
    wrong: list[tuple[type[Exception], str, Any, dict[str, Any]]] = [
        (ValueError, "needs a format", clip, {"output": empty}),
        (ValueError, "format must be one of", clip, {"output": empty, "format": "x"}),
        (ValueError, "suffix decides", clip, {"output": "o.mov", "format": "mov"}),
        (InputError, "^the open file: .*not a video", io.BytesIO(b"nothing"),
         {"output": empty, "format": "mov"}),
        (InputError, "^the open file: cannot be read", Unreadable(),
         {"output": "o.mov"}),
        (TypeError, "^the open file was opened for text", io.StringIO(),
         {"output": "o.mov"}),
        (TypeError, "got bytes; wrap", clip.read_bytes(), {"output": "o.mov"}),
        (ValueError, "is empty; give a path", "", {"output": "o.mov"}),
        (ValueError, "is empty; give a path", clip, {"output": ""}),
        (ValueError, "is empty; give a path", clip,
         {"output": empty, "output_alpha": "", "format": "mkv"}),
        (ValueError, "only one", clip,
         {"output": empty, "output_alpha": empty, "format": "mkv"}),
    ]  # fmt: skip
    for error, message, source, arguments in wrong:
        with pytest.raises(error, match=message):
            convert(source, **arguments)
    assert not empty.getvalue()
    assert names(Path()) == {"in.mp4"}


def test_a_photo_in_an_open_file_is_a_photo() -> None:
    folder = save_images(Path("images"), colours(1))
    source, out = io.BytesIO((folder / "shot0.png").read_bytes()), io.BytesIO()
    fake = Fake()
    convert(source, out, fake, format="png")
    assert out.getvalue().startswith(b"\x89PNG")
    assert fake.seen > 1  # it was shown until alpha settled
