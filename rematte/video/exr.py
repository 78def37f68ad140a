"""Reads and adds attributes in the header of an OpenEXR file, from and to bytes.

FFmpeg's decoder and encoder leave most of them out, timecode among them.

Source:
    OpenEXR, "OpenEXR File Layout" and "Standard Attributes"; SMPTE ST 12-1:2014, for
    the bits of a timecode.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import chain
from pathlib import Path

from rematte.video.timecode import Timecode, label

MAGIC = b"\x76\x2f\x31\x01"
# FFmpeg's name of each compression; all are lossless.
COMPRESSIONS = {"zip": "zip16", "zips": "zip1", "rle": "rle", "none": "none"}
_BEGIN = 8  # where attributes start, after the magic number and the version
_CHANNEL = 16  # bytes that follow a channel's name
_HEADER = 1 << 16  # what is read of a file to find its attributes [bytes]
# How many rows each compression joins to a block.
_ROWS = {
    bytes([number]): rows
    for number, rows in enumerate((1, 1, 1, 16, 32, 16, 32, 32, 32, 256))
}
# Flags in the second byte of the version: tiles; deep pixels, several parts.
_TILES, _NO_TABLE = 0x02, 0x08 | 0x10
# Flags in the first word of a timecode: drop frame, and the second frame of a pair.
_DROP, _SECOND = 1 << 6, 1 << 15
# Above 30 frames/s, frames are counted in pairs.
_SINGLE, _MOST = 30, 60


def _attributes(file: bytes) -> Iterator[tuple[str, int, int]]:
    """Find the names of a header's attributes, and where their values begin and end.

    They end where the header is broken.
    """
    at = _BEGIN
    while file.startswith(MAGIC):
        name, kind, rest = (*file[at : at + 512].split(b"\0", 2), b"", b"")[:3]
        if not name or len(rest) < 4:
            break
        size = max(0, struct.unpack_from("<i", rest)[0])
        at += len(name) + len(kind) + 6
        yield name.decode("latin-1"), at, at + size
        at += size


def read_attributes(file: bytes) -> dict[str, bytes]:
    """Return the attributes of a header by name, from the beginning of a file."""
    return {name: file[begin:end] for name, begin, end in _attributes(file)}


def is_cut_off(path: Path) -> bool:
    """Whether rows or tiles are missing, as far as shows; FFmpeg makes them black."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEADER)
        (*_, table) = (0, *(end + 1 for *_, end in _attributes(head)))
        named = read_attributes(head)
        rows = _ROWS.get(named.get("compression", b""))
        window = named.get("dataWindow", b"")
        whole = head[table - 1 : table] == b"\0"  # the header, which may be longer
        if not whole or rows is None or len(window) != 16 or head[5] & _NO_TABLE:
            return False
        left, top, right, bottom = struct.unpack("<4i", window)
        columns, place = 1, 4  # bytes before a block's size, which say where it is
        if head[5] & _TILES:  # those of smaller copies come later, and are not read
            tile = named.get("tiles", b"").ljust(8, b"\0")
            width, rows = (max(1, each) for each in struct.unpack_from("<2I", tile))
            columns, place = -((left - right - 1) // width), 16
        blocks = max(0, columns * -((top - bottom - 1) // rows))
        if table + 8 * blocks > size:
            return True
        file.seek(table)
        offsets: tuple[int, ...] = struct.unpack(f"<{blocks}Q", file.read(8 * blocks))
        last = max(offsets, default=0)
        data = last + place + 4
        if 0 in offsets or data > size:
            return True
        file.seek(last + place)
        return data + int.from_bytes(file.read(4), "little") > size


def find_layer(attributes: Mapping[str, bytes]) -> str:
    """Return the layer that holds the picture where no channel is outside of layers.

    It has red, green and blue, and its name ends in "Combined", as Blender's does, or
    it is the first one. The result is "" where no layer has to be named.
    """
    names, at = set(), 0
    channels = attributes.get("channels", b"")
    while (end := channels.find(b"\0", at)) > at:
        names.add(channels[at:end].decode("latin-1"))
        at = end + 1 + _CHANNEL
    layers = [name[:-2] for name in sorted(names) if name.lower().endswith(".r")]
    whole = [
        layer
        for layer in layers
        if {f"{layer}.g", f"{layer}.b"} <= {f"{n[:-1]}{n[-1].lower()}" for n in names}
    ]
    if not whole or any("." not in name and name in "RGBY" for name in names):
        return ""
    return min(whole, key=lambda layer: not layer.endswith("Combined"))


def with_attributes(file: bytes, attributes: Mapping[str, tuple[str, bytes]]) -> bytes:
    """Add attributes, type and value by name, to the header of an image in one part.

    Its pixels follow its table of offsets, as in FFmpeg's files, and none of the
    attributes is in it yet.
    """
    added = b"".join(
        name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value))
        + value
        for name, (kind, value) in attributes.items()
    )  # fmt: skip
    *_, (_, _, end) = _attributes(file)
    table = end + 1
    (first,) = struct.unpack_from("<Q", file, table)
    offsets = struct.unpack_from(f"<{(first - table) // 8}Q", file, table)
    moved = struct.pack(f"<{len(offsets)}Q", *(each + len(added) for each in offsets))
    return file[:end] + added + b"\0" + moved + file[first:]


def make_attributes(
    points: Iterable[tuple[float, float]],
    rate: Fraction | None,
    timecode: Timecode | None,
) -> dict[str, tuple[str, bytes]]:
    """Make the attributes of an image that FFmpeg's encoder leaves out.

    `points` are x and y of red, green, blue and white; a matte has no colours and none
    of them. None stands for what the image does not state.
    """
    found: dict[str, tuple[str, bytes]] = {}
    if points:
        value = struct.pack("<8f", *chain.from_iterable(points))
        found["chromaticities"] = "chromaticities", value
    if rate is not None:
        value = struct.pack("<iI", rate.numerator, rate.denominator)
        found["framesPerSecond"] = "rational", value
    if timecode is not None and can_hold(timecode):
        found["timeCode"] = "timecode", _pack_timecode(timecode)
    return found


def read_rate(attributes: Mapping[str, bytes]) -> Fraction | None:
    """Return the frames per second that a header states, or None."""
    value = attributes.get("framesPerSecond", b"")
    if len(value) != 8:
        return None
    top, bottom = struct.unpack("<iI", value)
    return Fraction(top, bottom) if top > 0 and bottom else None


def can_hold(timecode: Timecode) -> bool:
    """Whether OpenEXR's timecode has enough bits to count a second's frames."""
    return timecode.count <= _MOST


def _pack_timecode(timecode: Timecode) -> bytes:
    *clock, frames = timecode.fields()
    second = 0
    if timecode.count > _SINGLE:
        frames, second = divmod(frames, 2)
    word = _SECOND * second | _DROP * timecode.drop
    for shift, value in zip((0, 8, 16, 24), (frames, *reversed(clock)), strict=True):
        word |= (value // 10 << 4 | value % 10) << shift
    return struct.pack("<II", word, 0)


def read_timecode(attributes: Mapping[str, bytes], rate: Fraction) -> str | None:
    """Return the timecode that a header states, as text, or None.

    At a rate above 30 frames per second, frames are counted in pairs.
    """
    value = attributes.get("timeCode", b"")
    if len(value) != 8:
        return None
    (word,) = struct.unpack_from("<I", value)
    parts = [
        10 * (word >> shift + 4 & tens) + (word >> shift & 15)
        for shift, tens in ((24, 3), (16, 7), (8, 7), (0, 3))
    ]
    if round(rate) > _SINGLE:
        parts[3] = 2 * parts[3] + bool(word & _SECOND)
    hours, minutes, seconds, frames = parts
    return label(hours, minutes, seconds, frames, bool(word & _DROP))
