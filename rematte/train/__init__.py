"""Training from one recipe: data, augmentation, losses, distillation and the loop.

Read it in this order: `recipe` holds every setting; `loop` runs the phases of a
recipe; `batches` draws what a step sees, with `data` and `augment`; `passes` computes
the losses of each kind of phase, with `blocks`, `edges`, `filter` and `losses`. It
needs the extra `train`.
"""

from rematte.train.dry_run import dry_run
from rematte.train.extras import Extras
from rematte.train.loop import Trained, train
from rematte.train.recipe import Recipe, load_recipe

__all__ = ["Extras", "Recipe", "Trained", "dry_run", "load_recipe", "train"]
