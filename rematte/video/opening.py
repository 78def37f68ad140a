"""Opens files through FFmpeg: the one place where this package opens an input."""

from contextlib import suppress
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.video.stream import VideoStream

from rematte.errors import InputError


def open_input(path: Path, hardware: HWAccel | None = None) -> InputContainer:
    """Open a file for reading.

    Args:
        path: The file.
        hardware: What is to decode, if the machine has it; else the processor does.

    Raises:
        InputError: If it cannot be opened.
    """
    if hardware is not None:
        with suppress(av.error.FFmpegError, OSError):  # no such device here
            return av.open(str(path), hwaccel=hardware)
    try:
        return av.open(str(path))
    except PermissionError as error:
        raise InputError(f"{path}: no permission to read it") from error
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(
            f"{path}: not a video FFmpeg can read; it may be cut off, damaged or "
            "something else under a video's name"
        ) from error


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The first video stream that is no cover picture, decoding in threads."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            stream.thread_type = "AUTO"
            return stream
    if not len(container.streams):
        raise InputError(f"{path}: nothing in it; it may be cut off: copy it again")
    raise InputError(
        f"{path}: no video in it, only sound or other data; give a file with a picture"
    )


def check_complete(stream: VideoStream, path: Path) -> None:
    """Refuse a file that is shorter than it says itself.

    FFmpeg reads such a file without complaint up to where it ends, so a cut-off copy
    would turn into a shorter video unnoticed.
    """
    kind, entries = stream.container.format.name, stream.index_entries
    needed = 0
    if not path.is_file():
        return
    if kind.startswith("mov") and len(entries):
        needed = max(entries[-1].pos + entries[-1].size, entries[0].pos)
    elif kind.startswith("matroska"):
        needed = _matroska_size(path)
    there = path.stat().st_size
    if needed > there:
        raise InputError(
            f"{path}: cut off: it says that it has {needed} bytes, {there} are there; "
            "copy the file again, or pass ignore_errors (--ignore-errors) to convert "
            "what is there"
        )


def _matroska_size(path: Path) -> int:
    """Where the segment ends by its own header, or 0 if it does not say.

    Source:
        RFC 8794, section 4 (variable-size integers); RFC 9559, the Segment's ID.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    at = head.find(b"\x18\x53\x80\x67") + 4
    if at < 4 or at >= len(head) or not head[at]:
        return 0
    length = 9 - head[at].bit_length()
    value_bits = 7 * length
    size = int.from_bytes(head[at : at + length], "big") & ((1 << value_bits) - 1)
    return 0 if size + 1 == 1 << value_bits else at + length + size
