"""Colour and alpha side by side in one opaque picture, for players without alpha.

The picture is made of two halves of equal size: the colours are left or above, alpha is
right or below, as gray. Each half begins at its upper left corner and is filled up to
multiples of 16 pixels, in which codecs work, so that the halves share no block.
"""

import numpy as np

from rematte.video.codecs import Codec
from rematte.video.edge_colours import extend_colours
from rematte.video.frame import Pixels
from rematte.video.pixels import premultiply

ARRANGEMENTS = ("side", "stacked")
_BLOCK = 16


def half_size(codec: Codec, width: int, height: int) -> tuple[int, int]:
    """Width and height of one half [pixels], for a picture of the given size."""
    width, height = (
        -(-max(side, codec.least) // _BLOCK) * _BLOCK for side in (width, height)
    )
    return width, height


def packed_size(half: tuple[int, int], packed: str) -> tuple[int, int]:
    """Width and height of the whole picture [pixels].

    Args:
        half: From `half_size`.
        packed: One of `ARRANGEMENTS`.
    """
    width, height = half
    return (2 * width, height) if packed == "side" else (width, 2 * height)


def pack(
    pixels: Pixels, half: tuple[int, int], packed: str, premultiplied: bool
) -> Pixels:
    """Lay colour and alpha of a picture beside each other.

    Straight colours go on beyond the person's edge, so that blurring by the codec mixes
    no others in, and nothing of the room can be seen.

    Args:
        pixels: (H, W, 4), 8 bits, straight alpha.
        half: From `half_size`.
        packed: One of `ARRANGEMENTS`.
        premultiplied: Whether colours are multiplied by alpha.

    Returns:
        (H, W, 3), 8 bits, of `packed_size`.
    """
    colours = premultiply(pixels)[..., :3] if premultiplied else extend_colours(pixels)
    right, down = half[0] - pixels.shape[1], half[1] - pixels.shape[0]
    halves = [
        np.pad(each, ((0, down), (0, right), (0, 0)), "edge")
        for each in (colours, pixels[..., 3:].repeat(3, 2))
    ]
    return np.concatenate(halves, 1 if packed == "side" else 0)
