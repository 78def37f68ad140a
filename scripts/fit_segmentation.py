"""Fit the segmentation layer of trained weights to person masks, and nothing else.

    python scripts/fit_segmentation.py WEIGHTS OUT --shards '../shared/train/*.tar'

The layer is one 1x1 convolution on the decoder's last map, 17 parameters; so this is a
logistic regression on maps that are computed once. IoU at 0.5 with masks that were held
out is told for the layer before and after, and for alpha.
"""

import argparse
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from fit_filter import last_map, write
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from rematte.errors import InputError, end
from rematte.evaluate import metrics
from rematte.network.matting_network import MattingNetwork
from rematte.train.batches import plain_sample
from rematte.train.data import Index, Item, index
from rematte.train.recipe import NO_AUGMENT, Data
from rematte.weights.load import load_network

SIZES = ((256, 256), (384, 288), (288, 384))
WARM = 2  # times a picture is shown, so that the recurrent state settles


@torch.no_grad()
def maps(
    model: MattingNetwork, item: Item, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Give the decoder's last map (1, 16, H, W) and the mask (1, 1, H, W), 0 or 1."""
    drawn = plain_sample(item, np.random.default_rng(0), 1, size, NO_AUGMENT)
    return last_map(model, drawn["src"], WARM), (drawn["mask"] > 0.5).float()


def fit(model: MattingNetwork, hidden: Tensor, mask: Tensor) -> None:
    """Fit by LBFGS.

    Args:
        model: Its segmentation layer learns.
        hidden: (N, 16) values of the decoder's last map.
        mask: (N,), 0 or 1.
    """
    layer = model.project_seg.requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        layer.parameters(), max_iter=100, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = layer(hidden.T[None, :, :, None])[0, 0, :, 0]
        # Keeps the weights finite where the masks can be told without an error.
        decay = 1e-4 * sum(p.square().sum() for p in layer.parameters())
        total = F.binary_cross_entropy_with_logits(logits, mask) + decay
        total.backward()
        return total

    optimizer.step(loss)


@torch.no_grad()
def overlap(model: MattingNetwork, found: list[tuple[Tensor, Tensor]]) -> str:
    """Say the mean IoU of the layer and of alpha."""
    pairs: dict[str, list[float]] = {"segmentation": [], "alpha": []}
    for hidden, mask in found:
        guesses = {
            "segmentation": model.project_seg(hidden).sigmoid(),
            "alpha": model.project_mat(hidden)[:, 3:].clamp(0, 1),
        }
        for name, guess in guesses.items():
            value = metrics.iou(
                guess[:, 0].double().numpy(), mask[:, 0].double().numpy()
            )
            if value is not None:
                pairs[name].append(value)
    return ", ".join(f"{name} {fmean(values):.3f}" for name, values in pairs.items())


def masked(found: Index) -> list[Item]:
    """Give the stills that have a mask."""
    return [item for item in found.masks if item.media.frames == 1]


def main() -> int:
    parser = argparse.ArgumentParser(description="Fit the segmentation layer.")
    parser.add_argument("weights", help="safetensors to begin with")
    parser.add_argument("out", type=Path, help="safetensors to write, float16")
    parser.add_argument("--shards", nargs="+", required=True, metavar="TAR")
    parser.add_argument("--pictures", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = load_network(options.weights)
    rng = np.random.default_rng(options.seed)
    trained, held = index(Data(shards=tuple(options.shards))).split(Data().held_out)
    items = masked(trained)
    if not items:
        raise InputError("--shards have no still with a mask to learn from")
    chosen = rng.permutation(len(items))[: options.pictures]
    hidden, masks = [], []
    for number, at in enumerate(tqdm(chosen)):
        x, mask = maps(model, items[at], SIZES[number % len(SIZES)])
        # Neighbours say the same, so one in four each way will do.
        hidden.append(x[..., ::4, ::4].flatten(2)[0].T)
        masks.append(mask[..., ::4, ::4].flatten())
    tests = [maps(model, item, SIZES[0]) for item in masked(held)]
    if tests:
        print(f"IoU before: {overlap(model, tests)}")
    fit(model, torch.cat(hidden), torch.cat(masks))
    if tests:
        print(f"IoU after:  {overlap(model, tests)}")
    write(options.weights, options.out, "project_seg", model.project_seg)
    print(f"{options.out}: {len(chosen)} pictures used")
    return 0


if __name__ == "__main__":
    end(main)
