"""Reads and changes what only the elements of a Matroska or WebM file say.

FFmpeg's muxer takes the pixel aspect ratio from a field of the stream that PyAV cannot
set. So a placeholder, written as the track's name, reserves room for it.

Source:
    RFC 8794 (EBML: element sizes, Void, CRC-32); RFC 9559 (Matroska: Tracks).
"""

import zlib
from collections.abc import Container, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

PLACEHOLDER = "room for the shape of pixels ---"

_SEGMENT, _TRACKS = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b"
_TRACK, _VIDEO = b"\xae", b"\xe0"
# Width, height and unit; FFmpeg writes that the unit is unknown.
_DISPLAY = b"\x54\xb0", b"\x54\xba", b"\x54\xb2"
_VOID, _CRC = b"\xec", b"\xbf"


class _Element(NamedTuple):
    """An element: its ID, and the offset and size of its content [bytes]."""

    id: bytes
    begin: int
    size: int


def segment_end(path: Path) -> int:
    """Return the stated end of a file's segment [bytes]; 0 if it is not stated."""
    with path.open("rb") as file:
        head = file.read(4096)
    at = head.find(_SEGMENT)
    if at < 0 or not any(head[at + 4 : at + 5]):
        return 0
    segment = _read_element(head, at)
    bits = 7 * (segment.begin - at - 4)
    is_unknown = segment.size + 1 == 1 << bits
    return 0 if is_unknown else segment.begin + segment.size


def set_display_size(path: Path, width: int, height: int) -> bool:
    """Set the size at which the video track named `PLACEHOLDER` is shown [pixels].

    Returns:
        Whether there is such a track, which loses its name; if not, the file is
        unchanged.
    """
    with path.open("r+b") as file:
        tracks = _find_tracks(file)
        if tracks is None:
            return False
        file.seek(tracks.begin)
        content = file.read(tracks.size)
        changed = _with_display_size(content, width, height)
        file.seek(tracks.begin)
        file.write(changed)
    return changed != content


def _find_tracks(file: BinaryIO) -> _Element | None:
    at = 0
    while True:
        file.seek(at)
        head = file.read(16)  # at most 4 bytes of ID and 8 of size
        if len(head) < 2:
            return None
        element = _read_element(head, 0)
        begin = at + element.begin
        if element.id == _TRACKS:
            return element._replace(begin=begin)
        at = begin if element.id == _SEGMENT else begin + element.size


def _with_display_size(tracks: bytes, width: int, height: int) -> bytes:
    """Return the content of Tracks with another display size and the same length."""
    crc, rest = tracks[:0], tracks
    if tracks.startswith(_CRC):
        crc, rest = tracks[:6], tracks[6:]
    for track in _elements(rest):
        end = track.begin + track.size
        entry = rest[track.begin : end]
        parts = list(_elements(entry))
        named = [p for p in parts if _content(entry, p) == PLACEHOLDER.encode()]
        if track.id != _TRACK or not named:
            continue
        kept = b""
        for part in parts:
            content = _content(entry, part)
            if part.id == _VIDEO:
                content = _without(content, _DISPLAY)
                content += _pack(_DISPLAY[0], _number(width))
                content += _pack(_DISPLAY[1], _number(height))
            if part not in named:
                kept += _pack(part.id, content)
        void = bytes(len(entry) - len(kept) - 2)
        rest = rest[: track.begin] + kept + _pack(_VOID, void) + rest[end:]
    return (_pack(_CRC, zlib.crc32(rest).to_bytes(4, "little")) if crc else b"") + rest


def _elements(content: bytes) -> Iterator[_Element]:
    at = 0
    while at < len(content):
        element = _read_element(content, at)
        yield element
        at = element.begin + element.size


def _read_element(data: bytes, at: int) -> _Element:
    begin = at + 9 - data[at].bit_length()
    length = 9 - data[begin].bit_length()
    bits = int.from_bytes(data[begin : begin + length], "big")
    size = bits & ((1 << 7 * length) - 1)
    return _Element(data[at:begin], begin + length, size)


def _without(content: bytes, names: Container[bytes]) -> bytes:
    return b"".join(
        _pack(each.id, _content(content, each))
        for each in _elements(content)
        if each.id not in names
    )


def _content(data: bytes, element: _Element) -> bytes:
    return data[element.begin : element.begin + element.size]


def _pack(name: bytes, content: bytes) -> bytes:
    size = len(content)
    length = next(n for n in range(1, 9) if size < (1 << 7 * n) - 1)
    return name + (1 << 7 * length | size).to_bytes(length, "big") + content


def _number(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
