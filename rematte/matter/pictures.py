"""Turns pictures in memory into frames: arrays, tensors, images, decoded frames.

Their libraries are recognised by module names, so that none has to be imported.
"""

from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import av
import numpy as np

from rematte.video.colour import frame_colour, frame_depth, to_rgb
from rematte.video.fitting import Upright
from rematte.video.frame import Frame
from rematte.video.pixels import Image, Order, to_pixels
from rematte.video.tone import displayed
from rematte.video.transparency import source_alpha

if TYPE_CHECKING:
    import PIL.Image
    import torch


class DecodedFrame(Protocol):
    """The interface of torchcodec's frames."""

    @property
    def data(self) -> "torch.Tensor":
        """The picture, (3, H, W)."""

    @property
    def pts_seconds(self) -> float:
        """The time at which it is shown [s]."""


Picture: TypeAlias = (
    "Image | Frame | av.VideoFrame | torch.Tensor | DecodedFrame | PIL.Image.Image"
)

# The duration of a frame that states none [s].
STEP = Fraction(1, 25)


def to_frame(
    picture: Picture, order: Order = "rgb", time: Fraction = Fraction(0),
    own_alpha: bool = True, copy: bool = False,
) -> tuple[Frame, "np.dtype[Any]"]:  # fmt: skip
    """Make a frame of a picture, as `Stream` takes it, and give its arrays' type.

    The pixels are copied only where they must be.

    Args:
        picture: A `Frame` stays as it is.
        order: The order of the channels of arrays and tensors.
        time: When it is shown [s]; a frame of PyAV states its own time.
        own_alpha: Whether to use the picture's own alpha.
        copy: Whether to copy the caller's array even where that is not needed.
    """
    if isinstance(picture, Frame):
        return picture, picture.pixels.dtype
    if isinstance(picture, av.VideoFrame):
        frame = _from_pyav(picture, time, own_alpha)
        return frame, frame.pixels.dtype
    array, order = _to_array(picture, order)
    pixels, alpha = to_pixels(array, order), None
    if copy and np.may_share_memory(pixels, array):
        pixels = pixels.copy()
    if pixels.shape[2] == 4:
        alpha = np.ascontiguousarray(pixels[..., 3:]) if own_alpha else None
        pixels = np.ascontiguousarray(pixels[..., :3])
    return Frame(pixels, time, STEP, alpha=alpha), array.dtype


def _from_pyav(picture: av.VideoFrame, time: Fraction, own_alpha: bool) -> Frame:
    """Convert a frame of PyAV as the reader of files does."""
    colour, depth = frame_colour(picture), frame_depth(picture)
    upright = Upright(picture)
    alpha = source_alpha(picture, depth, None, upright, []) if own_alpha else None
    pixels = upright.apply(to_rgb(picture, colour, depth, None))
    if picture.pts is not None and picture.time_base:
        time = picture.pts * picture.time_base
    frame = Frame(pixels, time, STEP, alpha=alpha)
    return next(displayed([frame], colour))


def _to_array(picture: Any, order: Order) -> tuple[Image, Order]:
    """Give a picture as an array (H, W, C), and the order of its channels."""
    library = type(picture).__module__.partition(".")[0]
    if library == "PIL":
        return _from_pillow(picture), "rgb"
    if library == "torchcodec":
        picture, order = picture.data, "rgb"
    if hasattr(picture, "detach") and hasattr(picture, "cpu"):  # a tensor of torch
        tensor = picture.detach().cpu()
        if str(tensor.dtype) == "torch.bfloat16":  # which NumPy lacks
            tensor = tensor.float()
        array: Any = tensor.numpy()
        if array.ndim == 3 and array.shape[0] in (3, 4):
            array = np.moveaxis(array, 0, -1)
        return array, order
    if not isinstance(picture, np.ndarray):
        raise TypeError(
            f"a frame must be an array (H, W, 3), a tensor, a frame of PyAV or "
            f"torchcodec or an image of Pillow, got {type(picture).__name__}"
        )
    return picture, order


def _from_pillow(image: Any) -> Image:
    """Convert an image of Pillow, turned upright by its EXIF data."""
    from PIL import ImageOps

    # Pillow turns a TIFF when it loads it, and this does not turn it again.
    image = ImageOps.exif_transpose(image)
    array: Image
    if image.mode.startswith("I;16"):
        array = np.asarray(image)[..., None].repeat(3, 2)
        return array
    if image.mode in ("I", "F"):  # which Pillow would clip at 255
        raise ValueError(
            f"an image of Pillow in mode {image.mode!r} does not say which number is "
            "white; give an array of uint8, uint16 or floating numbers in [0, 1]"
        )
    clear = "A" in image.mode or "a" in image.mode or "transparency" in image.info
    array = np.asarray(image.convert("RGBA" if clear else "RGB"))
    return array
