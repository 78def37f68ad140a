"""Loads the model of a conversion."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from rematte.engines.choose import load_for, share_models
from rematte.engines.device import choose_device
from rematte.options import Options
from rematte.weights.registry import for_quality


def ready_model(model: Any, options: Options, keep: int = 0) -> tuple[Any, Options]:
    """Load a model unless it is loaded, in a form whose engines share their work.

    Args:
        model: A loaded network, or the name or file of weights; None is the bundled
            ones.
        options: The options of the conversion.
        keep: How many sizes stay compiled when no engine uses them any more.

    Returns:
        The model as `choose_engine` takes it, and the options with its device and
        the quality that decides the size of the coarse pass.

    Raises:
        ValueError: If the options do not fit the model.
        WeightsError: If there are no such weights.
    """
    model, quality = for_quality(model, options.quality, options.downsample_ratio)
    options = replace(options, quality=quality)
    if model is None or isinstance(model, str | Path):
        device, _ = choose_device(str(options.device or "auto"))
        dtype = options.dtype or "float32"
        model = load_for(options.engine, model, None, device, dtype)
        options = replace(options, device=device)
    shared = share_models(model, options.engine, options.device, options.dtype, keep)
    return shared, options
