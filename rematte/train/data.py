"""Finds pictures and clips in folders and tar shards, and decodes frames of them.

Everything is indexed once; after that, any process reads bytes by offset in any order.
The name of a shard's member says what kind it is. Knows nothing of augmentation.
"""

import glob
import io
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
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

KINDS = ("mattes", "filmed", "backgrounds", "masks", "people", "others")


Picture = NDArray[np.uint8]


class Blob(NamedTuple):
    """A stretch of a file: all of it, or a member of a tar.

    Attributes:
        path: The file.
        offset: Where it begins [bytes].
        size: Its length [bytes].
    """

    path: str
    offset: int
    size: int

    def read(self) -> bytes:
        """Read the bytes."""
        with Path(self.path).open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


class Media(NamedTuple):
    """An image, a folder of frames, or a video.

    Attributes:
        blobs: One per image; one for a video.
        frames: Number of frames.
        rate: Frames per second of a video; 0 for images.
    """

    blobs: tuple[Blob, ...]
    frames: int
    rate: Fraction = Fraction(0)


class Item(NamedTuple):
    """A picture or clip, perhaps with its alpha or mask.

    Attributes:
        name: Unique name, whose hash decides whether the item is held out.
        media: The picture; RGBA if a matte has no `alpha`.
        alpha: Alpha or mask, or None.
    """

    name: str
    media: Media
    alpha: Media | None = None


@dataclass(frozen=True)
class Index:
    """All pictures and clips, by kind, in a fixed order.

    Attributes:
        mattes: Foregrounds with true alpha.
        filmed: Filmed frames of people with true alpha.
        backgrounds: Without people.
        masks: People with a rough mask.
        people: People, unlabelled.
        others: Neither people nor fit to be a background.
        unused: Files that are of no kind, each with the reason.
    """

    mattes: tuple[Item, ...] = ()
    filmed: tuple[Item, ...] = ()
    backgrounds: tuple[Item, ...] = ()
    masks: tuple[Item, ...] = ()
    people: tuple[Item, ...] = ()
    others: tuple[Item, ...] = ()
    unused: tuple[str, ...] = ()

    def kinds(self) -> Iterator[tuple[str, tuple[Item, ...]]]:
        """Yield the name of each kind and its items."""
        yield from ((kind, getattr(self, kind)) for kind in KINDS)

    def split(self, held_out: float) -> tuple["Index", "Index"]:
        """Split into training and held-out items, by a hash of their names."""
        parts: tuple[dict[str, tuple[Item, ...]], dict[str, tuple[Item, ...]]]
        parts = ({}, {})
        for kind, items in self.kinds():
            hashes = [zlib.crc32(item.name.encode()) % 10_000 for item in items]
            pairs = list(zip(items, hashes, strict=True))
            below = held_out * 10_000
            parts[0][kind] = tuple(item for item, value in pairs if value >= below)
            parts[1][kind] = tuple(item for item, value in pairs if value < below)
        return Index(**parts[0]), Index(**parts[1])  # type: ignore[arg-type]


def index(data: Data) -> Index:
    """Find everything that the settings name.

    Raises:
        InputError: If a path does not exist, a tar is damaged, or a folder holds
            nothing of its kind.
    """
    found: dict[str, list[Item]] = {kind: [] for kind in KINDS}
    unused: list[str] = []
    if data.shards:
        for kind, items in _from_shards(data.shards, unused).items():
            found[kind] += items
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
    """Index all shards together: an image and its mask may lie in different ones."""
    members: dict[str, Blob] = {}
    for path in _expand(patterns, "data.shards"):
        try:
            with tarfile.open(path, "r:") as archive:
                for member in archive:
                    if member.isfile():
                        blob = Blob(str(path), member.offset_data, member.size)
                        members.setdefault(member.name, blob)
        except (tarfile.TarError, OSError) as error:
            raise InputError(
                f"data.shards: {path} is no readable, uncompressed tar ({error})"
            ) from error
    kinds: dict[str, dict[str, Blob]] = {}
    for name, blob in members.items():
        kinds.setdefault(_kind(name), {})[name] = blob
    masks = _pair_masks(kinds.get("people", {}), ".mask.png", [])
    taken = {item.name for item in masks}
    taken |= {str(Path(name).with_suffix("")) + ".mask.png" for name in taken}
    people = {k: v for k, v in kinds.get("people", {}).items() if k not in taken}
    kinds["people"] = people
    return {kind: _media(blobs, unused) for kind, blobs in kinds.items()} | {
        "masks": masks
    }


def _kind(name: str) -> str:
    """Return the kind of a shard's member; masks are of the kind of their image."""
    parts = Path(name).parts
    if parts[0] in ("rooms", "wallpapers"):
        return "backgrounds"
    if parts[0] == "cutouts":
        return "mattes"
    return "others" if parts[0] == "flickr_other" else "people"


def _pair_masks(members: dict[str, Blob], suffix: str, unused: list[str]) -> list[Item]:
    """Pair images with the masks beside them, and leave out images without one."""
    items, masks = [], set()
    for name, blob in members.items():
        partner = str(Path(name).with_suffix("")) + suffix
        if partner in members and not name.endswith(suffix):
            pair = Media((blob,), 1), Media((members[partner],), 1)
            items.append(Item(name, *pair))
            masks.add(partner)
        elif not name.endswith(suffix):
            unused.append(f"{name}: no {Path(partner).name} beside it")
    left = [n for n in members if n.endswith(suffix) and n not in masks]
    unused += [f"{name}: no picture beside it" for name in left]
    return items


def _media(members: dict[str, Blob], unused: list[str]) -> list[Item]:
    """Sort members into videos, images and clips of numbered images."""
    items = []
    images: dict[str, dict[str, Blob]] = {}
    for name, blob in members.items():
        path = Path(name)
        if path.suffix.lower() in VIDEOS:
            items.append(Item(name, _video(blob, name)))
        elif path.suffix.lower() in IMAGES and not name.endswith(".mask.png"):
            clip = path.stem.isdigit() and len(path.parts) > 2
            images.setdefault(str(path.parent) if clip else name, {})[name] = blob
        elif name.endswith(".mask.png"):
            unused.append(f"{name}: no picture beside it")
        else:
            unused.append(f"{name}: neither image nor video")
    for name, frames in images.items():
        blobs = tuple(frames[key] for key in sorted(frames, key=natural_key))
        items.append(Item(name, Media(blobs, len(blobs))))
    return items


def _video(blob: Blob, name: str) -> Media:
    """Read the frame count and rate of a video from its header."""
    try:
        with _open(blob) as container:
            stream = container.streams.video[0]
            rate = stream.average_rate or Fraction(30)
            seconds = Fraction(container.duration or 0, av.time_base)
            count = stream.frames or int(seconds * rate)
    except (InputError, IndexError) as error:
        raise InputError(f"{name} of {blob.path} is no readable video") from error
    return Media((blob,), max(1, count), rate)


_PARTNERS = {
    "mattes": (("fgr", "pha"),),
    "filmed": (("images", "alpha"),),
    "masks": (("images", "masks"),),
}


def _from_folder(folder: Path, kind: str, unused: list[str]) -> list[Item]:
    """Index one folder of the settings, and note the files that are not used."""
    if not folder.is_dir():
        raise InputError(f"data.{kind}: {folder} is no folder")
    for seen, alpha in _PARTNERS.get(kind, ()):
        if (folder / seen).is_dir():
            left, right = (_stems(folder / each, unused) for each in (seen, alpha))
            for one, other, missing in ((left, right, alpha), (right, left, seen)):
                names = [one[stem].blobs[0].path for stem in sorted(one.keys() - other)]
                unused += [f"{name}: no partner in {missing}/" for name in names]
            shared = sorted(left.keys() & right.keys())
            return [Item(f"{folder.name}/{s}", left[s], right[s]) for s in shared]
    if kind in ("masks", "filmed"):
        members = {
            str(path): Blob(str(path), 0, path.stat().st_size)
            for path in sorted(folder.rglob("*"))
            if path.suffix.lower() in IMAGES and not path.name.startswith(".")
        }
        suffix = ".mask.png" if kind == "masks" else ".alpha.png"
        return _pair_masks(members, suffix, unused)
    items = _entries(folder, unused)
    if kind != "mattes":
        return items
    # A matte without `pha` is RGBA, which only images are read as.
    videos = [item for item in items if item.media.rate]
    unused += [
        f"{item.media.blobs[0].path}: a video among RGBA images; put it into fgr/ and "
        "its alpha into pha/"
        for item in videos
    ]
    return [item for item in items if not item.media.rate]


def _stems(folder: Path, unused: list[str]) -> dict[str, Media]:
    """Return videos, images and folders of frames by their names without suffix."""
    if not folder.is_dir():
        raise InputError(
            f"{folder} is missing; it must hold the partners of the folder beside it"
        )
    return {Path(item.name).stem: item.media for item in _entries(folder, unused)}


def _entries(folder: Path, unused: list[str]) -> list[Item]:
    """Index the images, videos and folders of frames in a folder."""
    items = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        item = _entry(path)
        if item is None:
            unused.append(f"{path}: neither image, video nor folder of images")
        else:
            items.append(item)
    return items


def _entry(path: Path) -> Item | None:
    """Index one image, video or folder of frames; None if it is something else."""
    name = f"{path.parent.name}/{path.name}"
    if path.is_dir():
        frames = [f for f in path.iterdir() if f.suffix.lower() in IMAGES]
        frames.sort(key=lambda frame: natural_key(frame.name))
        blobs = tuple(Blob(str(f), 0, f.stat().st_size) for f in frames)
        return Item(name, Media(blobs, len(blobs))) if blobs else None
    blob = Blob(str(path), 0, path.stat().st_size)
    if path.suffix.lower() in VIDEOS:
        return Item(name, _video(blob, name))
    if path.suffix.lower() in IMAGES and not path.name.endswith(".mask.png"):
        return Item(name, Media((blob,), 1))
    return None


# Decoding


def _open(blob: Blob) -> InputContainer:
    """Open a video: a file by its path, a tar's member (never at 0) from memory."""
    content = io.BytesIO(blob.read()) if blob.offset else None
    return open_input(Path(blob.path), content=content)


def decode(media: Media, order: Sequence[int], mode: str) -> Picture:
    """Decode frames.

    Args:
        media: An image, a folder of frames, or a video.
        order: Indices of the frames, in any order; they may repeat.
        mode: "RGB", "RGBA" or "L".

    Returns:
        (len(order), H, W, C).

    Raises:
        InputError: If a frame cannot be decoded.
    """
    wanted = sorted(set(order))
    if media.rate:
        seen = _decode_video(media, wanted, mode)
    else:
        seen = {at: _decode_image(media.blobs[at], mode) for at in wanted}
    first = seen[order[0]].shape
    if any(picture.shape != first for picture in seen.values()):
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
            f"{blob.path} at byte {blob.offset}: no readable image; remove it"
        ) from error
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _decode_video(media: Media, wanted: list[int], mode: str) -> dict[int, Picture]:
    """Decode from the key frame before the first one; repeat the last frame at the end.

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
                at = start + int(wanted[0] / media.rate / base)
                container.seek(at, stream=stream)
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
