"""What `torch.hub.load` finds: `mobilenetv3`, `resnet50` and `converter`.

The names and arguments are those of RobustVideoMatting's documentation.

Raises:
    ImportError: If the program has imported another rematte, or an editable
        installation of another one comes first. Python can hold only one.
"""

from collections.abc import Callable
from pathlib import Path

import rematte
from rematte import MattingNetwork, Report, convert_video
from rematte.weights.load import load_network

_HERE, _IMPORTED = Path(__file__).resolve().parent, Path(rematte.__file__).resolve()
if _IMPORTED.parent.parent != _HERE:
    raise ImportError(
        f"torch.hub cannot load the rematte of {_HERE}: the one of {_IMPORTED.parent} "
        "is imported already; call torch.hub.load before `import rematte`, in an "
        "environment without an editable installation, or use rematte.load_model()"
    )

dependencies = ["torch", "numpy", "av", "safetensors", "tqdm"]


def mobilenetv3(pretrained: bool = True, progress: bool = True) -> MattingNetwork:
    """The fast network, with the weights that come with this package.

    Args:
        pretrained: Load the weights; else they are random, for training.
        progress: Has no effect: nothing is fetched.
    """
    return _load("mobilenetv3", pretrained)


def resnet50(pretrained: bool = True, progress: bool = True) -> MattingNetwork:
    """The large network, with RobustVideoMatting's weights (GPL-3.0), fetched once.

    Args:
        pretrained: Load the weights; else they are random, for training.
        progress: Has no effect: a download shows a bar on stderr.
    """
    return _load("resnet50", pretrained)


def converter() -> Callable[..., Report]:
    """The function `convert_video`."""
    return convert_video


def _load(variant: str, pretrained: bool) -> MattingNetwork:
    return load_network(variant=variant) if pretrained else MattingNetwork(variant)
