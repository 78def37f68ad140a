"""Finds and decodes images: one file, those of a folder in order, or a sequence."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Literal

import av

from rematte.errors import InputError
from rematte.video import exr
from rematte.video.decoding import codec_with_alpha
from rematte.video.frame import RANGE_FULL, UNSPECIFIED
from rematte.video.notes import add_note
from rematte.video.numbering import (
    Numbering,
    describe_runs,
    find_numbering,
    group_sequences,
    parse_pattern,
)
from rematte.video.opening import (
    DEFAULT_LIMITS,
    HEIC_BRANDS,
    PNG_START,
    TIFF_STARTS,
    Limits,
    open_input,
    video_stream,
    why_unreadable,
)
from rematte.video.transparency import note_ignored_alpha
from rematte.video.upright import Upright

IMAGE_SUFFIXES = {
    *(".avif", ".bmp", ".dpx", ".exr", ".heic", ".heif", ".jpeg", ".jpg", ".png"),
    *(".tga", ".tif", ".tiff", ".webp"),
}
# The first bytes of PNG, JPEG, TIFF, OpenEXR, DPX, WebP, BMP, JPEG 2000, Radiance HDR,
# Photoshop and QOI.
_IMAGE_STARTS = (
    *(PNG_START, b"\xff\xd8\xff", *TIFF_STARTS, exr.MAGIC),
    *(b"SDPX", b"XPDS", b"RIFF", b"BM", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
    *(b"#?RADIANCE", b"8BPS", b"qoif"),
)
# Bytes 4 to 12 of AVIF and HEIC, of one photo and of an animation.
_PHOTOS = tuple(f"ftyp{brand}".encode() for brand in ("avif", *HEIC_BRANDS))
_ANIMATED_PHOTOS = (b"ftypavis", b"ftyphevc", b"ftypmsf1")
# Scene-linear light is no input for a network trained on display-encoded pictures.
_EXR_OPTIONS = {"apply_trc": "iec61966_2_1"}
# The shape of pixels that an image states is taken up to here, width to height.
_MOST_UNEVEN = Fraction(4)
# What is read of an OpenEXR file for its attributes [bytes].
_HEADER = 1 << 16
# Limit on the directories of a TIFF that are looked at, since they may form a ring.
_MOST_PAGES = 8
# Longer gaps are a mistake rather than lost frames [frames].
_LONGEST_GAP = 1000


@dataclass(frozen=True, slots=True)
class ImageFrame:
    """A frame of an image source.

    Attributes:
        file: The image that is shown.
        name: Stem of the file that the frame would have; that of a missing frame too.
        number: Its number in the sequence, or None.
        shown: The number of the image that is shown; another number in a gap.
    """

    file: Path
    name: str
    number: int | None = None
    shown: int | None = None


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Sort key by which "frame9" comes before "frame10"."""
    parts = re.split(r"(^-\d+|\d+)", name.lower())  # Blender has frames before 0
    number = re.compile(r"-?\d+")
    return [(0, int(p)) if number.fullmatch(p) else (1, p) for p in parts]


def find_images(
    path: Path, hold_gaps: bool = False
) -> tuple[list[ImageFrame], list[str]]:
    """Find the images of a folder, a pattern or one file; none if it is a video.

    A folder whose images differ in a single number is a numbered sequence, as is a
    pattern such as "plate.%04d.png"; any other folder is taken in natural order. With
    `hold_gaps` a missing number of a sequence repeats the frame before.

    Returns:
        The frames in order, and notes on the order.

    Raises:
        InputError: If there is nothing there, a number occurs twice, or a gap is too
            long to be held.
    """
    if path.is_dir():
        return _in_folder(path, hold_gaps)
    if not path.exists():
        pattern = parse_pattern(path.name) if _is_image(path) else None
        if pattern is None or not path.parent.is_dir():
            raise InputError(f"{path}: no such file or folder; check the path")
        return _by_pattern(path, pattern, hold_gaps), []
    if not path.is_file():
        raise InputError(f"{path}: not a file; give a video, an image or a folder")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; copy it again")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: no permission to read it")
    single = not _is_animated(path) if _is_image(path) else _holds_one_image(path)
    return ([ImageFrame(path, path.stem)] if single else []), []


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _is_animated(path: Path) -> bool:
    """Whether a PNG, an AVIF or a HEIC is an animation, which is read as a video.

    Source:
        W3C, Portable Network Graphics (Third Edition): acTL precedes the first IDAT.
    """
    with path.open("rb") as file:
        head = file.read(_HEADER)
    if head[4:12] in _ANIMATED_PHOTOS:
        return True
    return head.startswith(PNG_START) and b"acTL" in head.partition(b"IDAT")[0]


def _holds_one_image(path: Path) -> bool:
    """Whether a file without an image's suffix, such as a pipe's, is a single image.

    Several images one after the other are a video.
    """
    with path.open("rb") as file:
        head = file.read(16)
    if head[4:12] in _PHOTOS:
        return True
    if not head.startswith(_IMAGE_STARTS):
        return False
    with suppress(InputError, av.error.FFmpegError), open_input(path) as container:
        packets = sum(packet.size > 0 for packet in islice(container.demux(), 2))
        return container.format.name.endswith("_pipe") and packets == 1
    return False


def _in_folder(folder: Path, hold_gaps: bool) -> tuple[list[ImageFrame], list[str]]:
    files = {
        file.name: file
        for file in folder.iterdir()
        if _is_image(file) and not file.name.startswith(".") and file.is_file()
    }
    if not files:
        raise InputError(
            f"{folder}: no images in this folder; it must hold files ending in "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}; `rematte batch` takes videos"
        )
    names = sorted(files, key=natural_key)
    numbering = find_numbering(names)
    if numbering is not None:
        numbers = [numbering.number(name) or 0 for name in names]
        missing = numbers[-1] - numbers[0] + 1 - len(numbers)
        if missing <= len(numbers) or not hold_gaps:
            return _sequence(folder, numbering, names, hold_gaps), []
        notes = [
            f"{folder}: more numbers are missing ({missing}) than there are images "
            f"({len(numbers)}), so these follow one another without gaps; give the "
            f"pattern {numbering} as input to have gaps held"
        ]
    else:
        notes = _describe_several(folder, names)
    return [ImageFrame(files[name], files[name].stem) for name in names], notes


def _describe_several(folder: Path, names: Sequence[str]) -> list[str]:
    """Note if a folder holds nothing but two sequences or more."""
    groups = group_sequences(names)
    counts = [len(group) for group in groups.values()]
    if len(groups) < 2 or min(counts) < 2 or sum(counts) < len(names):
        return []
    return [
        f"{folder}: {len(groups)} numbered sequences ({', '.join(map(str, groups))}) "
        "are taken as one, in the order of their names and without gaps; give one "
        "pattern as input to convert that alone"
    ]


def _by_pattern(path: Path, pattern: Numbering, hold_gaps: bool) -> list[ImageFrame]:
    folder = path.parent
    names = sorted(
        (
            file.name
            for file in folder.iterdir()
            if pattern.digits_in(file.name) and file.is_file()
        ),
        key=natural_key,
    )
    if not names:
        raise InputError(
            f"{path}: no file in {folder} has such a name; check the pattern"
        )
    return _sequence(folder, pattern.padded_as(names), names, hold_gaps)


def _sequence(
    folder: Path, numbering: Numbering, names: Sequence[str], hold_gaps: bool
) -> list[ImageFrame]:
    """Return a sequence's frames; in gaps the one before, under the missing number."""
    frames: list[ImageFrame] = []
    for name in names:
        file, number = folder / name, numbering.number(name) or 0
        before = frames[-1] if frames else None
        if before is not None and before.number is not None:
            if number == before.number:
                raise InputError(
                    f"{file}: {before.file.name} has the same number; remove one"
                )
            if hold_gaps:
                frames += _hold(before, number, numbering)
        frames.append(ImageFrame(file, file.stem, number, number))
    return frames


def _hold(before: ImageFrame, until: int, numbering: Numbering) -> list[ImageFrame]:
    """Repeat a frame for the missing numbers before `until`."""
    missing = range((before.number or 0) + 1, until)
    if len(missing) > _LONGEST_GAP:
        raise InputError(
            f"{before.file.with_name(str(numbering))}: frames {missing[0]}-"
            f"{missing[-1]} are missing, more than the {_LONGEST_GAP} in a row that "
            "are held; put the frames before and after them into folders of their own"
        )
    return [
        ImageFrame(before.file, Path(numbering.name(n)).stem, n, before.number)
        for n in missing
    ]


def describe_gaps(pictures: Sequence[ImageFrame]) -> str:
    """Describe in a sentence which frames are missing; "" if none is."""
    held = [p for p in pictures if p.number != p.shown]
    if not held:
        return ""
    numbers = [picture.number or 0 for picture in held]
    shown = sorted({picture.shown or 0 for picture in held})
    many = len(numbers) > 1
    text = f"frame{'s' * many} {describe_runs(numbers)} {'are' if many else 'is'} "
    text += "missing; "
    text += f"{shown[0]} is" if len(shown) == 1 else "the frame before each gap is"
    return f"{text} held, in image outputs too, under the missing numbers"


def _is_exr(path: Path) -> bool:
    if _is_image(path):
        return path.suffix.lower() == ".exr"
    with path.open("rb") as file:
        return file.read(4) == exr.MAGIC


def read_header(path: Path) -> dict[str, bytes]:
    """Return the header attributes of an OpenEXR image; empty for other images."""
    if not _is_exr(path):
        return {}
    with path.open("rb") as file:
        return exr.read_attributes(file.read(_HEADER))


def _has_pages(path: Path) -> bool:
    """Whether a TIFF holds more pages than the first, besides smaller copies of it.

    Source:
        TIFF 6.0, section 2 (header and directories) and NewSubfileType, of which 1 is
        a reduced copy.
    """
    with suppress(OSError), path.open("rb") as file:
        head = file.read(8)
        if not head.startswith(TIFF_STARTS):
            return False
        order: Literal["little", "big"] = "little" if head[:1] == b"I" else "big"
        at = int.from_bytes(head[4:], order)
        for page in range(_MOST_PAGES):
            file.seek(at)
            count = int.from_bytes(file.read(2), order)
            tags = file.read(12 * count)
            entries = [tags[first : first + 12] for first in range(0, len(tags), 12)]
            kinds = [
                int.from_bytes(entry[8:], order)
                for entry in entries
                if int.from_bytes(entry[:2], order) == 254
            ]
            if page and entries and not any(kind & 1 for kind in kinds):
                return True
            at = int.from_bytes(file.read(4), order)
            if not at:
                break
    return False


def decode_image(
    path: Path, limits: Limits = DEFAULT_LIMITS, notes: list[str] | None = None
) -> tuple[av.VideoFrame, Upright]:
    """Decode one image; returns the frame and how to turn it upright.

    `notes` receives notes on ignored parts of the file.

    Raises:
        InputError: If it cannot be read.
    """
    pages = "only the first of its pages is read, as for every image with several"
    noted = notes is None or any(pages in note for note in notes)
    try:
        if notes is not None and not noted and (_has_pages(path) or _is_animated(path)):
            notes.append(f"{path.name}: {pages}")
        options: dict[str, str] = {}
        if _is_exr(path):
            options |= _EXR_OPTIONS
            if layer := exr.find_layer(read_header(path)):
                options["layer"] = layer
                add_note([] if notes is None else notes, f"the layer {layer} is read")
        with open_input(path, limits=limits, notes=notes, image=True) as container:
            stream = video_stream(container, path, limits)
            stream.codec_context.options |= options
            frame = next(container.decode(stream))
            if notes is not None:
                note_ignored_alpha(frame, "multiply", notes, codec_with_alpha(stream))
            name, aspect = stream.codec_context.name, stream.sample_aspect_ratio
            if aspect and not 1 / _MOST_UNEVEN <= aspect <= _MOST_UNEVEN:
                aspect = None  # such as 1:1080, which some programs write into PNG
            if name == "dpx":
                # Its values are taken as they are: full range, and not linear light,
                # which most programs state whatever they write.
                frame.color_range, frame.color_trc = RANGE_FULL, UNSPECIFIED
            return frame, Upright(frame, name, aspect)
    except (av.error.FFmpegError, OSError, StopIteration) as error:
        raise InputError(f"{path}: {why_unreadable(path)}") from error
