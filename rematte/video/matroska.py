"""Reads and changes what only the elements of a Matroska or WebM file say.

FFmpeg's muxer takes the pixel aspect ratio from a field of the stream that PyAV cannot
set. So a placeholder, written as the track's name, reserves room for it.

Source:
    RFC 8794 (EBML: element sizes, Void, CRC-32); RFC 9559 (Matroska: Tracks).
"""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PLACEHOLDER = "room for the shape of pixels ---"

_SEGMENT, _TRACKS = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b"
_TRACK, _VIDEO = b"\xae", b"\xe0"
# Width, height and unit; FFmpeg writes that the unit is unknown.
_DISPLAY = b"\x54\xb0", b"\x54\xba", b"\x54\xb2"
_VOID, _CRC = b"\xec", b"\xbf"


def segment_end(path: Path) -> int:
    """Return the stated end of a file's segment [bytes]; 0 if it is not stated."""
    with path.open("rb") as file:
        head = file.read(4096)
    at = head.find(_SEGMENT)
    if at < 0 or not any(head[at + 4 : at + 5]):
        return 0
    _, begin, size = _read_header(head, at)
    is_unknown = size + 1 == 1 << 7 * (begin - at - 4)
    return 0 if is_unknown else begin + size


def set_display_size(path: Path, width: int, height: int) -> bool:
    """Set the size at which the video track named `PLACEHOLDER` is shown [pixels].

    The track loses its name. Returns whether there is one; else nothing is changed.
    """
    with path.open("r+b") as file:
        begin, size = _find_tracks(file)
        file.seek(begin)
        content = file.read(size)
        changed = _with_display_size(content, width, height)
        file.seek(begin)
        file.write(changed)
    return changed != content


def _find_tracks(file: BinaryIO) -> tuple[int, int]:
    """Return the offset and size of the content of Tracks; zeros if it is missing."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(16)  # at most 4 bytes of ID and 8 of size
        if len(head) < 2:
            return 0, 0
        name, begin, size = _read_header(head, 0)
        if name == _TRACKS:
            return at + begin, size
        at += begin if name == _SEGMENT else begin + size


def _with_display_size(tracks: bytes, width: int, height: int) -> bytes:
    """Return the content of Tracks with another display size and the same length."""
    has_crc = tracks.startswith(_CRC)
    made = b""
    for name, track, whole in _elements(tracks[6:] if has_crc else tracks):
        parts = [each[:2] for each in _elements(track)] if name == _TRACK else []
        if PLACEHOLDER.encode() in (content for _, content in parts):
            kept = b""
            for part, content in parts:
                if part == _VIDEO:
                    shown = [e[:2] for e in _elements(content) if e[0] not in _DISPLAY]
                    shown += zip(_DISPLAY, map(_number, (width, height)), strict=False)
                    content = b"".join(_pack(*each) for each in shown)
                if content != PLACEHOLDER.encode():
                    kept += _pack(part, content)
            void = _pack(_VOID, bytes(len(track) - len(kept) - 2))
            whole = whole[: len(whole) - len(track)] + kept + void
        made += whole
    crc = zlib.crc32(made).to_bytes(4, "little")
    return (_pack(_CRC, crc) if has_crc else b"") + made


def _elements(content: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield the ID and the content of each element, and all of its bytes."""
    at = 0
    while at < len(content):
        name, begin, size = _read_header(content, at)
        yield name, content[begin : begin + size], content[at : begin + size]
        at = begin + size


def _read_header(data: bytes, at: int) -> tuple[bytes, int, int]:
    """Return the ID of an element, and the offset and size of its content [bytes]."""
    begin = at + 9 - data[at].bit_length()
    length = 9 - data[begin].bit_length()
    bits = int.from_bytes(data[begin : begin + length], "big")
    return data[at:begin], begin + length, bits & ((1 << 7 * length) - 1)


def _pack(name: bytes, content: bytes) -> bytes:
    size = len(content)
    length = next(n for n in range(1, 9) if size < (1 << 7 * n) - 1)
    return name + (1 << 7 * length | size).to_bytes(length, "big") + content


def _number(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
