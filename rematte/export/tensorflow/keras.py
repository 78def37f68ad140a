"""A .keras file: any size, ratio and batch, as `keras.models.load_model` takes it."""

from pathlib import Path

import keras
import tensorflow as tf

from rematte.export.formats import Request, Step
from rematte.export.tensorflow.saved_model import carried_over, step_of
from rematte.network.matting_network import MattingNetwork


def write(network: MattingNetwork, path: Path, request: Request) -> None:
    """Write it."""
    carried_over(network).save(path)


def open_model(path: Path, request: Request, ratio: float) -> Step:
    """Give a step that runs what was written."""
    return step_of(tf.function(keras.models.load_model(path)), ratio)
