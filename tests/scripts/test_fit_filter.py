"""Fitting the deep guided filter: crops tell what the picture does, no more learns."""

from pathlib import Path

import fit_filter as script
import numpy as np
import pytest
import torch
from fakes import random_network
from safetensors.torch import load_file, save_file
from torch import Tensor

from rematte.network.guided_filter import DeepGuidedFilter, refine, shrink
from rematte.network.matting_network import MattingNetwork


@pytest.fixture
def network() -> MattingNetwork:
    return random_network()


@pytest.fixture
def truth() -> tuple[Tensor, Tensor, Tensor]:
    """A picture with noise in it, and a disc in the middle."""
    rows, columns = (torch.arange(float(n)) for n in (272, 304))
    away = ((rows[:, None] - 136).square() + (columns - 152).square()).sqrt()
    torch.manual_seed(1)
    src = torch.rand(1, 3, 272, 304)
    return src, src.clone(), (60 - away).clamp(0, 1)[None, None]


@torch.no_grad()
@pytest.mark.parametrize("ratio", script.CROPS)
def test_a_crop_shows_what_the_whole_picture_does(
    network: MattingNetwork,
    truth: tuple[Tensor, Tensor, Tensor],
    ratio: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(script, "LOST", 1)
    src = truth[0]
    picture = shrink(src, ratio)
    hidden = script.last_map(network, picture, script.WARM)
    coarse = network.project_mat(hidden)
    whole = refine(src, *network.refiner(picture, coarse, hidden))
    found = list(script.crops_at(network, truth, ratio, np.random.default_rng(0)))
    assert len(found) == script.FROM_EACH
    edge = 2 * round(1 / ratio) + 2
    for crop in found:
        parts = network.refiner(crop.picture, crop.coarse, crop.hidden)
        mine = refine(crop.src, *parts)[0, :, edge:-edge, edge:-edge]
        height, width = crop.src.shape[-2:]
        places = src[0, 0].unfold(0, height, 1).unfold(1, width, 1)
        ((top, left),) = (places == crop.src[0, 0]).all(-1).all(-1).nonzero().tolist()
        theirs = whole[0, :, top:, left:][:, edge : height - edge, edge : width - edge]
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_only_the_filter_learns_and_it_does(
    network: MattingNetwork,
    truth: tuple[Tensor, Tensor, Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    save_file(network.state_dict(), old)
    monkeypatch.setattr(script, "LOST", 1)
    rng = np.random.default_rng(0)
    samples = [s for _ in range(4) for s in script.crops(network, truth, rng)]
    refiner = network.refiner
    assert isinstance(refiner, DeepGuidedFilter)

    def left() -> float:
        found = torch.cat([script.errors(refiner, sample) for sample in samples])
        return float((found @ script.WEIGHTS).sum())

    before = left()
    assert script.fit(refiner, samples, 3, 4e-3) > 0
    assert left() < before
    script.write(str(old), new, "refiner", refiner)
    was, now = load_file(old), load_file(new)
    assert was.keys() == now.keys()
    changed = {key for key in was if not torch.equal(was[key].half(), now[key].half())}
    assert changed
    assert all(key.startswith("refiner.") for key in changed)
