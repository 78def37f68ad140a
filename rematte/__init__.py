"""Cut people out of video with no green screen: recurrent matting, sound kept.

The names here are the public ones: `load_model` and `convert_video` do the work of
the command line, `MattingNetwork` is the bare network, `matte` the loop around it.
"""

from rematte.convert import Report, convert_video
from rematte.errors import InputError, OutputError, WeightsError
from rematte.matting import Matted, matte
from rematte.network import Matte, MattingNetwork, Segmentation
from rematte.version import __version__
from rematte.weights import load_model

__all__ = [
    "InputError",
    "Matte",
    "Matted",
    "MattingNetwork",
    "OutputError",
    "Report",
    "Segmentation",
    "WeightsError",
    "__version__",
    "convert_video",
    "load_model",
    "matte",
]
