"""Deinterlaces video: makes a full picture from the two fields of a frame.

Each input frame gives one output frame with the same time. Progressive frames are
passed on unchanged, and a stream may mix both kinds.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

import av
from av.video.codeccontext import VideoCodecContext

DEINTERLACE = ("auto", "off")

# These decoders leave the flag of a frame unset; only the container says it.
_UNFLAGGED = {"ffvhuff", "huffyuv", "jpeg2000", "magicyuv", "qtrle", "utvideo"}
# FFmpeg sets the flag for PNG's Adam7, which is an order of pixels and not of fields.
_NO_FIELDS = {"apng", "png"}
# FFmpeg's AVFieldOrder from 2 on: TT, BB, TB, BT; the second letter is shown first.
_PARITIES = {2: "tff", 3: "bff", 4: "bff", 5: "tff"}

_DONE = "interlaced, and deinterlaced (bwdif): each frame became one whole picture"
_OFF = "interlaced, and its fields were left as they are (deinterlace off)"
_SMALL = "interlaced, but too small to be deinterlaced: its fields are left as they are"


def deinterlace(
    pictures: Iterator[av.VideoFrame], decoder: VideoCodecContext, mode: str,
    note: Callable[[str], object],
) -> Iterator[av.VideoFrame]:  # fmt: skip
    """Deinterlace decoded pictures that are interlaced, and pass on the others.

    All keep their times, lengths and colour tags. The mode "off" leaves all unchanged.
    `note` is called with a sentence when the first interlaced picture comes.
    """
    name = decoder.codec.name
    if name in _NO_FIELDS:
        yield from pictures
        return
    order = decoder.field_order if name in _UNFLAGGED else 0
    parity = _PARITIES.get(order, "auto")
    before: av.VideoFrame | None = None
    filters: _Filters | None = None
    for picture in pictures:
        if filters is not None and not filters.fits(picture):
            yield from filters.push(None)
            filters = before = None
        if filters is None and (picture.interlaced_frame or parity != "auto"):
            filters = _begin(picture, parity, mode, note)
            if filters is None:
                yield picture
                yield from pictures
                return
            if before is not None and filters.fits(before):
                filters.lead_in(before)
        if filters is not None:
            yield from filters.push(picture)
        else:
            yield picture
        before = picture
    if filters is not None:
        yield from filters.push(None)


def _begin(
    picture: av.VideoFrame, parity: str, mode: str, note: Callable[[str], object]
) -> "_Filters | None":
    """Set up for the first interlaced picture; None if all are left unchanged."""
    if mode != "auto":
        note(_OFF)
        return None
    try:
        filters = _Filters(picture, parity)
    except av.error.FFmpegError:
        note(_SMALL)
        return None
    note(_DONE)
    return filters


class _Filters:
    """FFmpeg's bwdif for pictures of one size and format.

    The parity is "tff" or "bff" if every picture is interlaced though its decoder does
    not say so; "auto" if pictures state it themselves. It fails for less than 4 lines.
    """

    def __init__(self, like: av.VideoFrame, parity: str) -> None:
        self._shape = like.width, like.height, like.format.name
        self._waiting: deque[av.VideoFrame | None] = deque()
        self._graph = graph = av.filter.Graph()
        size, kind = f"{like.width}x{like.height}", like.format.name
        source = graph.add(
            "buffer",
            f"video_size={size}:pix_fmt={kind}:time_base=1/1:"
            f"colorspace={like.colorspace}:range={like.color_range}",
        )
        every = "interlaced" if parity == "auto" else "all"
        bwdif = graph.add("bwdif", f"mode=send_frame:parity={parity}:deint={every}")
        graph.link_nodes(source, bwdif, graph.add("buffersink")).configure()

    def fits(self, picture: av.VideoFrame) -> bool:
        """Whether a picture has the size and format of the first."""
        return (picture.width, picture.height, picture.format.name) == self._shape

    def lead_in(self, picture: av.VideoFrame) -> None:
        """Filter the picture before the first one, which has been passed on already."""
        self._waiting.append(None)
        self._graph.push(picture)

    def push(self, picture: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
        """Filter a picture, and yield those that are ready; with None all the rest."""
        if picture is not None:
            self._waiting.append(picture)
        self._graph.push(picture)
        with suppress(BlockingIOError, EOFError):
            while True:
                picture = self._graph.vpull()
                given = self._waiting.popleft()
                if given is not None:
                    # The filter halves the unit of time, and forgets lengths.
                    picture.pts, picture.time_base = given.pts, given.time_base
                    picture.duration = given.duration
                    yield picture
