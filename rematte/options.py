"""Which option works for which input and output; elsewhere it is refused or noted.

Options that always work are not listed here. docs/cli.md has the table, made from this
list by `tools/write_cli_docs.py`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rematte.video.codecs import Encoding


@dataclass(frozen=True)
class Conversion:
    """What decides whether an option works.

    Attributes:
        still: Whether the input is one image.
        images: Whether the input is an image or a sequence of them.
        encodings: How each output is encoded, by kind.
        backdrop: Whether an image or a video lies behind the person.
        chunked: Whether the network takes several frames at once.
        png_sequence: Whether `output_type` is "png_sequence".
        numbered: Whether an output is a folder or a pattern of images.
        tonal: Whether the input is not SDR.
        timed: Whether times matter: the input or an output has some, or `start` or
            `end` count in them.
    """

    still: bool
    images: bool
    encodings: Mapping[str, Encoding]
    backdrop: bool
    chunked: bool
    png_sequence: bool = False
    numbered: bool = False
    tonal: bool = False
    timed: bool = True


@dataclass(frozen=True)
class Option:
    """An option that does not always work.

    Attributes:
        argument: Its name in Python.
        flag: Its name on the command line; empty where it has none.
        works: For what it works, to complete "works for ...".
        applies: Decides whether it works.
        noted: Decides whether a note is enough where it does not work, which is so for
            what programs for RobustVideoMatting pass in any case.
        elsewhere: What happens where it does not work.
    """

    argument: str
    flag: str
    works: str
    applies: Callable[[Conversion], bool]
    noted: Callable[[Conversion], bool] = lambda conversion: False
    elsewhere: str = "an error"

    @property
    def name(self) -> str:
        """How an error names it."""
        return f"{self.argument} ({self.flag})" if self.flag else self.argument


def _is_main(kind: str) -> bool:
    return kind in ("output", "composition")


def _always(conversion: Conversion) -> bool:
    return True


OPTIONS = (
    Option(
        "background",
        "--background",
        "a composition, and for -o alone",
        lambda c: any(map(_is_main, c.encodings)),
    ),
    Option(
        "background_fit",
        "--background-fit",
        "a background that is an image or a video",
        lambda c: c.backdrop,
    ),
    Option(
        "seq_chunk",
        "--seq-chunk",
        "the engine plain, and frames that are not one image",
        lambda c: c.chunked,
        _always,
        "a note",
    ),
    Option(
        "num_workers",
        "",
        "sequences of images",
        lambda c: c.images,
        _always,
        "a note",
    ),
    *(
        Option(name, f"--{name.replace('_', '-')}", text, lambda c: not c.still)
        for name, text in {
            "start": "videos and sequences of images",
            "end": "videos and sequences of images",
            "limit": "videos and sequences of images",
            "ignore_errors": "videos and sequences of images",
        }.items()
    ),
    Option(
        "frame_rate",
        "--frame-rate",
        "videos, and sequences of images that become videos or OpenEXR or are cut",
        lambda c: not c.still and c.timed,
        lambda c: not c.still,
        "an error; a note for images that become images",
    ),
    Option("hwaccel", "--hwaccel", "videos", lambda c: not c.images),
    Option("deinterlace", "--deinterlace", "videos", lambda c: not c.images),
    Option(
        "start_number",
        "--start-number",
        "outputs that are folders or patterns of images",
        lambda c: c.numbered,
    ),
    Option(
        "tone_map",
        "--tone-map",
        "HDR inputs",
        lambda c: c.tonal,
        _always,
        "a note",
    ),
    Option(
        "codec",
        "--codec",
        "cut-outs and compositions that are videos",
        lambda c: any(not e.image for kind, e in c.encodings.items() if _is_main(kind)),
    ),
    Option(
        "output_video_mbps",
        "--mbps",
        "videos whose codec is H.264, HEVC, AV1 or VP9",
        lambda c: any(e.mbps is not None for e in c.encodings.values()),
        lambda c: c.png_sequence,
        'an error; a note with `output_type="png_sequence"`',
    ),
    Option(
        "crf",
        "--crf",
        "videos whose codec is H.264, HEVC, AV1 or VP9",
        lambda c: any(e.crf is not None for e in c.encodings.values()),
    ),
)


def check(arguments: Mapping[str, Any], conversion: Conversion) -> list[str]:
    """Find options that were given and do nothing.

    Args:
        arguments: The arguments of the call; those that are None were not given.
        conversion: What they are given for.

    Returns:
        A note for each that does nothing, or nothing for some of the outputs.

    Raises:
        ValueError: If one does nothing for which a note is not enough.
    """
    notes: list[str] = []
    for option in OPTIONS:
        value = arguments.get(option.argument)
        if value is None or value in _NOT_GIVEN.get(option.argument, ()):
            continue
        if option.applies(conversion):
            notes += _exceptions(option, value, conversion)
            continue
        text = f"{option.name} {value} has no effect here: it works for {option.works}"
        if not option.noted(conversion):
            raise ValueError(f"{text}; leave it out")
        notes.append(text)
    return notes


# What flags of a command need that are no arguments of `convert_video`.
NEEDS = {
    "--format": "an output that is - or a named pipe",
    "--segment": "--resume or --workers",
    "--lead-in": "--workers of 2 or more",
    "--suffix": "-o with a folder",
    "--split": "--ray",
    "--worker-cpus": "--ray",
    "--retries": "--ray",
    "live --background": "--show composition",
    "live --background-fit": "a background that is an image or a video",
    "live --mbps": "an address or a file whose codec is H.264, HEVC, AV1 or VP9",
    "live --no-pace": "a source that is a file",
}


def need(flag: str, value: object, met: bool) -> None:
    """Refuse a flag of `NEEDS` that was given (is not None or False) and does nothing.

    Raises:
        ValueError: If what it needs is not met.
    """
    if value is not None and value is not False and not met:
        name = flag.removeprefix("live ")
        raise ValueError(f"{name} has no effect without {NEEDS[flag]}; leave it out")


# Values that ask for nothing.
_NOT_GIVEN = {
    "tone_map": ("auto",),
    "seq_chunk": ("auto", 1),
    "num_workers": (0,),
    "ignore_errors": (False,),
}


def _exceptions(option: Option, value: Any, conversion: Conversion) -> Iterator[str]:
    """Name the outputs for which a setting of the encoder does nothing."""
    if option.argument not in ("crf", "output_video_mbps"):
        return
    for kind, encoding in conversion.encodings.items():
        if encoding.image or encoding.codec.crf is None:
            yield (
                f"{option.name} {value} has no effect on the {kind}: "
                f"{encoding.codec.encoder} has no such setting"
            )
