"""What is special about animated AVIF, which Pillow writes."""

import sys
from pathlib import Path

import pytest
from conftest import Run, make_clip
from test_writer import info_of, label_frames

from rematte.errors import OutputError
from rematte.video.avif_writer import AvifWriter
from rematte.video.encoding import choose


def open_avif(path: Path) -> AvifWriter:
    return AvifWriter(path, info_of(), choose(path, info_of(), alpha=False))


def test_without_pillow_it_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(OutputError, match=r"pip install \"rematte\[avif\]\""):
        open_avif(tmp_path / "a.avif")
    assert not [*tmp_path.iterdir()]


def test_an_interrupt_leaves_what_plays_and_an_error_nothing(tmp_path: Path) -> None:
    images = pytest.importorskip("PIL.Image")
    writer = open_avif(tmp_path / "a.avif")
    for frame in label_frames(3):
        writer.write(frame)
    partial = writer.keep_partial()
    assert partial == tmp_path / "a.partial.avif"
    with images.open(partial) as image:
        assert image.n_frames == 3
    partial.unlink()
    writer = open_avif(tmp_path / "a.avif")
    writer.write(label_frames(1)[0])
    writer.discard()
    assert not [*tmp_path.iterdir()]


def test_live_does_not_record_it(tmp_path: Path, run: Run, fake: object) -> None:
    clip = make_clip(tmp_path / "in.mp4", 3)
    code, _, err = run("live", clip, "-o", tmp_path / "o.avif")
    assert code == 1
    assert "record .mkv" in err
    assert [file.name for file in tmp_path.iterdir()] == ["in.mp4"]
