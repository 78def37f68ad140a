"""A decoder that is cut down: what it keeps of the wider one."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import random_network, save_images
from safetensors.torch import load_file, save_file

from rematte.network import matting_network
from rematte.network.matting_network import MattingNetwork, Widths
from rematte.train import Recipe, narrow, train
from rematte.train.blocks import capture
from rematte.train.recipe import NO_AUGMENT, Data, Model, Phase, Rates, Run, Validate


@pytest.fixture
def wide() -> MattingNetwork:
    network = random_network().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network


def fast(monkeypatch: pytest.MonkeyPatch, *widths: object) -> MattingNetwork:
    table = matting_network.WIDTHS
    monkeypatch.setitem(table, "mobilenetv3_fast", Widths(128, *widths, 16))  # type: ignore[arg-type]
    return MattingNetwork("mobilenetv3_fast").eval().requires_grad_(False)


def test_a_decoder_as_wide_is_the_same(
    wide: MattingNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    draw = np.random.default_rng(0)
    people = tmp_path / "people"
    people.mkdir()
    frames = list(draw.integers(0, 256, (6, 64, 96, 3), np.uint8))
    save_images(people / "clip", frames)
    start = str(tmp_path / "wide.safetensors")
    save_file(random_network().state_dict(), start)
    phase = Phase(
        "s", "sequences", steps=2, examples=2, crop=64, frames=(2, 2), native=True,
        rates=Rates(decoder=1e-3),
    )  # fmt: skip
    recipe = Recipe(
        (phase,),
        Data(people=(str(people),), held_out=0.0),
        Model("mobilenetv3_fast", start=start, teacher=start),
        NO_AUGMENT,
        Validate(samples=1, frames=1, size=32),
        Run(str(tmp_path / "run"), workers=0),
    )
    found = train(recipe, device="cpu", progress=False)
    was, now = load_file(start), load_file(found.weights)
    assert now["decoder.decode3.gru.hh.0.bias"].shape == (24,)
    same = {key for key in now if key in was and torch.equal(was[key], now[key])}
    kept = ("backbone.", "aspp.", "decoder.decode4.", "refiner.", "project_seg.")
    assert {key for key in now if key.startswith(kept)} <= same
    # What is resumed is not cut down again.
    longer = dataclasses.replace(recipe.run, out=str(tmp_path / "run"))
    again = train(dataclasses.replace(recipe, run=longer), resume=True, progress=False)
    assert again.finished
