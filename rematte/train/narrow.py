"""Prunes the channels of a decoder, so that a cheaper network starts from it.

Each block keeps the channels from which a linear map, fitted on pictures, best predicts
the others. The map is folded into the weights of the layers that read them. This is
exact through upsampling and concatenation, which are linear.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from rematte.network.matting_network import ConvGRU, MattingNetwork
from rematte.train.blocks import capture

BLOCKS = ("decoder.decode3", "decoder.decode2", "decoder.decode1")
_RIDGE = 1e-4  # of the mean square of all channels, so that the map stays small


@torch.no_grad()
def cut_down(
    student: MattingNetwork, wide: MattingNetwork, pictures: Iterable[Tensor]
) -> None:
    """Fill a network's decoder in place with the most useful channels of a wider one.

    Parts of equal width, such as the encoder, are copied. The last block is unchanged.
    Maps are fitted on the clips `pictures`, (B, T, 3, H, W) each.
    """
    own, same = student.state_dict(), wide.state_dict()
    for key in list(same):
        if key not in own or same[key].shape != own[key].shape or ".decode0." in key:
            del same[key]
    student.load_state_dict(same, strict=False)
    products = _products(wide, pictures)
    below = torch.eye(2 * wide.decoder.decode4.gru.channels)
    for name in BLOCKS:
        narrow: Any = student.get_submodule(name)
        broad: Any = wide.get_submodule(name)
        product, fed = products[name], products[f"{name}.gru"]
        split, new = len(product) - len(fed), narrow.gru.channels
        state = product[split:, split:]
        plain = _choose(product[:split, :split], narrow.conv[0].out_channels - new)
        recurrent = _choose(state, new)
        kept = torch.cat([plain, recurrent + split])
        _cut_conv(narrow.conv, broad.conv, kept, below)
        spreads = _spread(fed, recurrent), _spread(state, recurrent)
        _cut_gru(narrow.gru, broad.gru, recurrent, *spreads)
        below = _spread(product, kept)


def _products(wide: MattingNetwork, pictures: Iterable[Tensor]) -> dict[str, Tensor]:
    """Sum the products of all pairs of output channels of each block, by its name.

    Products of a GRU's input channels are under the GRU's name.
    """
    products: dict[str, Any] = defaultdict(int)
    names = [*BLOCKS, *(f"{name}.gru" for name in BLOCKS)]
    for src in pictures:
        with capture(wide, names) as seen:
            wide(src)
        for name, (given, out) in seen.items():
            x = (given[0] if name.endswith(".gru") else out).transpose(0, 1).flatten(1)
            products[name] += (x @ x.T / x.shape[1]).double()
    return products


def _choose(product: Tensor, count: int) -> Tensor:
    """Choose channels greedily by the share of the remaining variance they explain."""
    left, chosen = product.clone(), list[int]()
    for _ in range(count):
        explained = left.square().sum(0) / left.diagonal().clamp(min=1e-12)
        explained[chosen] = -1
        best = int(explained.argmax())
        chosen.append(best)
        scale = left[best, best].clamp(min=1e-12)
        left = left - torch.outer(left[:, best], left[best]) / scale
    return torch.tensor(sorted(chosen))


def _spread(product: Tensor, kept: Tensor) -> Tensor:
    """Fit the map from the kept channels to all, (C, K)."""
    inner = product[kept][:, kept]
    ridge = _RIDGE * product.diagonal().mean() * torch.eye(len(kept))
    spread: Tensor = torch.linalg.solve(inner + ridge, product[kept]).T.float()
    return spread


def _cut_conv(narrow: Any, broad: Any, kept: Tensor, below: Tensor) -> None:
    """Prune a convolution of the block below, skip and picture, and its BatchNorm."""
    under, rest = broad[0].weight[kept].tensor_split([len(below)], 1)
    narrow[0].weight.copy_(torch.cat([_mix(under, below), rest], 1))
    state = broad[1].state_dict().items()
    narrow[1].load_state_dict({key: x[kept] if x.dim() else x for key, x in state})


def _cut_gru(narrow: ConvGRU, broad: ConvGRU, kept: Tensor, *spreads: Tensor) -> None:
    """Prune a GRU; `spreads` are the maps of its input and of its state."""
    for name, gates in (("ih", 2), ("hh", 1)):
        old, new = getattr(broad, name)[0], getattr(narrow, name)[0]
        rows = torch.cat([kept + at * broad.channels for at in range(gates)])
        halves = zip(old.weight[rows].chunk(2, 1), spreads, strict=True)
        new.weight.copy_(torch.cat([_mix(half, spread) for half, spread in halves], 1))
        new.bias.copy_(old.bias[rows])


def _mix(weight: Tensor, spread: Tensor) -> Tensor:
    """Fold a map to K channels into a kernel (O, C, h, w): (O, K, h, w)."""
    return torch.einsum("ochw,ck->okhw", weight, spread)
