"""What colours at edges promise, on pictures whose truth is known."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rematte.engines.kernels.blur_fusion import estimate, lay_edges

Array = NDArray[Any]


def disc(height: int = 96, width: int = 160, x: float = 80.0) -> Array:
    """Alpha of a disc whose edge is eight pixels wide."""
    v, u = np.mgrid[:height, :width]
    distance = np.hypot(v - height / 2, u - x)
    return np.clip((height / 3 - distance) / 8 + 0.5, 0, 1)


def layers(height: int, width: int) -> tuple[Array, Array]:
    """A person and a room, both of slowly changing colours."""
    v, u = np.mgrid[:height, :width] / (height, 1)[0]
    person = np.stack([0.7 + 0.1 * v, 0.4 + 0 * v, 0.3 + 0.05 * u], -1)
    room = np.stack([0.1 + 0 * v, 0.8 - 0.1 * v, 0.2 + 0.1 * u], -1)
    return person, room


def codes(values: Array, wide: bool) -> Array:
    most, kind = (65535, np.uint16) if wide else (255, np.uint8)
    return np.round(values * most).astype(kind)


def mixed(alpha: Array, wide: bool = False) -> tuple[Array, Array, Array]:
    """A picture, its alpha in 16 bits, and the person's true colours."""
    person, room = layers(*alpha.shape)
    shares = alpha[..., None]
    picture = shares * person + (1 - shares) * room
    return codes(picture, wide), codes(shares, True), person


def cleaned(picture: Array, alpha: Array, own: Array | None = None) -> Array:
    out = picture.copy()
    lay_edges(estimate(picture, alpha, own), out)
    return out


@pytest.mark.parametrize("wide", [False, True])
def test_colours_at_edges_come_near_the_truth(wide: bool) -> None:
    picture, alpha, person = mixed(disc(), wide)
    most = 65535 if wide else 255
    edge = (alpha > 2000) & (alpha < 63000)
    before = np.abs(picture / most - person)[edge[..., 0]].mean()
    after = np.abs(cleaned(picture, alpha) / most - person)[edge[..., 0]].mean()
    assert after < 0.3 * before


def test_what_is_opaque_or_far_outside_stays() -> None:
    picture, alpha, _ = mixed(disc())
    out = cleaned(picture, alpha)
    opaque = alpha[..., 0] == 65535
    assert np.array_equal(out[opaque], picture[opaque])
    assert np.array_equal(out[:, :10], picture[:, :10])


def test_colours_just_outside_are_the_persons() -> None:
    """Programs that scale straight RGBA mix them in."""
    picture, alpha, person = mixed(disc())
    hidden = picture * (alpha > 0)
    lay_edges(estimate(picture, alpha), hidden)
    changed = (hidden > 0).any(-1) & (alpha[..., 0] == 0)
    assert changed.sum() > 100
    assert np.abs(hidden / 255 - person)[changed].max() < 0.1


def test_no_edge_no_change() -> None:
    picture, _, _ = mixed(disc())
    for value in (0, 65535):
        alpha = np.full((*picture.shape[:2], 1), value, np.uint16)
        assert np.array_equal(cleaned(picture, alpha), picture)


@pytest.mark.parametrize("size", [(1, 1), (3, 17), (7, 5), (33, 90)])
def test_any_size(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    alpha = rng.integers(0, 65536, (*size, 1), dtype=np.uint16)
    assert cleaned(picture, alpha).shape == picture.shape


def test_composites_are_those_of_the_colours() -> None:
    picture, alpha, _ = mixed(disc())
    edges = estimate(picture, alpha)
    colours = picture.copy()
    lay_edges(edges, colours)
    behind = np.full((1, 1, 3), (10, 20, 200), np.uint8)
    shares = alpha / 65535
    expected = shares * colours + (1 - shares) * behind
    out = np.round(shares * picture + (1 - shares) * behind).astype(np.uint8)
    for plate in (behind, np.broadcast_to(behind, picture.shape)):
        composite = out.copy()
        lay_edges(edges, composite, np.ascontiguousarray(plate))
        assert np.abs(composite - expected).max() <= 1


def test_what_the_source_hides_counts_for_nothing() -> None:
    """Neither as the person nor as the background."""
    picture, alpha, _ = mixed(disc())
    own = np.full(alpha.shape, 255, np.uint8)
    own[:, 90:] = 0
    visible = np.where(own > 0, alpha, 0).astype(np.uint16)
    results = []
    for colour in (0, 255):
        picture[:, 90:] = colour
        results.append(cleaned(picture, visible, own)[:, :90])
    assert np.array_equal(*results)


def test_colours_of_a_moving_edge_are_steady() -> None:
    """They change no more from frame to frame than those of the source do."""
    changes = []
    before: Array | None = None
    for step in range(9):
        picture, alpha, person = mixed(disc(x=70 + step / 3))
        error = cleaned(picture, alpha) / 255 - person
        edge = ((alpha > 13000) & (alpha < 52000))[..., 0]
        if before is not None:
            changes.append(np.abs(error - before)[edge].mean())
        before = error
    assert max(changes) < 0.02
