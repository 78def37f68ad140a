"""What is special about animated AVIF, which Pillow writes."""

import sys
from fractions import Fraction
from pathlib import Path

import pytest
from conftest import Run, frame_label, make_clip, read_label
from fakes import Fake
from test_writer import info_of, label_frames

from rematte.convert import convert_video
from rematte.errors import OutputError
from rematte.video.avif_writer import AvifWriter
from rematte.video.encoding import choose
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader


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


def test_an_interrupt_while_other_outputs_are_named_leaves_it_whole(
    tmp_path: Path,
) -> None:
    pytest.importorskip("PIL.Image")
    writer = open_avif(tmp_path / "a.avif")
    writer.write(label_frames(1)[0])
    writer.finish()
    assert writer.keep_partial() is None
    assert [file.name for file in tmp_path.iterdir()] == ["a.avif"]


def test_all_frames_of_an_animation_are_read(tmp_path: Path) -> None:
    """Before it stands its first frame alone, and alpha is a picture of its own."""
    images = pytest.importorskip("PIL.Image")
    for mode in ("RGB", "RGBA"):
        pictures = [
            images.fromarray(frame_label(n, (64, 48))).convert(mode) for n in range(5)
        ]
        for picture in pictures:
            picture.putpixel((0, 0), (0, 0, 0, 0)[: len(mode)])
        path = tmp_path / f"{mode}.avif"
        pictures[0].save(
            path, save_all=True, append_images=pictures[1:], duration=100, quality=100
        )
        with VideoReader(path, ReadOptions(input_alpha="multiply")) as reader:
            frames = list(reader)
            notes = reader.notes
        assert [frame.time for frame in frames] == [Fraction(n, 10) for n in range(5)]
        assert [read_label(frame.pixels) for frame in frames] == [*range(5)]
        assert any("own alpha" in note for note in notes) == (mode == "RGBA")


@pytest.mark.parametrize("name", ["photo.avif", "photo"])
def test_a_photo_is_an_image(tmp_path: Path, name: str) -> None:
    images = pytest.importorskip("PIL.Image")
    path = tmp_path / name
    images.new("RGBA", (64, 48), (200, 40, 40, 128)).save(path, "AVIF", quality=100)
    target = tmp_path / "out.png"
    report = convert_video(
        Fake(), path, output=target, downsample_ratio=1, progress=False
    )
    with images.open(target) as image:
        assert image.size == (64, 48)
    assert any("own alpha channel is ignored" in note for note in report.notes)


def test_photos_and_animations_in_a_folder_are_images(tmp_path: Path) -> None:
    images = pytest.importorskip("PIL.Image")
    first, second = (images.fromarray(frame_label(n, (64, 48))) for n in (3, 5))
    first.save(tmp_path / "a.png")
    second.save(tmp_path / "b.avif", quality=100)
    first.save(tmp_path / "c.avif", save_all=True, append_images=[second], quality=100)
    with VideoReader(tmp_path) as reader:
        assert [read_label(frame.pixels) for frame in reader] == [3, 5, 3]
        assert any(note.startswith("c.avif: only the first") for note in reader.notes)


def test_an_avif_may_have_the_brand_of_all_photos(tmp_path: Path) -> None:
    images = pytest.importorskip("PIL.Image")
    path = tmp_path / "photo.avif"
    images.new("RGB", (64, 48), "red").save(path)
    data = path.read_bytes()
    path.write_bytes(data[:8] + b"mif1" + data[12:])
    with VideoReader(path) as reader:
        assert len(list(reader)) == 1


def test_a_gray_photo_is_not_taken_for_alpha(tmp_path: Path) -> None:
    images = pytest.importorskip("PIL.Image")
    path = tmp_path / "gray.avif"
    images.new("L", (64, 48), 128).save(path, subsampling="4:0:0")
    with VideoReader(path, ReadOptions(input_alpha="multiply")) as reader:
        assert len(list(reader)) == 1
        assert reader.notes == []


def test_live_does_not_record_it(tmp_path: Path, run: Run, fake: object) -> None:
    clip = make_clip(tmp_path / "in.mp4", 3)
    code, _, err = run("live", clip, "-o", tmp_path / "o.avif")
    assert code == 1
    assert "record .mkv" in err
    assert [file.name for file in tmp_path.iterdir()] == ["in.mp4"]
