"""Fitting block by block: the fast layers are the slow ones, and nothing is lost."""

import copy

import fit_blocks as script
import pytest
import torch
from fakes import random_network
from torch import Tensor

from rematte.network.matting_network import MattingNetwork


@pytest.fixture
def network() -> MattingNetwork:
    network = random_network()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.uniform_(-0.1, 0.1)
    return network


def outputs(network: MattingNetwork) -> list[Tensor]:
    torch.manual_seed(1)
    src = torch.rand(1, 2, 3, 48, 80)
    with torch.no_grad():
        return list(network(src))


def test_parts_are_all_that_learns_from_a_teacher(network: MattingNetwork) -> None:
    learned = {
        id(p) for part in script.PARTS for p in script.Part(network, part).parameters()
    }
    rest = [n for n, p in network.named_parameters() if id(p) not in learned]
    assert {name.split(".")[0] for name in rest} == {"refiner", "project_seg"}


def test_folding_and_writing_back_changes_nothing(network: MattingNetwork) -> None:
    before = outputs(network)
    for names in script.PARTS:
        part = script.Part(network, names)
        with torch.no_grad():
            script.unfold(part, script.folded(part).state_dict())
    for x, y in zip(outputs(network), before, strict=True):
        torch.testing.assert_close(x, y, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("number", [1, 4, 6, 13])
def test_fast_layers_have_the_gradients_of_the_slow(
    network: MattingNetwork, number: int
) -> None:
    part = script.folded(network.backbone.features[number]).requires_grad_(True)
    channels = next(p.shape for n, p in part.named_parameters() if p.dim() == 4)
    channels = channels[0] if number == 1 else channels[1]
    x = torch.rand(2, channels, 9, 14)
    grads = []
    for layer in (part, script.quick(part)):
        part.zero_grad()
        out = layer(x)
        out.square().mean().backward()
        grads.append([p.grad.clone() for p in part.parameters() if p.grad is not None])
    assert len(grads[0]) == len(grads[1]) == len(list(part.parameters()))
    for slow, fast in zip(*grads, strict=True):
        # Products of bfloat16 have 8 bits.
        assert (slow - fast).norm() < 0.03 * slow.norm() + 1e-7


def test_parts_that_learn_together_write_back_what_they_learned(
    network: MattingNetwork,
) -> None:
    torch.manual_seed(2)
    pictures = [torch.randint(256, (1, 3, 64, 96), dtype=torch.uint8)] * 40
    student, before = copy.deepcopy(network), outputs(network)
    with torch.no_grad():
        told = script.fit_chain(student, network, pictures, 1e-9, 0.1)
    assert told.endswith("in 0 steps")
    assert float(told.split()[0]) < 0.05  # products of bfloat16
    for x, y in zip(outputs(student), before, strict=True):
        torch.testing.assert_close(x, y, atol=2e-5, rtol=1e-4)
