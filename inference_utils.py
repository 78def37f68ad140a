"""The name `inference_utils` of RobustVideoMatting's documentation.

After an installation it is `rematte.rvm.inference_utils`, which has the code.
"""

from rematte.rvm.inference_utils import (
    ImageSequenceReader,
    ImageSequenceWriter,
    VideoReader,
    VideoWriter,
)

__all__ = ["ImageSequenceReader", "ImageSequenceWriter", "VideoReader", "VideoWriter"]
