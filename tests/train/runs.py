"""Short runs on a CPU, and what they leave behind."""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fakes import random_network

from rematte.network.matting_network import MattingNetwork
from rematte.train import Recipe, Trained, train
from rematte.train.journal import LOG
from rematte.train.recipe import Validate


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def few(samples: int, frames: int = 1) -> Validate:
    """Seldom measured, with few and small samples."""
    return Validate(every=100, samples=samples, frames=frames, size=32)


def quick(recipe: Recipe, **options: Any) -> Trained:
    return train(recipe, device="cpu", progress=False, **options)


def log(recipe: Recipe, key: str = "") -> list[dict[str, Any]]:
    """The lines of a run's log, or those with a key."""
    text = (Path(recipe.run.out) / LOG).read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    return [line for line in lines if not key or key in line]


def changed(recipe: Recipe, **settings: Any) -> Recipe:
    """The recipe with its first phase alone, and other settings of it."""
    phase = dataclasses.replace(recipe.phase[0], **settings)
    return dataclasses.replace(recipe, phase=(phase,))


def elsewhere(recipe: Recipe, folder: Path | str, **settings: Any) -> Recipe:
    """The recipe with another folder, and other settings of the run."""
    run = dataclasses.replace(recipe.run, out=str(folder), **settings)
    return dataclasses.replace(recipe, run=run)


@contextmanager
def one_thread() -> Iterator[None]:
    """With more, torch's backward pass differs between two runs of the same step."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def uneven_network() -> MattingNetwork:
    """A random network whose BatchNorm does something."""
    network = random_network()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network
