"""Training from one recipe: data, augmentation, losses, distillation and the loop.

A leaf: it uses the network and the video reader, and nothing of the package uses it but
the command line, when asked. Needs the extra `train`.
"""

from rematte.train.loop import Trained, train
from rematte.train.recipe import Recipe, load_recipe

__all__ = ["Recipe", "Trained", "load_recipe", "train"]
