"""Plans a conversion in segments: where they start, and where they are saved."""

import json
import shutil
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from rematte.conversion.effects import check_options
from rematte.conversion.look import choose_regions
from rematte.conversion.model import make_engine
from rematte.conversion.outputs import plan_outputs
from rematte.conversion.paths import check_images, check_paths, split_arguments
from rematte.conversion.person import find_chosen, follow_between
from rematte.conversion.source import frames_within, open_reader
from rematte.conversion.span import Span
from rematte.errors import OutputError
from rematte.matting.person import Person
from rematte.matting.region import Regions
from rematte.options import Options
from rematte.resume import LENGTH, manifest
from rematte.video import scene_cuts
from rematte.video.codecs import can_join, is_sequence
from rematte.video.output_paths import as_output_error
from rematte.video.reader import VideoReader

Segment = Span

# How far a segment's start may be moved to a cut, where no seam is visible [frames].
_REACH = 25


@dataclass(frozen=True)
class Work:
    """The plan of a conversion in segments, with everything that a worker needs."""

    source: Path
    paths: Mapping[str, Path]  # where outputs go, by kind, as in `convert`
    options: Options
    folder: Path  # where segments are saved
    segments: Sequence[Segment]
    # How many frames early each starts; None: states are carried over.
    lead_in: int | None
    engine: str  # the name of the engine
    regions: Regions | None = None  # where the network runs; None for whole frames
    # State of the chosen person's follower before each segment: empty if no person is
    # chosen; only that of the first segment if states are carried over.
    people: Sequence[dict[str, Any]] = ()

    def path(self, segment: Segment) -> Path:
        """Return the folder of a segment, which exists once the segment is finished."""
        return self.folder / f"{segment.index:06d}"

    def parts(self, folder: Path) -> dict[str, Path]:
        """Return the paths of a segment's outputs within its folder, by kind."""
        return {
            kind: folder / kind / (
                f"%06d{path.suffix or '.png'}" if is_sequence(path) else path.name
            )
            for kind, path in self.paths.items()
        }  # fmt: skip

    def missing(self) -> list[Segment]:
        """Return the segments that are not finished."""
        return [each for each in self.segments if not self.path(each).exists()]


def plan_segments(
    times: Sequence[Fraction],
    starts: Sequence[int],
    lead_in: int = 0,
    end: Fraction | None = None,
) -> list[Segment]:
    """Cut frames into segments.

    `starts` are the indices of their first frames, from 0 on, and `lead_in` is how many
    frames early each except the first starts. The first frame after all of them is
    shown at `end` [s], if there is one.
    """
    ends = [*(times[start] for start in starts[1:]), end]
    return [
        Segment(index, times[max(0, start - lead_in)], times[start], after, end)
        for index, (start, after) in enumerate(zip(starts, ends, strict=True))
    ]


def prepare(
    model: Any,
    input_source: str | Path,
    *,
    resume: bool = False,
    lead_in: int | None = None,
    segment: int | None = None,
    share: int = 1,
    **settings: Any,
) -> Work:
    """Check the settings of a conversion, plan its segments and make their folder.

    For the arguments see `convert_long`. Without `lead_in`, each segment continues from
    the state of the previous one; `share` is how many workers there will be.

    Raises:
        ValueError: If the earlier run had another input, other settings or weights.
        OutputError: If it left segments that may neither be used nor replaced.
    """
    for name, value, least in (("lead_in", lead_in, 0), ("segment", segment, 1)):
        if value is not None and value < least:
            raise ValueError(f"{name} must be {least} or more frames, got {value}")
    source = Path(input_source)
    paths, options = split_arguments(settings)
    folder = manifest.work_folder(next(iter(paths.values())))
    started = (folder / manifest.NAME).exists()
    if started and not (resume or options.overwrite):
        raise OutputError(
            f"{folder} holds segments of an earlier run; pass resume (--resume) to go "
            "on with them, or overwrite (-y) to start over"
        )
    # A run that was stopped while it named its outputs names them again.
    naming = resume and (folder / manifest.NAMED).exists()
    check_paths(paths, source, options, options.overwrite or naming)
    others = {**paths, "lead_in": lead_in, "segment": segment}
    conditions = manifest.conditions(model, source, options, others)
    if started and resume:
        known = manifest.read(folder, conditions)
    else:
        plan = _plan(model, source, paths, options, lead_in, segment, share)
        known = {"conditions": conditions, **plan}
        with as_output_error(folder):
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir()
            manifest.write_json(folder / manifest.NAME, known)
    _remove_unfinished(folder)
    segments = [
        Segment(index, *(text and Fraction(text) for text in texts))
        for index, texts in enumerate(known["segments"])
    ]
    regions = known["regions"] and Regions.from_json(**known["regions"])
    return Work(
        source, paths, options, folder, segments, lead_in, known["engine"], regions,
        known["people"],
    )  # fmt: skip


def _remove_unfinished(folder: Path) -> None:
    """Remove what a run was writing when it was stopped."""
    left = [*folder.glob(".*")]
    with suppress(OSError, ValueError):
        text = (folder / manifest.JOINING).read_text("utf-8")
        left += map(Path, json.loads(text))
    for path in left:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _plan(
    model: Any,
    source: Path,
    paths: Mapping[str, Path],
    options: Options,
    lead_in: int | None,
    segment: int | None,
    share: int,
) -> dict[str, Any]:
    """Return the segments, the engine and the regions as the manifest holds them."""
    with open_reader(source, options) as reader:
        info = reader.info
        times, begin, stop = frames_within(reader, options)
    if info.still:
        raise ValueError(
            f"{source} is one image, which has no segments; leave out resume and "
            "workers (--resume, --workers)"
        )
    if options.max_bytes is not None:
        raise ValueError(
            "max_bytes (--max-bytes) needs the whole video at once; leave it out, or "
            "leave out resume and workers (--resume, --workers)"
        )
    for kind, path in paths.items():
        if not can_join(path):
            raise ValueError(
                f"{kind} {path}: {path.suffix} cannot be joined from segments; write "
                "another format, or leave out resume and workers (--resume, --workers)"
            )
    end = times[stop] if stop < len(times) else None
    regions = choose_regions(model, source, options, info)
    engine = make_engine(model, options).name
    notes_on_options(reader, paths, options, engine)
    check_images(paths, reader, options)
    if segment is None:  # all alike, and as many for each worker
        rounds = -(-(stop - begin) // (LENGTH * share))
        segment = -(-(stop - begin) // (rounds * share))
    shown = times[begin:stop]
    starts = [*range(0, len(shown), segment)]
    if lead_in is not None:  # only where there are seams
        reach = min(segment // 4, _REACH)
        starts[1:] = [_near_cut(source, options, shown, n, reach) for n in starts[1:]]
    segments = plan_segments(shown, starts, lead_in or 0, end)
    return {
        "engine": engine,
        "regions": regions and {"shape": regions.shape, "described": regions.as_json()},
        "people": _follow_person(model, source, options, regions, segments, lead_in),
        "segments": [
            [t if t is None else str(t) for t in (s.lead, s.first, s.end, s.stop)]
            for s in segments
        ],
    }


def _follow_person(
    model: Any,
    source: Path,
    options: Options,
    regions: Regions | None,
    segments: Sequence[Segment],
    lead_in: int | None,
) -> list[dict[str, Any]]:
    """Find the chosen person at the start of each segment; see `Work.people`."""
    if options.person is None:
        return []
    chosen = Person(options.person)
    find_chosen(chosen, model, source, options, regions)
    starts = [each.first for each in segments]
    if lead_in is None:  # the segment before saves the state
        return [chosen.as_json()]
    return follow_between(chosen, model, source, options, regions, starts)


def notes_on_options(
    reader: VideoReader, paths: Mapping[str, Path], options: Options, engine: str
) -> list[str]:
    """Note the options without effect; see `check_options`."""
    outputs = plan_outputs(paths, reader.info, options)
    return check_options(options, reader, outputs, engine == "plain")


def _near_cut(
    source: Path, options: Options, times: Sequence[Fraction], start: int, reach: int
) -> int:
    """Return the first frame of a scene that starts near a frame, else that frame."""
    since, until = times[start - reach], times[min(start + reach, len(times) - 1)]
    with open_reader(source, options, since, until, scene_cuts.SIZE) as reader:
        frames = [*reader]
    cut = scene_cuts.find_cut(frames)
    return start if cut is None else bisect_left(times, frames[cut].time)
