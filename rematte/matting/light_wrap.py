"""Lets a background's light spill over the edges of the person in front of it."""

import numpy as np

from rematte.video.frame import Pixels
from rematte.video.pixels import blur, resize

# Standard deviation of the light's blur, as a share of the frame's longer side.
_REACH = 1 / 80


def wrap_light(colours: Pixels, alpha: Pixels, behind: Pixels, amount: float) -> None:
    """Mix the light of the background into the person's edges, in place.

    The light is the blurred background where that is brighter than the person, and
    fades with the distance from the edge, so the person looks lit by the background.
    Colours, alpha and background have 16 bits, and colours are straight; the background
    may be (1, 1, 3). `amount` is the strength of the light, in (0, 1].
    """
    height, width = alpha.shape[:2]
    sigma = max(height, width) * _REACH
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
