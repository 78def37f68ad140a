"""A frame with its matte, and the pixels that are made from it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rematte.engines.kernels.guided_filter import Floats, Kind, render
from rematte.matting.region import WHOLE, Region, Window, cut
from rematte.video.frame import Frame, Pixels
from rematte.video.pixels import Image, Order, as_given, to_pixels, with_depth
from rematte.video.sheet import encode_picture


def hide(pixels: Pixels) -> Pixels:
    """Set RGB to 0 where alpha is 0: hides the background and keeps files small."""
    pixels[..., :3] *= pixels[..., 3:] > 0
    return pixels


def is_colour(numbers: tuple[float, ...]) -> bool:
    """Whether a tuple is a colour: three whole numbers from 0 to 255."""
    return len(numbers) == 3 and all(0 <= n <= 255 and n == int(n) for n in numbers)


class Plate:
    """A picture that lies behind the person.

    Args:
        pixels: (H, W, 3) or (1, 1, 3), 8 or 16 bits.

    Attributes:
        cache: Engines' versions of it, for all frames that it lies behind.
    """

    def __init__(self, pixels: Pixels) -> None:
        self._given = pixels
        self._pixels: dict[bool, Pixels] = {}
        self.cache: dict[Any, Any] = {}

    @property
    def size(self) -> tuple[int, int]:
        """Height and width [pixels]."""
        return self._given.shape[0], self._given.shape[1]

    def pixels(self, sixteen_bit: bool) -> Pixels:
        """Return the picture with 8 or 16 bits; each is made once."""
        if sixteen_bit not in self._pixels:
            self._pixels[sixteen_bit] = with_depth(self._given, sixteen_bit)
        return self._pixels[sixteen_bit]

    def cut(self, window: Window, size: tuple[int, int], sixteen_bit: bool) -> "Plate":
        """Return the part of the picture that lies behind a window."""
        if self.size == (1, 1):
            return self
        return Plate(cut(self.pixels(sixteen_bit), window, size))


@dataclass(frozen=True)
class Form:
    """The type of a caller's arrays, and how pixels are made for them."""

    dtype: "np.dtype[Any]"  # of the arrays: uint8, uint16 or floating
    order: Order = "rgb"  # of their channels
    # Makes the pixels of a matte with the caller's options, such as clean edges; None
    # uses `Matted.pixels`.
    draw: "Callable[[Matted, Kind, bool, Plate | None], Pixels] | None" = None


class Matted:
    """A frame with its matte.

    `alpha`, `foreground`, `rgba` and `over` make arrays of the type and in the channel
    order of the frame: uint8 up to 255, uint16 up to 65535, floating numbers up to 1.
    Each is computed from the frame when it is read, so the frame's pixels must not
    change before that.

    The CPU engine gives the small maps of the guided filter, and `pixels` applies them
    row by row, so no full-size picture is held in floats. Engines that use torch give
    a `TensorMatted`.

    Args:
        frame: The frame as it was read.
        maps: Slopes and intercepts of the guided filter, (8, h, w); or foreground
            residual and alpha, (4, H, W).

    Attributes:
        frame: The frame as it was read.
        cut: Whether a new scene begins with the frame.
        region: Where the network ran in it.
        form: The type of the arrays that are made; None for RGB with the depth of the
            frame's pixels.
    """

    cut = False
    region = WHOLE
    form: Form | None = None
    # What the windows of the region gave.
    _parts: "Sequence[Matted]" = ()

    def __init__(self, frame: Frame, maps: Floats | None = None) -> None:
        self.frame, self._maps = frame, maps
        # The results of `finish` for this frame, shared by all outputs.
        self.cache: dict[str, Any] = {}

    @classmethod
    def from_parts(
        cls, frame: Frame, region: Region, parts: "Sequence[Matted]"
    ) -> "Matted":
        """Combine the mattes of a region's windows into one; alpha is 0 elsewhere."""
        matted = Matted(frame)
        matted.region, matted._parts = region, parts
        return matted

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frame [pixels]."""
        return self.frame.pixels.shape[0], self.frame.pixels.shape[1]

    @property
    def alpha(self) -> Image:
        """Alpha, (H, W), multiplied by the source's own alpha."""
        return self._give("alpha")[..., 0]

    @property
    def foreground(self) -> Image:
        """The person's colours without alpha, straight RGB, (H, W, 3)."""
        return self._give("foreground")

    @property
    def rgba(self) -> Image:
        """The cut-out, straight RGBA, (H, W, 4), with RGB 0 where alpha is 0."""
        return self._give("cutout")

    def over(self, background: Image | tuple[int, int, int]) -> Image:
        """Lay the person over a background.

        Args:
            background: Three whole numbers from 0 to 255, or a picture of the frame's
                size, (H, W, 3), uint8, uint16 or floating in [0, 1]; channels in the
                order of the frame's.

        Returns:
            The composite, (H, W, 3).

        Raises:
            TypeError: If the picture's type is another.
            ValueError: If the numbers are out of range or the shape is another.
        """
        if isinstance(background, tuple):
            if not is_colour(background):
                raise ValueError(
                    f"background {background} must be three whole numbers from 0 to "
                    "255, or a picture (H, W, 3)"
                )
            background = np.array([[background]], np.uint8)
        elif not isinstance(background, np.ndarray):
            raise ValueError(
                "background must be three whole numbers from 0 to 255 in a tuple, or "
                f"an array (H, W, 3), got {type(background).__name__}"
            )
        elif background.shape[:2] != self.size:
            raise ValueError(
                f"the background has the shape {background.shape}, and the frame is "
                f"{self.size[0]} by {self.size[1]} pixels (H, W); resize it first"
            )
        pixels = to_pixels(background, self._order)[..., :3]
        return self._give("composite", Plate(pixels))

    def _repr_png_(self) -> bytes:
        """Encode the cut-out as a PNG file, which Jupyter shows."""
        pixels = to_pixels(self.rgba, self._order)
        return encode_picture(with_depth(pixels, False), ".png")

    @property
    def _order(self) -> Order:
        return "rgb" if self.form is None else self.form.order

    def _give(self, kind: Kind, plate: Plate | None = None) -> Image:
        form = self.form or Form(self.frame.pixels.dtype)
        sixteen_bit = form.dtype != np.uint8
        draw = form.draw or type(self).pixels
        return as_given(draw(self, kind, sixteen_bit, plate), form.dtype, form.order)

    def pixels(
        self, kind: Kind, sixteen_bit: bool, plate: Plate | None = None
    ) -> Pixels:
        """Make the pixels of one kind of output.

        Args:
            kind: "alpha", "foreground" (straight RGB), "composite" (over `plate`), or
                "cutout" (straight RGBA, with RGB 0 where alpha is 0).
            sixteen_bit: Whether the result has 16 bits.
            plate: The background of a composite.

        Returns:
            (H, W, C) with 1, 3, 3 or 4 channels. Alpha is multiplied by the source's
            own.
        """
        if self._maps is None:
            return self._assemble(kind, sixteen_bit, plate)
        behind = None if plate is None else plate.pixels(sixteen_bit)
        own = self.frame.alpha
        return render(self.frame.pixels, self._maps, kind, sixteen_bit, behind, own)

    def glimpse(self, every: int) -> list[Pixels]:
        """Sample alpha coarsely, without computing it at full size.

        Args:
            every: The step between samples [pixels], 1 or more.

        Returns:
            Alpha of each window of the region or of the whole frame, (h, w, 1), 8
            bits; the network's, not multiplied by the source's own.
        """
        if self._maps is None:
            return [each for part in self._parts for each in part.glimpse(every)]
        small, maps = self.frame.pixels[::every, ::every], self._maps
        if len(maps) == 4:  # as large as the frame
            maps = np.ascontiguousarray(maps[:, ::every, ::every])
        return [Matted(self.frame.showing(small), maps).pixels("alpha", False)]

    def _assemble(self, kind: Kind, sixteen_bit: bool, plate: Plate | None) -> Pixels:
        """Make the pixels of windows, and paste them into those of the whole frame."""
        height, width = self.size
        whole: Pixels
        dtype = np.uint16 if sixteen_bit else np.uint8
        if kind == "foreground":
            whole = with_depth(self.frame.pixels, sixteen_bit).copy()
            if self.frame.alpha is not None:
                whole *= self.frame.alpha > 0
        elif kind == "composite" and plate is not None:
            whole = np.empty((height, width, 3), dtype)
            behind = plate.pixels(sixteen_bit)
            # Copying rows is a hundred times faster than broadcasting one pixel.
            whole[:] = behind.repeat(width, 1) if plate.size == (1, 1) else behind
        else:
            whole = np.zeros((height, width, 1 if kind == "alpha" else 4), dtype)
        size = self.region.size
        for window, part in zip(self.region.windows, self._parts, strict=True):
            part_plate = plate and plate.cut(window, size, sixteen_bit)
            left, top, right, bottom = window.keep
            rows = slice(top - window.top, bottom - window.top)
            columns = slice(left - window.left, right - window.left)
            made = part.pixels(kind, sixteen_bit, part_plate)
            whole[top:bottom, left:right] = made[rows, columns]
        return whole
