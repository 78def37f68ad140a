import numpy as np
import pytest

from rematte.video.frame import Pixels
from rematte.video.pixels import extend_colours


def cut_out(height: int, width: int, seed: int = 0) -> Pixels:
    """A patch of noise with random alpha; the background is pure green."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((height, width, 4), np.uint8)
    pixels[..., 1] = 255
    patch = pixels[height // 4 : height // 2 + 1, width // 3 : width // 2 + 1]
    patch[..., [0, 2]] = rng.integers(100, 140, (*patch.shape[:2], 2))
    patch[..., 1] = 50
    patch[..., 3] = rng.integers(0, 256, patch.shape[:2])
    patch[0, 0, 3] = 9
    return pixels


@pytest.mark.parametrize("size", [(64, 96), (37, 53), (1, 7), (5, 1), (1, 1)])
def test_visible_pixels_stay_and_the_room_adds_no_colour(size: tuple[int, int]) -> None:
    pixels = cut_out(*size)
    found = extend_colours(pixels)
    visible = pixels[..., 3] > 0
    assert found.dtype == np.uint8
    assert found.shape == (*size, 3)
    np.testing.assert_array_equal(found[visible], pixels[visible, :3])
    hidden = found[~visible].reshape(-1, 3).astype(int)
    assert np.all((hidden >= (99, 49, 99)) & (hidden <= (140, 51, 140)))


def test_it_goes_on_smoothly() -> None:
    """A ramp that ends at 131 is continued with a small step, not with one to 0."""
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[..., :3] = np.arange(100, 164)[:, None]
    pixels[:, :32, 3] = 255
    found = extend_colours(pixels)[..., 0].astype(int)
    assert np.abs(np.diff(found[:, 28:40], axis=1)).max() <= 8


def test_a_frame_with_nobody_is_black() -> None:
    pixels = np.full((9, 11, 4), 200, np.uint8)
    pixels[..., 3] = 0
    assert not extend_colours(pixels).any()
