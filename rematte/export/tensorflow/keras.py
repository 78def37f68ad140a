"""Exports a .keras file for `keras.models.load_model`: any size, ratio and batch."""

from pathlib import Path

import keras
import tensorflow as tf

from rematte.export.formats import Request, Step
from rematte.export.tensorflow.saved_model import carried_over, step_of
from rematte.network.matting_network import MattingNetwork


def write(network: MattingNetwork, path: Path, request: Request) -> None:
    """Write the file."""
    carried_over(network).save(path)


def open_model(path: Path, request: Request, ratio: float) -> Step:
    """Return a step that runs the file."""
    return step_of(tf.function(keras.models.load_model(path)), ratio)
