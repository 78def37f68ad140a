"""What the matting loop promises, mostly with a network too simple to be wrong."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from fakes import Fake, as_frames, colours
from torch import Tensor, nn

from rematte.matting.loop import choose_ratio, matte, matte_still
from rematte.video.frame import Frame


@pytest.mark.parametrize("chunk", [2, 3, 4, 10, 99])
def test_results_are_the_same_for_any_chunk(chunk: int) -> None:
    frames = as_frames(colours())
    one, many = Fake(), Fake()
    singly = list(matte(one, frames))
    together = list(matte(many, frames, seq_chunk=chunk))
    assert one.chunks == [1] * 10
    assert many.chunks[0] == min(chunk, 10)
    assert sum(many.chunks) == 10
    for a, b in zip(singly, together, strict=True):
        assert a.frame is b.frame
        assert torch.equal(a.src, b.src)
        assert torch.equal(a.fgr, b.fgr)
        assert torch.equal(a.pha, b.pha)


def test_state_is_handed_from_chunk_to_chunk() -> None:
    bright, dark = np.full((2, 2, 3), 255, np.uint8), np.zeros((2, 2, 3), np.uint8)
    fake = Fake()
    found = matte(fake, as_frames([bright, dark, dark, bright]))
    assert [float(matted.pha.mean()) for matted in found] == [1, 0.5, 0.25, 0.625]
    assert fake.fresh == 1


def test_state_starts_anew_where_the_size_changes() -> None:
    small, large = colours(4, (8, 6)), colours(3, (1024, 8))
    fake = Fake()
    mattes = list(matte(fake, as_frames([*small, *large, *small]), seq_chunk=3))
    assert fake.chunks == [3, 1, 3, 3, 1]
    assert fake.fresh == 3
    assert fake.ratios == [1, 1, 0.5, 1, 1]
    assert [m.pha.shape[-1] for m in mattes] == [8] * 4 + [1024] * 3 + [8] * 4
    for alone, matted in zip(matte(Fake(), as_frames(small)), mattes[7:], strict=True):
        assert torch.equal(alone.pha, matted.pha)


def test_mattes_come_as_frames_are_asked_for() -> None:
    taken = []

    def source() -> Iterator[Frame]:
        for frame in as_frames(colours()):
            taken.append(frame)
            yield frame

    mattes = matte(Fake(), source(), seq_chunk=2)
    next(mattes)
    assert len(taken) == 2
    next(mattes)
    next(mattes)
    assert len(taken) == 4


def test_no_frames_give_no_mattes() -> None:
    assert list(matte(Fake(), [])) == []


@pytest.mark.parametrize(("size", "portrait", "body"), [
    *(((320, 240), 1, 1), ((512, 512), 1, 1), ((1280, 720), 0.375, 0.6)),
    *(((1920, 1080), 0.25, 0.4), ((3840, 2160), 0.125, 0.2)),
])  # fmt: skip
def test_ratios_are_those_of_the_documented_table(
    size: tuple[int, int], portrait: float, body: float
) -> None:
    for width, height in (size, size[::-1]):
        assert choose_ratio(width, height, "portrait") == portrait
        assert choose_ratio(width, height, "full-body") == body
        auto = min(512 / max(size), 1)
        assert choose_ratio(width, height, "auto") == auto
        assert choose_ratio(width, height, None) == auto


def test_a_given_ratio_is_taken_as_it_is() -> None:
    assert choose_ratio(1920, 1080, 0.3) == 0.3
    assert choose_ratio(1920, 1080, 1) == 1


@pytest.mark.parametrize("ratio", [0, -0.5, 1.01, float("nan"), "half", "", "0.5"])
def test_other_ratios_are_refused(ratio: float | str) -> None:
    with pytest.raises(ValueError, match="downsample_ratio must be"):
        choose_ratio(1920, 1080, ratio)


class Settling(nn.Module):
    """Alpha comes nearer to a half by a factor with every call."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor, self.calls = factor, 0

    def forward(self, src: Tensor, *state: Any) -> tuple[Any, ...]:
        alpha = torch.full_like(src[:, :, :1], 0.5 + 0.5 * self.factor**self.calls)
        self.calls += 1
        return src, alpha, None, None, None, None


@pytest.mark.parametrize(("factor", "calls"), [(1, 2), (0.1, 5), (-1, 16)])
def test_a_still_is_shown_until_its_alpha_settles(factor: float, calls: int) -> None:
    network = Settling(factor)
    matted = matte_still(partial(matte, network), as_frames(colours(1))[0])
    assert network.calls == calls
    assert float(matted.pha.mean()) == pytest.approx(0.5 + 0.5 * factor ** (calls - 1))


class Small(Fake):
    """Has room for no more than so many frames at once."""

    room = 2

    def forward(self, src: Tensor, *rest: Any) -> Any:
        if src.shape[1] > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(src, *rest)


def test_too_little_memory_halves_the_chunk_and_changes_nothing() -> None:
    frames = as_frames(colours(23))
    told: list[str] = []
    found = matte(Small(), frames, downsample_ratio=1, seq_chunk=12, report=told.append)
    expected = matte(Fake(), frames, downsample_ratio=1, seq_chunk=1)
    for mine, true in zip(found, expected, strict=True):
        assert mine.frame is true.frame
        assert torch.equal(mine.pha, true.pha)
    assert told == [
        f"out of memory: went on with {count} frames at once" for count in (6, 3, 1)
    ]


def test_one_frame_too_large_is_an_error() -> None:
    model = Small()
    model.room = 0
    frames = as_frames(colours(3))
    found = matte(model, frames, downsample_ratio=1, seq_chunk=2, report=print)
    with pytest.raises(torch.OutOfMemoryError):
        next(found)
