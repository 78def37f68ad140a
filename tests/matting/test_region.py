"""What regions of interest promise: the same frames, and nobody outside of them."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from fakes import Fake, as_frames
from numpy.typing import NDArray
from torch import Tensor

from rematte.engines.module import ModuleEngine
from rematte.matting.background import Renderer, make_background
from rematte.matting.finish import Finish
from rematte.matting.loop import Memory, run
from rematte.matting.matte import Matted, Plate
from rematte.matting.region import Region, Regions, Window, cut, move_states
from rematte.network.matting_network import MattingNetwork
from rematte.video.frame import Frame

STEP = Fraction(1, 25)
HEIGHT, WIDTH = 64, 96


def noise(seed: int, shape: tuple[int, ...]) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def frames_of(count: int = 8) -> list[Frame]:
    return as_frames([noise(n, (HEIGHT, WIDTH, 3)) for n in range(count)])


def window(left: int, top: int, side: int = 32) -> Window:
    keep = (
        max(0, left), max(0, top), min(WIDTH, left + side), min(HEIGHT, top + side),
    )  # fmt: skip
    return Window(left, top, keep)


def regions_of(*windows: tuple[Window, ...]) -> Regions:
    """A region every two frames."""
    laid = [
        Region(2 * n * STEP, each, (32, 32), 1.0, restart=n == 0)
        for n, each in enumerate(windows)
    ]
    return Regions((HEIGHT, WIDTH), tuple(laid), ("",) * len(laid))


MOVING = regions_of(
    (window(0, 0), window(64, 32)),
    (window(16, 0), window(64, 32)),
    (window(16, 16),),
    (window(-16, 48), window(80, 0)),
)

NOBODY_AT_FIRST = Regions(
    (HEIGHT, WIDTH),
    (
        Region(empty=True),
        Region(3 * STEP, (window(0, 0),), (32, 32), 1.0, restart=True),
        Region(6 * STEP, empty=True),
    ),
    ("",) * 3,
)


def inside(region: Region, margin: int = 0) -> NDArray[np.bool_]:
    """Where the windows of a region are, and so many pixels around them."""
    found = np.zeros((HEIGHT, WIDTH), bool)
    for each in region.windows:
        left, top = (max(0, edge - margin) for edge in each.keep[:2])
        right, bottom = (edge + margin for edge in each.keep[2:])
        found[top:bottom, left:right] = True
    return found


def mattes(frames: list[Frame], regions: Regions, memory: Memory) -> list[Matted]:
    return list(run(ModuleEngine(Fake()), frames, memory=memory, regions=regions))


def test_a_window_is_what_lies_there_and_repeats_the_edge() -> None:
    pixels = noise(0, (HEIGHT, WIDTH, 3))
    assert (cut(pixels, window(16, 8), (32, 32)) == pixels[8:40, 16:48]).all()
    beyond = cut(pixels, window(80, -16), (32, 32))
    assert (
        beyond[:17] == pixels[0, 80:96].tolist() + [pixels[0, 95].tolist()] * 16
    ).all()


def test_alpha_is_that_of_the_windows_and_nothing_elsewhere() -> None:
    """The fake network's alpha is its running mean of red, wherever the window is."""
    state = None
    for matted in mattes(frames_of(), MOVING, Memory()):
        red = matted.frame.pixels[..., 0] / np.float32(255)
        mean = red if state is None else state / 2 + red / 2
        state = np.where(inside(MOVING.at(matted.frame)), mean, np.float32(0))
        alpha = matted.pixels("alpha", True)[..., 0] / 65535
        np.testing.assert_allclose(alpha, state, atol=2e-5)


def test_where_nobody_is_alpha_is_0_and_the_network_does_not_run() -> None:
    model = Fake()
    engine, frames = ModuleEngine(model), frames_of()
    made = list(run(engine, frames, regions=NOBODY_AT_FIRST, warmup=2))
    seen = [bool(matted.pixels("alpha", False).any()) for matted in made]
    assert seen == [False] * 3 + [True] * 3 + [False] * 2
    assert len(model.chunks) == 2 + 3
    assert (made[0].over((1, 2, 3)) == (1, 2, 3)).all()
    assert made[0].glimpse(2) == []


def test_frames_backwards_begin_again_where_nobody_was() -> None:
    """As `rematte inspect` mattes them, which enters regions from their end."""
    nobody = Region(3 * STEP, empty=True)
    before = Region(Fraction(0), (window(16, 0),), (32, 32), 1.0)
    two = window(0, 0), window(64, 32)
    after = replace(before, since=5 * STEP, windows=two, restart=True)
    regions = Regions((HEIGHT, WIDTH), (before, nobody, after), ("",) * 3)
    frames = frames_of()[::-1]
    made, fresh = (
        [matted.pixels("alpha", True) for matted in mattes(some, regions, Memory())]
        for some in (frames, frames[5:])
    )
    assert not any(alpha.any() for alpha in made[3:5])
    for one, other in zip(made[5:], fresh, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("regions", [MOVING, NOBODY_AT_FIRST])
@pytest.mark.parametrize("stop", range(1, 8))
def test_a_run_that_is_resumed_gives_the_same(stop: int, regions: Regions) -> None:
    frames, memory = frames_of(), Memory()
    whole = mattes(frames, regions, Memory())
    parts = mattes(frames[:stop], regions, memory) + mattes(
        frames[stop:], regions, memory
    )
    for a, b in zip(whole, parts, strict=True):
        one, other = (each.pixels("alpha", True) for each in (a, b))
        assert np.array_equal(one, other)


def test_a_window_over_the_whole_frame_is_the_whole_frame() -> None:
    whole = Window(0, 0, (0, 0, WIDTH, HEIGHT))
    regions = Regions(
        (HEIGHT, WIDTH), (Region(Fraction(0), (whole,), (HEIGHT, WIDTH), 0.5),), ("",)
    )
    engine = ModuleEngine(MattingNetwork("mobilenetv3").eval())
    frames = frames_of(3)
    for a, b in zip(
        run(engine, frames, downsample_ratio=0.5),
        run(engine, frames, regions=regions),
        strict=True,
    ):
        for kind in ("alpha", "foreground", "cutout"):
            assert (Renderer(kind)(a) == Renderer(kind)(b)).all()


def test_frames_of_another_size_are_seen_whole() -> None:
    other = Frame(noise(9, (40, 40, 3)), Fraction(1), STEP)
    frames = [*frames_of(2), other]
    *_, last = mattes(frames, MOVING, Memory())
    assert np.array_equal(last.pixels("alpha", False)[..., 0], other.pixels[..., 0])


@pytest.mark.parametrize("wide", [False, True])
def test_pixels_outside_are_background_or_nothing(wide: bool) -> None:
    most = 65535 if wide else 255
    (matted, *_) = mattes(frames_of(1), MOVING, Memory())
    seen = inside(MOVING.at(matted.frame))
    assert not Renderer("alpha", wide)(matted)[~seen].any()
    assert not Renderer("output", wide)(matted)[~seen].any()
    foreground = Renderer("foreground", wide)(matted)
    source = matted.frame.pixels * np.uint32(most // 255)
    assert (foreground[~seen] == source[~seen]).all()
    assert (foreground[seen] == most - source[seen]).all()
    picture = Plate(noise(5, (HEIGHT, WIDTH, 3)))
    white = Plate(np.full((1, 1, 3), 255, np.uint8))
    over = Renderer("composition", wide, lambda matted: picture)(matted)
    plain = Renderer("composition", wide, lambda matted: white)(matted)
    behind = picture.pixels(wide).astype(float)
    assert (over[~seen] == behind[~seen]).all()
    assert (plain[~seen] == most).all()
    alpha, fgr = (matted.pixels(kind, True) / 65535 for kind in ("alpha", "foreground"))
    expected = (alpha * fgr + (1 - alpha) * behind / most) * most
    assert abs(over - expected).max() < (1.1 if not wide else 2)


@pytest.mark.parametrize("kind", ["alpha", "foreground", "output", "composition"])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("behind", ["white", "blur", "transparent"])
def test_edges_are_finished_within_windows(kind: str, wide: bool, behind: str) -> None:
    """Where nothing was seen, an output is what it is without."""
    matted = mattes(frames_of(3), MOVING, Memory())[-1]
    background = make_background(behind)
    shaped = Finish(True, 0.05, 0.9, 1.5, 1.0, "green")
    plain, clean, made = (
        Renderer(kind, wide, background, finish=finish)(matted)
        for finish in (None, Finish(True), shaped)
    )
    seen = inside(MOVING.at(matted.frame), 8)
    assert (clean[~seen] == plain[~seen]).all()
    assert made.shape == clean.shape == plain.shape


def test_the_sources_own_alpha_hides_within_windows() -> None:
    own = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
    own[:, :20] = 0
    frame = Frame(noise(0, (HEIGHT, WIDTH, 3)), Fraction(0), STEP, alpha=own)
    (matted,) = mattes([frame], MOVING, Memory())
    assert not Renderer("output")(matted)[:, :20].any()
    assert not matted.pixels("foreground", True)[:, :20].any()
    assert matted.pixels("alpha", True)[:, 20:].any()


def test_states_move_with_their_windows() -> None:
    """Every value goes to the same place of the picture, at every scale."""

    def places(at: Window, scale: int) -> Tensor:
        side = 32 // scale
        ys = torch.arange(side)[:, None] + at.top // scale
        return (1000 + 100 * ys + torch.arange(side) + at.left // scale)[None, None]

    before, after = [window(0, 0), window(64, 32)], [window(16, 16), window(0, 16)]
    states = [[places(each, scale) for scale in (2, 4, 8, 16)] for each in before]
    moved = move_states(states, before, after, (32, 32))
    for new, state in zip(after, moved, strict=True):
        for level, scale in zip(state, (2, 4, 8, 16), strict=True):
            right = places(new, scale)
            known = level != 0
            assert (level[known] == right[known]).all()
            assert known.any()
