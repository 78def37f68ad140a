"""What `convert_video` refuses, and what errors and interrupts leave behind."""

import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from conftest import make_clip
from converting import audible, clip, still
from fakes import (
    Fake,
    colours,
    contents,
    convert,
    decode,
    names,
    open_image,
    save_images,
    times,
)

from rematte.errors import OutputError

__all__ = ["clip", "still"]  # the fixtures
pytestmark = pytest.mark.usefixtures("here")
NO_REGIONS: Any = ["all", (1, 2, 3), (0, 0, 0, 5), (-1, 0, 5, 5), "1,2,3,4"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"start": 5}, "in.mp4: no frame"),
        ({"start": 1e12}, "in.mp4: no frame"),
        ({"end": 0}, "end"),
        ({"start": 0.2, "end": 0.1}, "end"),
        ({"start": -1}, "start must not be negative"),
        ({"start": "soon"}, "start must be seconds"),
        ({"end": float("inf")}, "end must be seconds"),
        ({"end": "1:x"}, "end must be seconds"),
        ({"limit": 0}, "limit must be 1 or more"),
        ({"seq_chunk": 0}, "seq_chunk must be"),
        ({"seq_chunk": "many"}, "seq_chunk must be"),
        ({"downsample_ratio": 2}, "downsample_ratio must be"),
        ({"downsample_ratio": "big"}, "downsample_ratio must be"),
        ({"frame_rate": 0}, "frame_rate must be"),
        ({"frame_rate": "fast"}, "frame_rate must be"),
        ({"frame_rate": float("inf")}, "frame_rate must be"),
        ({"frame_rate": float("nan")}, "frame_rate must be"),
        ({"frame_rate": 1e-9}, "frame_rate must be"),
        ({"input_resize": (0, 10)}, "input_resize"),
        ({"input_resize": (10, 0)}, "input_resize"),
        ({"input_resize": (-5, 5)}, "input_resize"),
        ({"output_type": "gif"}, "output_type must be"),
        ({"background": "nowhere"}, "background"),
        ({"background": "transparent"}, r"\.mp4.*cannot hold transparency.*\.mov"),
        ({"background_fit": "zoom"}, "background_fit"),
        ({"codec": "vp9"}, "vp9"),
        ({"codec": "mpeg1"}, "mpeg1"),
        ({"output_video_mbps": 0}, "mbps"),
        ({"output_video_mbps": -4}, "mbps"),
        ({"crf": -1}, "crf"),
        ({"crf": 400}, "crf"),
        *(({"region": each}, "region must be auto, full or X") for each in NO_REGIONS),
        ({"region": (0, 0, 70, 10)}, r"--region.* beyond the frame.*32x24"),
        ({"region": (30, 0, 6, 10)}, r"--region.* beyond the frame.*32x24"),
        ({"timeout": 0}, "timeout must be above 0"),
        ({"warmup": -1}, r'warmup must be 0 or more, or "auto"'),
        ({"warmup": 1.5}, "warmup must be"),
        ({"warmup": "some"}, "warmup must be"),
        ({"num_workers": -1}, "num_workers"),
        ({"device": "cpu:x"}, "device"),
        ({"output_alpha": "out.xyz"}, "unknown suffix"),
    ],
)
def test_arguments_out_of_range_are_refused_and_leave_nothing(
    clip: Path, here: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        convert(clip, output="out.mp4", **options)
    assert names(here) == {"in.mp4"}


def test_input_is_never_written_over(clip: Path) -> None:
    before = clip.read_bytes()
    link, hard = Path("link.mp4"), Path("hard.mp4")
    link.symlink_to(clip)
    os.link(clip, hard)
    for path in (clip, link, hard, Path("x/../in.mp4")):
        for kind in ("output", "output_composition", "output_alpha"):
            with pytest.raises(ValueError, match="the input itself"):
                convert(clip, **{kind: path})
    assert clip.read_bytes() == before


def test_input_images_are_never_written_over(still: Path) -> None:
    folder = save_images(Path("shots"), colours(2))
    still.rename(folder / "0000.png")
    before = contents(folder)
    for source, target in (
        (folder, folder),
        (folder, folder / "%04d.png"),
        (folder, folder / "shot%d.png"),
        (folder / "shot0.png", folder),
        (folder / "0000.png", folder / "%04d.png"),
        (folder / "shot0.png", folder / "shot0.png"),
    ):
        with pytest.raises(ValueError, match="the input"):
            convert(source, output=target)
    convert(folder, output=folder / "shot0.mov")
    (folder / "shot0.mov").unlink()
    assert contents(folder) == before


def test_background_is_never_written_over(clip: Path) -> None:
    room = make_clip(clip.with_name("room.mov"), 2)
    for background in (room, {"composition": room}):
        with pytest.raises(ValueError, match="is the background itself"):
            convert(clip, output=room, background=background)


@pytest.mark.parametrize("name", ["include", "exclude"])
def test_a_mask_is_never_written_over(clip: Path, name: str) -> None:
    mask: Any = make_clip(clip.with_name("mask.mp4"), colours(2))
    before = mask.read_bytes()
    for given in (mask, ["0,0,4,4", f"{mask}@0-1"]):
        with pytest.raises(ValueError, match=rf"is a mask \({name}\) itself"):
            convert(clip, output_alpha=mask, **{name: given})
    assert mask.read_bytes() == before


@pytest.mark.parametrize(
    ("first", "second"),
    [("o.mp4", "o.mp4"), ("o.mp4", "x/../o.mp4"), ("seq", "seq"),
     ("seq", "seq/%04d.png"), ("seq/%04d.png", "seq")],
)  # fmt: skip
def test_two_outputs_alike_are_refused(clip: Path, first: str, second: str) -> None:
    Path("x").mkdir()
    Path("seq").mkdir()
    with pytest.raises(ValueError, match=r"is the \w+ itself; write elsewhere"):
        convert(clip, output_composition=first, output_alpha=second)


def test_existing_outputs_are_kept_where_told_so_and_else_replaced(clip: Path) -> None:
    target, image = Path("out.mp4"), Path("seq/0000.png")
    target.write_text("precious")
    image.parent.mkdir()
    image.write_text("precious")
    for path, why in ((target, "exists"), (image.parent, "would")):
        with pytest.raises(OutputError, match=rf"{why}.*; pass overwrite \(-y\)"):
            convert(clip, overwrite=False, output=path)
    assert target.read_text() == image.read_text() == "precious"
    convert(clip, output=target, output_alpha=image.parent)
    assert len(decode(target)) == 10
    assert open_image(image).shape == (24, 32)


ALL_KINDS = {
    "output": "cut.mov", "output_composition": "com.mp4",
    "output_alpha": "pha", "output_foreground": "fgr_%04d.png",
}  # fmt: skip
# The second output fails at its very end, where its alpha is checked.
COMPLETED = {
    "output": "a.mov", "output_composition": "b.webm",
    "output_foreground": "fgr", "background": "transparent",
}  # fmt: skip


@pytest.mark.parametrize("index", [0, 5])
@pytest.mark.parametrize(
    "error", [RuntimeError("broke"), MemoryError(), ValueError("odd")], ids=repr
)
def test_an_error_leaves_nothing_and_touches_nothing(
    clip: Path, here: Path, index: int, error: Exception
) -> None:
    old, image = Path("com.mp4"), Path("pha/0000.png")
    image.parent.mkdir()
    for path in (old, image):
        path.write_text("precious")
    with pytest.raises(type(error)):
        convert(clip, model=Fake(fail_at=index, error=error), **ALL_KINDS)
    assert names(here) == {"in.mp4", "com.mp4", "pha"}
    assert names(image.parent) == {"0000.png"}
    assert old.read_text() == image.read_text() == "precious"


@pytest.mark.parametrize("error", [OutputError("no space"), KeyboardInterrupt()])
def test_an_error_or_interrupt_at_the_very_end_leaves_nothing_temporary(
    clip: Path, here: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """The second of two outputs fails to complete: the first is no longer wanted."""
    Path("a.mov").write_text("precious")

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("rematte.video.writer.check_alpha", fail)
    with pytest.raises(type(error)):
        convert(clip, **COMPLETED)
    partial = {path.name for path in here.glob("[!.]*.partial.*")}
    assert names(here) - {"fgr.partial"} == {"in.mp4", "a.mov", *partial}
    assert bool(partial) == isinstance(error, KeyboardInterrupt)
    assert all(len(decode(name)) == 10 for name in partial)
    assert Path("a.mov").read_text() == "precious"


@pytest.mark.parametrize("name", ["cut.mov", "com.mp4", "cut.mkv", "cut.webm"])
def test_an_interrupt_keeps_a_playable_part(here: Path, name: str) -> None:
    clip = make_clip(Path("in.mp4"), colours(25), sound=True)
    network = Fake(fail_at=15, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt) as caught:
        convert(clip, model=network, output=name)
    partial = Path(name).with_suffix(f".partial{Path(name).suffix}")
    assert caught.value.args == (str(partial.absolute()),)
    assert names(here) == {"in.mp4", partial.name}
    assert len(decode(partial)) == 15
    packets = audible(partial)
    assert Fraction(13, 25) < packets[-1][0] < Fraction(15, 25)
    if name.endswith(("mov", "mp4")):
        assert packets == audible(clip)[: len(packets)]
        assert times(partial) == [Fraction(index, 25) for index in range(15)]


def test_an_interrupt_keeps_parts_of_every_output(clip: Path, here: Path) -> None:
    old = Path("com.mp4")
    old.write_text("precious")
    with pytest.raises(KeyboardInterrupt) as caught:
        convert(clip, model=Fake(fail_at=5, error=KeyboardInterrupt()), **ALL_KINDS)
    assert len(caught.value.args) == 4
    assert old.read_text() == "precious"
    left = names(here) - {"in.mp4", "com.mp4"}
    assert left == {Path(path).name for path in caught.value.args}
    for path in map(Path, caught.value.args):
        assert "partial" in path.name
        assert len(names(path) if path.is_dir() else decode(path)) == 5


def test_the_source_is_not_kept_open(clip: Path) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    convert(clip, output="out.mp4")
    with pytest.raises(RuntimeError):
        convert(clip, model=Fake(fail_at=3), output="out.mov")
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # it may have been closed meanwhile
            assert Path.cwd() not in link.readlink().parents
