"""Finds the clips of a data set and reads their mattes frame by frame."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rematte.errors import InputError
from rematte.video.codecs import CONTAINERS
from rematte.video.frame import Frame
from rematte.video.images import IMAGE_SUFFIXES, natural_key
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader

Array = NDArray[np.floating[Any]]

# Layouts of public sets of photos: folder of pictures, folder of their alpha. P3M-500-P
# and -NP, AIM-500, PPM-100; `trimap` beside them is used.
STILLS = {
    "blurred_image": "mask",
    "original_image": "mask",
    "original": "mask",
    "image": "matte",
}

# Mean spread of the channels [8-bit levels] from which a picture counts as coloured.
# Codecs make gray pictures differ by less.
_COLOURED = 8


class Matte(NamedTuple):
    """One frame of a matte."""

    alpha: Array  # (H, W) in [0, 1]
    foreground: Array | None = None  # (H, W, 3) straight RGB in [0, 1]
    unknown: NDArray[np.bool_] | None = None  # (H, W), where a trimap leaves alpha open


@dataclass(frozen=True)
class Source:
    """The files of a clip: videos, folders of images or images."""

    alpha: Path  # a gray picture, or a transparent one
    foreground: Path | None = None  # colours; None for those of a transparent picture
    composite: Path | None = None  # the input of a network
    trimap: Path | None = None  # gray pictures, 0 and 255 where alpha is known


def find_clips(root: Path) -> dict[str, Source]:
    """Find clips by their layout.

    A file, or a folder with images in it, is one clip. So is a folder that holds `pha`
    (a folder or a video), with foreground and composite in `fgr` and `com`. In a folder
    laid out as one of `STILLS`, each image is one. Any other folder is searched for
    videos, and its subfolders for clips.

    Returns:
        Clips by their path below `root`, without suffix; "" for `root` itself.

    Raises:
        InputError: If there is no clip.
    """
    if not root.exists():
        raise InputError(f"{root}: no such file or folder; check the path")
    clips = dict(_walk(root, ""))
    if not clips:
        raise InputError(
            f"{root}: no clip in it; it must hold images, videos, or CLIP/pha folders"
        )
    return clips


def _walk(path: Path, name: str) -> Iterator[tuple[str, Source]]:
    if path.is_file():
        yield name, Source(path)
        return
    inside = _visible(path)
    parts = {p.stem: p for p in inside if p.is_dir() or _is_video(p)}
    images = next((p for p in STILLS if {p, STILLS[p]} <= parts.keys()), None)
    if "pha" in parts:
        others = (parts.get(part) for part in ("fgr", "com", "trimap"))
        yield name, Source(parts["pha"], *others)
    elif images:
        yield from _stills(parts, images, f"{name}/" if name else "")
    elif any(image.is_file() for image in _images(path)):
        yield name, Source(path)
    else:
        for stem, part in parts.items():
            yield from _walk(part, f"{name}/{stem}" if name else stem)


def _stills(
    parts: dict[str, Path], images: str, prefix: str
) -> Iterator[tuple[str, Source]]:
    shown, trimaps = (
        {path.stem: path for path in sorted(parts[part].iterdir())} if part in parts
        else {} for part in (images, "trimap")
    )  # fmt: skip
    for path in _images(parts[STILLS[images]]):
        stem = path.stem
        if stem not in shown:
            raise InputError(f"{path}: no picture of this name in {parts[images]}")
        yield prefix + stem, Source(path, None, shown[stem], trimaps.get(stem))


def _visible(folder: Path) -> list[Path]:
    """List the visible entries of a folder, in natural order."""
    found = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(found, key=lambda path: natural_key(path.name))


def _images(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.suffix.lower() in IMAGE_SUFFIXES]


def labelled_frames(source: Source) -> set[int] | None:
    """Return which frames of a composite have a true alpha; None if all have.

    If both are folders of images and alpha has fewer, as in sets with every tenth frame
    labelled, frames are matched by name.

    Raises:
        InputError: If an alpha has no frame of its name.
    """
    shown, alpha = source.composite, source.alpha
    if shown is None or not (shown.is_dir() and alpha.is_dir()):
        return None
    frames, labels = ([path.stem for path in _images(at)] for at in (shown, alpha))
    if len(labels) >= len(frames):
        return None
    missing = [name for name in labels if name not in frames]
    if missing:
        raise InputError(
            f"{alpha}: {missing[0]} has no frame of its name in {shown}; where some "
            "frames are labelled, names must agree"
        )
    return {frames.index(name) for name in labels}


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in CONTAINERS and path.is_file()


def read_mattes(source: Source) -> Iterator[Matte]:
    """Read a clip's alpha, and its foreground if there is one.

    A picture with an alpha channel gives alpha and foreground. Any other one must be
    gray, and its brightness is the alpha.

    Raises:
        InputError: If it cannot be read, is a colour picture without alpha, or the
            foreground has another size or length.
    """
    with ExitStack() as stack:
        mattes = stack.enter_context(VideoReader(source.alpha, ReadOptions(alpha=True)))
        if source.foreground is None:
            if source.trimap is None:
                yield from (_matte(source.alpha, frame) for frame in mattes)
                return
            trimaps = stack.enter_context(VideoReader(source.trimap))
            for frame, trimap in zip(mattes, trimaps, strict=True):
                matte, gray = _matte(source.alpha, frame), _unit(trimap).mean(-1)
                yield matte._replace(unknown=(gray > 0.02) & (gray < 0.98))
            return
        colours = stack.enter_context(VideoReader(source.foreground))
        for index, (frame, colour) in enumerate(zip_longest(mattes, colours)):
            if frame is None or colour is None:
                raise InputError(
                    f"{source.foreground}: foreground and alpha differ in length: one "
                    f"ends after {index} frames; give the same frames of both"
                )
            matte, foreground = _matte(source.alpha, frame), _unit(colour)
            if foreground.shape[:2] != matte.alpha.shape:
                raise InputError(
                    f"{source.foreground}: frame {index} has another size than its "
                    "alpha; resize one of them"
                )
            yield Matte(matte.alpha, foreground)


def _matte(path: Path, frame: Frame) -> Matte:
    value = _unit(frame)
    if value.shape[2] == 4:
        return Matte(value[..., 3], value[..., :3])
    if np.ptp(value, axis=2).mean() * 255 > _COLOURED:
        raise InputError(
            f"{path}: a colour picture without an alpha channel; give the alpha matte "
            "(gray) or a transparent cut-out"
        )
    # Summed as integers, so that equal pictures give equal alpha to the last digit.
    total = frame.pixels.sum(2, dtype=np.int64)
    return Matte(total / (value.shape[2] * np.iinfo(frame.pixels.dtype).max))


def _unit(frame: Frame) -> Array:
    return np.asarray(frame.pixels / np.iinfo(frame.pixels.dtype).max, np.float64)
