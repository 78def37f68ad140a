"""Joins the files of all segments into the outputs, without re-encoding."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rematte.conversion.outputs import open_writers, plan_outputs, publish, shifted
from rematte.conversion.report import Report, as_shares
from rematte.conversion.source import open_reader
from rematte.conversion.span import NO_PIXELS, notes_of
from rematte.errors import InputError
from rematte.matting.loop import choose_ratio
from rematte.resume.manifest import JOINING, NAMED, write_json
from rematte.resume.plan import Work, notes_on_options
from rematte.video.base_writer import Writer
from rematte.video.frame import Frame
from rematte.video.image_writer import ImageWriter
from rematte.video.notes import describe_damage
from rematte.video.output_paths import write_whole
from rematte.video.writer import FileWriter


@dataclass
class LongReport(Report):
    """The report of a conversion in segments.

    Attributes:
        segments: How many there are.
        reused: How many of them an earlier run had finished.
        lead_in: How many frames early each started; None if states were carried over.
        seams: For each seam after a lead-in: the time [s], and the mean and largest
            difference in alpha there, in levels of 1/255, between the segment that
            starts and the previous one, which ran on.
    """

    segments: int = 0
    reused: int = 0
    lead_in: int | None = None
    seams: list[tuple[float, float, int]] = field(default_factory=list)


def join(work: Work) -> LongReport:
    """Join all segments into the outputs, give these their names, delete the folder.

    None of the segments may be missing.

    Raises:
        InputError: If segments do not fit together.
        OutputError: If an output cannot be written; segments are saved then.
    """
    options = work.options
    with open_reader(work.source, options, *options.span) as reader:
        info = reader.info
    report = LongReport(
        0, info.width, info.height,
        choose_ratio(info.width, info.height, options.ratio),
        segments=len(work.segments), lead_in=work.lead_in, seams=_seams(work),
    )  # fmt: skip
    report.regions = work.regions.as_json() if work.regions else []
    report.note(*notes_on_options(reader, work.paths, options, work.engine))
    report.note(*reader.notes)
    depth, first = _examine(work, report)
    outputs = plan_outputs(work.paths, info, options)
    parts = work.parts(work.path(work.segments[0]))
    with open_writers(outputs, reader, options, first, parts=parts) as writers:
        temporaries = [str(each.temporary.resolve()) for each in writers]
        write_json(work.folder / JOINING, temporaries)
        end = _append_all(work, writers, depth)
        if options.start is not None:
            report.cuts = shifted(report.cuts, first)
        publish(
            writers, options, report.frames, end, report.cuts,
            lambda: write_whole(work.folder / NAMED, b""),
        )  # fmt: skip
    report.outputs = {kind: str(path) for kind, path in work.paths.items()}
    report.note(*notes_of(writers))
    shutil.rmtree(work.folder, ignore_errors=True)
    return report


def _append_all(
    work: Work, writers: Sequence[Writer], depth: Mapping[str, int]
) -> Fraction:
    """Append every segment to every output; return the end of the last frame [s]."""
    for segment in work.segments:
        folder = work.path(segment)
        frames = _read_record(folder)["frames"]
        parts = work.parts(folder).items()
        for (kind, part), writer in zip(parts, writers, strict=True):
            if isinstance(writer, ImageWriter):
                writer.append(part.parent, frames)
            elif isinstance(writer, FileWriter):
                writer.append(part, frames, depth[kind])
    end: Fraction = frames[-1].time + frames[-1].duration
    return end


def _read_record(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "segment.json").read_text("utf-8"))
    record["frames"] = [
        Frame(NO_PIXELS, Fraction(shown), Fraction(duration), name, number)
        for shown, duration, name, number in record["frames"]
    ]
    return record


def _examine(work: Work, report: LongReport) -> tuple[dict[str, int], Fraction]:
    """Sum up the segments, and check that each starts where the previous one ends.

    Returns:
        How far decoding runs ahead, by kind of output, and when the first frame is
        shown [s].
    """
    depth = dict.fromkeys(work.paths, 0)
    seconds: dict[str, float] = {}
    end: Fraction | None = None
    for segment in work.segments:
        record = _read_record(work.path(segment))
        frames = record["frames"]
        if end is not None and frames[0].time != end:
            raise InputError(
                f"{work.source}: read from {float(segment.lead):.3f} s on, its frames "
                "have other times than when read from the beginning; leave out resume "
                "and workers (--resume, --workers)"
            )
        if not segment.index:
            first = frames[0].time
        end = frames[-1].time + frames[-1].duration
        report.cuts += [(report.frames + n, time) for n, time in record["cuts"]]
        report.frames += len(frames)
        report.engine = record["engine"]
        report.note(*record["notes"])
        report.damaged |= {float(at): name for at, name in record["damaged"].items()}
        for kind, frames_ahead in record["depth"].items():
            depth[kind] = max(depth[kind], frames_ahead)
        for stage, value in record["shares"].items():
            seconds[stage] = seconds.get(stage, 0) + value
    report.notes += describe_damage(report.damaged)
    report.shares = as_shares(seconds)
    return depth, first


def _seams(work: Work) -> list[tuple[float, float, int]]:
    """Measure the differences in alpha at the seams; see `LongReport`."""
    found = []
    before: NDArray[Any] | None = None
    for segment in work.segments:
        with np.load(work.path(segment) / "edges.npz") as edges:
            if before is not None and "first" in edges:
                off = np.abs(before.astype(int) - edges["first"])
                when = float(segment.first)
                found.append((when, float(off.mean()), int(off.max())))
            before = edges.get("past")
    return found
