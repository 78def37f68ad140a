"""The end of the coarse pass on a CPU, which torch and OpenVINO share."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rematte.engines.kernels.guided_filter_fit import Floats, Weights, fit
from rematte.network.guided_filter import DeepGuidedFilter
from rematte.network.matting_network import MattingNetwork
from rematte.network.parts import CoarseHead, folded


class Head:
    """Projects hidden features and fits the guided filter, in compiled loops.

    This is `CoarseHead` in float32, whatever precision the features have.

    Args:
        network: The network; it stays as it is.
    """

    def __init__(self, network: MattingNetwork) -> None:
        head = folded(CoarseHead(network, True))
        box, none = np.full((4, 9), 1 / 9, np.float32), np.zeros((0, 1), np.float32)
        layers = none, none, none
        with torch.no_grad():
            project = _rows(head.project_mat.conv)
            if isinstance(head.refiner, DeepGuidedFilter):
                box = head.refiner.box_filter.weight.flatten(1).numpy()
                first, _, _, second, _, _, third = head.refiner.conv
                layers = _rows(first), _rows(second), _rows(third)
        self._weights = {
            True: Weights(project, box, layers),
            False: Weights(project, box[:0], (none, none, none)),
        }

    def __call__(self, picture: Floats, hidden: NDArray[Any], refined: bool) -> Floats:
        """Make the maps of `Matted.from_maps`.

        Args:
            picture: The downsampled frame, (h, w, 3) in [0, 1].
            hidden: The decoder's features, (16, h, w), float32, or the bits of bfloat16
                in a type of 16 bits.
            refined: Whether the frame is larger than the picture, so that the guided
                filter is needed.

        Returns:
            (8, h, w), or (4, h, w) without the guided filter.
        """
        maps = np.empty((8 if refined else 4, *picture.shape[:2]), np.float32)
        fit(self._weights[refined], picture, hidden, maps)
        return maps


def _rows(convolution: Any) -> Floats:
    """Give the weights of a 1x1 convolution with its bias as the last column."""
    weight, added = convolution.weight.flatten(1), convolution.bias[:, None]
    rows: Floats = torch.cat([weight, added], 1).numpy()
    return rows
