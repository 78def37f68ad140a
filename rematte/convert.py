"""Converts a video, an image folder or an image: plan, run the span, finish.

The package's main flow: video reader → matting loop → compositing → video writer.
`resume` runs the same flow in several spans, and joins their files.
"""

import logging
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Unpack

from rematte.conversion import pipes
from rematte.conversion.effects import check_options
from rematte.conversion.look import choose_regions
from rematte.conversion.model import make_engine, ready_model
from rematte.conversion.option_types import (
    KINDS,
    ConvertOptions,
    DtypeName,
    OutputType,
    RatioName,
)
from rematte.conversion.outputs import plan_outputs
from rematte.conversion.paths import check_images, check_paths, split_arguments
from rematte.conversion.person import find_chosen
from rematte.conversion.report import Progress, Report, Stages, Stop
from rematte.conversion.source import open_reader
from rematte.conversion.span import Span, run_span
from rematte.engines.choose import runs_whole
from rematte.matter.matter import Matter
from rematte.matting.loop import choose_ratio
from rematte.matting.person import Person
from rematte.options import Options

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)

# Arguments of `convert_video` that are not options of the conversion.
_NO_OPTIONS = ("model", "input_source", "options", "format", "cancel", "timeout")

__all__ = ["Report", "convert", "convert_video"]


def convert_video(
    model: Any,
    input_source: str | Path | BinaryIO,
    input_resize: tuple[int, int] | None = None,
    downsample_ratio: float | RatioName | None = None,
    output_type: OutputType = "video",
    output_composition: str | Path | BinaryIO | None = None,
    output_alpha: str | Path | BinaryIO | None = None,
    output_foreground: str | Path | BinaryIO | None = None,
    output_video_mbps: float | None = None,
    seq_chunk: int | Literal["auto"] = 1,
    num_workers: int = 0,
    progress: bool | Progress = True,
    device: "str | torch.device | None" = None,
    dtype: "DtypeName | torch.dtype | None" = None,
    *,
    output: str | Path | BinaryIO | None = None,
    output_plate: str | Path | BinaryIO | None = None,
    format: str | None = None,
    cancel: Event | None = None,
    timeout: float | None = None,
    **options: Unpack[ConvertOptions],
) -> Report:
    """Cut the people out of a video, and keep its sound and exact times.

    Args:
        model: A loaded network, or a TorchScript one; or the name or file of weights,
            or None for the bundled ones, which need no torch on a CPU. They are
            loaded for `device`, by default a GPU if torch can use one, else the CPU.
            Or a `Matter`: its compiled engine is used, and its options are defaults.
        input_source: A video file, a folder of images, a pattern of numbered images
            such as "plate.%04d.exr" or "plate.####.exr", or an image (which is shown
            to the network until its alpha settles); or an open binary file, which is
            copied to a temporary file, from its current position on.
        input_resize: Width and height [pixels] to resize input and outputs to.
        downsample_ratio: Size of the coarse pass in (0, 1]; None or "auto" makes the
            longer side at most 512.
        output_type: "video", or "png_sequence" if the outputs are folders. For
            "video" every path's own suffix decides, or `format`.
        output_composition: Path of the person over the background; a png
            sequence is transparent unless a background is given.
        output_alpha: Path of the alpha matte.
        output_foreground: Path of the foreground, as predicted, without alpha.
        output_video_mbps: Bit rate [Mbit/s] instead of constant quality, for codecs
            that have one.
        seq_chunk: Frames at once, or "auto". The results are the same.
        num_workers: Threads that read ahead, for image folders.
        progress: Show a progress bar on stderr; or a function to be called instead
            with the number of frames done and, if known, of all frames.
        device: Where the model is; needed for frozen TorchScript.
        dtype: The model's precision; needed for frozen TorchScript.
        output: Path of the cut-out: transparent if the format can hold that, else over
            the background, with a note. Without `output_composition`, a given
            background is laid under it. Each output may be an open binary file, which
            is written when all is complete.
        output_plate: Path of the background, in the source's colours, transparent at
            the person.
        format: The format of outputs that are open files, as a suffix without the dot:
            "mov", "webm", "png" and others, or raw video: "rgba", "rgb24" or "gray". By
            default that of the file's name, if it has one.
        cancel: An event; when any thread sets it, the conversion stops.
        timeout: The longest time that the conversion may take [s].
        **options: Any other field of `rematte.options.Options`: the background, the
            part to convert, how to read and how to encode.

    Returns:
        What was done.

    Raises:
        TypeError: If there is no such option.
        ValueError: If an argument is out of its range or does not fit the others.
        InputError: If the input cannot be read.
        OutputError: If an output cannot be written; nothing is left behind then.
        Cancelled: If `cancel` was set; nothing is left behind.
        TimedOut: If it took longer than `timeout`; nothing is left behind.
        KeyboardInterrupt: After the frames so far have been saved in files with
            ".partial" in their names, which are the error's arguments.
    """
    arguments = {**locals(), **options}
    stop = Stop(cancel, timeout)
    for name in _NO_OPTIONS:
        del arguments[name]
    if isinstance(model, Matter):
        # For these arguments None means that they were not given.
        unset = ("downsample_ratio", "device", "dtype")
        arguments = {
            name: value
            for name, value in arguments.items()
            if value is not None or name not in unset
        }
        model, arguments = model.for_conversion(arguments)
    files = {name: arguments.get(name) for name in KINDS}
    if not any(map(pipes.is_open, (input_source, *files.values()))):
        if format is not None:
            raise ValueError(
                f"format {format!r} is for outputs that are open files; a path's "
                "suffix decides its format"
            )
        paths, given = split_arguments(arguments)
        source = Path(str(input_source))
        return convert(model, source, paths, given, progress=progress, stop=stop)
    pipes.check_raw_format(format, files, arguments.get("background"))
    with pipes.through_files(input_source, files, format) as piped:
        paths, given = split_arguments({**arguments, **piped.outputs})
        source = Path(piped.source)
        report = convert(model, source, paths, given, progress=progress, stop=stop)
        piped.send(None)
        piped.describe(report)
    return report


def convert(
    model: Any,
    source: Path,
    paths: Mapping[str, Path],
    options: Options,
    *,
    progress: bool | Progress = True,
    stop: Stop | None = None,
) -> Report:
    """Convert as `convert_video` does, with paths and options in one object each.

    The paths of the outputs are by kind: "output", "composition", "alpha",
    "foreground", "plate". `stop` says when to stop before the end.
    """
    stages, stop = Stages(), stop or Stop()
    stop.check()
    model, options = ready_model(model, options)
    whole = runs_whole(model, options.engine, options.device, options.dtype)
    check_paths(paths, source, options, options.overwrite)
    with open_reader(source, options, *options.span) as reader:
        info = reader.info
        ratio = choose_ratio(info.width, info.height, options.ratio)
        report = Report(0, info.width, info.height, ratio)
        chosen = None if options.person is None else Person(options.person)
        outputs = plan_outputs(paths, info, options, chosen=chosen)
        report.notes += check_options(options, reader, outputs, whole)
        check_images(paths, reader, options)
        looking = time.perf_counter()
        regions = choose_regions(
            model, source, options, info, progress is True, stop.check
        )
        find_chosen(chosen, model, source, options, regions, stop.check)
        report.looking = time.perf_counter() - looking
        if regions is not None:
            report.regions = regions.as_json()
        chunk = 1 if info.still else options.seq_chunk
        run_span(
            Span(), reader, outputs, options,
            partial(make_engine, model, options, report.notes.append, chunk), report,
            stages=stages, regions=regions, progress=progress, stop=stop,
        )  # fmt: skip
    report.notes += chosen.report() if chosen else []
    report.seconds, report.shares = stages.total(), stages.shares()
    for note in report.notes:
        _log.info("%s", note)
    return report
