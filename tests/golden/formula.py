"""Weights that are a function of key name and shape, whatever the framework.

From the same random stream as the golden cases (`RandomState.uniform`, whose numbers
numpy has promised never to change).
"""

import zlib

import numpy as np


def formula_tensor(key, shape):
    """The array of a state-dict key: float32, or int64 for batch counters."""
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    u = np.random.RandomState(zlib.crc32(key.encode("ascii"))).uniform(
        -1.0, 1.0, size=tuple(shape)
    )  # float64
    if key == "refiner.box_filter.weight":
        a = (1.0 + 0.2 * u) / 9.0
    elif key.endswith(".running_mean"):
        a = 0.1 * u
    elif key.endswith(".running_var"):
        a = 1.0 + 0.5 * u
    elif key == "project_mat.conv.bias":
        a = np.array([0.0, 0.0, 0.0, 0.5]) + 0.1 * u
    elif key.endswith(".bias"):
        a = 0.1 * u
    elif len(shape) == 1:  # BatchNorm weight
        a = 1.0 + 0.25 * u
    else:  # convolution weight, OIHW
        fan_in = int(np.prod(shape[1:]))
        a = np.sqrt(3.0 / fan_in) * GAIN.get(key.split(".")[0], 1.0) * u
    return a.astype(np.float32)


GAIN = {
    "backbone": 1.15,
    "aspp": 1.5,
    "decoder": 1.4,
    "project_mat": 1.5,
    "project_seg": 1.0,
}
