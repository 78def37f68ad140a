"""Uses temporary files in place of standard streams, named pipes and open files.

A video is read at several positions and more than once, and the beginning of most files
is written last. A pipe allows neither, so an input is copied to a file first, and an
output is sent once it is complete; after an error nothing is sent.
"""

import os
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from io import TextIOBase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, BinaryIO

from rematte.errors import InputError, OutputError
from rematte.video.codecs import CONTAINERS, IMAGES
from rematte.video.output_paths import as_output_error
from rematte.video.raw import RAW_FORMATS, save_raw, send_raw

if TYPE_CHECKING:
    from rematte.conversion.report import Report

File = str | Path | BinaryIO  # a path, STANDARD, or an open file

STANDARD = "-"  # the standard input, or output
FORMATS = (*(suffix[1:] for suffix in (*CONTAINERS, *IMAGES)), *RAW_FORMATS)
_LOSSLESS = ".nut"  # for temporary files in place of raw video: FFV1, exact times


def is_pipe(word: File | None, output: bool = False) -> bool:
    """Whether an input or output needs a temporary file in its place.

    That is "-", an open file or a named pipe and, for an output, a device.
    """
    if is_open(word):
        return True
    if word is None or word == STANDARD:
        return word == STANDARD
    path = Path(str(word))
    kinds = [stat.S_ISFIFO, stat.S_ISSOCK, *[stat.S_ISCHR] * output]
    return path.exists() and any(is_kind(path.stat().st_mode) for is_kind in kinds)


def is_open(word: object) -> bool:
    """Whether an argument is an open file.

    Raises:
        TypeError: If the file was opened for text, or it is the content of a file.
        ValueError: If it is an empty name, which would be the current folder.
    """
    if isinstance(word, str) and not word:
        raise ValueError(
            "the name of an input or output is empty; give a path, or . for the "
            "current folder"
        )
    if isinstance(word, bytes | bytearray | memoryview):
        raise TypeError(
            "an input or output must be a path or an open file, got "
            f"{type(word).__name__}; wrap a file's content in io.BytesIO"
        )
    if isinstance(word, TextIOBase):
        raise TypeError(
            f'{called(word)} was opened for text; open it for bytes, with "rb" or "wb"'
        )
    return hasattr(word, "read") or hasattr(word, "write")


def called(word: object) -> str:
    """Return the name of a file for messages."""
    if isinstance(word, str | Path):
        return str(word)
    name = getattr(word, "name", "")
    return name if isinstance(name, str) and name else "the open file"


def check_raw_format(
    kind: str | None, outputs: Mapping[str, File | None], background: object
) -> None:
    """Refuse raw video in a pipe that would lose alpha or colours of an output.

    `outputs` says where each goes, by the argument's name, and `kind` is the format of
    those that go into a pipe.
    """
    kinds = {name for name, word in outputs.items() if is_pipe(word, output=True)}
    laid = background not in (None, "transparent")
    opaque = laid and outputs.get("output_composition") is None
    if kind == "rgb24" and "output" in kinds and not opaque:
        raise ValueError(
            "format rgb24 has no alpha, and the cut-out is transparent; use rgba, or "
            "give a background"
        )
    if kind == "gray" and kinds != {"output_alpha"}:
        raise ValueError("format gray has no colours; use it for the alpha matte alone")


@dataclass
class Piped:
    """The input and outputs of a conversion, with files in place of pipes."""

    source: str  # the input, or its copy
    outputs: dict[str, str | None]  # where each goes, by kind; None where there is none
    # The user's name for each temporary file.
    given: dict[str, str] = field(default_factory=dict)
    # What a user should know about the pipes.
    notes: list[str] = field(default_factory=list)
    # The open file that a temporary file goes into.
    files: dict[str, BinaryIO] = field(default_factory=dict)
    # Which of `RAW_FORMATS` the outputs are sent as; None as they are.
    raw: str | None = None

    def name(self, text: str) -> str:
        """Replace the names of temporary files in a text by the user's."""
        for local, word in self.given.items():
            text = text.replace(local, word).replace(
                f"{Path(local).name}: ", f"{word}: "
            )
        return text

    def describe(self, report: "Report") -> None:
        """Put the user's names and the notes into a report."""
        report.notes = [*self.notes, *map(self.name, report.notes)]
        report.outputs = {kind: self.name(o) for kind, o in report.outputs.items()}

    def send(self, standard: BinaryIO | None) -> None:
        """Send the outputs that belong into pipes.

        The standard output, as bytes, is None if it takes only text, as it does where
        the calling program has replaced it.

        Raises:
            OutputError: If the reader has ended, or the disk behind it is full.
        """
        for local in filter(None, self.outputs.values()):
            word = self.given.get(local)
            if word is None:
                continue
            with as_output_error(Path(word)), ExitStack() as stack:
                pipe = self.files.get(local, standard)
                if word != STANDARD and local not in self.files:
                    pipe = stack.enter_context(Path(word).open("wb"))
                if pipe is None:
                    raise OutputError("-: the standard output here takes only text")
                if self.raw:
                    send_raw(Path(local), pipe, self.raw)
                else:
                    made = stack.enter_context(Path(local).open("rb"))
                    shutil.copyfileobj(made, pipe)
                if hasattr(pipe, "flush"):
                    pipe.flush()


@contextmanager
def through_files(
    source: File,
    outputs: Mapping[str, File | None],
    kind: str | None = None,
    raw: tuple[tuple[int, int], Fraction] | None = None,
) -> Iterator[Piped]:
    """Yield the input and outputs of a conversion with files in place of pipes.

    `kind` is the format of outputs that go into a pipe, one of `FORMATS`; by default it
    is the suffix of the pipe's name if that is a format, else Matroska. `raw` is the
    size [pixels] and the frames per second of raw RGB24 video in a pipe; None for an
    input that has a header.

    Raises:
        InputError: If nothing can be read from the standard input.
        OutputError: If an output goes to a terminal, or into a closed stream.
        ValueError: If two outputs go into one pipe, or the format is not known.
    """
    words = [word for word in outputs.values() if is_pipe(word, output=True)]
    if kind is not None and kind not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {kind!r}")
    if not words and not is_pipe(source):
        named = {k: None if word is None else str(word) for k, word in outputs.items()}
        yield Piped(str(source), named)
        return
    if len(set(words)) < len(words):
        raise ValueError(f"{called(words[0])}: only one output can go there")
    if STANDARD in words and sys.stdout.isatty():
        raise OutputError("-: the standard output is a terminal; send it to a program")
    if STANDARD in words and getattr(sys.stdout, "name", None) == os.devnull:
        raise OutputError("-: the standard output is closed; send it to a program")
    with TemporaryDirectory(prefix="rematte-") as folder:
        piped = _in_place(called(source), outputs, kind, Path(folder))
        try:
            if is_pipe(source):
                _fetch(piped, source, Path(folder, "input"), raw)
            yield piped
        except KeyboardInterrupt as stop:  # partial files here go with the folder
            saved = [name for name in stop.args if folder not in str(name)]
            raise KeyboardInterrupt(*saved) from None
        except (InputError, OutputError) as error:
            raise type(error)(piped.name(str(error))) from error
        except ValueError as error:
            raise ValueError(piped.name(str(error))) from error


def _in_place(
    source: str, outputs: Mapping[str, File | None], kind: str | None, folder: Path
) -> Piped:
    """Use files in a folder in place of the outputs that are pipes."""
    piped = Piped(source, {})
    if kind in RAW_FORMATS:
        piped.raw, kind = kind, _LOSSLESS[1:]
    for key, word in outputs.items():
        piped.outputs[key] = None if word is None else str(word)
        if word is not None and is_pipe(word, output=True):
            suffix = f".{kind}" if kind else _choose_format(piped, word)
            local = str(folder / f"{key}{suffix}")
            piped.outputs[key], piped.given[local] = local, called(word)
            if not isinstance(word, str | Path):
                piped.files[local] = word
    return piped


def _choose_format(piped: Piped, word: File) -> str:
    """Return the format for a pipe as a suffix: that of its name, or Matroska."""
    suffix = Path(called(word)).suffix.lower()
    if suffix[1:] in FORMATS:
        return suffix
    if not isinstance(word, str | Path):
        raise ValueError(
            f'an output that is an open file needs a format, such as format="webm"; '
            f"there are {', '.join(FORMATS)}"
        )
    if suffix:
        piped.notes.append(
            f"{word}: Matroska is sent, since {suffix} is no format that can be "
            "written; --format chooses another"
        )
    return ".mkv"


def _pieces(pipe: BinaryIO, name: str) -> Iterator[bytes]:
    """Read a pipe or an open file called `name` to its end, piece by piece."""
    try:
        while piece := pipe.read(1 << 20):
            yield piece
    except OSError as error:
        why = error.strerror or error
        raise InputError(f"{name}: cannot be read ({why}); try again") from error


def _fetch(
    piped: Piped,
    word: File,
    local: Path,
    raw: tuple[tuple[int, int], Fraction] | None,
) -> None:
    """Copy the input from a pipe or an open file into a file."""
    if raw is not None:
        local = local.with_suffix(_LOSSLESS)
    if word == STANDARD and sys.stdin.isatty():
        raise InputError("-: the standard input is a terminal; send a video into it")
    with as_output_error(local.parent), ExitStack() as stack:
        pipe: BinaryIO = sys.stdin.buffer if isinstance(word, str | Path) else word
        if isinstance(word, str | Path) and word != STANDARD:
            pipe = stack.enter_context(Path(word).open("rb"))
        if raw is not None:
            save_raw(pipe, called(word), local, *raw)
        else:
            copy = stack.enter_context(local.open("wb"))
            copy.writelines(_pieces(pipe, called(word)))
    piped.source, piped.given[str(local)] = str(local), called(word)
    if isinstance(word, str | Path):
        name = "the standard input" if word == STANDARD else str(word)
        piped.notes.append(f"{name} was copied to a temporary file before it was read")
