"""Finds pictures and clips in folders and tar shards, and decodes their frames.

Everything is indexed once; after that, any process reads bytes by offset in any order.
"""

import glob
import io
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from itertools import filterfalse
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from rematte.errors import InputError
from rematte.train.recipe import Data
from rematte.video.colour import frame_colour, to_rgb
from rematte.video.images import natural_key
from rematte.video.opening import open_input

IMAGES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
VIDEOS = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"}
# Prefixes of the names of a shard's members; all others are people.
_SHARDED = {
    "rooms": "backgrounds",
    "wallpapers": "backgrounds",
    "cutouts": "mattes",
    "flickr_other": "others",
}
_MASK = ".mask.png"
# Folders of pictures and of their alpha; or the suffix of an alpha's name.
_PAIRED = {
    "mattes": ("fgr", "pha", ""),
    "filmed": ("images", "alpha", ".alpha.png"),
    "masks": ("images", "masks", _MASK),
}

Picture = NDArray[np.uint8]


class Blob(NamedTuple):
    """A range of a file [bytes]: all of it, or a member of a tar."""

    path: str
    offset: int
    size: int

    def read(self) -> bytes:
        """Read the bytes."""
        with Path(self.path).open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


class Media(NamedTuple):
    """An image, a folder of frames, or a video."""

    blobs: tuple[Blob, ...]  # one per image; one for a video
    frames: int
    rate: Fraction = Fraction(0)  # frames per second of a video; 0 for images


class Item(NamedTuple):
    """A picture or clip, perhaps with its alpha or mask."""

    name: str  # unique; its hash decides whether the item is held out
    media: Media  # RGBA if a matte has no `alpha`
    alpha: Media | None = None


@dataclass(frozen=True)
class Index:
    """All pictures and clips, by kind, in a fixed order."""

    mattes: tuple[Item, ...] = ()  # foregrounds with true alpha
    filmed: tuple[Item, ...] = ()  # filmed frames of people with true alpha
    backgrounds: tuple[Item, ...] = ()  # without people
    masks: tuple[Item, ...] = ()  # people with a rough mask
    people: tuple[Item, ...] = ()  # unlabelled
    others: tuple[Item, ...] = ()  # neither people nor usable as a background
    unused: tuple[str, ...] = ()  # unused files, each with the reason

    def kinds(self) -> Iterator[tuple[str, tuple[Item, ...]]]:
        """Yield the name of each kind and its items."""
        yield from ((kind, getattr(self, kind)) for kind in KINDS)

    def split(self, held_out: float) -> tuple["Index", "Index"]:
        """Split into training and held-out items, by a hash of their names."""

        def kept(item: Item) -> bool:
            return zlib.crc32(item.name.encode()) % 10_000 < held_out * 10_000

        left: Any = {kind: tuple(filterfalse(kept, i)) for kind, i in self.kinds()}
        held: Any = {kind: tuple(filter(kept, i)) for kind, i in self.kinds()}
        return Index(**left), Index(**held)


KINDS = tuple(field.name for field in fields(Index) if field.name != "unused")


def index(data: Data) -> Index:
    """Find everything that the settings name.

    An `InputError` is raised if a path does not exist, a tar is damaged, or a folder
    holds nothing of its kind.
    """
    unused: list[str] = []
    found = _from_shards(data.shards, unused)
    for kind in ("mattes", "filmed", "backgrounds", "masks", "people"):
        for folder in _expand(getattr(data, kind), f"data.{kind}"):
            items = _from_folder(folder, kind, unused)
            if not items:
                raise InputError(
                    f"data.{kind}: nothing of this kind in {folder}; see the layouts "
                    "in docs/train.md"
                )
            found[kind] += items
    kinds = {kind: tuple(sorted(items)) for kind, items in found.items()}
    return Index(**kinds, unused=tuple(unused))


def _expand(patterns: Iterable[str], setting: str) -> Iterator[Path]:
    for pattern in patterns:
        paths = sorted(glob.glob(str(Path(pattern).expanduser())))  # noqa: PTH207
        if not paths:
            raise InputError(
                f"{setting}: nothing matches {pattern!r}; set it to files or folders "
                "that exist"
            )
        yield from map(Path, paths)


def _from_shards(patterns: Sequence[str], unused: list[str]) -> dict[str, list[Item]]:
    """Index all shards together: an image and its mask may be in different ones."""
    kinds: dict[str, dict[str, Blob]] = {kind: {} for kind in KINDS}
    for path in _expand(patterns, "data.shards"):
        try:
            with tarfile.open(path, "r:") as archive:
                for member in archive:
                    if member.isfile():
                        blob = Blob(str(path), member.offset_data, member.size)
                        kind = _SHARDED.get(Path(member.name).parts[0], "people")
                        kinds[kind].setdefault(member.name, blob)
        except (tarfile.TarError, OSError) as error:
            raise InputError(
                f"data.shards: {path} is not a readable, uncompressed tar ({error})"
            ) from error
    masks = _take_pairs(kinds["people"], _MASK)
    found = {kind: _media(members, unused) for kind, members in kinds.items()}
    return found | {"masks": masks}


def _from_folder(folder: Path, kind: str, unused: list[str]) -> list[Item]:
    """Index one folder of the settings, and list the files that are not used."""
    seen, alpha, suffix = _PAIRED.get(kind, ("", "", ""))
    if seen and (folder / seen).is_dir():
        left, right = (
            {Path(item.name).stem: item.media for item in _entries(part, unused)}
            for part in (folder / seen, folder / alpha)
        )
        for one, other, missing in ((left, right, alpha), (right, left, seen)):
            names = [one[stem].blobs[0].path for stem in sorted(one.keys() - other)]
            unused += [f"{name}: no partner in {missing}/" for name in names]
        shared = sorted(left.keys() & right.keys())
        return [Item(f"{folder.name}/{s}", left[s], right[s]) for s in shared]
    if suffix:
        paths = filter(_is_image, sorted(folder.rglob("*")))
        members = {str(path): _whole(path) for path in paths}
        items = _take_pairs(members, suffix)
        for name in members:
            lone = "picture" if name.endswith(suffix) else Path(name).stem + suffix
            unused.append(f"{name}: no {lone} beside it")
        return items
    items = _entries(folder, unused)
    # Without `pha` a matte is RGBA, which only images are read as.
    videos = [item for item in items if item.media.rate and kind == "mattes"]
    remedy = "a video among RGBA images; put it into fgr/ and its alpha into pha/"
    unused += [f"{item.media.blobs[0].path}: {remedy}" for item in videos]
    return [item for item in items if item not in videos]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGES and not path.name.startswith(".")


def _whole(path: Path) -> Blob:
    return Blob(str(path), 0, path.stat().st_size)


def _entries(folder: Path, unused: list[str]) -> list[Item]:
    """Index the images, videos and folders of frames in a folder."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; docs/train.md shows the layouts")
    members: dict[str, Blob] = {}
    # `glob` would find nothing in a folder that cannot be read.
    shown = (path for path in folder.iterdir() if not path.name.startswith("."))
    for path in sorted(shown):
        frames = list(filter(_is_image, path.iterdir())) if path.is_dir() else [path]
        if not frames:
            unused.append(f"{path}: no images in it")
        for frame in frames:
            name = f"{folder.name}/{frame.relative_to(folder).as_posix()}"
            members[name] = _whole(frame)
    return _media(members, unused)


def _take_pairs(members: dict[str, Blob], suffix: str) -> list[Item]:
    """Take pictures with masks beside them out of `members`."""
    items, taken = [], set[str]()
    for name, blob in members.items():
        other = str(Path(name).with_suffix("")) + suffix
        if other in members and not name.endswith(suffix):
            items.append(Item(name, Media((blob,), 1), Media((members[other],), 1)))
            taken |= {name, other}
    for name in taken:
        del members[name]
    return items


def _media(members: dict[str, Blob], unused: list[str]) -> list[Item]:
    """Sort members into videos, images and clips, and list what is none of them.

    A clip is the images of a folder, or in a shard numbered images two folders down.
    """
    items = []
    images: dict[str, dict[str, Blob]] = {}
    for name, blob in members.items():
        path, where = Path(name), name if blob.offset else blob.path
        if path.suffix.lower() in VIDEOS:
            items.append(Item(name, _video(blob, name)))
        elif name.endswith(_MASK):
            unused.append(f"{where}: a mask beside no picture, or not in data.masks")
        elif path.suffix.lower() in IMAGES:
            clip = len(path.parts) > 2 and (path.stem.isdigit() or not blob.offset)
            images.setdefault(str(path.parent) if clip else name, {})[name] = blob
        else:
            unused.append(f"{where}: neither image nor video")
    for name, frames in images.items():
        blobs = tuple(frames[key] for key in sorted(frames, key=natural_key))
        items.append(Item(name, Media(blobs, len(blobs))))
    return items


def _video(blob: Blob, name: str) -> Media:
    """Read the frame count and rate of a video from its header."""
    try:
        with _open(blob) as container:
            stream = container.streams.video[0]
            rate = Fraction(stream.average_rate or 30)
            seconds = Fraction(container.duration or 0, av.time_base)
            count = stream.frames or int(seconds * rate)
    except (InputError, IndexError) as error:
        raise InputError(f"{name} of {blob.path} is not a readable video") from error
    return Media((blob,), max(1, count), rate)


def _open(blob: Blob) -> InputContainer:
    """Open a video: a file by its path, a tar's member (never at 0) from memory."""
    content = io.BytesIO(blob.read()) if blob.offset else None
    return open_input(Path(blob.path), content=content)


def decode(media: Media, order: Sequence[int], mode: str) -> Picture:
    """Decode frames to (T, H, W, C), or raise `InputError` if one is unreadable.

    `order` are their indices, which may repeat, and `mode` is "RGB", "RGBA" or "L".
    """
    wanted = sorted(set(order))
    if media.rate:
        seen = _decode_video(media, wanted, mode)
    else:
        seen = {at: _decode_image(media.blobs[at], mode) for at in wanted}
    if len({picture.shape for picture in seen.values()}) > 1:
        raise InputError(
            f"{media.blobs[0].path}: frames of one clip have different sizes; make "
            "them equal or split the clip"
        )
    return np.stack([seen[at] for at in order])


def _decode_image(blob: Blob, mode: str) -> Picture:
    try:
        with Image.open(io.BytesIO(blob.read())) as image:
            upright = ImageOps.exif_transpose(image) or image
            pixels = np.array(upright.convert(mode), np.uint8)
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise InputError(
            f"{blob.path} at byte {blob.offset}: not a readable image; remove it"
        ) from error
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _decode_video(media: Media, wanted: list[int], mode: str) -> dict[int, Picture]:
    """Decode from the preceding key frame; repeat the last frame at the end.

    Frames are counted by their time, so that a seek does not lose the count.
    """
    (blob,) = media.blobs
    seen: dict[int, Picture] = {}
    last: av.VideoFrame | None = None
    try:
        with _open(blob) as container:
            stream: Any = container.streams.video[0]
            base, start = stream.time_base, stream.start_time or 0
            if wanted[0]:
                first = start + int(wanted[0] / media.rate / base)
                container.seek(first, stream=stream)
            for last in container.decode(stream):
                at = round(((last.pts or 0) - start) * base * media.rate)
                due = [index for index in wanted if index <= at and index not in seen]
                if due:
                    seen |= dict.fromkeys(due, _rgb(last, mode))
                if at >= wanted[-1]:
                    break
        if last is None:
            raise EOFError("no frames")
    except (InputError, av.error.FFmpegError, OSError, IndexError) as error:
        raise InputError(
            f"{blob.path} at byte {blob.offset}: damaged video ({error}); remove it"
        ) from error
    late = [index for index in wanted if index not in seen]
    return seen | dict.fromkeys(late, _rgb(last, mode)) if late else seen


def _rgb(frame: av.VideoFrame, mode: str) -> Picture:
    pixels = to_rgb(frame, frame_colour(frame), 8, None).astype(np.uint8, copy=False)
    return pixels[..., :1] if mode == "L" else pixels
