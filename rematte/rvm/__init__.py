"""The modules that RobustVideoMatting documents, for programs written for it.

`rematte.rvm.model`, `rematte.rvm.inference` and `rematte.rvm.inference_utils` have the
names that `model.py`, `inference.py` and `inference_utils.py` have in a checkout.
"""

from importlib.util import find_spec

from rematte.errors import NO_TORCH

if find_spec("torch") is None:
    raise ImportError(f"{__name__}: {NO_TORCH}")
