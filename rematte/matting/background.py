"""Backgrounds, and laying a foreground over them."""

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rematte.engines.kernels.guided_filter import Kind
from rematte.matting.finish import Finish
from rematte.matting.matte import Matted, Plate, hide, is_colour
from rematte.video.codecs import pattern_of
from rematte.video.fitting import FITS, fitted_size
from rematte.video.frame import SDR, Colour, Frame, Pixels
from rematte.video.opening import DEFAULT_LIMITS, Limits
from rematte.video.parallel_rows import run_rows
from rematte.video.pixels import blur, resize, with_depth
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader
from rematte.video.tone import Restoration, between
from rematte.video.transparency import over_black

# Gives the background of a matted frame, or None for transparency.
Background = Callable[[Matted], Plate | None]

# In a blurred background, pixels with alpha above 1 / _SURE do not count, and those
# nearer to the person than this share of the blur's radius hardly do.
_SURE, _MARGIN = 8, 0.5
# Standard deviation of the blur of spilled light, as a share of the longer side.
_LIGHT_REACH = 1 / 80

COLOURS = {
    "green": (120, 255, 155),  # the documented background, not that of CSS
    "black": (0, 0, 0),
    "blue": (0, 71, 187),
    "gray": (128, 128, 128),
    "magenta": (255, 0, 255),
    "red": (255, 0, 0),
    "white": (255, 255, 255),
}


def parse_colour(text: str) -> tuple[int, int, int] | None:
    """Read a colour: a name of `COLOURS`, "#rrggbb" or "r,g,b"; None if it is none."""
    if text.lower() in COLOURS:
        return COLOURS[text.lower()]
    try:
        if text.startswith("#") and len(text) == 7:
            return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
        red, green, blue = (int(part) for part in text.split(","))
    except ValueError:
        return None
    return (red, green, blue) if is_colour((red, green, blue)) else None


def fit_picture(pixels: Pixels, size: tuple[int, int], fit: str) -> Pixels:
    """Bring a picture, (h, w, 3), to a height and width [pixels].

    "cover" fills and cuts off what is over, "contain" shows all with black bars,
    "stretch" distorts.
    """
    height, width = size
    h, w = fitted_size((pixels.shape[0], pixels.shape[1]), size, fit)
    pixels = resize(pixels, w, h)
    down, right = (height - h) // 2, (width - w) // 2
    if fit == "contain":
        edges = (down, height - h - down), (right, width - w - right), (0, 0)
        return np.pad(pixels, edges)
    return pixels[-down : height - down, -right : width - right]


def blur_behind(matted: Matted, radius: float, original: bool = False) -> Pixels:
    """Blur the background of a frame without smearing the person into it.

    Colours are weighted by their certainty of being background, blurred, and divided by
    the blurred weights. Only pixels of nearly zero alpha count, and those at the
    person's edge hardly do, since they still have some of the person's colours.

    Args:
        matted: The frame.
        radius: Standard deviation of the blur [pixels].
        original: Whether to blur the picture in the source's own encoding.

    Source:
        Knutsson & Westin, Normalized and Differential Convolution, 1993.
    """
    frame, (height, width) = matted.frame, matted.size
    source = frame.pixels
    if original and frame.original is not None:
        source = frame.original
    most = np.uint16(65535)
    # Pixels that the source's own alpha hides are not background.
    seen = most if frame.alpha is None else with_depth(frame.alpha, True)
    # The alpha that is cut out, if that is not all that the network found.
    alpha = matted.cache.get("alpha")
    alpha = matted.pixels("alpha", True) if alpha is None else alpha
    # What remains of 65535 // 8 * 8 keeps some colour where no room is near.
    weight = seen - np.minimum(np.minimum(alpha, most // _SURE) * _SURE, seen)
    shown = with_depth(source, True).astype(np.uint32) * weight >> 16
    # A wide blur loses nothing at a smaller size, and is many times faster there.
    factor = max(1, int(radius / 4))
    small = max(1, width // factor), max(1, height // factor)
    stack = resize(np.concatenate([shown.astype(np.uint16), weight], 2), *small)
    surely = _apart(stack[..., 3:], max(1, round(_MARGIN * radius / factor)))
    blurred = blur(stack * surely, radius / factor)
    colours = blurred[..., :3] / np.maximum(blurred[..., 3:], 1e-4) * 65535
    rounded = np.minimum(colours + 0.5, 65535).astype(np.uint16)
    return resize(rounded, width, height)


def _apart(weight: NDArray[Any], margin: int) -> NDArray[np.float32]:
    """Return 1 where 16-bit weights are full and a margin away from lower ones.

    Elsewhere it is less, but never 0, so that pixels beside the person count where
    there are no others near. Weights and result are (h, w, 1).
    """
    full = np.pad(weight[..., 0], margin, mode="edge")
    for axis in (0, 1):
        views = np.lib.stride_tricks.sliding_window_view(full, 2 * margin + 1, axis)
        full = views.min(-1)
    share = full[..., None].astype(np.float32) / np.float32(65535)
    return share**4 + np.float32(1e-4)


class FileBackground:
    """An image, or a video that plays in a loop at its own speed.

    `make_background` describes the arguments.

    Attributes:
        notes: Sentences on what is shown differently.
    """

    def __init__(
        self,
        path: Path,
        fit: str,
        origin: Fraction | None = None,
        limits: Limits = DEFAULT_LIMITS,
        colour: Colour = SDR,
    ) -> None:
        self._path, self._fit, self._limits = path, fit, limits
        self._origin = origin
        self._open()
        info = self._reader.info
        self._still, self._convert = info.still, between(info.colour, colour)
        self.notes = []
        if self._now.alpha is not None:
            self.notes.append(
                f"the background {path.name} is transparent in places: black shows "
                "there"
            )

    def _open(self) -> None:
        self._reader = VideoReader(
            self._path,
            ReadOptions(limits=self._limits, hold_gaps=True, input_alpha="multiply"),
        )
        self._frames = iter(self._reader)
        self._now: Frame = next(self._frames)
        self._following = next(self._frames, None)
        self._first = self._now.time
        self._plate: Plate | None = None

    def __call__(self, matted: Matted) -> Plate:
        """Return the picture that is shown at the frame's time."""
        if not self._still:
            self._advance(matted.frame.time)
        # A folder may hold images of several sizes.
        if self._plate is None or self._plate.size != matted.size:
            pixels = over_black(self._now)
            pixels = self._convert(pixels) if self._convert else pixels
            self._plate = Plate(fit_picture(pixels, matted.size, self._fit))
        return self._plate

    def _advance(self, now: Fraction) -> None:
        """Play on to a time of the source [s]."""
        if self._origin is None:
            self._origin = now
        while now - self._origin >= (
            end := self._now.time + self._now.duration - self._first
        ):
            if self._following is None:
                # Time runs on from where this round ends, or a later one.
                self._origin += (now - self._origin) // end * end
                self._reader.close()
                self._open()
            else:
                self._now, self._plate = self._following, None
                self._following = next(self._frames, None)


def make_background(
    spec: str | Path | tuple[int, int, int],
    fit: str = "cover",
    origin: Fraction | None = None,
    limits: Limits = DEFAULT_LIMITS,
    colour: Colour = SDR,
) -> Background:
    """Make a background from a specification.

    Args:
        spec: "transparent"; a colour (a name, "#rrggbb", "r,g,b" or three numbers
            from 0 to 255); "blur" or "blur:RADIUS" [pixels]; or the path of an image
            or a video, which plays in a loop.
        fit: How an image or video is brought to the frame's size: "cover",
            "contain" or "stretch".
        origin: When a video starts [s]; None starts it with the first frame.
        limits: The largest image or video that is accepted.
        colour: The encoding of the output. White of an SDR background becomes
            HDR's reference white (203 cd/m2).

    Raises:
        ValueError: If it is none of these.
        InputError: If the image or video cannot be read.
    """
    if fit not in FITS:
        raise ValueError(
            f"background_fit must be one of {', '.join(FITS)}, got {fit!r}"
        )
    if spec == "transparent":
        return lambda matted: None
    plain = parse_colour(spec) if isinstance(spec, str) else spec
    if isinstance(plain, tuple):
        if not is_colour(plain):
            raise ValueError(
                f"background {spec} must be three whole numbers from 0 to 255"
            )
        plate = _plain(plain, colour)
        return lambda matted: plate
    text = str(spec)
    if text == "blur" or text.startswith("blur:"):
        return _blurred(text, not colour.sdr)
    path = Path(text)
    if not path.exists() and pattern_of(path) is None:
        raise ValueError(
            f"background {text!r} is neither a colour ({', '.join(COLOURS)}, #rrggbb "
            "or r,g,b), nor blur[:RADIUS], nor transparent, nor an existing file"
        )
    return FileBackground(path, fit, origin, limits, colour)


def _plain(plain: tuple[int, int, int], colour: Colour) -> Plate:
    """Make a background of one colour, in the encoding of the output."""
    pixels: Pixels = np.array([[plain]], np.uint8)
    convert = between(SDR, colour)
    return Plate(convert(pixels) if convert else pixels)


def _blurred(text: str, original: bool) -> Background:
    try:
        given = float(text[5:]) if ":" in text else 0.0
    except ValueError:
        given = -1.0
    if not 0 <= given < math.inf or (":" in text and given == 0):
        raise ValueError(f"background {text!r}: the radius must be a number above 0")

    def background(matted: Matted) -> Plate:
        # The default radius scales with the frame's height or width.
        return Plate(blur_behind(matted, given or max(matted.size) / 80, original))

    return background


class Renderer:
    """Renders the pixels of one kind of output from mattes.

    Args:
        kind: "alpha", "foreground", "plate" (the background, transparent at the
            person), or anything else for the person over `background`.
        sixteen_bit: Whether pixels have 16 bits.
        background: The background of a composite; without one, or if it gives None,
            the result is the cut-out, straight RGBA.
        colour: The encoding of the result and of the background. Results other than
            SDR are made from `Frame.original`.
        finish: Changes edges, alpha and colours; one object serves all outputs.
        outline: The colour of the outline, if `finish` makes one.
    """

    def __init__(
        self,
        kind: str,
        sixteen_bit: bool = False,
        background: Background | None = None,
        colour: Colour = SDR,
        finish: Finish | None = None,
        outline: tuple[int, int, int] = (255, 255, 255),
    ) -> None:
        kinds: dict[str, Kind] = {"alpha": "alpha", "foreground": "foreground"}
        self._kind, self._is_plate = kinds.get(kind, "cutout"), kind == "plate"
        self._sixteen_bit = sixteen_bit
        self._background = background if self._kind == "cutout" else None
        self._restore = None if colour.sdr else Restoration(colour)
        self._finish = finish or Finish()
        self._outline = _plain(outline, colour)

    def __call__(self, matted: Matted) -> Pixels:
        """Return (H, W, 1), (H, W, 3) or, for a cut-out or a plate, (H, W, 4)."""
        finish = self._finish
        if self._is_plate:
            return self._render_plate(matted)
        if self._kind == "alpha":
            if finish.reshapes:
                return with_depth(finish.alpha(matted), self._sixteen_bit)
            return matted.pixels("alpha", self._sixteen_bit)
        wraps = self._background is not None and finish.light_wrap > 0
        if self._restore or finish.reshapes or finish.despill or wraps:
            return self._render_deep(matted)
        plate = self._background(matted) if self._background else None
        pixels = matted.pixels(
            "composite" if plate else self._kind, self._sixteen_bit, plate
        )
        finish.clean_edges(
            matted, pixels, plate.pixels(self._sixteen_bit) if plate else None
        )
        return pixels

    def _render_plate(self, matted: Matted) -> Pixels:
        """Return the source's colours with 1 minus the person's alpha, (H, W, 4)."""
        finish, frame = self._finish, matted.frame
        person = finish.alpha(matted)
        seen: Pixels = np.full((1, 1, 1), 65535, np.uint16)
        if frame.alpha is not None:
            seen = with_depth(frame.alpha, True)
        left = seen - np.minimum(person, seen)
        source = frame.pixels if self._restore is None else frame.original
        assert source is not None  # the reader gives it for what is not SDR
        pixels = np.concatenate([with_depth(source, True), left], 2)
        return hide(with_depth(pixels, self._sixteen_bit))

    def _render_deep(self, matted: Matted) -> Pixels:
        """Render from 16-bit colours and alpha, which suit every option."""
        finish, original = self._finish, self._restore is not None
        # Where alpha grows, colours are needed that a cut-out hides.
        pixels = matted.pixels("foreground" if finish.reshapes else self._kind, True)
        colours = pixels[..., :3]
        if self._restore is not None:
            colours = _restored(matted, self._restore, pixels)
        alpha = finish.inner(matted) if finish.reshapes else pixels[..., 3:]
        plate = self._background(matted) if self._background else None
        cuts_out = plate is None and self._kind == "cutout"
        if cuts_out:
            cutout = np.concatenate([colours, alpha], 2)
            colours = hide(with_depth(cutout, self._sixteen_bit))
        finish.clean_edges(matted, colours, original=original)
        finish.show_included(matted, colours, original)
        finish.remove_tint(colours)
        if cuts_out:
            return self._outlined(matted, colours) if finish.outline else colours
        if plate is None:
            return with_depth(colours, self._sixteen_bit)
        if finish.light_wrap:
            _wrap_light(colours, alpha, plate.pixels(True), finish.light_wrap)
        if finish.outline:
            cutout = self._outlined(matted, np.concatenate([colours, alpha], 2))
            colours, alpha = cutout[..., :3].copy(), cutout[..., 3:]
        run_rows(_lay_over, len(colours), colours, alpha, plate.pixels(True))
        return with_depth(colours, self._sixteen_bit)

    def _outlined(self, matted: Matted, cutout: Pixels) -> Pixels:
        """Lay a cut-out, (H, W, 4), over its outline."""
        sixteen_bit = cutout.itemsize == 2
        outer = with_depth(self._finish.alpha(matted), sixteen_bit).astype(np.float32)
        inner = cutout[..., 3:].astype(np.float32)
        share = np.divide(inner, outer, out=np.zeros_like(inner), where=outer > 0)
        line = self._outline.pixels(sixteen_bit)
        mixed = np.round(cutout[..., :3] * share + line * (1 - share))
        outlined = np.concatenate([mixed, outer], 2).astype(cutout.dtype)
        return hide(outlined)


def _restored(matted: Matted, restore: Restoration, pixels: Pixels) -> Pixels:
    """Make colours, (H, W, 3), in the encoding of a source that is not SDR."""
    frame = matted.frame
    if frame.original is None:
        raise ValueError("frames of a source that is not SDR need an original")
    colours = restore(frame.original, frame.pixels, pixels)
    if frame.alpha is not None:
        colours *= frame.alpha > 0
    return colours


def _lay_over(begin: int, end: int, colours: Any, alpha: Any, plate: Any) -> None:
    """Lay rows of a 16-bit picture over others, in place."""
    behind = plate[begin:end] if len(plate) > 1 else plate
    most, share = np.uint32(65535), alpha[begin:end].astype(np.uint32)
    # No more than 65535 * 65535 and a half of 65535, which 32 bits hold.
    mixed = colours[begin:end] * share + behind * (most - share)
    colours[begin:end] = (mixed + most // 2) // most


def _wrap_light(colours: Pixels, alpha: Pixels, behind: Pixels, amount: float) -> None:
    """Mix the light of the background into the person's edges, in place.

    The light is the blurred background where that is brighter than the person, and
    fades with the distance from the edge, so the person looks lit by the background.
    Colours, alpha and background have 16 bits, and colours are straight; the background
    may be (1, 1, 3). `amount` is the strength of the light, in (0, 1].
    """
    height, width = alpha.shape[:2]
    sigma = max(height, width) * _LIGHT_REACH
    factor = max(1, int(sigma / 4))  # a wide blur loses nothing at a smaller size
    small = max(1, width // factor), max(1, height // factor)
    opening = np.uint16(65535) - resize(alpha, *small)
    stack = np.concatenate([resize(behind, *small), opening], 2)
    blurred = blur(stack.astype(np.float32), sigma / factor)
    light = resize(np.round(blurred).astype(np.uint16), width, height)
    some = (alpha[..., 0] > 0) & (light[..., 3] > 65535 // 256)
    lit, person = light[some], colours[some].astype(np.float32)
    share = lit[:, 3:] * np.float32(amount / 65535)
    brighter = np.maximum(lit[:, :3] - person, 0)
    colours[some] = np.round(person + brighter * share).astype(np.uint16)
