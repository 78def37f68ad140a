"""Reads what FFmpeg attaches to decoded frames besides their pixels."""

from typing import Any

import av
from av.sidedata.sidedata import Type


def read_side_data(frame: av.VideoFrame, name: str) -> bytes:
    """Return side data of a decoded frame by PyAV's name; empty if there is none."""
    side_data: Any = _without_profile(frame).side_data  # the stub lacks its names
    return bytes(side_data.get(name) or b"")


def _without_profile(frame: av.VideoFrame) -> av.VideoFrame:
    """Drop the colour profile of a picture that may have been a PNG.

    PyAV 18.1 frees the name of a PNG's profile twice once its side data has been looked
    at, and the process dies.
    """
    layout = frame.format
    if len(layout.components) > 2 and not layout.is_rgb and not layout.has_palette:
        return frame
    graph = av.filter.Graph()
    size = f"video_size={frame.width}x{frame.height}"
    source = graph.add("buffer", f"{size}:pix_fmt={layout.name}:time_base=1/1")
    drop = graph.add("sidedata", "mode=delete:type=ICC_PROFILE")
    graph.link_nodes(source, drop, graph.add("buffersink")).configure()
    graph.push(frame)
    kept: Any = graph.pull()
    return kept  # type: ignore[no-any-return]


def _unknown_type(kind: type[Type], value: Any) -> Type:
    member: Type = object.__new__(kind)
    member._name_, member._value_ = f"TYPE_{value}", value
    return member


# PyAV 18.1 lists fewer kinds of side data than FFmpeg 8 attaches, and one that it
# does not know hides them all: no photo with EXIF could be turned upright.
Type._missing_ = classmethod(_unknown_type)  # type: ignore[assignment]
