"""Which output gets the background, and what is said where none is transparent."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, make_clip
from fakes import Fake, colours, open_image
from numpy.typing import NDArray

from rematte.convert import Report, convert_video
from rematte.options import Options
from rematte.segments import convert_long
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader
from rematte.workers.jobs import run as run_batch
from rematte.workers.planning import Job

WHITE = (255, 255, 255)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A clip whose left column is black, where the fake's alpha is 0."""
    return make_clip(tmp_path / "in.mkv", colours(4), codec="ffv1", pix_fmt="bgr0")


def first(path: Path) -> NDArray[Any]:
    """The first frame of an output, with alpha where it has one."""
    with VideoReader(path, ReadOptions(alpha=True)) as reader:
        return next(iter(reader)).pixels


def once(model: Any, source: Path, **settings: Any) -> Report:
    return convert_video(model, source, progress=False, **settings)


def in_segments(model: Any, source: Path, **settings: Any) -> Report:
    return convert_long(
        lambda: model, source, resume=True, segment=2, progress=False, **settings
    )


def in_batch(model: Any, source: Path, **settings: Any) -> Report:
    kinds = {"output": "output", "composition": "output_composition"}
    outputs = {k: settings.pop(v) for k, v in kinds.items() if v in settings}
    job = Job(source, outputs)
    (done,) = run_batch([job], lambda: model, Options(**settings))
    assert done.status == "done", done.error
    return Report(notes=done.notes)


@pytest.mark.parametrize("run", [once, in_segments, in_batch])
def test_a_background_belongs_to_the_composition(clip: Path, run: Any) -> None:
    cut, over = clip.with_name("cut.mkv"), clip.with_name("over.mkv")
    report = run(Fake(0), clip, output=cut, output_composition=over, background="white")
    cutout, composition = first(cut), first(over)
    assert (cutout.shape[2], composition.shape[2]) == (4, 3)
    assert (cutout[..., 3] < 255).any()
    alpha = cutout[..., 3:] / 255
    expected = cutout[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(composition - expected).max() <= 1
    assert report.notes == []


def test_without_a_composition_it_belongs_to_the_output(clip: Path) -> None:
    cut = clip.with_name("cut.mkv")
    more = {"output_alpha": clip.with_name("a.mkv"), "background": "white"}
    report = once(Fake(0), clip, output=cut, **more)
    assert first(cut).shape[2] == 3
    assert report.notes == []


@pytest.mark.parametrize("run", [once, in_segments, in_batch])
def test_an_output_without_alpha_is_over_it_too(clip: Path, run: Any) -> None:
    cut, over = clip.with_name("cut.mp4"), clip.with_name("over.mkv")
    report = run(Fake(0), clip, output=cut, output_composition=over, background="white")
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
    report = once(Fake(), clip, output=target, codec=codec)
    (note,) = [note for note in report.notes if "padded from" not in note]
    assert "not transparent but over green" in note
    assert why in note


def test_a_composition_without_alpha_needs_no_note(clip: Path) -> None:
    """It is over a background by its name."""
    report = once(Fake(), clip, output_composition=clip.with_name("over.mp4"))
    assert report.notes == []


def test_the_command_line_makes_both(clip: Path, fake: Fake, run: Run) -> None:
    folder, over = clip.with_name("cut"), clip.with_name("p.mp4")
    words = ["convert", clip, "-o", folder, "--composition", over, "-q"]
    assert run(*words, "--background", "white") == (0, "", "")
    assert open_image(folder / "0000.png").shape[2] == 4
