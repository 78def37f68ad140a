"""Images as the reader gives them: folders, photos that are turned, and pipes."""

import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from clips import draw_disc, encode_image, frame_label
from fakes import labels, python, read
from numpy.typing import NDArray

from rematte.video.images import natural_key
from rematte.video.reader import VideoReader


def save_image(path: Path, pixels: NDArray[Any], **more: Any) -> None:
    """Write an image without the code under test."""
    if path.suffix == ".exr":
        path.write_bytes(encode_image("exr", pixels, to="gbrpf32le"))
    else:
        picture = PIL.Image.fromarray(pixels)
        picture.save(path, quality=100, subsampling=0, lossless=True, **more)


# Where EXIF says that the first row and the first column of the file are shown.
EXIF_ORIENTATIONS = [
    *("top left", "top right", "bottom right", "bottom left"),
    *("left top", "right top", "right bottom", "left bottom"),
]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_photos_are_turned_as_exif_says(tmp_path: Path, suffix: str, turn: int) -> None:
    stored = np.full((32, 64, 3), 128, np.uint8)
    stored[:8] = 255  # the first row
    stored[8:, :8] = 0  # the first column
    path, exif = tmp_path / f"a{suffix}", PIL.Image.Exif()
    exif[0x0112] = turn
    save_image(path, stored, exif=exif)
    (frame,) = read(path)
    gray = frame.pixels.mean(-1)
    sides = {
        "top": gray[2], "bottom": gray[-3], "left": gray[:, 2], "right": gray[:, -3],
    }  # fmt: skip
    shown = [most(sides, key=lambda side: sides[side].mean()) for most in (max, min)]
    assert shown == EXIF_ORIENTATIONS[turn - 1].split()
    assert gray.shape == ((64, 32) if turn > 4 else (32, 64))


def test_images_of_a_folder_come_in_natural_order(tmp_path: Path) -> None:
    before_zero = ["0001.png", "-0001.png", "0000.png", "-0002.png"]
    ordered_too = ["-0002.png", "-0001.png", "0000.png", "0001.png"]
    assert sorted(before_zero, key=natural_key) == ordered_too
    ordered = ["Frame1.png", "frame9.png", "frame10.PNG", "frame010b.png", "x.png"]
    for index, name in enumerate(ordered):
        save_image(tmp_path / name, frame_label(index))
    (tmp_path / "sub.png").mkdir()
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_text("not an image")
    frames = read(tmp_path)
    assert labels(frames) == [0, 1, 2, 3, 4]
    assert [frame.name for frame in frames] == [Path(name).stem for name in ordered]
    assert [frame.time for frame in frames] == [Fraction(n, 30) for n in range(5)]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp"])
def test_image_kinds(tmp_path: Path, suffix: str) -> None:
    picture = draw_disc(1).frames[0]
    save_image(tmp_path / f"a{suffix}", picture)
    save_image(tmp_path / f"b{suffix}", picture)
    for path, still in ((tmp_path, False), (tmp_path / f"a{suffix}", True)):
        with VideoReader(path) as reader:
            assert reader.info.still is still
            assert reader.info.frames == (1 if still else 2)
            frames = list(reader)
        assert len(frames) == reader.info.frames
        error = np.abs(frames[0].pixels.astype(int) - picture)
        assert error.max() <= (16 if suffix == ".jpg" else 0)
        assert error.mean() < 2


def test_sixteen_bit_images_keep_their_bits(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 65536, (8, 8, 3), np.uint16)
    for codec, name in (("png", "rgb48be"), ("tiff", "rgb48le")):
        path = tmp_path / f"a.{codec}"
        path.write_bytes(encode_image(codec, picture, name))
        (frame,) = read(path)
        np.testing.assert_array_equal(frame.pixels, picture)


@pytest.mark.parametrize("name", ["gray", "rgba", "gray16be"])
def test_other_image_layouts_come_as_rgb(tmp_path: Path, name: str) -> None:
    shape = (8, 8, 4) if name == "rgba" else (8, 8)
    dtype = np.uint16 if "16" in name else np.uint8
    picture = np.full(shape, 77, dtype)
    (tmp_path / "a.png").write_bytes(encode_image("png", picture, name))
    (frame,) = read(tmp_path / "a.png")
    assert frame.pixels.shape == (8, 8, 3)
    assert (frame.pixels == 77).all()


@pytest.mark.parametrize("suffix", [".png", ".apng"])
def test_a_png_with_a_colour_profile_does_no_harm(tmp_path: Path, suffix: str) -> None:
    """PyAV frees its name twice if its side data is touched; so in a process apart."""
    path = tmp_path / f"a{suffix}"
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    several = {"append_images": [PIL.Image.new("RGB", (6, 4), "red")]}
    PIL.Image.new("RGB", (6, 4)).save(
        path, "png", icc_profile=b"profile" * 20, exif=exif,
        **{"save_all": True, **several} if suffix == ".apng" else {},
    )  # fmt: skip
    code = (
        "import av, gc, sys; from rematte.video.reader import VideoReader\n"
        "from rematte.matter.pictures import to_frame\n"
        "reader = VideoReader(sys.argv[1])\n"
        "print(reader.info.width, reader.info.height, len(list(reader)))\n"
        "frame = next(av.open(sys.argv[1]).decode(video=0))\n"
        "print(to_frame(frame)[0].pixels.shape)\n"
        "del reader, frame; gc.collect()"
    )
    count = 2 if suffix == ".apng" else 1
    assert python(code, path).stdout == f"4 6 {count}\n(6, 4, 3)\n"


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "webp", "exr"])
@pytest.mark.parametrize("name", ["input", "image.mp4"])
def test_an_image_needs_no_suffix(tmp_path: Path, kind: str, name: str) -> None:
    """As it comes through a pipe."""
    known, path = tmp_path / f"a.{kind}", tmp_path / name
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    save_image(known, pixels)
    shutil.copy(known, path)
    with VideoReader(path) as reader, VideoReader(known) as expected:
        assert reader.info == expected.info
        assert reader.info.still
        np.testing.assert_array_equal(next(iter(reader)).pixels,
                                      next(iter(expected)).pixels)  # fmt: skip


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_images_one_after_the_other_are_a_video(tmp_path: Path, kind: str) -> None:
    save_image(tmp_path / f"a.{kind}", frame_label(1))
    path = tmp_path / "input"
    path.write_bytes((tmp_path / f"a.{kind}").read_bytes() * 3)
    with VideoReader(path) as reader:
        assert not reader.images
        assert len(list(reader)) == 3
