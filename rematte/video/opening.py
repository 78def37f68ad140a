"""Opens files through FFmpeg: the one place where this package opens an input.

FFmpeg takes names for addresses ("http:x.mp4", "pipe:1") and for patterns
("a%03d.png"), and it opens files that name other files. Here a name is always a local
file, and lists of other files are refused under any name.
"""

import io
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, cast

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer, OutputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from rematte.errors import InputError
from rematte.video.matroska import segment_end
from rematte.video.notes import add_note

# What footage comes in. Left out is what opens other files, devices or the network,
# and what only games, subtitles and sound come in.
_FORMATS = (
    "apng,asf,asf_o,av1,avi,cavsvideo,cine,dhav,dirac,dnxhd,dv,evc,flv,gif,gxf,h261,"
    "h263,h264,hevc,ivf,jpegxl_anim,kux,live_flv,m4v,matroska,mjpeg,mjpeg_2000,mlv,"
    "mov,mpeg,mpegts,mpegvideo,mpjpeg,mxf,nsv,nut,obu,ogg,pva,r3d,rm,ser,smjpeg,vc1,"
    "vc1test,vvc,wtv,yuv4mpegpipe,"
    "image2,bmp_pipe,cri_pipe,dds_pipe,dpx_pipe,exr_pipe,gif_pipe,hdr_pipe,j2k_pipe,"
    "jpeg_pipe,jpegls_pipe,jpegxl_pipe,jpegxs_pipe,pam_pipe,pbm_pipe,pcx_pipe,pfm_pipe,"
    "pgm_pipe,phm_pipe,png_pipe,ppm_pipe,psd_pipe,qoi_pipe,sgi_pipe,sunrast_pipe,"
    "tiff_pipe,webp_anim,webp_pipe,"
    "aac,ac3,aiff,flac,mp3,w64,wav"  # so that the error says what is missing
)
# Lists of local files, and what may stand in one besides.
_LISTS = "hls,concat,imf,eac3,webvtt"
_IS_LIST = {"hls", "concat", "dash", "imf", "webm_dash_manifest"}
_MARKS = {b"#EXTM3U": "hls", b"ffconcat version": "concat", b"<MPD": "dash"}
_IS_ADDRESS = {"sdp", "rtsp", "rtp", "sap"}
# The major brands of phones' photos, but for those of AV1. FFmpeg shows one of the
# tiles of which they consist.
HEIC_BRANDS = ("heic", "heix", "heim", "heis", "mif1")
PNG_START = b"\x89PNG\r\n\x1a\n"
TIFF_STARTS = (b"II*\0", b"MM\0*")

_SIDE, _PIXELS = 16384, 150_000_000
# Decoders count whole blocks, which may lie beyond the edge.
_BLOCKS = 128 * _SIDE
# From here on one frame is decoded at a time, since each thread holds some of them.
_LARGE = 8192 * 4320

# What a PNG's compressed texts and colour profile may have when unpacked [bytes].
_MOST_TEXT = 4 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of frame size and of lists of files.

    Attributes:
        pixels: Largest number of pixels in a frame. None means 150 million, and no
            side longer than 16384.
        lists: Whether a file may be a list of other local files, such as a playlist.
    """

    pixels: int | None = None
    lists: bool = False

    def check(self, width: int, height: int, path: Path) -> None:
        """Refuse frames that are too large.

        Raises:
            InputError: If a frame has more pixels than are allowed.
        """
        most, side = self.pixels or _PIXELS, self.pixels or _SIDE
        if width * height > most or max(width, height) > side:
            allowed = f"{most} pixels" + ("" if self.pixels else f" and {side} a side")
            raise InputError(
                f"{path}: its frames have {width}x{height} pixels, and at most "
                f"{allowed} are allowed; pass max_pixels (--max-pixels) to allow more"
            )

    def options(self) -> dict[str, str]:
        """Return the limits as FFmpeg's options for opening a file."""
        formats = f"{_FORMATS},{_LISTS}" if self.lists else _FORMATS
        only = {"protocol_whitelist": "file", "format_whitelist": formats}
        return only | {"pattern_type": "none"} | self.decoding()

    def decoding(self) -> dict[str, str]:
        """Return them as a decoder's options, since frames may grow within a video."""
        return {"max_pixels": str((self.pixels or _PIXELS) + _BLOCKS)}


DEFAULT_LIMITS = Limits()
# Old tags are in other encodings than UTF-8, which PyAV replaces unasked from 19 on.
_TAGS = {} if int(av.__version__.split(".")[0]) > 18 else {"metadata_errors": "replace"}


def local_url(path: Path) -> str:
    """Return an address by which FFmpeg opens a local file of any name."""
    return f"file:{os.path.abspath(path)}"  # noqa: PTH100 - keeps links as they are


def open_input(
    path: Path, hardware: HWAccel | None = None, limits: Limits = DEFAULT_LIMITS,
    content: BinaryIO | None = None, notes: list[str] | None = None,
) -> InputContainer:  # fmt: skip
    """Open a file for reading.

    `content` holds the file's bytes if they are not at `path`. `notes` is given where
    an image is expected, and receives notes on its ignored parts. The processor decodes
    if the hardware decoder is missing.

    Raises:
        InputError: If it cannot be opened, or is a list of files and may not be.
    """
    where: str | BinaryIO = content or local_url(path)
    if content is None and path.exists() and not path.is_file():
        raise InputError(f"{path}: not a file; give a video, an image or a folder")
    how: Any = {"options": limits.options(), "mode": "r", **_TAGS}
    try:
        if content is None:
            where = _without_bombs(path, notes) or where
        if hardware is not None:
            with suppress(av.error.FFmpegError, OSError):  # no such device here
                return cast(InputContainer, av.open(where, hwaccel=hardware, **how))
        return cast(InputContainer, av.open(where, **how))
    except (av.error.FFmpegError, OSError) as error:
        why = _reason(path, where, limits, notes is not None)
        raise InputError(f"{path}: {why}") from error


def open_output(
    path: Path, kind: str | None = None, options: dict[str, str] | None = None
) -> OutputContainer:
    """Open a file for writing; its suffix decides the format unless `kind` names it."""
    return av.open(local_url(path), "w", format=kind, options=options)


def _reason(path: Path, where: str | BinaryIO, limits: Limits, image: bool) -> str:
    """Why a file cannot be opened, in words."""
    if isinstance(where, str) and not path.exists():
        return "no such file; check the path"
    if isinstance(where, str) and not os.access(path, os.R_OK):
        return "no permission to read it"
    log = _log_of_opening(where, limits)
    refused = re.search(r"(\S+): Format not on whitelist", log)
    name = refused[1].split(",")[0] if refused else ""
    listed = name if name in _IS_LIST else _kind_of_list(path)
    if listed and not limits.lists:
        return (
            f"a list of other files ({listed}), not a video; give the files "
            "themselves, or pass allow_lists (--allow-lists) where they are plain "
            "files in the list's folder"
        )
    if name in _IS_ADDRESS:
        return f"a network stream ({name}), not a video; `rematte live` shows some"
    if name == "svg_pipe":
        return "SVG is a drawing; export it as PNG"
    if name:
        return f"FFmpeg takes it for {name}, which is no format of videos or images"
    if listed == "hls" and path.suffix.lower() not in (".m3u8", ".m3u"):
        return "FFmpeg reads an HLS list only if its name ends in .m3u8; rename it"
    if listed:
        return (
            f"FFmpeg cannot read this list ({listed}); it must name plain files, all "
            "of them in its own folder or below"
        )
    if image:
        return why_unreadable(path)
    return (
        "not a video or image that FFmpeg can read; it may be cut off, damaged or "
        "something else under that name"
    )


def why_unreadable(image: Path) -> str:
    """Why an image cannot be decoded, in words."""
    with suppress(OSError), image.open("rb") as file:
        head = file.read(21)
        if head.startswith(TIFF_STARTS):
            return (
                "a TIFF that FFmpeg cannot read, perhaps one of 32 bits a channel; "
                "save it with 8 or 16 bits"
            )
        if is_animated_webp(head):
            return (
                "an animated WebP, which FFmpeg can decode from 9 on (PyAV 19); "
                "convert it to GIF or animated PNG"
            )
    return "not a readable image; remove or replace it"


def is_animated_webp(head: bytes) -> bool:
    """Whether a file that begins so is an animated WebP.

    Source:
        RFC 9649, section 2.7.1: the VP8X chunk's flags, of which 2 is animation.
    """
    return head[8:16] == b"WEBPVP8X" and head[20:21] != b"" and head[20] & 2 > 0


# PyAV's log is one for the process. Two threads that both restored it could leave it
# switched on, and then a decoder that logs while it is freed waits for ever.
_LOG_LOCK = Lock()


def _log_of_opening(where: str | BinaryIO, limits: Limits) -> str:
    """FFmpeg's log of opening a file that it cannot read."""
    if not isinstance(where, str):
        where.seek(0)
    with _LOG_LOCK:
        before = av.logging.get_level(), av.logging.get_skip_repeated()
        av.logging.set_level(av.logging.ERROR)
        av.logging.set_skip_repeated(False)
        try:
            with av.logging.Capture() as lines, suppress(av.error.FFmpegError, OSError):
                av.open(where, options=limits.options()).close()
        finally:
            av.logging.set_level(before[0])
            av.logging.set_skip_repeated(before[1])
    return "\n".join(f"{name}: {text.strip()}" for _, name, text in lines)


def _refused_size(path: Path, limits: Limits) -> tuple[int, int]:
    """Width and height of frames that FFmpeg refuses as too large."""
    log = _log_of_opening(local_url(path), limits)
    said = re.search(r"Picture size (\d+)x(\d+)", log)
    return (int(said[1]), int(said[2])) if said else (0, 0)


def _kind_of_list(path: Path) -> str:
    """Return the kind of a list of files that FFmpeg does not name, or ""."""
    with suppress(OSError), path.open("rb") as file:
        head = file.read(1024)
        return next((kind for mark, kind in _MARKS.items() if mark in head), "")
    return ""


def _without_bombs(path: Path, notes: list[str] | None) -> io.BytesIO | None:
    """Drop compressed texts and profiles of a PNG that would fill the memory.

    FFmpeg unpacks all of them: 1 MB may take 2 GB. The result is the rest of the file,
    or None if nothing has to be dropped.

    Source:
        PNG Specification, Third Edition, 5.3, 11.3.2.3 (iCCP) and 11.3.3.3 (zTXt).
    """
    parts: list[tuple[int, int]] = []
    dropped, left = "", _MOST_TEXT
    with path.open("rb") as file:
        if file.read(len(PNG_START)) != PNG_START:
            return None
        at = len(PNG_START)
        while len(head := file.read(8)) == 8:
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            if kind in (b"iCCP", b"zTXt"):
                packed = file.read(length).partition(b"\0")[2][1:]
                with suppress(zlib.error):
                    left -= len(zlib.decompressobj().decompress(packed, _MOST_TEXT + 1))
            if left < 0:
                dropped = dropped or ("colour profile" if kind == b"iCCP" else "text")
                left = 0
            else:
                parts.append((at, length + 12))
            at += length + 12
            file.seek(at)
        if not dropped:
            return None
        content = io.BytesIO(PNG_START)
        content.seek(0, io.SEEK_END)
        for at, length in parts:
            file.seek(at)
            content.write(file.read(length))
    content.seek(0)
    if notes is not None:
        notes.append(f"{path.name}: a {dropped} of over 4 MB is ignored")
    return content


def video_stream(
    container: InputContainer, path: Path, limits: Limits = DEFAULT_LIMITS
) -> VideoStream:
    """Return the first video stream that is no cover picture, decoding in threads.

    Raises:
        InputError: If there is none, or its frames are too large.
    """
    why = "no video in it, only sound or other data; give a file with a picture"
    brand = container.metadata.get("major_brand", "")
    streams = container.streams.video
    if brand == "avis":  # an animation, before which its first frame stands alone
        streams = tuple(each for each in streams if each.frames > 1) or streams
    for stream in streams:
        context = stream.codec_context
        av1 = context is not None and context.codec.canonical_name == "av1"
        tile = stream.disposition & av.stream.Disposition.dependent
        heic = brand in HEIC_BRANDS and (tile or not av1)
        if heic or (tile and brand == "avif"):
            raise InputError(
                f"{path}: a HEIC photo or one in tiles, of which FFmpeg shows only a "
                "part; save it as JPEG or PNG"
            )
        if stream.disposition & av.stream.Disposition.attached_pic:
            continue
        if context is None:  # FFmpeg does not know the codec
            why = (
                "FFmpeg has no decoder for its picture; convert it to H.264 or ProRes "
                "with the program that made it"
            )
            continue
        size = context.width, context.height
        limits.check(*(size if size[0] else _refused_size(path, limits)), path)
        # Threads would give frames late, when others have been repeated already.
        late = size[0] * size[1] > _LARGE or context.name == "theora"
        stream.thread_type = "SLICE" if late else "AUTO"
        context.options = limits.decoding()
        return stream
    if not len(container.streams):
        why = "nothing in it; it may be cut off: copy it again"
    raise InputError(f"{path}: {why}")


def read_packets(
    container: InputContainer, *streams: Stream, notes: list[str] | None = None
) -> Iterator[Any]:
    """Yield the packets of streams, and for each an empty one at the end.

    PyAV 18.1 does not know streams that begin in the middle of a file, as in recordings
    of broadcasts, and fails after its last packet if there are any. `notes` receives a
    note on them then.
    """
    try:
        yield from container.demux(*streams)
    except IndexError:
        if notes is not None:
            add_note(notes, "a track that begins later than the others is left out")


def describe_missing(stream: VideoStream, path: Path) -> str:
    """Say by how much a file is shorter than its header states; "" if it is complete.

    FFmpeg reads such a file without complaint up to where it ends, so a cut-off copy
    would turn into a shorter video unnoticed.
    """
    kind, entries = stream.container.format.name, stream.index_entries
    if not path.is_file():
        return ""
    needed, there = 0, path.stat().st_size
    if kind.startswith("mov") and len(entries):
        needed = max(entries[-1].pos + entries[-1].size, entries[0].pos)
    elif kind.startswith("matroska"):
        needed = segment_end(path)
    if needed <= there:
        return ""
    return f"cut off: its header states {needed} bytes, {there} are there"
