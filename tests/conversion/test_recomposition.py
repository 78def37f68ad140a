"""A transparent output over a colour is rematte's own composition over that colour.

Here as this package and Pillow read the files; `test_recomposition_browser` asks a
browser.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from conftest import Tags, made_once, make_clip
from fakes import Fake, read
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rematte.convert import convert_video

BEHIND = {"black": (0, 0, 0), "white": (255, 255, 255), "green": (120, 255, 155)}
SIZE = (96, 64)
Floats = NDArray[np.float64]


class Disc(Fake):
    """Alpha is a disc with a wide soft edge, which holds every level."""

    def forward(self, src: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        height, width = src.shape[-2:]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        distance = torch.hypot(x - width / 2, y - height / 2)
        pha = ((30 - distance) / 20).clamp(0, 1).expand_as(src[:, :, :1])
        return src.clone(), pha, *[torch.zeros(1)] * 4


def draw(kind: type = np.uint8) -> NDArray[Any]:
    """A smooth picture of skin, hair and cloth colours."""
    width, height = SIZE
    y, x = np.mgrid[:height, :width]
    picture = np.stack([90 + x, 140 - y, 60 + (x + y) / 2], 2) / 255
    return (picture * np.iinfo(kind).max).round().astype(kind)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every transparent output, and compositions over three colours."""
    return made_once(tmp_path_factory, "recomposition", make_all)


def make_all(folder: Path) -> None:
    # BT.709's tags must not reach the pictures.
    source = make_clip(
        folder / "in.mkv", [draw()] * 3, codec="ffv1", pix_fmt="bgr0", rate=10,
        tags=Tags(0, 2, 1, 1),
    )  # fmt: skip
    convert = partial(convert_video, Disc(), source, progress=False)
    for name, colour in BEHIND.items():
        convert(output_composition=folder / f"over-{name}.mkv", background=colour)
    for suffix in ("mov", "mkv", "apng", "webp", "avif", "webm", "gif"):
        convert(output=folder / f"cut.{suffix}")
    convert(output=folder / "lossless.webp", crf=0)
    convert(output=folder / "fine.avif", crf=2)
    convert(output=folder / "multiplied.mov", alpha_mode="premultiplied")
    for suffix, mode in (("tif", "premultiplied"), ("exr", "straight")):
        path = folder / f"{suffix}-{mode}" / f"%02d.{suffix}"
        convert(output=path, alpha_mode=mode)
    for suffix in ("png", "tif", "exr", "webp"):
        convert(output=folder / suffix / f"%02d.{suffix}")


def composition(folder: Path, name: str) -> Floats:
    return read(folder / f"over-{name}.mkv")[0].pixels.astype(float)


def as_read(path: Path) -> Floats:
    """The first frame, RGBA in [0, 1], read by this package."""
    pixels = read(path, alpha=True)[0].pixels
    return pixels / float(np.iinfo(pixels.dtype).max)


def as_multiplied(path: Path) -> Floats:
    """As `as_read`, of a file whose colours are multiplied by alpha."""
    cut = as_read(path)
    cut[..., :3] /= np.maximum(cut[..., 3:], 1e-9)
    return cut


def as_pillow(path: Path) -> Floats:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGBA")) / 255


# How each is read, and by how many levels it may be off; the lossy ones by 3.
READ: dict[str, tuple[Callable[[Path], Floats], float]] = {
    "cut.mov": (as_read, 1),
    "cut.mkv": (as_read, 1),
    "cut.apng": (as_pillow, 1),
    "png/00.png": (as_pillow, 1),
    "tif/00.tif": (as_pillow, 1),
    "webp/00.webp": (as_pillow, 1),
    "multiplied.mov": (as_multiplied, 2),  # the codec's own error at edges
    "tif-premultiplied/00.tif": (as_multiplied, 1),
    "lossless.webp": (as_pillow, 1),
    "cut.webp": (as_pillow, 3),
    "fine.avif": (as_pillow, 3),
    "cut.webm": (as_read, 3),
}


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("behind", BEHIND)
def test_over_colours_it_is_the_composition(made: Path, name: str, behind: str) -> None:
    read, most = READ[name]
    cut = read(made / name)
    alpha = cut[..., 3:]
    again = (cut[..., :3] * alpha + np.array(BEHIND[behind]) / 255 * (1 - alpha)) * 255
    error = np.abs(again.round() - composition(made, behind))
    assert error.max() <= most
    assert error.mean() <= 0.3


def test_a_premultiplied_tiff_says_so(made: Path) -> None:
    for folder, kind in (("tif", 2), ("tif-premultiplied", 1)):
        with Image.open(made / folder / "00.tif") as image:
            assert image.tag_v2[338] == (kind,)  # ExtraSamples


@pytest.mark.parametrize("name", ["exr", "exr-straight"])
def test_openexr_is_light(made: Path, name: str) -> None:
    """Premultiplied, over black it is that of the composition, by the curve of sRGB."""
    with av.open(str(made / name / "00.exr")) as container:
        frame = next(container.decode(video=0))
    kind = np.float16 if "f16" in frame.format.name else np.float32
    planes = [np.frombuffer(bytes(plane), kind) for plane in frame.planes]
    cut = np.stack(planes, -1).reshape(frame.height, -1, 4)
    expected = as_pillow(made / "png/00.png")
    light = expected[..., [1, 2, 0]]  # planes are in the order GBR
    toe, curve = light / 12.92, ((light + 0.055) / 1.055) ** 2.4
    light = np.where(light <= 0.04045, toe, curve)
    if name == "exr":
        light *= expected[..., 3:]
    seen = expected[..., 3] > 0  # 16 bits hold less alpha than 8
    np.testing.assert_allclose(cut[seen, :3], light[seen], atol=3e-3)
    np.testing.assert_allclose(cut[..., 3], expected[..., 3], atol=3e-3)


def test_gif_is_opaque_from_the_middle_on(made: Path) -> None:
    cut, expected = as_pillow(made / "cut.gif"), as_pillow(made / "cut.apng")
    assert set(np.unique(cut[..., 3])) == {0, 1}
    np.testing.assert_array_equal(cut[..., 3] > 0, expected[..., 3] * 255 >= 128)


@pytest.mark.parametrize("suffix", ["mov", "mkv", "apng", "png"])
def test_alpha_is_exact(made: Path, suffix: str) -> None:
    """8 bits come back as they were from more bits too."""
    path = made / ("png/00.png" if suffix == "png" else f"cut.{suffix}")
    height, width = draw().shape[:2]
    src = torch.zeros(1, 1, 3, height, width)
    expected = (Disc()(src)[1][0, 0, 0] * 255).round().numpy()
    np.testing.assert_array_equal((as_read(path)[..., 3] * 255).round(), expected)


@pytest.mark.parametrize("suffix", ["mkv", "mov"])
def test_sixteen_bits_too(tmp_path: Path, suffix: str) -> None:
    """A 10-bit source over a colour, in levels of 255."""
    source = make_clip(
        tmp_path / "in.mkv", [draw(np.uint16)], codec="ffv1", pix_fmt="yuv444p10le"
    )
    convert = partial(convert_video, Disc(), source, progress=False)
    convert(output=tmp_path / f"cut.{suffix}")
    convert(output_composition=tmp_path / "over.mkv", background="white")
    cut, over = as_read(tmp_path / f"cut.{suffix}"), as_read(tmp_path / "over.mkv")
    again = cut[..., :3] * cut[..., 3:] + 1 - cut[..., 3:]
    assert np.abs(again - over).max() * 255 <= (0.1 if suffix == "mkv" else 1)


@pytest.mark.parametrize("name", ["cut.mkv", "cut.apng", "png/00.png", "tif/00.tif"])
def test_what_nobody_sees_is_black(made: Path, name: str) -> None:
    pixels = (as_read if name == "cut.mkv" else as_pillow)(made / name)
    hidden = pixels[..., 3] == 0
    assert 0 < hidden.sum() < hidden.size
    assert not pixels[hidden].any()
