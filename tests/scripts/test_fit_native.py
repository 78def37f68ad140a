"""Fitting on footage at its own scale: nothing is enlarged, nothing else changes."""

import copy
import dataclasses
from pathlib import Path

import fit_native as script
import numpy as np
import pytest
import torch
from fakes import random_network
from PIL import Image
from torch import Tensor

from rematte.network.matting_network import MattingNetwork
from rematte.train.data import Index, index
from rematte.train.recipe import Data


@pytest.fixture
def network() -> MattingNetwork:
    return random_network()


@pytest.fixture
def found(tmp_path: Path) -> Index:
    rng = np.random.default_rng(0)
    people, rooms = tmp_path / "people", tmp_path / "rooms"
    clip = people / "clip"
    for folder in (clip, rooms):
        folder.mkdir(parents=True)
    for path in (people / "a.png", people / "b.png", rooms / "r.png"):
        Image.fromarray(rng.integers(0, 256, (230, 260, 3), np.uint8)).save(path)
    for number in range(5):
        noise = rng.integers(0, 256, (200, 640, 3), np.uint8)
        Image.fromarray(noise).save(clip / f"{number}.png")
    folders = {"people": (str(people),), "backgrounds": (str(rooms),)}
    return index(Data(**folders, held_out=0.0))


def outputs(network: MattingNetwork) -> list[Tensor]:
    torch.manual_seed(1)
    with torch.no_grad():
        return list(network(torch.rand(1, 2, 3, 48, 80)))


def test_pictures_are_cut_to_the_grid_and_made_smaller_but_never_larger() -> None:
    small = torch.randint(256, (2, 37, 70, 3), dtype=torch.uint8)
    kept = script.fitted(small)
    assert torch.equal(kept, small.movedim(-1, 1)[:, :, :32, :64].float() / 255)
    assert script.fitted(torch.zeros(1, 1080, 1920, 3)).shape == (1, 3, 288, 512)


def test_a_perfect_tail_has_nothing_to_learn(
    network: MattingNetwork, found: Index
) -> None:
    student, before = copy.deepcopy(network), outputs(network)
    with torch.no_grad():
        told = script.fit_tail(student, network, found, 1e-9, 0.1, 4)
    assert told.endswith("in 0 steps")
    assert all(float(error) < 0.05 for error in told.split()[:6])  # bfloat16
    for x, y in zip(outputs(student), before, strict=True):
        torch.testing.assert_close(x, y, atol=2e-5, rtol=1e-4)


def test_perfect_ends_have_nothing_to_learn(
    network: MattingNetwork, found: Index
) -> None:
    student, before = copy.deepcopy(network), outputs(network)
    with torch.no_grad():
        kept = script.end_examples(student, network, found, 8, 0)
        told = script.fit_ends(student, kept, 1e-9, 0.1)
    assert float(told.split()[0]) < 1e-3  # kept in half precision
    for x, y in zip(outputs(student), before, strict=True):
        torch.testing.assert_close(x, y, atol=2e-5, rtol=1e-4)


def test_composites_teach_their_exact_alpha(
    network: MattingNetwork, found: Index, tmp_path: Path
) -> None:
    cutout = np.full((200, 120, 4), 128, np.uint8)
    cutout[..., 3] = 255 * (np.hypot(*np.mgrid[-100:100, -60:60]) < 50)
    (tmp_path / "cut").mkdir()
    Image.fromarray(cutout).save(tmp_path / "cut" / "a.png")
    folders = {"mattes": (str(tmp_path / "cut"),)}
    mattes = index(Data(**folders, held_out=0.0)).mattes
    both = dataclasses.replace(found, mattes=mattes)
    src, out = script.true_sequence(both, np.random.default_rng(0))
    fgr, pha = src + out[:, :3], out[:, 3:]
    assert ((fgr >= -0.01) & (fgr <= 1.01)).all()
    assert pha.min() == 0
    assert pha.max() == 1
    with torch.no_grad():
        kept = script.end_examples(network, network, both, 8, 0)
        told = script.fit_ends(network, kept, 1e-9, 0.1)
    exact, taught = (float(error) for error in told.split()[:2])
    assert exact > 0.01  # random weights know nothing of it
    assert taught < 1e-3


def test_only_edges_of_the_picture_itself_are_learned() -> None:
    alpha = torch.zeros(288, 512)
    inside = script.known(alpha, 40, 100)[0, 0]
    assert inside.sum() == (192 - 24) ** 2
    corner = script.known(alpha, 96, 0)[0, 0]  # at the bottom and at the left
    assert corner[12:, :180].all()
    assert not corner[:12].any()
    assert not corner[:, 180:].any()


def test_a_pan_shows_the_photo_pixel_for_pixel() -> None:
    photo = torch.rand(3, 240, 272)
    shown = script.panned(photo, np.random.default_rng(3))
    windows = photo.unfold(1, 224, 1).unfold(2, 256, 1)
    for seen in shown:
        same = (windows == seen[:, None, None]).all(-1).all(-1).all(0)
        assert same.any()


def test_soap_finds_the_answer_where_inputs_go_together() -> None:
    torch.manual_seed(0)
    # All inputs are nearly the same: a hundred times as much along one direction.
    x = torch.randn(512, 1) + 0.01 * torch.randn(512, 8)
    true = torch.randn(8, 4)
    errors = []
    for make in (script.Soap, torch.optim.Adam):
        layer = torch.nn.Linear(8, 4)
        torch.nn.init.zeros_(layer.weight)
        optimizer = make(list(layer.parameters()), 0.05)
        for step in range(300):
            optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 300)
            optimizer.zero_grad()
            loss = (layer(x) - x @ true).square().mean()
            loss.backward()
            optimizer.step()
        errors.append(loss.item())
    assert errors[0] < 0.1 * errors[1]
