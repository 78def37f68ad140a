"""OpenEXR images as its own library reads them."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import draw_disc
from fakes import as_frames, read, read_all
from numpy.typing import NDArray
from writing import info_of
from writing import write as write_frames

from rematte.errors import InputError
from rematte.video.exr import COMPRESSIONS
from rematte.video.frame import Colour
from rematte.video.timecode import Timecode

OpenEXR = pytest.importorskip("OpenEXR", reason="needs the package OpenEXR")

Floats = NDArray[np.float64]


def to_light(code: Floats) -> Floats:
    """The curve of sRGB (IEC 61966-2-1)."""
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def to_code(light: Floats) -> Floats:
    curve = 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055
    return np.where(light <= 0.0031308, light * 12.92, curve)


def write(
    folder: Path, pixels: NDArray[Any], info: Any = None, **more: Any
) -> tuple[dict[str, Any], Floats, int]:
    """Write one image; gives its header, its channels and its size [bytes]."""
    path, alpha = folder / "a.%04d.exr", pixels.shape[2] == 4
    write_frames(path, as_frames([pixels]), info, **more)
    with OpenEXR.File(str(folder / "a.0000.exr"), separate_channels=True) as file:
        planes = [c.pixels for c in (file.channels()[n] for n in "RGBA"[: 3 + alpha])]
        header = dict(file.header())
    size = (folder / "a.0000.exr").stat().st_size
    return header, np.stack(planes, 2).astype(float), size


def chart() -> tuple[NDArray[np.uint8], Floats]:
    """A chart of ramps and pure colours with a disc's alpha, and what lies behind."""
    y, x = np.mgrid[:64, :96]
    ramps = np.stack([x * 255 / 95, y * 255 / 63, 255 - x * 255 / 95], 2)
    ramps[:8] = np.eye(3)[(x[:8] // 8) % 3] * 255
    ramps[8:16] = (x[8:16] * 255 / 95)[..., None]
    disc = draw_disc(1)
    soft = np.clip(255 - np.hypot(x - 48, y - 32) * 6, 0, 255)
    alpha = np.maximum(disc.alpha[0], soft)
    pixels = np.dstack([ramps, alpha]).round().astype(np.uint8)
    return pixels, disc.background / 255


@pytest.mark.parametrize("mode", ["premultiplied", "straight"])
def test_through_a_linear_composite_and_back(tmp_path: Path, mode: str) -> None:
    """Within one level of what exact arithmetic gives."""
    pixels, behind = chart()
    _, light, _ = write(tmp_path, pixels, alpha_mode=mode)
    alpha = light[..., 3:]
    colours = light[..., :3] if mode == "premultiplied" else light[..., :3] * alpha
    found = to_code(colours + (1 - alpha) * to_light(behind))
    share = pixels[..., 3:] / 255
    exact = share * to_light(pixels[..., :3] / 255) + (1 - share) * to_light(behind)
    assert np.abs(found - to_code(exact)).max() * 255 <= 1
    # And without a background the chart comes back where it is opaque.
    solid = share[..., 0] == 1
    back = to_code(light[..., :3])[solid] * 255
    assert np.abs(back - pixels[..., :3][solid]).max() <= 1


@pytest.mark.parametrize(
    "name", ["NO", "RLE", "ZIPS", "ZIP", "PIZ", "B44", "DWAA", "DWAB"]
)
@pytest.mark.parametrize(("height", "tiles"), [(17, False), (300, False), (300, True)])
def test_a_cut_off_image_is_refused(
    tmp_path: Path, name: str, height: int, tiles: bool
) -> None:
    pixels = np.random.default_rng(0).random((height, 24, 4)).astype(np.float16)
    kind = {
        "compression": getattr(OpenEXR, f"{name}_COMPRESSION"),
        "type": OpenEXR.scanlineimage,
    }
    if tiles:
        kind |= {"type": OpenEXR.tiledimage, "tiles": OpenEXR.TileDescription()}
    path = tmp_path / "a.exr"
    OpenEXR.File(kind, {"RGBA": pixels}).write(str(path))
    assert len(read(path)) == 1
    whole = path.read_bytes()
    for length in (len(whole) - 1, len(whole) * 3 // 4, 400):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"a.exr: (cut off|not a readable)"):
            read_all(path)


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_compressions_lose_nothing(tmp_path: Path, name: str) -> None:
    pixels, _ = chart()
    header, found, size = write(tmp_path, pixels, exr_compression=name)
    said = str(header["compression"]).lower()
    assert said.endswith(f".{name.replace('none', 'no')}_compression")
    _, plain, most = write(tmp_path, pixels, exr_compression="none")
    np.testing.assert_array_equal(found, plain)
    assert size <= most


def test_the_header_says_what_the_pixels_are(tmp_path: Path) -> None:
    pixels, _ = chart()
    rate = Fraction(24000, 1001)
    code = Timecode.parse("01:02:03:04", rate, Fraction(0))
    info = replace(
        info_of((96, 64)), rate=rate, timecode=code, sample_aspect_ratio=Fraction(4, 3)
    )
    header, _, _ = write(tmp_path, pixels, info)
    assert str(header["compression"]).lower().endswith(".zip_compression")
    assert header["framesPerSecond"] == rate
    assert header["pixelAspectRatio"] == pytest.approx(4 / 3)
    time = header["timeCode"]
    assert [time.hours, time.minutes, time.seconds, time.frame] == [1, 2, 3, 4]
    bt709 = [0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329]
    assert np.ravel(header["chromaticities"]) == pytest.approx(bt709)


def test_a_wide_gamut_is_stated_and_a_matte_states_none(tmp_path: Path) -> None:
    pixels, _ = chart()
    p3 = replace(info_of((96, 64)), colour=Colour(1, 1, 12, 1))
    header, _, _ = write(tmp_path, pixels, p3)
    assert np.ravel(header["chromaticities"])[:4] == pytest.approx(
        [0.68, 0.32, 0.265, 0.69]
    )
    assert "chromaticities" not in write(tmp_path, pixels[..., 3:])[0]


def test_half_floats_are_the_nearest(tmp_path: Path) -> None:
    pixels = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    _, found, _ = write(tmp_path, pixels)
    exact = pixels.repeat(3, 2) / 65535
    np.testing.assert_allclose(found, exact, rtol=2**-11, atol=2**-24)
