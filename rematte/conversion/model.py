"""Loads the model of a conversion, and makes its engine and loop."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rematte.engines.choose import choose_engine, load_for, share_models
from rematte.engines.device import choose_device
from rematte.engines.engine import Engine
from rematte.matting.loop import Matting, matte_still, run
from rematte.matting.region import Regions
from rematte.options import Options
from rematte.weights.registry import for_quality


def ready_model(model: Any, options: Options, keep: int = 0) -> tuple[Any, Options]:
    """Load a model unless it is loaded, so that its engines share compiled networks.

    `model` is a loaded network, or the name or file of weights; None is the bundled
    ones. `keep` sizes stay compiled when no engine uses them any more.

    Returns:
        The model as `choose_engine` takes it, and the options with its device and the
        quality that decides the size of the coarse pass.

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


def make_engine(
    model: Any,
    options: Options,
    report: Callable[[str], object] = warnings.warn,
    chunk: int | str = 1,
) -> Engine:
    """Make the engine that the options name; the arguments are `choose_engine`'s."""
    return choose_engine(
        model, engine=options.engine, device=options.device, dtype=options.dtype,
        chunk=chunk, report=report,
    )  # fmt: skip


def bind_loop(
    engine: Engine, options: Options, regions: Regions | None, still: bool, cuts: bool
) -> Matting:
    """Bind the loop to an engine and to the options of a conversion.

    `still` says whether each frame is an image by itself, whose alpha must settle, and
    `cuts` whether cuts are marked.
    """
    matting: Matting = partial(
        run, engine, downsample_ratio=options.ratio, regions=regions
    )
    if still:
        return lambda frames: map(partial(matte_still, matting), frames)
    return partial(matting, warmup=options.warmup, cuts=cuts)
