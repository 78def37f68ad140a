#!/usr/bin/env python
"""Draw the ready backgrounds of `rematte serve`, into rematte/serve/static/backgrounds.

All of them are computed from formulas, so that no licensed picture is distributed.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDTH, HEIGHT = 1920, 1080
TARGET = Path(__file__).parents[1] / "rematte" / "serve" / "static" / "backgrounds"
Picture = NDArray[np.float64]

Y: Picture
X: Picture
Y, X = np.mgrid[:HEIGHT, :WIDTH] / HEIGHT  # both in units of the height
ASPECT = WIDTH / HEIGHT


def mix(one: tuple[int, ...], other: tuple[int, ...], share: Picture) -> Picture:
    """Blend two colours; `share` is (H, W), 0 for the first one."""
    share = share[..., None]
    mixed: Picture = (1 - share) * np.array(one) + share * np.array(other)
    return mixed


def smooth(low: float, high: float, value: Picture) -> Picture:
    """Rise from 0 at `low` to 1 at `high`, without corners."""
    t: Picture = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def draw_studio() -> Picture:
    """A roll of gray paper, lit from the front."""
    glow = np.hypot((X - ASPECT / 2) / 1.3, Y - 0.45)
    paper = mix((214, 217, 221), (126, 131, 139), smooth(0.1, 1.0, glow))
    floor = smooth(0.78, 0.95, Y)[..., None]
    return paper * (1 - 0.16 * floor)


def draw_dusk() -> Picture:
    """A sky after sunset."""
    sky = mix((38, 34, 78), (236, 142, 104), smooth(0.0, 0.95, Y))
    sun = np.exp(-((X - 1.25) ** 2 + (Y - 0.82) ** 2) / 0.16)[..., None]
    sky = sky + sun * np.array((40, 60, 36))
    hills = 0.86 + 0.03 * np.sin(2.1 * X + 0.6) + 0.018 * np.sin(5.3 * X)
    below = smooth(0, 0.02, Y - hills)[..., None]
    picture: Picture = below * np.array((58, 44, 84)) + (1 - below) * sky
    return picture


def draw_lights() -> Picture:
    """Lights of a town at night, out of focus."""
    picture = mix((16, 30, 44), (30, 24, 48), smooth(0, 1, Y))
    dice = np.random.default_rng(7)
    colours = np.array(
        [(255, 190, 110), (120, 200, 230), (240, 120, 130), (250, 230, 180)]
    )
    for _ in range(46):
        x, y = dice.uniform(0, ASPECT), dice.normal(0.55, 0.2)
        radius, light = dice.uniform(0.03, 0.085), dice.uniform(0.08, 0.42)
        distance = np.hypot(X - x, Y - y)
        disc = 1 - smooth(radius - 0.012, radius + 0.012, distance)
        picture += light * disc[..., None] * colours[dice.integers(4)] * 0.6
    return picture


def draw_window() -> Picture:
    """A warm wall, with the light of a window on it."""
    wall = mix((205, 186, 160), (168, 146, 120), smooth(0.2, 1.6, np.hypot(X, Y)))
    u, v = X - 0.55 * Y - 0.28, Y + 0.12 * X - 0.16  # light that falls at a slant
    soft = 0.02
    light = np.zeros_like(X)
    for left in (0.0, 0.3, 0.6):
        for top in (0.0, 0.34):
            right, bottom = left + 0.26, top + 0.3
            across = smooth(left, left + soft, u) - smooth(right, right + soft, u)
            down = smooth(top, top + soft, v) - smooth(bottom, bottom + soft, v)
            light += across * down
    lit: Picture = wall + light[..., None] * np.array((44, 38, 24))
    return lit


def main() -> None:
    """Draw all of them."""
    TARGET.mkdir(exist_ok=True)
    grain = np.random.default_rng(1).normal(0, 0.5, (HEIGHT, WIDTH, 1))
    for name, draw in {
        "studio": draw_studio,
        "dusk": draw_dusk,
        "lights": draw_lights,
        "window": draw_window,
    }.items():
        # The grain keeps slow changes from becoming steps.
        pixels = np.clip(np.round(draw() + grain), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(TARGET / f"{name}.webp", quality=80, method=6)


if __name__ == "__main__":
    main()
