"""Finds images: one file, those of a folder in order, or a numbered sequence."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av

from rematte.errors import InputError
from rematte.video import exr
from rematte.video.numbering import (
    Numbering,
    describe_runs,
    find_numbering,
    group_sequences,
    parse_pattern,
)
from rematte.video.opening import (
    HEIC_BRANDS,
    PNG_START,
    TIFF_STARTS,
    is_animated_webp,
    open_input,
)

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
# What is read of a file to find out what it is [bytes].
HEADER = 1 << 16
# Longer gaps are a mistake rather than lost frames [frames].
_LONGEST_GAP = 1000


@dataclass(frozen=True, slots=True)
class ImageFrame:
    """A frame of an image source."""

    file: Path  # the image that is shown
    name: str  # stem of the file that the frame would have; that of a missing frame too
    number: int | None = None  # its number in the sequence, or None
    # The number of the image that is shown; another number in a gap.
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
        pattern = parse_pattern(path.name) if is_image(path) else None
        if pattern is None or not path.parent.is_dir():
            raise InputError(f"{path}: no such file or folder; check the path")
        return _by_pattern(path, pattern, hold_gaps), []
    if not path.is_file():
        raise InputError(f"{path}: not a file; give a video, an image or a folder")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; copy it again")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: no permission to read it")
    single = not is_animated(path) if is_image(path) else _holds_one_image(path)
    return ([ImageFrame(path, path.stem)] if single else []), []


def is_image(path: Path) -> bool:
    """Whether a name has the suffix of an image."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def is_animated(path: Path) -> bool:
    """Whether a PNG, WebP, AVIF or HEIC is an animation, which is read as a video.

    Source:
        W3C, Portable Network Graphics (Third Edition): acTL precedes the first IDAT.
    """
    with path.open("rb") as file:
        head = file.read(HEADER)
    if head[4:12] in _ANIMATED_PHOTOS:
        return True
    if is_animated_webp(head):
        return "webp_anim" in av.formats_available
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
        if is_image(file) and not file.name.startswith(".") and file.is_file()
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
    names = [
        file.name
        for file in folder.iterdir()
        if pattern.digits_in(file.name) and file.is_file()
    ]
    if not names:
        raise InputError(
            f"{path}: no file in {folder} has such a name; check the pattern"
        )
    names.sort(key=natural_key)
    return _sequence(folder, pattern.padded_as(names), names, hold_gaps)


def _sequence(
    folder: Path, numbering: Numbering, names: Sequence[str], hold_gaps: bool
) -> list[ImageFrame]:
    """Return a sequence's frames; in gaps the one before, under the missing number."""
    frames: list[ImageFrame] = []
    for name in names:
        file, number = folder / name, numbering.number(name) or 0
        if frames and frames[-1].number == number:
            raise InputError(
                f"{file}: {frames[-1].file.name} has the same number; remove one"
            )
        if frames and hold_gaps:
            frames += _hold(frames[-1], number, numbering)
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
    missing = describe_runs(picture.number or 0 for picture in held)
    what = f"frames {missing} are" if len(held) > 1 else f"frame {missing} is"
    shown = {picture.shown or 0 for picture in held}
    which = f"{min(shown)} is" if len(shown) == 1 else "the frame before each gap is"
    return (
        f"{what} missing; {which} held, in image outputs too, under the missing numbers"
    )
