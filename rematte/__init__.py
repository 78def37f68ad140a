"""Cut people out of video with no green screen: recurrent matting, sound kept.

The names here are the public ones: `load_model` and `convert_video` do the work of
the command line, `MattingNetwork` is the bare network, `matte` the loop around it.
Each is imported when it is first used, since some need torch, which is an extra.
The logger `rematte` reports what is slow and which fallbacks are used; it is silent by
default.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rematte.errors import (
    NO_TORCH,
    Cancelled,
    InputError,
    OutputError,
    TimedOut,
    WeightsError,
)
from rematte.version import __version__

if TYPE_CHECKING:
    from rematte.conversion.option_types import (
        Backdrop,
        ConvertOptions,
        DtypeName,
        MatterOptions,
        OutputType,
        RatioName,
    )
    from rematte.conversion.report import Progress
    from rematte.convert import Report, convert_video
    from rematte.engines.tensors import TensorMatted
    from rematte.matter.matter import Matter, Stream
    from rematte.matter.photo import PhotoSource
    from rematte.matter.pictures import DecodedFrame, Picture
    from rematte.matter.streams import Streams
    from rematte.matting.loop import Memory, matte
    from rematte.matting.matte import Matted
    from rematte.matting.people import People
    from rematte.matting.person import Person
    from rematte.matting.region import Region
    from rematte.network.matting_network import Matte, MattingNetwork, Segmentation
    from rematte.options import Options
    from rematte.video.frame import Frame
    from rematte.video.pixels import Image, Order
    from rematte.weights.load import load_model

__all__ = [
    "Backdrop",
    "Cancelled",
    "ConvertOptions",
    "DecodedFrame",
    "DtypeName",
    "Frame",
    "Image",
    "InputError",
    "Matte",
    "Matted",
    "Matter",
    "MatterOptions",
    "MattingNetwork",
    "Memory",
    "Options",
    "Order",
    "OutputError",
    "OutputType",
    "People",
    "Person",
    "PhotoSource",
    "Picture",
    "Progress",
    "RatioName",
    "Region",
    "Report",
    "Segmentation",
    "Stream",
    "Streams",
    "TensorMatted",
    "TimedOut",
    "WeightsError",
    "__version__",
    "convert_video",
    "load_model",
    "matte",
]

_MODULES = {
    "Backdrop": "conversion.option_types",
    "ConvertOptions": "conversion.option_types",
    "DecodedFrame": "matter.pictures",
    "DtypeName": "conversion.option_types",
    "Frame": "video.frame",
    "Image": "video.pixels",
    "Matte": "network.matting_network",
    "Matted": "matting.matte",
    "Matter": "matter.matter",
    "MatterOptions": "conversion.option_types",
    "MattingNetwork": "network.matting_network",
    "Memory": "matting.loop",
    "Options": "options",
    "Order": "video.pixels",
    "OutputType": "conversion.option_types",
    "People": "matting.people",
    "Person": "matting.person",
    "PhotoSource": "matter.photo",
    "Picture": "matter.pictures",
    "Progress": "conversion.report",
    "RatioName": "conversion.option_types",
    "Region": "matting.region",
    "Report": "convert",
    "Segmentation": "network.matting_network",
    "Stream": "matter.matter",
    "Streams": "matter.streams",
    "TensorMatted": "engines.tensors",
    "convert_video": "convert",
    "load_model": "weights.load",
    "matte": "matting.loop",
}

# Without a handler Python would print warnings on stderr.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    """Import a public name; see PEP 562."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError(f"rematte.{name}: {NO_TORCH}") from error
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
