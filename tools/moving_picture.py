"""Draw the README's animation: source, alpha, and the cut-out over a sunset.

    python tools/moving_picture.py SOURCE CUTOUT docs/images/demo.webp

`make picture` converts demo/clip.mp4 and runs this. Needs Pillow.
"""

import argparse
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image
from side_by_side import composite, decode

from rematte.video.frame import Pixels
from rematte.video.pixels import resize

WIDTH, HEIGHT, GAP = 256, 320, 4
EVERY = 2  # of the clip's 25 frames a second
QUALITY = 62
SKY = ((38, 70, 130), (240, 150, 110), (255, 214, 150))  # from the top


def sunset(height: int, width: int) -> Pixels:
    """Draw a vertical gradient, as H x W x 3 RGB."""
    at = np.linspace(0, 1, len(SKY))
    rows = np.linspace(0, 1, height)
    column = [np.interp(rows, at, channel) for channel in zip(*SKY, strict=True)]
    sky = np.stack(column, -1)[:, None].repeat(width, 1)
    return np.round(sky).astype(np.uint8)


def panels(source: Pixels, cutout: Pixels) -> Image.Image:
    """Lay source, alpha and composite side by side."""
    pictures = [
        source[..., :3],
        np.repeat(cutout[..., 3:], 3, axis=2),
        composite(cutout, sunset(*cutout.shape[:2])),
    ]
    sheet = np.full((HEIGHT, 3 * WIDTH + 2 * GAP, 3), 255, np.uint8)
    for index, picture in enumerate(pictures):
        left = index * (WIDTH + GAP)
        sheet[:, left : left + WIDTH] = resize(picture, WIDTH, HEIGHT)
    return Image.fromarray(sheet)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the README's moving picture.")
    parser.add_argument("source", type=Path)
    parser.add_argument("cutout", type=Path, help="a video with alpha")
    parser.add_argument("output", type=Path, help="an animated .webp")
    options = parser.parse_args()
    pairs = zip(decode(options.source), decode(options.cutout), strict=True)
    frames = [
        panels(source.pixels, cutout.pixels)
        for source, cutout in islice(pairs, 0, None, EVERY)
    ]
    first, *rest = frames
    first.save(
        options.output, save_all=True, append_images=rest, duration=40 * EVERY,
        loop=0, quality=QUALITY, method=6,
    )  # fmt: skip


if __name__ == "__main__":
    main()
