"""Streams in one batch are as if each were alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import as_frames, scenes

import rematte
from rematte.matter.streams import Streams
from rematte.matting.loop import matte
from rematte.video.frame import Frame

Network = torch.nn.Module


def drawn(seed: int, count: int, size: tuple[int, int] = (80, 64)) -> list[Frame]:
    """Blocks that move, unlike for each seed."""
    return as_frames(scenes(*[count] * (seed + 1), size=size)[-count:])


@pytest.fixture(scope="module")
def model() -> Network:
    return rematte.load_model()


def test_streams_that_join_and_leave_are_as_if_alone(model: Network) -> None:
    clips = {
        "a": drawn(0, 8), "b": drawn(1, 8), "late": drawn(2, 8),
        "small": drawn(3, 8, (64, 48)),
    }  # fmt: skip
    alone = {
        name: list(matte(model, frames, downsample_ratio=0.5))
        for name, frames in clips.items()
    }
    streams = Streams(model, 0.5)
    at = dict.fromkeys(clips, 0)
    for turn in range(10):
        now = {
            name: clips[name][at[name]]
            for name in clips
            if at[name] < 8
            and not (name == "late" and turn < 3)
            and not (name == "b" and turn in (2, 5))
        }
        for name, matted in streams(now).items():
            true = alone[str(name)][at[str(name)]]
            assert matted.frame is now[str(name)]
            assert (matted.pha - true.pha).abs().max() < 1e-4
            assert (matted.fgr - true.fgr).abs().max() < 1e-4
            at[str(name)] += 1
        if at["a"] == 8:
            streams.leave("a")
    assert at == {"a": 8, "b": 8, "late": 7, "small": 8}
    assert len(streams) == 3


def test_a_stream_that_changes_its_size_starts_over(model: Network) -> None:
    streams = Streams(model, 0.5)
    streams({"a": drawn(0, 1)[0], "b": drawn(1, 1)[0]})
    frame = drawn(3, 1, (64, 48))[0]
    (true,) = matte(model, [frame], downsample_ratio=0.5)
    found = streams({"a": frame, "b": drawn(1, 2)[1]})
    assert (found["a"].pha - true.pha).abs().max() < 1e-4


def test_depths_are_not_mixed_nor_states(model: Network) -> None:
    deep = [replace(f, pixels=f.pixels.astype(np.uint16) * 257) for f in drawn(0, 3)]
    streams = Streams(model, 0.5)
    for one, other in zip(deep, drawn(0, 3), strict=True):
        found = streams({"deep": one, "a": other, "b": other})
        assert (found["deep"].pha - found["a"].pha).abs().max() < 1e-4
    _, states = streams._states["a"]
    for state in states:
        assert state.untyped_storage().nbytes() == state.numel() * 4


def test_nothing_gives_nothing_and_a_wrong_ratio_is_refused(model: Network) -> None:
    streams = Streams(model)
    assert streams({}) == {}
    streams.leave("nobody")
    assert len(streams) == 0
    with pytest.raises(ValueError, match="ratio"):
        Streams(model, 2.0)({"a": drawn(0, 1)[0]})
