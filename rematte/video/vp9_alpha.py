"""Alpha of VP9: a second VP9 stream that WebM keeps beside the packets of the first.

FFmpeg's own encoder of both gives alpha the quantiser of colour, which is far too
coarse for edges. Here alpha has an encoder of its own.

Source:
    WebM Project, Alpha Channel guidelines: alpha is the luma of a stream in
    BlockAdditional elements with the ID 1; its key frames are those of the colour.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import av
from av.packet import PacketSideData, PktSideDataT

from rematte.errors import OutputError
from rematte.video.frame import Pixels
from rematte.video.opening import open_input
from rematte.video.pixels import views

_make_side_data: Any = PacketSideData  # PyAV's stub knows no arguments
_SIDE_DATA: Any = get_args(PktSideDataT).index("matroska_block_additional")
_ID = (1).to_bytes(8, "big")
_NO_CHROMA = 128


class AlphaEncoder:
    """Encodes alpha planes and attaches them to the packets of the colour.

    `size` is in pixels, and `time_base` is the unit of the colour's times [s]. The
    options of FFmpeg's libvpx-vp9 must place key frames as those of the colour do.
    """

    def __init__(
        self, size: tuple[int, int], time_base: Fraction, options: Mapping[str, str]
    ) -> None:
        context: Any = av.CodecContext.create("libvpx-vp9", "w")
        context.width, context.height = size
        context.pix_fmt, context.time_base = "yuv420p", time_base
        context.options, context.thread_type = dict(options), "AUTO"
        self._context = context
        self._alphas: dict[int, Any] = {}
        self._colours: deque[Any] = deque()

    def encode(self, alpha: Pixels, pts: int) -> None:
        """Encode (H, W), 8 bits, that belongs to the colour at `pts`."""
        frame = av.VideoFrame(self._context.width, self._context.height, "yuv420p")
        luma, *chroma = views(frame)
        luma[:] = alpha
        for plane in chroma:
            plane[:] = _NO_CHROMA
        frame.pts, frame.time_base = pts, self._context.time_base
        self._keep(self._context.encode(frame))

    def finish(self) -> None:
        """Encode what the encoder still holds back."""
        self._keep(self._context.encode(None))

    def attach(self, colours: Iterable[Any]) -> Iterator[Any]:
        """Take packets of the colour, and give those whose alpha is ready, in order."""
        self._colours.extend(colours)
        while self._colours and self._colours[0].pts in self._alphas:
            packet = self._colours.popleft()
            content = _ID + bytes(self._alphas.pop(packet.pts))
            data = _make_side_data(_SIDE_DATA, len(content))
            data.update(content)
            packet.set_sidedata(data)
            yield packet

    def _keep(self, packets: Iterable[Any]) -> None:
        self._alphas.update((packet.pts, packet) for packet in packets)


def check_alpha(file: Path, path: Path, first: Pixels) -> None:
    """Check the alpha of a file, since some FFmpeg builds drop VP9's alpha silently.

    `file` is complete under its temporary name, and errors call it `path`. The first
    frame that was written is (H, W, 4), 8 bits.

    Raises:
        OutputError: If the alpha of the first frame is lost or differs.
    """
    with open_input(file) as container:
        # FFmpeg's own VP9 decoder ignores alpha; libvpx's does not.
        decoder: Any = av.CodecContext.create("libvpx-vp9", "r")
        for packet in container.demux(container.streams.video[0]):
            for frame in decoder.decode(packet):
                written = first[..., 3].mean() / 255
                if len(frame.format.components) < 4:
                    raise OutputError(
                        f"{path}: this FFmpeg dropped the transparency of WebM; write "
                        ".mov instead"
                    )
                alpha = frame.to_ndarray(format="rgba")[..., 3].mean() / 255
                if abs(alpha - written) > 0.05:
                    raise OutputError(
                        f"{path}: the transparency read back differs ({alpha:.2f} for "
                        f"{written:.2f}); write .mov instead"
                    )
                return
