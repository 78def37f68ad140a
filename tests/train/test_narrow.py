"""A decoder that is cut down: what it keeps of the wider one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import lay_out, random_network
from runs import few, quick, rng, uneven_network
from safetensors.torch import load_file, save_file

from rematte.errors import InputError
from rematte.network import matting_network
from rematte.network.matting_network import MattingNetwork, Widths
from rematte.train import Recipe, narrow
from rematte.train.blocks import capture
from rematte.train.recipe import NO_AUGMENT, Data, Model, Phase, Rates, Run
from rematte.train.setup import start_network


@pytest.fixture
def wide() -> MattingNetwork:
    return uneven_network().requires_grad_(False)


def fast(monkeypatch: pytest.MonkeyPatch, *widths: object) -> MattingNetwork:
    table = matting_network.WIDTHS
    monkeypatch.setitem(table, "mobilenetv3_fast", Widths(128, *widths, 16))  # type: ignore[arg-type]
    return MattingNetwork("mobilenetv3_fast").eval().requires_grad_(False)


def test_a_decoder_as_wide_is_the_same(wide: MattingNetwork, monkeypatch: Any) -> None:
    student = fast(monkeypatch, (80, 40, 32, 16), (40, 20, 16))
    clips = [torch.rand(1, 3, 3, 64, 96) for _ in range(3)]
    monkeypatch.setattr(narrow, "_RIDGE", 1e-9)
    narrow.cut_down(student, wide, clips)
    names = ["aspp", "decoder.decode4", *narrow.BLOCKS]
    with capture(student, names) as mine, capture(wide, names) as theirs:
        student(clips[0])
        wide(clips[0])
    for name in names:
        torch.testing.assert_close(mine[name][1], theirs[name][1], atol=1e-3, rtol=0)


def test_channels_that_others_predict_are_not_kept() -> None:
    maps = torch.randn(4, 1000, dtype=torch.float64)
    predicted = torch.stack([maps[0] + 0.5 * maps[1], 2 * maps[2], maps[3] - maps[0]])
    maps = torch.cat([maps, predicted])
    product = maps @ maps.T / 1000
    kept = narrow._choose(product, 4)
    spread = narrow._spread(product, kept).double()
    assert (spread @ maps[kept] - maps).abs().max() < 0.01


def test_a_run_starts_from_a_wider_network(tmp_path: Path) -> None:
    """Only the blocks that are narrower differ from it."""
    frames = list(rng().integers(0, 256, (6, 64, 96, 3), np.uint8))
    people = lay_out(tmp_path / "people", {"clip": frames})
    start = str(tmp_path / "wide.safetensors")
    save_file(random_network().state_dict(), start)
    phase = Phase(
        "s", "sequences", steps=2, examples=2, crop=64, frames=(2, 2), native=True,
        rates=Rates(decoder=1e-3),
    )  # fmt: skip
    data = Data(people=(str(people),), held_out=0.0)
    run = Run(str(tmp_path / "run"), workers=0)
    model = Model("mobilenetv3_fast", start=start, teacher=start)
    recipe = Recipe((phase,), data, model, NO_AUGMENT, few(1), run)
    found = quick(recipe)
    was, now = load_file(start), load_file(found.weights)
    assert now["decoder.decode3.gru.hh.0.bias"].shape == (24,)
    same = {key for key in now if key in was and torch.equal(was[key], now[key])}
    kept = ("backbone.", "aspp.", "decoder.decode4.", "refiner.", "project_seg.")
    assert {key for key in now if key.startswith(kept)} <= same
    # What is resumed is not cut down again.
    assert quick(recipe, resume=True).finished


def test_what_cannot_be_cut_down_is_named(tmp_path: Path) -> None:
    start = tmp_path / "large.safetensors"
    save_file(MattingNetwork("resnet50").state_dict(), start)
    recipe = Recipe((), model=Model("mobilenetv3_fast", start=str(start)))
    with pytest.raises(InputError, match=r"large\.safetensors is neither"):
        start_network(recipe, [])
