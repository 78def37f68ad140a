"""Which output gets the background, and what is said where none is transparent."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_clip
from fakes import Fake, colours, convert, convert_in_parts, read
from numpy.typing import NDArray

from rematte.convert import Report
from rematte.options import Options
from rematte.workers.jobs import run as run_batch
from rematte.workers.planning import Job


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A clip whose left column is black, where the fake's alpha is 0."""
    return make_clip(tmp_path / "in.mkv", colours(4), codec="ffv1", pix_fmt="bgr0")


def first(path: Path) -> NDArray[Any]:
    """The first frame of an output, with alpha where it has one."""
    return read(path, alpha=True)[0].pixels


in_segments = partial(convert_in_parts, segment=2)


def in_batch(source: Path, output: Path, **settings: Any) -> Report:
    composition = settings.pop("output_composition")
    job = Job(source, {"output": output, "composition": composition})
    (done,) = run_batch([job], Fake, Options(**settings))
    assert done.status == "done", done.error
    return Report(notes=done.notes)


@pytest.mark.parametrize("run", [convert, in_segments, in_batch])
def test_a_background_belongs_to_the_composition(clip: Path, run: Any) -> None:
    cut, over = clip.with_name("cut.mkv"), clip.with_name("over.mkv")
    report = run(clip, cut, output_composition=over, background="white")
    cutout, composition = first(cut), first(over)
    assert (cutout.shape[2], composition.shape[2]) == (4, 3)
    assert (cutout[..., 3] < 255).any()
    alpha = cutout[..., 3:] / 255
    expected = cutout[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(composition - expected).max() <= 1
    assert report.notes == []


@pytest.mark.parametrize("run", [convert, in_segments, in_batch])
def test_an_output_without_alpha_is_over_it_too(clip: Path, run: Any) -> None:
    cut, over = clip.with_name("cut.mp4"), clip.with_name("over.mkv")
    report = run(clip, cut, output_composition=over, background="white")
    assert np.abs(first(cut)[:, 0].astype(int) - 255).max() <= 8
    (note,) = report.notes
    assert note.startswith("cut.mp4: not transparent but over white: .mp4 cannot hold")


@pytest.mark.parametrize(
    ("name", "codec", "why"),
    [
        ("cut.mp4", None, ".mp4 cannot hold an alpha channel; .mov, "),
        ("cut.mp4", "hevc", ".mp4 cannot hold an alpha channel; .mov, "),
        ("cut.mov", "hevc", "codec hevc cannot hold an alpha channel; leave out"),
        ("cut.mov", "hevc", "HEVC with alpha"),
        ("cut.webm", "av1", "codec av1 cannot hold an alpha channel; leave out"),
        ("cut/%02d.jpg", None, ".jpg cannot hold an alpha channel; .mov, "),
    ],
)
def test_what_is_not_transparent_says_so(
    clip: Path, name: str, codec: str | None, why: str
) -> None:
    target = clip.parent / name
    report = convert(clip, target, codec=codec)
    (note,) = [note for note in report.notes if "padded from" not in note]
    assert "not transparent but over green" in note
    assert why in note
