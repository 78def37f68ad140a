"""The command line. Turns words into one call each, and errors into one line."""

import argparse
import dataclasses
import io
import json
import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TextIO, TypeAlias

import torch
from tqdm import tqdm

from rematte.cli import doctor, pipes
from rematte.conversion.effects import need
from rematte.convert import Report, convert_video
from rematte.engines.choose import CPU_ENGINES, ENGINES
from rematte.engines.device import choose_device
from rematte.errors import EXIT_CODES, WeightsError, explain
from rematte.export import FORMATS, export
from rematte.live.live import SHOWS, LiveReport, live
from rematte.matting.background import parse_colour
from rematte.network.matting_network import VARIANTS
from rematte.options import OPTIONS
from rematte.prefetch import share_heap
from rematte.resume import segments
from rematte.version import __version__
from rematte.video.codecs import CODECS
from rematte.video.fields import DEINTERLACE
from rematte.video.reader import HWACCELS, INPUT_ALPHAS
from rematte.weights import download, registry
from rematte.weights import load as weights
from rematte.workers import jobs as batch

_DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
# As `evaluate.METRICS`, which is not loaded for the help.
METRICS = ("mad", "mse", "grad", "conn", "dtssd", "fgr_mse", "iou")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all other errors do."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


_Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"must be WIDTHxHEIGHT, got {text!r}")
    return int(width), int(height)


def _number_or_word(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _chunk(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _add_ratio(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--downsample-ratio", type=_number_or_word, default="auto", metavar="RATIO",
        help="size of the coarse pass in (0, 1], or auto (longer side at most 512), "
        "portrait, full-body (default: %(default)s)",
    )  # fmt: skip


def _add_device(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--device", default="auto",
        help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)",
    )  # fmt: skip


def _add_settings(parser: _Parser) -> None:
    """What one video and many can be told alike."""
    look = parser.add_argument_group("background")
    look.add_argument(
        "--background", metavar="WHAT",
        help="a colour (name, #rrggbb or r,g,b), an image, a video, blur[:RADIUS] or "
        "transparent",
    )  # fmt: skip
    look.add_argument(
        "--background-fit", choices=("cover", "contain", "stretch"),
        help="how an image or video fills the frame (default: cover)",
    )  # fmt: skip
    model = parser.add_argument_group("network")
    _add_ratio(model)
    model.add_argument(
        "--variant", choices=VARIANTS,
        help="network to insist on (default: what the weights hold)",
    )  # fmt: skip
    model.add_argument(
        "--weights", metavar="NAME|PATH",
        help="a name of `rematte weights list` or a file (default: the bundled ones)",
    )  # fmt: skip
    _add_device(model)
    model.add_argument(
        "--dtype", choices=tuple(_DTYPES), default="float32",
        help="precision (default: %(default)s)",
    )  # fmt: skip
    model.add_argument(
        "--engine", choices=ENGINES, default="auto", metavar="NAME",
        help="what runs the network on a CPU: torch, openvino, openvino-float32, "
        "onnxruntime, plain, or auto, the fastest; on a CUDA GPU auto or torch, a "
        "recorded graph, torch-compiled, which takes half a minute first, or plain "
        "(default: %(default)s)",
    )  # fmt: skip
    model.add_argument(
        "--seq-chunk", type=_chunk, default="auto", metavar="N",
        help="frames at once, or auto (default: %(default)s)",
    )  # fmt: skip
    part = parser.add_argument_group("what to convert")
    part.add_argument("--start", metavar="TIME", help="seconds or [HH:]MM:SS")
    part.add_argument("--end", metavar="TIME", help="seconds or [HH:]MM:SS")
    part.add_argument("--limit", type=int, metavar="N", help="at most N frames")
    part.add_argument(
        "--resize", type=_size, metavar="WxH", help="size of input and outputs"
    )
    part.add_argument(
        "--frame-rate", metavar="RATE",
        help="frames per second, such as 25 or 24000/1001, of an image folder "
        "(default: 30) or of a stream without times (default: what it says itself); a "
        "video that has times is converted to it, frames are left out or held",
    )  # fmt: skip
    part.add_argument(
        "--deinterlace", choices=DEINTERLACE,
        help="make whole pictures of interlaced ones, or leave them as they are "
        "(default: auto)",
    )  # fmt: skip
    part.add_argument(
        "--ignore-errors", action="store_true", help="go on past damaged input"
    )
    part.add_argument(
        "--max-pixels", type=int, metavar="N",
        help="the most pixels a frame may have (default: 150 million, 16384 a side)",
    )  # fmt: skip
    part.add_argument(
        "--allow-lists", action="store_true",
        help="read an input that is a list of files (HLS, ffconcat) in its own folder",
    )  # fmt: skip
    part.add_argument(
        "--hwaccel", choices=HWACCELS, metavar="NAME",
        help="what decodes instead of the processor where it can: cuda, videotoolbox "
        "or another of FFmpeg's",
    )  # fmt: skip
    part.add_argument(
        "--input-alpha", choices=INPUT_ALPHAS, default="multiply",
        help="what to do with the input's own alpha channel: multiply the matte by it "
        "or ignore it (default: %(default)s)",
    )  # fmt: skip
    code = parser.add_argument_group("encoding")
    code.add_argument(
        "--codec", choices=tuple(CODECS),
        help="instead of the suffix's default, for the cut-out and the composition",
    )  # fmt: skip
    code.add_argument(
        "--mbps", type=float, metavar="RATE", help="bit rate to aim at [Mbit/s]"
    )
    code.add_argument(
        "--crf", type=int, metavar="N", help="constant quality, lower is better"
    )
    code.add_argument(
        "--start-number", type=int, metavar="N",
        help="number of the first image where an output is a pattern or a folder "
        "(default: the source's own, or 0)",
    )  # fmt: skip
    code.add_argument(
        "--tone-map", choices=OPTIONS["tone_map"].choices, default="auto",
        help="make SDR of HDR where an output cannot hold HDR, or keep the code values "
        "(default: %(default)s)",
    )  # fmt: skip
    code.add_argument("--no-audio", action="store_true", help="leave the sound out")
    code.add_argument(
        "-y", "--overwrite", action="store_true", help="replace outputs that exist"
    )


def _settings(
    options: argparse.Namespace, device: torch.device | str
) -> dict[str, Any]:
    """The same, as arguments of `convert_video`."""
    return {
        "input_resize": options.resize,
        "downsample_ratio": options.downsample_ratio,
        "output_video_mbps": options.mbps,
        "seq_chunk": options.seq_chunk,
        "device": device,
        "dtype": _DTYPES[options.dtype],
        "background": options.background,
        "background_fit": options.background_fit,
        "audio": not options.no_audio,
        "codec": options.codec,
        "crf": options.crf,
        "start": options.start,
        "end": options.end,
        "limit": options.limit,
        "frame_rate": options.frame_rate,
        "overwrite": options.overwrite,
        "ignore_errors": options.ignore_errors,
        "engine": options.engine,
        "hwaccel": options.hwaccel,
        "start_number": options.start_number,
        "max_pixels": options.max_pixels,
        "allow_lists": options.allow_lists,
        "deinterlace": options.deinterlace,
        "tone_map": options.tone_map,
        "input_alpha": options.input_alpha,
    }


def _add_convert(commands: _Commands) -> None:
    parser = commands.add_parser(
        "convert",
        help="cut the people out of a video, an image folder or an image",
        description="Cut the people out of a video, an image folder or an image. The "
        "suffix of each output decides its format: .mov, .webm, .mkv, .gif, .webp, "
        ".apng, .png and folders can be transparent; .mp4 gets a background. Sound "
        "and exact times are kept.",
        epilog="example: rematte convert interview.mp4 -o cutout.mov --alpha "
        f"alpha.mp4; {EXIT_CODES}",
    )
    parser.set_defaults(run=_convert)
    parser.add_argument(
        "input",
        help="video file, folder of images, image, or numbered images as a pattern "
        "such as plate.%%04d.exr or plate.####.exr",
    )
    out = parser.add_argument_group("outputs (one or more)")
    out.add_argument(
        "-o", "--output", metavar="PATH",
        help="the cut-out: transparent where the format can hold that; alone, over "
        "the background if one is given",
    )  # fmt: skip
    out.add_argument(
        "--composition", metavar="PATH",
        help="the person over the background, which then is not that of -o; unless "
        "one is given, green in a video and transparent in a folder of images",
    )  # fmt: skip
    out.add_argument("--alpha", metavar="PATH", help="the alpha matte")
    out.add_argument("--foreground", metavar="PATH", help="the foreground colours")
    out.add_argument(
        "--format", choices=pipes.FORMATS, metavar="NAME",
        help="what goes into - or a named pipe: mkv (the default), webm, mov, nut or "
        "another suffix",
    )  # fmt: skip
    long = parser.add_argument_group("long videos")
    long.add_argument(
        "--resume", action="store_true",
        help="work in segments, and go on where a run with --resume was stopped",
    )  # fmt: skip
    long.add_argument(
        "--workers", type=int, default=1, metavar="N",
        help="processes that share the video in segments (default: %(default)s)",
    )  # fmt: skip
    long.add_argument(
        "--lead-in", type=int, metavar="W",
        help="with --workers, frames that each segment begins early, so that the "
        f"network has settled (default: {segments.LEAD_IN})",
    )  # fmt: skip
    long.add_argument(
        "--segment", type=int, metavar="N",
        help=f"frames in a segment (default: at most {segments.LENGTH})",
    )  # fmt: skip
    _add_settings(parser)
    talk = parser.add_argument_group("messages")
    talk.add_argument("-q", "--quiet", action="store_true", help="errors only")
    talk.add_argument("--json", action="store_true", help="print what was done as JSON")


def _convert(options: argparse.Namespace) -> int:
    share_heap()
    device, why = choose_device(options.device)
    load = _loader(options, device)
    outputs = {
        "output": options.output,
        "output_composition": options.composition,
        "output_alpha": options.alpha,
        "output_foreground": options.foreground,
    }
    standard = sys.stdout
    to_pipes = any(pipes.is_pipe(word, output=True) for word in outputs.values())
    need("--format", options.format, to_pipes)
    if options.resume and (to_pipes or pipes.is_pipe(options.input)):
        raise ValueError("--resume needs files, since pipes cannot be read or written "
                         "again; leave it out")  # fmt: skip
    with ExitStack() as stack:
        if pipes.STANDARD in outputs.values():  # words go elsewhere then
            stack.enter_context(redirect_stdout(sys.stderr))
        piped = stack.enter_context(
            pipes.through_files(options.input, outputs, options.format)
        )
        report = _run_convert(options, piped, load, _settings(options, device))
        piped.send(getattr(standard, "buffer", None))
        piped.describe(report)
        if not options.quiet:
            _print_notes(report.notes)
        if options.json:
            print(json.dumps(dataclasses.asdict(report)))
        elif not options.quiet:
            print(_summary(report, f"{device} ({why})"))
    return 0


def _run_convert(
    options: argparse.Namespace,
    piped: pipes.Piped,
    load: Callable[[], Any],
    settings: dict[str, Any],
) -> Report:
    progress = not options.quiet and sys.stderr.isatty()
    settings = {**piped.outputs, "progress": progress, **settings}
    if options.resume or options.workers != 1:
        return segments.convert_long(
            load, piped.source, resume=options.resume, workers=options.workers,
            lead_in=options.lead_in, segment=options.segment, **settings,
        )  # fmt: skip
    need("--segment", options.segment, False)
    need("--lead-in", options.lead_in, False)
    return convert_video(load(), piped.source, **settings)


def _loader(options: argparse.Namespace, device: torch.device) -> Callable[[], Any]:
    """Loads the model that is asked for, in another process too."""
    return partial(
        weights.load_model, options.weights, options.variant, device,
        _DTYPES[options.dtype],
    )  # fmt: skip


def _summary(report: Report, device: str) -> str:
    rate = report.frames / report.seconds
    shares = ", ".join(f"{name} {share:.0%}" for name, share in report.shares.items())
    lines = [
        f"{report.frames} frames of {report.width}x{report.height} in "
        f"{report.seconds:.1f} s ({rate:.1f} frames/s: {shares})",
        f"downsample ratio {report.downsample_ratio:.3g}, device {device}, engine "
        f"{report.engine}",
    ]
    if isinstance(report, segments.LongReport):
        lines += _segments_summary(report)
    lines += [f"{kind}: {path}" for kind, path in report.outputs.items()]
    return "\n".join(lines)


def _print_notes(notes: Sequence[str], source: Path | None = None) -> None:
    about = f"{source}: " if source is not None else ""
    for note in notes:
        print(f"note: {about}{note}", file=sys.stderr)


def _segments_summary(report: segments.LongReport) -> list[str]:
    lines = [f"{report.segments} segments, {report.reused} of them finished before"]
    if report.seams:
        mean = sum(seam[1] for seam in report.seams) / len(report.seams)
        worst = max(report.seams, key=lambda seam: seam[1])
        lines.append(
            f"{len(report.seams)} seams after a lead-in of {report.lead_in} frames: "
            f"alpha differs by {mean:.2f}/255 on average; at the worst, at "
            f"{worst[0]:.2f} s, by {worst[1]:.2f}, and by {worst[2]} at most"
        )
    return lines


def _add_batch(commands: _Commands) -> None:
    parser = commands.add_parser(
        "batch",
        help="cut the people out of many videos",
        description="Cut the people out of many videos with one model. What fails is "
        "recorded and the rest goes on. Templates have the fields {stem}, {name}, "
        "{suffix} and {folder}, the last below the folder that was given. Inputs and "
        "outputs may be addresses: s3:// and gs:// (extras: s3, gs).",
        epilog="example: rematte batch clips/ -o cutouts --suffix .webm "
        f"--skip-existing; {EXIT_CODES}; 1 if any failed",
    )
    parser.set_defaults(run=_batch)
    parser.add_argument(
        "input", nargs="+",
        help="videos, patterns, folders (searched to the bottom), .txt lists of these",
    )  # fmt: skip
    out = parser.add_argument_group("outputs (one or more)")
    out.add_argument("-o", "--output", metavar="FOLDER|TEMPLATE", help="the cut-outs")
    out.add_argument(
        "--suffix", help="suffix of the cut-outs in -o FOLDER (default: .mov)"
    )
    out.add_argument("--composition", metavar="TEMPLATE", help="over the background")
    out.add_argument("--alpha", metavar="TEMPLATE", help="the alpha mattes")
    out.add_argument("--foreground", metavar="TEMPLATE", help="the foreground colours")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--jobs", type=int, metavar="N",
        help="processes at a time (default: 1; with --ray, what there is room for)",
    )  # fmt: skip
    how.add_argument(
        "--ray", nargs="?", const="", metavar="ADDRESS",
        help="let Ray do it (extra: ray), on this machine or, at auto or HOST:PORT, on "
        "a cluster",
    )  # fmt: skip
    how.add_argument(
        "--worker-cpus", type=int, metavar="N",
        help="with --ray, cores of each process (default: 2, here 1 if there are "
        "no more); each has a GPU besides, where there are some",
    )  # fmt: skip
    how.add_argument(
        "--split", action="store_true",
        help="with --ray, hand out segments of videos, so that one is shared by many; "
        "on disks that all machines share",
    )  # fmt: skip
    how.add_argument(
        "--retries", type=int, metavar="N",
        help="with --ray, how often a video, or a segment, is started again whose "
        "process was lost (default: 2)",
    )  # fmt: skip
    how.add_argument(
        "--skip-existing", action="store_true", help="leave alone what is there"
    )
    how.add_argument("--dry-run", action="store_true", help="say what would be done")
    _add_settings(parser)
    talk = parser.add_argument_group("messages")
    talk.add_argument("-q", "--quiet", action="store_true", help="errors only")
    talk.add_argument("--json", action="store_true", help="a line of JSON for each")


def _batch(options: argparse.Namespace) -> int:
    share_heap()
    need("--suffix", options.suffix, batch.is_folder(options.output))
    for flag in ("--split", "--worker-cpus", "--retries"):
        value = getattr(options, flag[2:].replace("-", "_"))
        need(flag, value, options.ray is not None)
    jobs = batch.plan(
        batch.find_inputs(options.input),
        {
            kind: getattr(options, kind)
            for kind in ("output", "composition", "alpha", "foreground")
        },
        options.suffix or ".mov",
    )
    if not options.dry_run:
        _run_batch(options, jobs)
    if options.json and options.dry_run:
        for job in jobs:
            _print_job(job, sys.stdout)
    elif not options.json and (not options.quiet or any(job.code for job in jobs)):
        print(batch.as_table(jobs))
    return 1 if any(job.code for job in jobs) else 0


def _run_batch(options: argparse.Namespace, jobs: list[batch.Job]) -> None:
    shown = not options.quiet and sys.stderr.isatty()
    one = options.ray is None and options.jobs in (None, 1)
    begin = _batch_here if options.ray is None else _batch_on_ray
    place = {job.input: index for index, job in enumerate(jobs)}
    out = sys.stdout
    # Ray has messages of its own, and writes them to the standard output.
    with (
        redirect_stdout(sys.stderr),
        closing(begin(options, jobs, shown and one)) as finished,
        tqdm(total=len(jobs), unit="video", disable=not shown or one) as bar,
    ):
        for job in finished:
            jobs[place[job.input]] = job  # of another process, it is a copy
            bar.update()
            if not options.quiet:
                _print_notes(job.notes, job.input)
            if options.json:
                _print_job(job, out)


def _batch_here(
    options: argparse.Namespace, jobs: list[batch.Job], progress: bool
) -> Generator[batch.Job]:
    device, _ = choose_device(options.device)
    yield from batch.run(
        jobs, _loader(options, device),
        workers=1 if options.jobs is None else options.jobs,
        skip_existing=options.skip_existing, progress=progress,
        **_settings(options, device),
    )  # fmt: skip


def _batch_on_ray(
    options: argparse.Namespace, jobs: list[batch.Job], progress: bool
) -> Generator[batch.Job]:
    from rematte.workers import (
        ray_cluster as cluster,  # not loaded for the other commands
    )

    settings = _settings(options, options.device)
    yield from cluster.run(
        jobs,
        partial(
            weights.load_model, options.weights, options.variant,
            dtype=_DTYPES[options.dtype],
        ),
        address=options.ray or None, workers=options.jobs, cpus=options.worker_cpus,
        retries=2 if options.retries is None else options.retries, split=options.split,
        skip_existing=options.skip_existing,
        tell=partial(print, file=sys.stderr), progress=progress, **settings,
    )  # fmt: skip


def _print_job(job: batch.Job, where: TextIO) -> None:
    text = json.dumps(dataclasses.asdict(job), default=str)
    print(text, file=where, flush=True)


def _add_weights(commands: _Commands) -> None:
    parser = commands.add_parser(
        "weights",
        help="list, fetch and check trained weights",
        description="List, fetch and check trained weights, and tell their licences.",
        epilog=EXIT_CODES,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="all names, with licence and where they are")
    for name, text in {
        "download": "fetch by name into the cache",
        "path": "print where a file is",
        "verify": "check a file's hash",
        "info": "origin, licences, size and quality of a name or file",
    }.items():
        action = actions.add_parser(name, help=text)
        action.add_argument(
            "name", nargs="?", default=registry.DEFAULT,
            help="a name of `rematte weights list` (default: %(default)s)",
        )  # fmt: skip
    parser.set_defaults(run=_weights)


def _weights(options: argparse.Namespace) -> int:
    if options.action == "list":
        rows = registry.list_rows()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = zip(row, widths, strict=True)
            print("  ".join(f"{cell:<{width}}" for cell, width in cells).rstrip())
    elif options.action == "download":
        print(download.download(options.name, progress=sys.stderr.isatty()))
    elif options.action == "verify":
        print(download.verify(options.name))
    elif options.action == "info":
        print(weights.describe(options.name))
    else:
        path = registry.find(options.name)
        if path is None:
            raise WeightsError(
                f"{options.name} is not here yet; run "
                f"`rematte weights download {options.name}`"
            )
        print(path)
    return 0


def _add_doctor(commands: _Commands) -> None:
    parser = commands.add_parser(
        "doctor",
        help="versions, devices, encoders, engines and weights found",
        description="Tell what this installation can do.",
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    print(json.dumps(doctor.examine()) if options.json else doctor.describe())
    return 0


def _add_evaluate(commands: _Commands) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="measure mattes against true ones",
        description="Measure mattes against true ones: files with --pred and --true, "
        "or a network on a test set with --testset. MAD, MSE and FgrMSE are times "
        "1000, dtSSD times 100, Grad and Conn sums over 1000.",
        epilog=EXIT_CODES,
    )
    parser.set_defaults(run=_evaluate)
    what = parser.add_argument_group("what to measure")
    what.add_argument(
        "--pred", type=Path, metavar="PATH",
        help="alpha matte or transparent cut-out: a video, a folder of images, or a "
        "folder of such clips",
    )  # fmt: skip
    what.add_argument(
        "--true", type=Path, metavar="PATH", help="the true ones, laid out alike"
    )
    what.add_argument(
        "--testset", type=Path, metavar="DIR",
        help="run the network over this set (CLIP/com, CLIP/pha, CLIP/fgr)",
    )  # fmt: skip
    what.add_argument(
        "--model", metavar="NAME|PATH",
        help="weights for --testset (default: the bundled ones)",
    )  # fmt: skip
    _add_ratio(what)
    _add_device(what)
    how = parser.add_argument_group("how")
    how.add_argument(
        "--metrics", nargs="+", choices=METRICS, default=METRICS, metavar="NAME",
        help=f"of {', '.join(METRICS)} (default: all)",
    )  # fmt: skip
    how.add_argument(
        "--normalise", action="store_true",
        help="stretch each map to 0..1 before Grad, as published figures do",
    )  # fmt: skip
    out = parser.add_argument_group("results")
    out.add_argument("--csv", type=Path, metavar="PATH", help="write the table here")
    out.add_argument("--plot", type=Path, metavar="PNG", help="draw errors over time")
    out.add_argument(
        "--json", action="store_true", help="print every frame's figures as JSON"
    )


def _evaluate(options: argparse.Namespace) -> int:
    from rematte.evaluate import evaluate  # not loaded for the other commands

    given = [path is not None for path in (options.pred, options.true, options.testset)]
    files = given == [True, True, False]
    if (not files and given != [False, False, True]) or (files and options.model):
        raise ValueError("give --pred and --true, or --testset and perhaps --model")
    evaluate.check_outputs(options.csv, options.plot)
    how = {
        "wanted": options.metrics,
        "normalise": options.normalise,
        "progress": sys.stderr.isatty(),
    }
    if files:
        scores = evaluate.evaluate(options.pred, options.true, **how)
    else:
        device, _ = choose_device(options.device)
        model = weights.load_model(options.model, None, device)
        ratio = options.downsample_ratio
        scores = evaluate.evaluate_model(
            model, options.testset, downsample_ratio=ratio, device=device, **how
        )
    print(
        json.dumps(evaluate.as_json(scores))
        if options.json
        else evaluate.as_table(scores)
    )
    if options.csv:
        evaluate.write_csv(scores, options.csv)
    if options.plot:
        evaluate.write_plot(scores, options.plot)
    return 0


def _add_make_testset(commands: _Commands) -> None:
    parser = commands.add_parser(
        "make-testset",
        help="composite foregrounds over backgrounds, with the truth kept",
        description="Composite foregrounds with known alpha over backgrounds, as "
        "SET/CLIP/{com,pha,fgr,bgr}/0000.png, for evaluate --testset.",
        epilog=EXIT_CODES,
    )
    parser.set_defaults(run=_make_testset)
    parser.add_argument("target", type=Path, metavar="SET", help="folder to make")
    parser.add_argument(
        "--foreground", type=Path, nargs="+", required=True, metavar="PATH",
        help="transparent videos or folders of images, or, with --alpha, opaque ones",
    )  # fmt: skip
    parser.add_argument(
        "--alpha", type=Path, nargs="+", default=[], metavar="PATH",
        help="the foregrounds' alpha mattes, in the same order",
    )  # fmt: skip
    parser.add_argument(
        "--background", type=Path, nargs="+", required=True, metavar="PATH",
        help="images, videos and folders with the frames of one",
    )  # fmt: skip
    parser.add_argument(
        "--background-motion", choices=("own", "none", "pan"), default="own",
        help="videos play and images stand; all stand; all move slowly as well "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--frames", type=int, default=100, metavar="N",
        help="at most, in each clip (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--size", type=_size, default=(512, 288), metavar="WxH",
        help="of the frames (default: 512x288)",
    )  # fmt: skip
    parser.add_argument(
        "--clips-each", type=int, default=1, metavar="N",
        help="clips for each foreground (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N",
        help="same seed, same set (default: %(default)s)",
    )  # fmt: skip


def _make_testset(options: argparse.Namespace) -> int:
    from rematte.evaluate import testset

    rows = testset.make_testset(
        options.target, options.foreground, options.background, options.alpha,
        options.frames, options.size, options.background_motion, options.clips_each,
        options.seed,
    )  # fmt: skip
    count = sum(row["frames"] for row in rows)
    print(f"{len(rows)} clips, {count} frames: {options.target}")
    return 0


def _add_key(commands: _Commands) -> None:
    parser = commands.add_parser(
        "key",
        help="key a green or blue screen, as ground truth",
        description="Key footage before a green or blue screen by its colour "
        "difference, and take the screen's light out. No network: for ground truth.",
        epilog=f"example: rematte key shot.mp4 -o shot.mkv; {EXIT_CODES}",
    )
    parser.set_defaults(run=_key)
    parser.add_argument("input", help="video file, folder of images, or image")
    parser.add_argument("-o", "--output", metavar="PATH", help="transparent cut-out")
    parser.add_argument("--alpha", metavar="PATH", help="the alpha matte")
    parser.add_argument("--foreground", metavar="PATH", help="the despilled colours")
    parser.add_argument(
        "--screen", choices=("green", "blue"), default="green",
        help="(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--screen-colour", metavar="COLOUR",
        help="#rrggbb or r,g,b (default: measured in the first frame)",
    )  # fmt: skip
    parser.add_argument(
        "--low", type=float, default=0.1, metavar="A",
        help="alpha up to this becomes 0 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--high", type=float, default=0.9, metavar="A",
        help="alpha from this on becomes 1 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "-y", "--overwrite", action="store_true", help="replace outputs that exist"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="errors only")


def _key(options: argparse.Namespace) -> int:
    from rematte.evaluate.chroma_key import ColourDifferenceKey

    text = options.screen_colour
    colour = None if text is None else parse_colour(text)
    if text is not None and colour is None:
        raise ValueError(f"--screen-colour must be #rrggbb or r,g,b, got {text!r}")
    unit = colour and (colour[0] / 255, colour[1] / 255, colour[2] / 255)
    report = convert_video(
        ColourDifferenceKey(options.screen, unit, options.low, options.high),
        options.input,
        downsample_ratio=1,
        output=options.output,
        output_alpha=options.alpha,
        output_foreground=options.foreground,
        progress=not options.quiet and sys.stderr.isatty(),
        device="cpu",
        dtype=torch.float32,
        background="transparent",
        overwrite=options.overwrite,
    )
    if not options.quiet:
        _print_notes(report.notes)
        print(_summary(report, "cpu"))
    return 0


def _add_train(commands: _Commands) -> None:
    parser = commands.add_parser(
        "train",
        help="train weights by a recipe (extra: train)",
        description="Train weights by a recipe: see docs/train.md. A checkpoint holds "
        "everything, so that a run can be stopped and resumed at any time.",
        epilog="example: rematte train recipes/bundled.toml --set "
        f"run.out=runs/mine --minutes 10 --resume; {EXIT_CODES}",
    )
    parser.set_defaults(run=_train)
    parser.add_argument("recipe", help="a TOML file, such as recipes/bundled.toml")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="replace a setting, such as phase.0.steps=100; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--resume", action="store_true",
        help="go on from the checkpoint in run.out, if there is one",
    )  # fmt: skip
    parser.add_argument(
        "--minutes", type=float, metavar="M",
        help="stop with a checkpoint after this time",
    )  # fmt: skip
    _add_device(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="errors only")


def _train(options: argparse.Namespace) -> int:
    try:
        from rematte.train import load_recipe, train
    except ModuleNotFoundError as error:
        raise ValueError(
            f"rematte train needs {error.name}: pip install 'rematte[train]'"
        ) from error
    device, _ = choose_device(options.device)
    recipe = load_recipe(options.recipe, options.set, device.type)
    trained = train(
        recipe,
        resume=options.resume,
        minutes=options.minutes,
        device=options.device,
        progress=not options.quiet and sys.stderr.isatty(),
    )
    if not options.quiet:
        then = "finished" if trained.finished else "to go on, add --resume"
        print(
            f"{trained.weights}: {trained.steps} steps, {then}; held-out alpha error "
            f"{trained.error} (MAD x 1e3)"
        )
    return 0


def _add_bench(commands: _Commands) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure speed and memory on this machine",
        description="Measure speed and memory, beside a plain implementation in the "
        "same run: the network alone, 8-bit frames in memory, and files.",
        epilog=EXIT_CODES,
    )
    parser.set_defaults(run=_bench)
    parser.add_argument(
        "--quick", action="store_true", help="three ratios to plain, within 50 s"
    )
    parser.add_argument("--clip", default="", help="a video (default: drawn)")
    parser.add_argument(
        "--weights", metavar="NAME|PATH", help="weights (default: the bundled ones)"
    )
    parser.add_argument(
        "--engine", choices=CPU_ENGINES, action="append", metavar="NAME",
        help="measure this one beside plain; repeatable (default: all)",
    )  # fmt: skip
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the speeds")
    parser.add_argument("--json", action="store_true", help="print JSON lines")


def _bench(options: argparse.Namespace) -> int:
    from rematte import bench  # not loaded for the other commands

    if options.quick:
        found = bench.quick(options.weights)
        text = json.dumps(found)
        print(text if options.json else text.replace(", ", "\n "))
        return 0
    wanted = {*(options.engine or CPU_ENGINES), "plain"}
    cases = [case for case in bench.FULL if case.engine in wanted]
    results = []
    for result in bench.run(cases, options.clip, options.weights):
        results.append(result)
        if options.json:
            print(bench.as_json(result), flush=True)
    if not options.json:
        print(json.dumps(bench.machine()))
        print(bench.as_table(results))
    if options.plot:
        bench.write_plot(results, options.plot)
    return 0


def _add_export(commands: _Commands) -> None:
    parser = commands.add_parser(
        "export",
        help="write the network for another runtime, checked against it",
        description="Write the network in another runtime's format. It is run there "
        "and compared with the network over 100 recurrent frames of a real clip "
        "before it gets its name. docs/export.md tells what each format takes.",
        epilog="example: rematte export onnx --precision float16 -o matting.onnx; "
        f"{EXIT_CODES}",
    )
    parser.set_defaults(run=_export)
    parser.add_argument("format", metavar="FORMAT", help=", ".join(FORMATS))
    parser.add_argument(
        "-o", "--output", type=Path, metavar="PATH",
        help="file or folder (default: named as in the documentation)",
    )  # fmt: skip
    parser.add_argument(
        "--weights", metavar="NAME|PATH", help="weights (default: the bundled ones)"
    )
    parser.add_argument(
        "--variant", choices=VARIANTS,
        help="network to insist on (default: what the weights hold)",
    )  # fmt: skip
    parser.add_argument(
        "--precision", choices=("float32", "float16", "int8"), default="float32",
        help="of weights and arithmetic (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--static", type=_size, metavar="WxH", help="make it for this size alone"
    )
    parser.add_argument(
        "--downsample-ratio", type=float, metavar="RATIO", help="and for this ratio"
    )
    parser.add_argument(
        "--stateful", action="store_true", help="let the runtime keep the states"
    )
    parser.add_argument(
        "--tolerance", type=float, metavar="D",
        help="difference in alpha to allow (default: 1e-4 at most in float32, 3e-4 "
        "with --static; 1e-3 and 1e-2 on average in float16 and int8)",
    )  # fmt: skip
    parser.add_argument(
        "-y", "--overwrite", action="store_true", help="replace what exists"
    )
    parser.add_argument("--json", action="store_true", help="print what was found")


def _export(options: argparse.Namespace) -> int:
    done = export(
        weights.load_network(options.weights, options.variant),
        options.format,
        options.output,
        precision=options.precision,
        size=options.static,
        downsample_ratio=options.downsample_ratio,
        stateful=options.stateful,
        tolerance=options.tolerance,
        overwrite=options.overwrite,
    )
    if options.json:
        print(json.dumps(dataclasses.asdict(done), default=str))
        return 0
    print(f"{done.path}: {done.megabytes:.1f} MB in {done.seconds:.1f} s; {done.limit}")
    for each in done.differences:
        parts = ", ".join(
            f"{name} {each.most[name]:.1e} ({each.mean[name]:.1e})"
            for name in each.most
        )
        print(
            f"largest (mean) difference over {each.frames} frames of "
            f"{each.size[1]}x{each.size[0]} at {each.ratio:g}: {parts}"
        )
    return 0


def _add_live(commands: _Commands) -> None:
    parser = commands.add_parser(
        "live",
        help="cut people out of what a camera shows, at once",
        description="Cut people out of a camera, a stream or a file played as one. The "
        "newest picture goes first: what cannot be kept up with is dropped. Ctrl-C "
        "ends it, and completes a file.",
        epilog="example: rematte live camera -o window --background blur; "
        f"{EXIT_CODES}",
    )
    parser.set_defaults(run=_live)
    parser.add_argument(
        "source", nargs="+",
        help="camera[:WHICH], a URL or a file; space in the window goes to the next",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", default="window", metavar="WHERE",
        help="window, virtual-camera, a file, an address (rtmp://, srt://, udp://), "
        "or - and named pipes: raw video in NUT (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--show", choices=SHOWS, default="composition", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--background", metavar="WHAT", help="as of convert (default: green)"
    )  # fmt: skip
    parser.add_argument(
        "--background-fit", choices=("cover", "contain", "stretch"),
        help="how an image or video fills the frame (default: cover)",
    )  # fmt: skip
    _add_ratio(parser)
    parser.add_argument("--resize", type=_size, metavar="WxH", help="before all else")
    parser.add_argument(
        "--deinterlace", choices=DEINTERLACE, default="auto",
        help="as of convert (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--weights", metavar="NAME|PATH", help="weights (default: the bundled ones)"
    )
    _add_device(parser)
    parser.add_argument(
        "--dtype", choices=tuple(_DTYPES), default="float32",
        help="precision (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--engine", choices=ENGINES, default="auto", metavar="NAME",
        help="as of convert (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--mbps", type=float, metavar="RATE", help="bit rate [Mbit/s] (default: 4)"
    )
    parser.add_argument(
        "--no-pace", action="store_true", help="read a file as fast as it goes"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="stop after N pictures")
    parser.add_argument(
        "-y", "--overwrite", action="store_true", help="replace a file that exists"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="errors only")
    parser.add_argument("--json", action="store_true", help="print what was done")


def _live(options: argparse.Namespace) -> int:
    share_heap()
    device, _ = choose_device(options.device)
    dtype = _DTYPES[options.dtype]
    report = live(
        weights.load_model(options.weights, None, device, dtype),
        options.source,
        options.output,
        show=options.show,
        background=options.background,
        background_fit=options.background_fit,
        downsample_ratio=options.downsample_ratio,
        size=options.resize,
        deinterlace=options.deinterlace,
        engine=options.engine,
        mbps=options.mbps,
        pace=not options.no_pace,
        limit=options.limit,
        overwrite=options.overwrite,
        tell=_tell if sys.stderr.isatty() and not options.quiet else lambda _: None,
    )
    # The standard output may be the video.
    where = sys.stderr if options.output == "-" else sys.stdout
    if not options.quiet:
        _print_notes(report.notes)
    if options.json:
        print(json.dumps(dataclasses.asdict(report)), file=where)
    elif not options.quiet:
        rate = report.frames / (report.seconds or 1)
        print(
            f"{report.frames} pictures in {report.seconds:.1f} s ({rate:.1f}/s), "
            f"{report.dropped} dropped; latency {report.latency * 1e3:.0f} ms, 95% "
            f"below {report.latency_p95 * 1e3:.0f} ms; engine {report.engine}",
            file=where,
        )
    return 0


def _tell(report: LiveReport) -> None:
    if report.frames % 10 == 0:
        rate = report.frames / (report.seconds or 1)
        text = f"\r{rate:.1f} pictures/s, {report.dropped} dropped "
        print(text, end="", file=sys.stderr, flush=True)


def _add_serve(commands: _Commands) -> None:
    parser = commands.add_parser(
        "serve",
        help="a page for this machine's browser: drop videos in, see, download",
        description="Serve a page to this machine alone: drop videos in, choose "
        "outputs and background, see how the cut-out looks, convert, compare, "
        "download. Open the address that is printed. Ctrl-C ends it; jobs are kept.",
        epilog=f"example: rematte serve --jobs 2; {EXIT_CODES}",
    )
    parser.set_defaults(run=_serve)
    parser.add_argument(
        "--port", type=int, default=8770, metavar="N",
        help="on 127.0.0.1; 0 takes any that is free (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--folder", type=Path, default=Path("~/rematte-serve"), metavar="PATH",
        help="where uploads, results and the list of jobs are kept (default: "
        "%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N",
        help="videos converted at a time; they share the cores (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--upload-limit", type=float, default=20, metavar="GB",
        help="largest upload (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--memory-limit", type=float, metavar="GB",
        help="memory that each conversion may use (default: three quarters of the "
        "machine's, divided by --jobs; without effect on Windows)",
    )  # fmt: skip
    parser.add_argument(
        "--weights", metavar="NAME|PATH", help="weights (default: the bundled ones)"
    )
    _add_device(parser)


def _serve(options: argparse.Namespace) -> int:
    from rematte.serve import serve

    device, _ = choose_device(options.device)
    serve(
        options.folder.expanduser(),
        partial(weights.load_model, options.weights, None, device),
        port=options.port,
        jobs=options.jobs,
        upload_limit=options.upload_limit,
        memory_limit=options.memory_limit,
        tell=lambda address: print(f"open {address} (Ctrl-C ends)", flush=True),
        note=lambda text: print(f"note: {text}", file=sys.stderr),
    )
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; docs/cli.md holds its help."""
    parser = _Parser(
        prog="rematte",
        description="Cut people out of video with no green screen.",
        epilog=f"code: {registry.CODE_LICENCE}; weights: see `rematte weights info`; "
        f"{EXIT_CODES}",
    )
    parser.add_argument("--version", action="version", version=_version())
    parser.add_argument(
        "--debug", action="store_true", help="show the traceback of an error"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_convert(commands)
    _add_batch(commands)
    _add_weights(commands)
    _add_doctor(commands)
    _add_evaluate(commands)
    _add_make_testset(commands)
    _add_key(commands)
    _add_train(commands)
    _add_bench(commands)
    _add_export(commands)
    _add_live(commands)
    _add_serve(commands)
    return parser


def _version() -> str:
    bundled = registry.WEIGHTS[registry.DEFAULT]
    return (
        f"rematte {__version__} (code {registry.CODE_LICENCE}; bundled weights "
        f"{bundled.name}, {bundled.licence})"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Words after the program's name; None takes the process's own.

    Returns:
        The exit code.
    """
    try:
        options = build_parser().parse_args(arguments)
    except SystemExit as stop:  # argparse has said what is wrong
        return int(stop.code or 0)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name may be any bytes
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        if options.debug:
            raise
        code, text = explain(error)
        print(f"rematte: {text}", file=sys.stderr)
        _give_up_on_lost_reader()
    return code


def _give_up_on_lost_reader() -> None:
    """Python flushes once more at its end, and would tell of the broken pipe then."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
