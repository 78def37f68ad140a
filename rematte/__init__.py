"""Cut people out of video with no green screen: recurrent matting, sound kept.

The names here are the public ones: `convert_video` does the work of the command line,
`Matter` mattes frames in memory, `load_model` gives a `MattingNetwork`, which is the
bare network, and `matte` is the loop around it. Each is imported when it is first used,
since some need torch, which is an extra. The logger `rematte` reports what is slow and
which fallbacks are used; it is silent by default.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

# "Name as Name" tells type checkers that a name is public; they do not read `_MODULES`.
from rematte.errors import NO_TORCH
from rematte.errors import Cancelled as Cancelled
from rematte.errors import InputError as InputError
from rematte.errors import OutputError as OutputError
from rematte.errors import TimedOut as TimedOut
from rematte.errors import WeightsError as WeightsError
from rematte.version import __version__ as __version__

if TYPE_CHECKING:
    from rematte.conversion.option_types import Backdrop as Backdrop
    from rematte.conversion.option_types import ConvertOptions as ConvertOptions
    from rematte.conversion.option_types import DtypeName as DtypeName
    from rematte.conversion.option_types import MatterOptions as MatterOptions
    from rematte.conversion.option_types import OutputType as OutputType
    from rematte.conversion.option_types import RatioName as RatioName
    from rematte.conversion.report import Progress as Progress
    from rematte.convert import Report as Report
    from rematte.convert import convert_video as convert_video
    from rematte.engines.tensors import TensorMatted as TensorMatted
    from rematte.matter.matter import Matter as Matter
    from rematte.matter.matter import Stream as Stream
    from rematte.matter.photo import PhotoSource as PhotoSource
    from rematte.matter.pictures import DecodedFrame as DecodedFrame
    from rematte.matter.pictures import Picture as Picture
    from rematte.matter.streams import Streams as Streams
    from rematte.matting.loop import Memory as Memory
    from rematte.matting.loop import matte as matte
    from rematte.matting.matte import Matted as Matted
    from rematte.matting.people import People as People
    from rematte.matting.person import Person as Person
    from rematte.matting.region import Region as Region
    from rematte.network.matting_network import Matte as Matte
    from rematte.network.matting_network import MattingNetwork as MattingNetwork
    from rematte.network.matting_network import Segmentation as Segmentation
    from rematte.options import Options as Options
    from rematte.video.frame import Frame as Frame
    from rematte.video.pixels import Image as Image
    from rematte.video.pixels import Order as Order
    from rematte.weights.load import load_model as load_model

# Where the names are that are imported when they are first used.
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

__all__ = [
    *("Cancelled", "InputError", "OutputError", "TimedOut", "WeightsError"),
    *("__version__", *_MODULES),
]

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
