"""A window that follows people as frames come: who is seen, when it moves, its cost."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from fakes import Fake, as_frames
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from rematte.engines.module import ModuleEngine
from rematte.matter.matter import Matter
from rematte.matting.follow import Follower
from rematte.matting.loop import run
from rematte.matting.region import Region

WIDTH, HEIGHT, FIRST = 1280, 720, 20
Picture = NDArray[np.uint8]


class Coarse(Fake):
    """Sees red in a coarse copy alone, as a network does; counts what it sees."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.pixels = 0

    def forward(self, src: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        ratio, red = rest[-1], src[0, :, :1]
        size = [int(side * ratio) for side in red.shape[2:]]
        self.pixels += size[0] * size[1]
        small = F.interpolate(red, size, mode="area")
        alpha = F.interpolate(small, red.shape[2:], mode="bilinear")[None]
        return src, alpha, *[torch.zeros(1)] * 4


@cache
def empty(room: int) -> Picture:
    return np.full((HEIGHT, WIDTH, 3), (0, room, room), np.uint8)


def picture(*people: tuple[float, float], room: int = 60, tall: int = 90) -> Picture:
    """Draw red people, whose left and top edges are given, in a room."""
    drawn = empty(room).copy()
    for left, top in people:
        x, y = round(left), round(top)
        drawn[y : y + tall, max(0, x) : max(0, x + tall // 3)] = 255, 0, 0
    return drawn


def follow(
    pictures: list[Picture], whole: bool = False
) -> tuple[list[NDArray[np.float32]], list[Region], Coarse, Coarse]:
    """Give alphas, regions, and what network and eye have seen."""
    network, eye = Coarse(), Coarse()
    guide = None if whole else Follower(ModuleEngine(eye))
    mattes = list(run(ModuleEngine(network), as_frames(pictures), regions=guide))
    alphas = [m.pixels("alpha", False)[..., 0] / np.float32(255) for m in mattes]
    return alphas, [matted.region for matted in mattes], network, eye


def errors(alphas: list[NDArray[np.float32]], pictures: list[Picture]) -> float:
    true = [each[..., 0] / np.float32(255) for each in pictures]
    return float(
        np.mean([np.abs(a - t).mean() for a, t in zip(alphas, true, strict=True)])
    )


def test_who_enters_is_seen_too_and_the_error_falls() -> None:
    """One walks from the left; another enters from the right, at a run."""
    pictures = []
    for n in range(60):
        people = [(100 + 12 * n, 300.0)]
        if n >= 40:
            people.append((WIDTH - 9 * (n - 40), 340.0))
        pictures.append(picture(*people))
    alphas, regions, *_ = follow(pictures)
    before = slice(FIRST, 40)
    whole, *_ = follow(pictures[before], whole=True)  # the fake has no memory
    assert not regions[0].windows
    for n, (alpha, shown) in enumerate(zip(alphas, pictures, strict=True)):
        person = shown[..., 0] > 200
        if 40 <= n < 44:  # to be seen at all, somebody must be in the picture
            person[:, WIDTH // 2 :] = False
        assert alpha[person].mean() > 0.9, n
    windows = {region.windows for region in regions[FIRST:]}
    assert len(windows - {()}) > 1
    seen_whole = errors(whole, pictures[before])
    assert errors(alphas[before], pictures[before]) < 0.65 * seen_whole


def test_a_window_stays_where_people_stay() -> None:
    rng = np.random.default_rng(0)
    pictures = [
        picture((500 + 3 * np.sin(n / 5), 200), (640, 210 + 2 * np.cos(n / 3)))
        + rng.integers(0, 8, (HEIGHT, WIDTH, 1), np.uint8) * np.uint8([0, 1, 1])
        for n in range(45)
    ]
    _, regions, *_ = follow(pictures)
    assert len(set(regions[FIRST:])) == 1
    assert regions[FIRST].windows


@pytest.mark.parametrize("busy", [False, True])
def test_looking_around_takes_a_tenth_at_most(busy: bool) -> None:
    """Even where the rest of the picture never rests; and no step is larger."""
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(80):
        drawn = picture((500, 300))
        if busy:
            noise = rng.integers(0, 256, (HEIGHT // 40, WIDTH // 40, 1), np.uint8)
            noise = noise.repeat(40, 0).repeat(40, 1)
            drawn[:200, :, 1:] = noise[:200] // 3
        pictures.append(drawn)
    _, regions, network, eye = follow(pictures)
    assert all(region.windows for region in regions[FIRST:])
    assert network.pixels == len(pictures) * 512 * 288
    assert 0 < eye.pixels < 0.1 * network.pixels
    # About once a second all of the rest is seen.
    assert eye.pixels > 0.03 * network.pixels


def test_a_cut_is_seen_whole() -> None:
    pictures = [picture((200, 300))] * 30 + [picture((900, 100), room=200)] * 20
    alphas, regions, *_ = follow(pictures)
    assert regions[29].windows
    assert not regions[30].windows
    assert all(
        a[p[..., 0] > 200].mean() > 0.9 for a, p in zip(alphas, pictures, strict=True)
    )
    assert regions[-1].windows


@pytest.mark.parametrize(("tall", "most", "seen"), [(90, 6, 0.9), (24, 65, 0.8)])
def test_who_leaves_is_followed_and_whoever_comes_next_is_found(
    tall: int, most: int, seen: float
) -> None:
    """The window stays meanwhile; one who is far away is found in a larger copy."""
    pictures = [picture((max(-40, 150 - 8 * n), 300)) for n in range(45)]
    pictures += [picture((1000, 100), tall=tall)] * (most + 4)
    alphas, regions, *_ = follow(pictures)
    assert regions[44].windows == regions[35].windows != ()
    for n, (alpha, shown) in enumerate(zip(alphas, pictures, strict=True)):
        person = shown[..., 0] > 200
        if person.any() and not 45 <= n < 45 + most:
            assert alpha[person].mean() > seen, n


def test_people_who_fill_the_frame_and_small_frames_are_seen_whole() -> None:
    near = [picture((400, 10), tall=700)] * FIRST
    small = [each[:270, :480].copy() for each in [picture((100, 50))] * FIRST]
    for pictures in (near, small):
        _, regions, _, eye = follow(pictures)
        assert not any(region.windows for region in regions)
        assert eye.pixels == 0


def test_who_is_far_away_is_seen_in_a_larger_copy_now_and_then() -> None:
    _, regions, *_ = follow([picture((600, 300), tall=24)] * 8)
    assert not regions[0].windows
    assert regions[-1].windows
    _, regions, _, eye = follow([picture()] * 68)
    assert not any(region.windows for region in regions)
    assert eye.pixels == 2 * 768 * 432


def test_streams_and_iterators_in_memory_follow_them_too() -> None:
    pictures = [picture((600 + 4 * n, 300)) for n in range(FIRST)]
    alphas, regions, *_ = follow(pictures)
    assert regions[-1].windows
    matter = Matter(Coarse(), region="auto")
    stream, several = matter.stream(), matter.streams()
    for _ in range(2):
        for alpha, each in zip(alphas, pictures, strict=True):
            for matted in (stream(each), several({"door": each})["door"]):
                assert np.allclose(matted.alpha / 255, alpha, atol=1 / 255)
        stream.reset()
        several.leave("door")
    for alpha, matted in zip(alphas, matter.frames(pictures), strict=True):
        assert np.allclose(matted.alpha / 255, alpha, atol=1 / 255)
