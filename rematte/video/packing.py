"""Packs colour and alpha into one opaque picture, for players without alpha.

The picture has two halves of equal size: colours on the left or above, alpha on the
right or below, as gray. Each half is padded at its right and lower edges to multiples
of 16 pixels, the blocks of codecs, so that no block holds pixels of both.
"""

import numpy as np

from rematte.video.codecs import Codec
from rematte.video.edge_colours import extend_colours
from rematte.video.frame import Pixels
from rematte.video.pixels import premultiply

ARRANGEMENTS = ("side", "stacked")
_BLOCK = 16


def half_size(codec: Codec, width: int, height: int) -> tuple[int, int]:
    """Return the width and height of one half, for a picture of this size [pixels]."""
    width, height = (
        -(-max(side, codec.min_side) // _BLOCK) * _BLOCK for side in (width, height)
    )
    return width, height


def packed_size(half: tuple[int, int], packed: str) -> tuple[int, int]:
    """Return the width and height of a packed picture with such halves [pixels]."""
    width, height = half
    return (2 * width, height) if packed == "side" else (width, 2 * height)


def pack(
    pixels: Pixels, half: tuple[int, int], packed: str, premultiplied: bool
) -> Pixels:
    """Pack colour and alpha of a picture into one.

    Straight colours continue beyond the person's edge, so that blurring by the codec
    mixes in no other colours and no background can be seen. The picture is
    (H, W, 4), 8 bits, straight alpha; `half` comes from `half_size`.

    Returns:
        The packed picture, (H, W, 3), 8 bits; its size is that of `packed_size`.
    """
    colours = premultiply(pixels)[..., :3] if premultiplied else extend_colours(pixels)
    right, down = half[0] - pixels.shape[1], half[1] - pixels.shape[0]
    halves = [
        np.pad(each, ((0, down), (0, right), (0, 0)), "edge")
        for each in (colours, pixels[..., 3:].repeat(3, 2))
    ]
    return np.concatenate(halves, 1 if packed == "side" else 0)
