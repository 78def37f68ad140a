"""Images and folders of them as inputs and outputs of `convert_video`."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import make_clip
from converting import (
    GREEN,
    clip,
    differ,
    is_alpha,
    over,
    shots,
    still,
    truth,
)
from fakes import Fake, colours, convert, decode, names, open_image, save_images, times
from PIL import Image

import rematte

__all__ = ["clip", "shots", "still"]  # the fixtures
pytestmark = pytest.mark.usefixtures("here")


def test_png_sequence_is_transparent_and_gives_the_composition(clip: Path) -> None:
    folder = clip.with_name("frames")
    convert(clip, output_type="png_sequence", output_composition=folder)
    assert names(folder) == {f"{index:04d}.png" for index in range(10)}
    for index, (fgr, pha) in enumerate(truth(clip)):
        image = open_image(folder / f"{index:04d}.png")
        assert image.shape == (24, 32, 4)
        assert image.dtype == np.uint8
        alpha = image[..., 3:] / 255
        assert differ(image[..., 3:], 255 * pha) <= 0.51
        again = image[..., :3] * alpha + np.array(GREEN) * (1 - alpha)
        assert differ(again, over(GREEN, fgr, pha)) <= 1
        assert not image[image[..., 3] == 0].any()  # nothing hides in what is cut away


def test_png_sequence_holds_alpha_as_gray_and_foreground_as_rgb(clip: Path) -> None:
    outputs = {"output_alpha": Path("pha"), "output_foreground": Path("fgr")}
    convert(clip, output_type="png_sequence", **outputs)
    for index, (fgr, pha) in enumerate(truth(clip)):
        alpha = open_image(Path("pha", f"{index:04d}.png"))
        assert differ(alpha, 255 * pha[..., 0]) <= 0.51
        foreground = open_image(Path("fgr", f"{index:04d}.png"))
        assert differ(foreground, 255 * fgr) <= 0.51


def test_folders_with_a_dot_in_their_names_are_transparent_too(clip: Path) -> None:
    folder = clip.with_name("take.2")
    folder.mkdir()
    convert(clip, output=folder)
    assert open_image(folder / "0000.png").shape == (24, 32, 4)


def test_sixteen_bits_are_kept() -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 65536, (24, 32, 3), np.uint16) for _ in range(2)]
    clip = make_clip(Path("in.mkv"), frames, codec="ffv1", pix_fmt="gbrp16le")
    convert(clip, model=Fake(0), output_type="png_sequence", output_alpha="pha")
    for index, frame in enumerate(frames):
        alpha = open_image(Path("pha", f"{index:04d}.png"))
        assert alpha.max() > 255
        assert differ(alpha, frame[..., 0]) <= 1


@pytest.mark.parametrize(
    ("rate", "exact"),
    [
        (24, Fraction(24)),
        (23.976, Fraction(24000, 1001)),
        (23.98, Fraction(24000, 1001)),
        ("29.97", Fraction(30000, 1001)),
        ("24000/1001", Fraction(24000, 1001)),
        (Fraction(25, 2), Fraction(25, 2)),
        (np.float32(59.94), Fraction(60000, 1001)),
        (np.int64(50), Fraction(50)),
        (12.5, Fraction(25, 2)),
    ],
)
def test_image_folder_becomes_a_video(shots: Path, rate: Any, exact: Fraction) -> None:
    report = convert(shots, output_alpha="out.mov", frame_rate=rate)
    assert report.frames == 12
    assert times("out.mov") == [index / exact for index in range(12)]
    with av.open("out.mov") as container:
        assert container.streams.video[0].average_rate == exact


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_image_folder_is_read_as_people_count(shots: Path, workers: int) -> None:
    convert(shots, output_alpha="pha.mkv", num_workers=workers)
    is_alpha("pha.mkv", shots)


def test_images_keep_their_names_unless_numbered() -> None:
    folder = save_images(Path("shots"), colours(3))
    convert(folder, output="cut")
    assert names(Path("cut")) == {"shot0.png", "shot1.png", "shot2.png"}
    convert(folder, output_composition="n", output_type="png_sequence")
    assert names(Path("n")) == {"0000.png", "0001.png", "0002.png"}


def test_images_of_unlike_sizes_become_images_but_no_video(here: Path) -> None:
    folder = save_images(Path("shots"), [*colours(2), *colours(2, (20, 40))])
    convert(folder, output="cut")
    assert open_image(Path("cut/shot1.png")).shape == (24, 32, 4)
    assert open_image(Path("cut/shot3.png")).shape == (40, 20, 4)
    with pytest.raises(ValueError, match=r"20x40.*--resize"):
        convert(folder, output="cut.mov")
    assert names(here) == {"shots", "cut"}
    convert(folder, output="cut.mov", input_resize=(32, 24))
    assert len(decode("cut.mov")) == 4


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_still_in_still_out(here: Path, suffix: str) -> None:
    picture = np.full((24, 32, 3), (250, 120, 60), np.uint8)
    Image.fromarray(picture).save("in.png")
    fake, target = Fake(), Path(f"out{suffix}")
    report = convert(Path("in.png"), model=fake, output=target)
    assert report.frames == 1
    assert 2 <= fake.seen <= 16
    image = open_image(target).astype(float)
    if suffix == ".jpg":
        expected = over(GREEN, 1 - picture / 255, np.full((24, 32, 1), 250 / 255))
    else:
        expected = np.concatenate([255 - picture, np.full((24, 32, 1), 250)], 2)
    assert differ(image, expected) <= (3 if suffix in (".jpg", ".webp") else 0)
    assert names(here) == {"in.png", target.name}


def test_still_gives_images_and_a_video_of_one_frame(still: Path, here: Path) -> None:
    more = {"output_alpha": Path("pha.png"), "output_foreground": "fgr.jpg"}
    convert(still, output="cut.png", **more)
    assert names(here) == {"in.png", "cut.png", "pha.png", "fgr.jpg"}
    assert open_image(more["output_alpha"]).ndim == 2
    convert(still, output="out.mov")
    assert len(decode("out.mov")) == 1


def test_share_of_the_network_counts_for_a_still() -> None:
    Image.fromarray(colours(1, (200, 150))[0]).save("in.png")
    report = convert(Path("in.png"), model=rematte.load_model(), output="o.png")
    assert report.shares["network"] > 0.5
