"""Reduces frames to 256 colours each, as GIF needs, with FFmpeg's filters."""

from fractions import Fraction
from typing import Any

import av
import numpy as np

from rematte.video.frame import Pixels


class Palette:
    """A filter graph that gives each frame a palette of its own.

    With alpha, one of the colours is transparent.
    """

    def __init__(self, width: int, height: int, alpha: bool) -> None:
        graph = av.filter.Graph()
        source = graph.add(
            "buffer",
            f"video_size={width}x{height}:pix_fmt=rgba:time_base=1/100:"
            "pixel_aspect=1/1",
        )
        split = graph.add("split")
        generate = graph.add(
            "palettegen", f"stats_mode=single:reserve_transparent={int(alpha)}"
        )
        use = graph.add("paletteuse", "new=1:alpha_threshold=128")
        sink = graph.add("buffersink")
        source.link_to(split)
        split.link_to(generate, 0, 0)
        split.link_to(use, 1, 0)
        generate.link_to(use, 0, 1)
        use.link_to(sink)
        graph.configure()
        self._graph = graph
        self._count = 0

    def map(self, pixels: Pixels) -> av.VideoFrame:
        """Convert (H, W, 1, 3 or 4), 8 bits, to a frame with a palette."""
        if pixels.shape[2] == 1:
            pixels = pixels.repeat(3, 2)
        if pixels.shape[2] == 3:
            opaque = np.full((*pixels.shape[:2], 1), 255, np.uint8)
            pixels = np.concatenate([pixels, opaque], 2)
        array: Any = np.ascontiguousarray(pixels)
        frame = av.VideoFrame.from_ndarray(array, "rgba")
        frame.pts, frame.time_base = self._count, Fraction(1, 100)
        self._count += 1
        self._graph.push(frame)
        mapped: Any = self._graph.pull()
        return mapped  # type: ignore[no-any-return]
