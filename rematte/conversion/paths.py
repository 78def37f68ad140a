"""Checks the paths of outputs: which are asked for, and which would do harm."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from os.path import realpath
from pathlib import Path
from typing import Any

from rematte.conversion.option_types import KINDS
from rematte.conversion.source import frames_within
from rematte.errors import InputError, OutputError
from rematte.matting.background import parse_colour
from rematte.options import Options, make_options
from rematte.video.codecs import is_sequence, pattern_of
from rematte.video.mask_spec import parse_masks
from rematte.video.output_paths import check_target, replaced_images
from rematte.video.reader import VideoReader


def split_arguments(arguments: Mapping[str, Any]) -> tuple[dict[str, Path], Options]:
    """Turn keyword arguments of `convert_video` into paths by kind, and options.

    Raises:
        TypeError: If there is no such argument.
        ValueError: If no output is asked for, or an option is out of its range.
    """
    paths = {kind: arguments.get(name) for name, kind in KINDS.items()}
    others = {k: v for k, v in arguments.items() if k not in (*KINDS, "progress")}
    options = make_options(**others)
    wanted = {kind: Path(path) for kind, path in paths.items() if path is not None}
    if not wanted:
        raise ValueError(
            "no output: give output, output_composition, output_alpha, "
            "output_foreground or output_plate (-o, --composition, --alpha, "
            "--foreground or --plate)"
        )
    if options.output_type == "png_sequence":
        wanted = {kind: path / "%04d.png" for kind, path in wanted.items()}
    return wanted, options


def check_paths(
    paths: Mapping[str, Path], source: Path, options: Options, overwrite: bool
) -> None:
    """Refuse paths that would harm the input or one another.

    Raises:
        ValueError: If a path is that of the input, a background, a mask or another
            output.
        OutputError: If a path cannot be written, or exists and may not be replaced.
    """
    taken = [(source, "the input")]
    background: Any = options.background
    several = isinstance(background, Mapping)
    for each in background.values() if several else [background]:
        if isinstance(each, str | Path) and parse_colour(str(each)) is None:
            taken.append((Path(each), "the background"))
    for name in "include", "exclude":
        specs = parse_masks(name, getattr(options, name) or ())
        taken += [(spec.file, f"a mask ({name})") for spec in specs if spec.file]
    lists = {} if options.cuts is None else {"list of cuts": Path(options.cuts)}
    for kind, path in {**paths, **lists}.items():
        for other, name in taken:
            if _would_overwrite(path, other):
                raise ValueError(f"{kind} {path} is {name} itself; write elsewhere")
        taken.append((path, f"the {kind}"))
        check_target(path, overwrite)


def _would_overwrite(path: Path, other: Path) -> bool:
    """Whether writing to `path`, perhaps many images, replaces `other` or a part."""
    if path.exists() and other.exists() and path.samefile(other):
        return True
    if not is_sequence(path):
        return realpath(path) == realpath(other)
    pattern = pattern_of(path)
    folder = realpath(path.parent if pattern else path)
    alike = other.suffix == ".png"
    if pattern is not None:
        others = None if other.exists() else pattern_of(other)
        alike = bool(pattern.digits_in(others.name(0) if others else other.name))
    inside = realpath(other.parent) == folder and alike
    return inside or folder == realpath(other)


def check_images(
    paths: Mapping[str, Path], reader: VideoReader, options: Options
) -> None:
    """Find out before any work which images outputs would replace.

    Raises:
        ValueError: If two images of the source would be written as one.
        OutputError: If images would be replaced that may not be.
    """
    number = options.start_number
    folders = [path for path in paths.values() if is_sequence(path)]
    frames: Sequence[tuple[str, int | None]] | int | None = None
    if reader.images and folders:
        _, begin, stop = frames_within(reader, options)
        frames = reader.labels[begin:stop]
        _check_names_differ(folders, reader, frames, number)
    for path in [] if options.overwrite else folders:
        if frames is None and replaced_images(path, None, number):
            with suppress(InputError):  # it does not say how many frames it has
                _, begin, stop = frames_within(reader, options)
                frames = stop - begin
        replaced = replaced_images(path, frames, number)
        if replaced:
            more = f" and {len(replaced) - 1} more" if len(replaced) > 1 else ""
            folder = path if path.is_dir() else path.parent
            raise OutputError(
                f"{folder / replaced[0]}{more} would be replaced; pass overwrite (-y) "
                "to replace what is there"
            )


def _check_names_differ(
    folders: Sequence[Path],
    reader: VideoReader,
    frames: Sequence[tuple[str, int | None]],
    start_number: int | None,
) -> None:
    """Refuse images in a folder whose names differ only in their suffix."""
    named = [path for path in folders if pattern_of(path) is None]
    if named and start_number is None and len(dict(frames)) < len(frames):
        stems = [name for name, _ in frames]
        twice = next(stem for stem in stems if stems.count(stem) > 1)
        raise ValueError(
            f"{reader.path} has several images named {twice}, which would be written "
            f"as one {named[0] / twice}.png; give a pattern such as "
            f"{named[0] / '%04d.png'} as output"
        )
