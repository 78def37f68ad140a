"""What is special about animated AVIF, which Pillow writes."""

import sys
from fractions import Fraction
from pathlib import Path

import pytest
from clips import frame_label, make_clip
from conftest import Run
from fakes import convert, labels, names, read, read_all
from PIL import Image
from writing import info_of, label_frames, open_writer

from rematte.errors import OutputError


def test_pillow_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(OutputError, match=r"pip install \"rematte\[avif\]\""):
        open_writer(tmp_path / "a.avif", info_of())
    assert names(tmp_path) == set()


def test_an_interrupt_while_other_outputs_are_named_leaves_it_whole(
    tmp_path: Path,
) -> None:
    writer, _ = open_writer(tmp_path / "a.avif", info_of())
    writer.write(label_frames(1)[0])
    writer.finish()
    assert writer.keep_partial() is None
    assert names(tmp_path) == {"a.avif"}


def test_all_frames_of_an_animation_are_read(tmp_path: Path) -> None:
    """Before it stands its first frame alone, and alpha is a picture of its own."""
    for mode in ("RGB", "RGBA"):
        pictures = [
            Image.fromarray(frame_label(n, (64, 48))).convert(mode) for n in range(5)
        ]
        for picture in pictures:
            picture.putpixel((0, 0), (0, 0, 0, 0)[: len(mode)])
        path = tmp_path / f"{mode}.avif"
        pictures[0].save(
            path, save_all=True, append_images=pictures[1:], duration=100, quality=100
        )
        frames, notes = read_all(path, input_alpha="multiply")
        assert [frame.time for frame in frames] == [Fraction(n, 10) for n in range(5)]
        assert labels(frames) == [*range(5)]
        assert any("own alpha" in note for note in notes) == (mode == "RGBA")


@pytest.mark.parametrize("name", ["photo.avif", "photo"])
def test_a_photo_is_an_image(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    Image.new("RGBA", (64, 48), (200, 40, 40, 128)).save(path, "AVIF", quality=100)
    target = tmp_path / "out.png"
    report = convert(path, target)
    with Image.open(target) as image:
        assert image.size == (64, 48)
    assert any("own alpha channel is ignored" in note for note in report.notes)


def test_photos_and_animations_in_a_folder_are_images(tmp_path: Path) -> None:
    first, second = (Image.fromarray(frame_label(n, (64, 48))) for n in (3, 5))
    first.save(tmp_path / "a.png")
    second.save(tmp_path / "b.avif", quality=100)
    first.save(tmp_path / "c.avif", save_all=True, append_images=[second], quality=100)
    frames, notes = read_all(tmp_path)
    assert labels(frames) == [3, 5, 3]
    assert any(note.startswith("c.avif: only the first") for note in notes)


def test_an_avif_may_have_the_brand_of_all_photos(tmp_path: Path) -> None:
    path = tmp_path / "photo.avif"
    Image.new("RGB", (64, 48), "red").save(path)
    data = path.read_bytes()
    path.write_bytes(data[:8] + b"mif1" + data[12:])
    assert len(read(path)) == 1


def test_a_gray_photo_is_not_taken_for_alpha(tmp_path: Path) -> None:
    path = tmp_path / "gray.avif"
    Image.new("L", (64, 48), 128).save(path, subsampling="4:0:0")
    frames, notes = read_all(path, input_alpha="multiply")
    assert (len(frames), notes) == (1, [])


def test_live_does_not_record_it(tmp_path: Path, run: Run, fake: object) -> None:
    clip = make_clip(tmp_path / "in.mp4", 3)
    code, _, err = run("live", clip, "-o", tmp_path / "o.avif")
    assert code == 1
    assert "record .mkv" in err
    assert names(tmp_path) == {"in.mp4"}
