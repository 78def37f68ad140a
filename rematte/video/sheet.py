"""Pictures for people to look at: shrunk, over a checkerboard, in rows, as files."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from rematte.video.encoding import choose
from rematte.video.frame import SDR, Frame, Pixels, VideoInfo
from rematte.video.image_writer import encode_image
from rematte.video.pixels import resize

# Rows of 3 bits, from the top, of the digits 0 to 9.
_DIGITS = (
    *("75557", "26227", "71747", "71317", "55711", "74717", "74757", "71222"),
    *("75757", "75717"),
)
GAP = 6  # between the pictures of a sheet [pixels]
_PAPER = 236


def shrunk_size(width: int, height: int, most: int) -> tuple[int, int]:
    """Return a size with even sides, the longer at most `most` [pixels]."""
    scale = min(1.0, most / max(width, height))
    small = (max(2, round(side * scale / 2) * 2) for side in (width, height))
    return next(small), next(small)


def on_squares(pixels: Pixels, side: int = 12) -> Pixels:
    """Lay transparent pixels over the gray squares that stand for transparency.

    The picture is (H, W, 3), or (H, W, 4) with straight alpha, 8 bits; `side` is that
    of a square [pixels].
    """
    if pixels.shape[2] != 4:
        return pixels
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]] // side
    squares = np.where((x + y) % 2, 235, 205)[..., None]
    alpha = pixels[..., 3:].astype(np.int32)
    over = pixels[..., :3] * alpha + squares * (255 - alpha)
    return ((over + 127) // 255).astype(np.uint8)


def draw_number(pixels: Pixels, number: int, at: tuple[int, int], size: int) -> None:
    """Draw a number, 0 or more, in a dark box into (H, W, 3), 8 bits, in place.

    Its middle is at x and y, or nearer to the picture's middle where it would not fit.
    Its digits are 5 dots high; each dot has a side of `size` [pixels].
    """
    digits = [_DIGITS[int(digit)] for digit in str(number)]
    rows = ["0" + "".join(f"{int(each[y]):03b}0" for each in digits) for y in range(5)]
    bits = np.array([[int(bit) for bit in row] for row in rows], np.uint8)
    dots = np.pad(bits, ((1, 1), (0, 0)))
    box = np.kron(dots, np.ones((size, size), np.uint8))[: len(pixels)]
    high, wide = box.shape[0], min(box.shape[1], pixels.shape[1])
    left = min(max(0, at[0] - wide // 2), pixels.shape[1] - wide)
    top = min(max(0, at[1] - high // 2), pixels.shape[0] - high)
    pixels[top : top + high, left : left + wide] = 20 + 235 * box[:, :wide, None]


def make_sheet(rows: Sequence[Sequence[Pixels]], width: int = 1600) -> Pixels:
    """Lay pictures of one size in rows, with gaps between them.

    They are (H, W, 1) or (H, W, 3), 8 bits, as many in each row. The sheet is
    (H, W, 3), and at most `width` wide [pixels].
    """
    high, wide = rows[0][0].shape[:2]
    columns = max(map(len, rows))
    across = max(1, min(wide, (width - GAP) // columns - GAP))
    down = max(1, round(high * across / wide))
    shape = (GAP + len(rows) * (down + GAP), GAP + columns * (across + GAP), 3)
    sheet: Pixels = np.full(shape, _PAPER, np.uint8)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            top, left = GAP + y * (down + GAP), GAP + x * (across + GAP)
            small = resize(picture, across, down)
            sheet[top : top + down, left : left + across] = small
    return sheet


def encode_picture(pixels: Pixels, suffix: str) -> bytes:
    """Encode a picture as the content of an image file, such as ".png".

    It is (H, W, C), 8 bits, with 1, 3 or, with straight alpha, 4 channels.
    """
    height, width = pixels.shape[:2]
    one = Fraction(1)
    info = VideoInfo(width, height, rate=one, time_base=one, colour=SDR, still=True)
    gray, alpha = (pixels.shape[2] == channels for channels in (1, 4))
    encoding = choose(Path(f"picture{suffix}"), info, alpha=alpha, gray=gray)
    return encode_image(Frame(pixels, Fraction(0), one), info, encoding)
