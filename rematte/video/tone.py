"""Converts RGB pictures between SDR, HDR (PQ, HLG) and logarithmic encodings.

Light is measured in units of reference white: 1 is 203 cd/m2, the level of SDR white in
HDR, to which HDR is reduced. The conversion uses one-dimensional tables and a 3x3
matrix, row by row.

Source:
    ITU-R BT.2100-3 for PQ and HLG with its OOTF; BT.2408-7 for reference white;
    BT.2390-11, 5.4.1, for the reduction (EETF), applied to the largest of R, G and B to
    preserve hues; BT.1886 for SDR; ITU-T H.273 for the logarithmic curves and the
    chromaticities; IEC 61966-2-1 for sRGB.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rematte.video.frame import (
    SDR,
    TRANSFER_HLG,
    TRANSFER_LOG,
    TRANSFER_LOG_SQRT,
    TRANSFER_PQ,
    Colour,
    Frame,
    Pixels,
)
from rematte.video.parallel_rows import kernels, run_rows

Floats = NDArray[np.float64]

WHITE = 203.0  # white of SDR, and of text and graphics in HDR [cd/m2]
_HLG_PEAK = 1000 / WHITE  # of the display assumed for HLG
_HLG_GAMMA = 1.2  # gamma of its OOTF
_SDR_GAMMA = 2.4

# x and y of red, green and blue by code point; the white of all is D65.
_CHROMATICITIES = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
_D65 = (0.3127, 0.3290)


def decode(value: Floats, transfer: int) -> Floats:
    """Turn code values in [0, 1] into light; for HLG into scene light in [0, 1].

    A transfer curve that is neither HDR nor logarithmic means SDR.
    """
    if transfer == TRANSFER_PQ:
        power = value ** (1 / _PQ_M2)
        base = np.maximum(power - _PQ_C1, 0) / (_PQ_C2 - _PQ_C3 * power)
        return 10000 / WHITE * base ** (1 / _PQ_M1)
    if transfer == TRANSFER_HLG:
        upper = (np.exp((value - _HLG_C) / _HLG_A) + _HLG_B) / 12
        return np.where(value <= 0.5, value**2 / 3, upper)
    if transfer in _LOG_DECADES:
        light = 10 ** ((value - 1) * _LOG_DECADES[transfer])
        return np.where(value > 0, light, 0.0)
    return value**_SDR_GAMMA


def encode(light: Floats, transfer: int) -> Floats:
    """Turn light into code values: the inverse of `decode`, clipped to its range."""
    if transfer == TRANSFER_PQ:
        power = np.clip(light * WHITE / 10000, 0, 1) ** _PQ_M1
        return ((_PQ_C1 + _PQ_C2 * power) / (1 + _PQ_C3 * power)) ** _PQ_M2
    light = np.clip(light, 0, 1)
    if transfer == TRANSFER_HLG:
        upper = _HLG_A * np.log(np.maximum(12 * light - _HLG_B, 1e-9)) + _HLG_C
        return np.where(light <= 1 / 12, np.sqrt(3 * light), upper)
    if transfer in _LOG_DECADES:
        decades = _LOG_DECADES[transfer]
        return np.maximum(1 + np.log10(np.maximum(light, 1e-9)) / decades, 0)
    return light ** (1 / _SDR_GAMMA)


def decode_srgb(code: NDArray[Any]) -> NDArray[Any]:
    """Turn code values of the sRGB curve into light."""
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def encode_srgb(light: NDArray[Any]) -> NDArray[Any]:
    """Turn light into code values of the sRGB curve, also beyond 1."""
    curve = 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055
    return np.where(light <= 0.0031308, light * 12.92, curve)


_PQ_M1, _PQ_M2 = 2610 / 16384, 2523 / 32
_PQ_C1, _PQ_C2, _PQ_C3 = 3424 / 4096, 2413 / 128, 2392 / 128
_HLG_A = 0.17883277
_HLG_B = 1 - 4 * _HLG_A
_HLG_C = 0.5 - _HLG_A * np.log(4 * _HLG_A)
_LOG_DECADES = {TRANSFER_LOG: 2.0, TRANSFER_LOG_SQRT: 2.5}


def reduce_range(light: Floats, peak: float) -> Floats:
    """Map light from 0 to `peak` to light from 0 to 1: the EETF of BT.2390.

    If `peak`, the brightest white of the source, is 1 or less, light is clipped at 1.
    """
    if peak <= 1:
        return np.minimum(light, 1)
    top = encode(np.array(peak), TRANSFER_PQ)
    value = np.minimum(encode(light, TRANSFER_PQ) / top, 1)
    most = encode(np.array(1.0), TRANSFER_PQ) / top
    knee = 1.5 * most - 0.5
    t = np.maximum(value - knee, 0) / (1 - knee)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (3 * t**2 - 2 * t**3) * most
    )
    return decode(np.where(value < knee, value, spline) * top, TRANSFER_PQ)


def _widen_range(light: Floats, peak: float) -> Floats:
    """Map light from 0 to 1 to light up to nearly `peak`: an inverse of `reduce_range`.

    The slope of `reduce_range` is 0 at its end, so its exact inverse would turn small
    errors into large steps; here a step is widened at most threefold.
    """
    if peak <= 1:
        return light
    top = encode(np.array(peak), TRANSFER_PQ)
    values = np.linspace(0, 1, 4097)
    light_in = decode(values * top, TRANSFER_PQ)
    reduced = encode(reduce_range(light_in, peak), TRANSFER_PQ)
    steps = np.maximum(np.diff(reduced), np.diff(values * top) / 3)
    steep = np.concatenate([[0], np.cumsum(steps)])
    found = np.interp(encode(light, TRANSFER_PQ), steep, values * top)
    return decode(found, TRANSFER_PQ)


@lru_cache
def _to_xyz(primaries: int) -> Floats:
    """Return the matrix from linear R, G and B to X, Y and Z.

    Source:
        SMPTE RP 177, Derivation of Basic Television Color Equations.
    """
    points = np.array([(x, y, 1 - x - y) for x, y in _CHROMATICITIES[primaries]]).T
    x, y = _D65
    white = np.array([x / y, 1, (1 - x - y) / y])
    return points * np.linalg.solve(points, white)


def _primaries(colour: Colour) -> int:
    usual = 1 if colour.sdr else 9
    return colour.primaries if colour.primaries in _CHROMATICITIES else usual


def chromaticities(colour: Colour) -> tuple[tuple[float, float], ...]:
    """Return CIE x and y of red, green, blue and white; of BT.709 if unknown."""
    return *_CHROMATICITIES.get(colour.primaries, _CHROMATICITIES[1]), _D65


def between(source: Colour, target: Colour) -> "ToneConversion | None":
    """Return a conversion from one encoding to another, or None if none is needed.

    Two SDR encodings count as equal, whatever their primaries. From HDR to SDR the
    range is reduced; from SDR to HDR, white becomes reference white.
    """
    if source.transfer == target.transfer or (source.sdr and target.sdr):
        return None
    return ToneConversion(source, target)


class ToneConversion:
    """Converts pictures from one encoding to another.

    With `widen`, SDR is expanded to the full HDR range, as an inverse of the reduction;
    otherwise the peak of the result is reference white.
    """

    def __init__(self, source: Colour, target: Colour, widen: bool = False) -> None:
        self._source, self._target = source, target
        self._widen = widen

    def __call__(self, pixels: Pixels) -> Pixels:
        """Convert (H, W, 3 or 4) of 8 or 16 bits to 16 bits; alpha keeps its value."""
        out = np.empty(pixels.shape, np.uint16)
        out[..., 3:] = pixels[..., 3:] * np.uint16(257 if pixels.itemsize == 1 else 1)
        run_rows(kernels.convert, len(pixels), pixels, out, *self._tables(pixels))
        return out

    def _tables(self, pixels: Pixels) -> tuple[Any, ...]:
        """Return tables for pixels of this depth, as the compiled loops take them.

        Returns:
            The light of each code; a table for each step; and 21 numbers: the light at
            each table's end (5), luma weights of the source (3), a matrix to the
            target's primaries (3x3), its luma weights (3), and its brightest light.
        """
        light, *others = self._all_tables
        return light[::257].copy() if pixels.itemsize == 1 else light, *others

    @cached_property
    def _all_tables(self) -> tuple[Any, ...]:
        source, target = self._source, self._target
        light = decode(np.arange(65536) / 65535, source.transfer)
        xyz_source, xyz_target = (_to_xyz(_primaries(c)) for c in (source, target))
        steps: list[tuple[Floats, float]] = [_UNUSED] * 5
        if source.transfer == TRANSFER_HLG:
            steps[0] = _table(lambda y: _HLG_PEAK * y ** (_HLG_GAMMA - 1), 1)
        if source.hdr and target.sdr:
            peak = _peak(source)
            steps[1] = _table(lambda most: reduce_range(most, peak) / most, peak)
        if self._widen and target.hdr:
            peak = _peak(target)
            steps[2] = _table(lambda most: _widen_range(most, peak) / most, 1)
        if target.transfer == TRANSFER_HLG:
            power = 1 / _HLG_GAMMA - 1
            steps[3] = _table(lambda y: (y / _HLG_PEAK) ** power / _HLG_PEAK, _HLG_PEAK)
        most = 10000 / WHITE if target.transfer == TRANSFER_PQ else 1.0
        steps[4] = _table(lambda light: encode(light, target.transfer), most)
        return (
            light.astype(np.float32),
            np.stack([table for table, _ in steps]).astype(np.float32),
            np.hstack([
                [most for _, most in steps], xyz_source[1],
                np.linalg.solve(xyz_target, xyz_source).ravel(), xyz_target[1],
                1 if target.sdr else np.inf,
            ]).astype(np.float32),
        )  # fmt: skip


# In a table, evenly spaced in the fourth root of light; as in tone.cpp.
_STEPS = 4096
_UNUSED = (np.zeros(_STEPS + 2), 0.0)


def _table(function: Any, most: float) -> tuple[Floats, float]:
    """Sample a function of light from nearly 0 to `most`."""
    roots = np.maximum(np.arange(_STEPS + 2), 1e-3) / _STEPS
    return function(np.minimum(roots, 1) ** 4 * most), most


def _peak(colour: Colour) -> float:
    return colour.peak / WHITE if colour.transfer == TRANSFER_PQ else _HLG_PEAK


class Restoration:
    """Converts a predicted foreground to the encoding of the source.

    The network sees an SDR version of the picture and predicts a change to it. The same
    change is made to the picture itself, which stays exact where there is no change.
    """

    def __init__(self, colour: Colour) -> None:
        self._raise = ToneConversion(SDR, colour, widen=True)

    def __call__(self, original: Pixels, shown: Pixels, foreground: Pixels) -> Pixels:
        """Return the foreground, (H, W, 3) of 16 bits.

        `original` is the picture, (H, W, 3), 8 or 16 bits; `shown` its SDR version and
        `foreground`, (H, W, 3 or 4), what was predicted from that, 16 bits.
        """
        out = np.empty(shown.shape, np.uint16)
        run_rows(
            kernels.restore, len(out), original, shown, foreground, out,
            *self._raise._tables(shown),
        )  # fmt: skip
        return out


def as_sdr(colour: Colour) -> Colour:
    """Return the encoding of `displayed` frames."""
    return colour if colour.sdr else SDR


def displayed(frames: Iterable[Frame], colour: Colour) -> Iterator[Frame]:
    """Convert frames to SDR and keep the original beside it; pass SDR on unchanged."""
    convert = between(colour, SDR)
    if convert is None:
        return iter(frames)
    return (
        replace(frame, pixels=convert(frame.pixels), original=frame.pixels)
        for frame in frames
    )


def to_light(pixels: Pixels, colour: Colour) -> NDArray[np.float32]:
    """Turn (H, W, 3) into light of BT.709 primaries; other colours become negative.

    1 is reference white. HLG is shown on a display of 1000 cd/m2.
    """
    most = np.iinfo(pixels.dtype).max
    table = decode(np.arange(most + 1) / most, colour.transfer).astype(np.float32)
    light = table[pixels]
    xyz = _to_xyz(_primaries(colour))
    if colour.transfer == TRANSFER_HLG:
        brightness = np.maximum(light @ xyz[1].astype(np.float32), np.float32(1e-9))
        light *= (_HLG_PEAK * brightness ** (_HLG_GAMMA - 1))[..., None]
    return light @ np.linalg.solve(_to_xyz(1), xyz).astype(np.float32).T
