"""Runs the segments of a conversion, one by one or in several processes."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from rematte.conversion.model import make_engine
from rematte.conversion.needs import need
from rematte.conversion.outputs import plan_outputs
from rematte.conversion.report import Bar, Report, Stages
from rematte.conversion.source import open_reader
from rematte.conversion.span import Trace, run_span
from rematte.errors import OutputError
from rematte.matting.loop import Memory
from rematte.matting.person import Person
from rematte.resume import LEAD_IN
from rematte.resume.join import LongReport, join
from rematte.resume.manifest import write_json
from rematte.resume.plan import Segment, Work, prepare
from rematte.video.codecs import is_sequence
from rematte.video.concat import reorder_depth
from rematte.video.mask_spec import parse_who
from rematte.video.output_paths import as_output_error
from rematte.video.scene_cuts import Cuts
from rematte.workers.pool import ProcessKilledError, run_all

_PICTURE = "picture"  # of `Cuts`, in the file of a state
_PERSON = "person.json"  # what is known of the chosen person after a segment

# A decoder may need frames before the one that is wanted, and not only its key frame.
_MARGIN = 16


def convert_long(
    load: Callable[[], Any],
    input_source: str | Path,
    *,
    resume: bool = False,
    workers: int = 1,
    lead_in: int | None = None,
    segment: int | None = None,
    progress: bool = True,
    **settings: Any,
) -> LongReport:
    """Convert as `convert_video` does, in segments.

    Args:
        load: Loads the model; called once in each process, so it must be picklable if
            there are several.
        input_source: A video file or a folder of images.
        resume: Continue with the segments that an earlier run left, if there are any.
            Otherwise they are deleted if outputs may be replaced, or else an error.
        workers: Processes that convert segments side by side, sharing the cores. One
            gives the same result as a run without segments.
        lead_in: With several workers, how many frames early each segment starts; by
            default `LEAD_IN`.
        segment: Frames in each segment; by default `LENGTH`, or fewer if some workers
            would get none.
        progress: Show a progress bar on stderr.
        **settings: The other arguments of `convert_video`.

    Returns:
        What was done.

    Raises:
        ValueError: As `convert_video`, and if the earlier run had another input, other
            settings or other weights.
        InputError: As `convert_video`.
        OutputError: As `convert_video`; finished segments are saved.
        KeyboardInterrupt: With the folder of finished segments as its argument.
    """
    begin = time.perf_counter()
    if workers < 1:
        raise ValueError(f"workers must be 1 or more, got {workers}")
    need("--lead-in", lead_in, workers > 1)
    if workers > 1 and lead_in is None:
        lead_in = LEAD_IN
    model = load()
    work = prepare(
        model, input_source, resume=resume, lead_in=lead_in, segment=segment,
        share=workers, **settings,
    )  # fmt: skip
    missing = work.missing()
    bar = Bar(
        total=len(work.segments), initial=len(work.segments) - len(missing),
        unit="segment", disable=not progress, desc=work.source.name,
        dynamic_ncols=True,
    )  # fmt: skip
    with bar, _saved(work):
        if min(workers, len(missing)) > 1:
            del model
            _run_side_by_side(load, work, missing, workers, bar.update)
        else:
            converter = SegmentConverter(model, work)
            for each in missing:
                converter(each)
                bar.update()
        report = join(work)
    report.reused = len(work.segments) - len(missing)
    report.seconds = time.perf_counter() - begin
    return report


@contextmanager
def _saved(work: Work) -> Iterator[None]:
    """Add the folder of finished segments to an error; remove it if there are none."""
    try:
        yield
    except BaseException as error:
        if len(work.missing()) == len(work.segments):
            shutil.rmtree(work.folder, ignore_errors=True)
            raise
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(work.folder) from None
        if isinstance(error, OutputError):
            raise OutputError(
                f"{error}; finished segments are saved in {work.folder}; pass "
                "resume (--resume) to continue"
            ) from error
        raise


class SegmentConverter:
    """Converts segments with a model, in any order if they have a lead-in."""

    def __init__(self, model: Any, work: Work) -> None:
        self._work = work
        self._options = options = replace(work.options, engine=work.engine)
        self._notes, chunk = list[str](), options.seq_chunk
        self._engine = make_engine(model, options, self._notes.append, chunk)
        with open_reader(work.source, work.options) as reader:
            self._margin = _MARGIN / reader.info.rate

    def __call__(self, segment: Segment) -> None:
        """Convert a segment, unless it exists; its folder appears when it is done."""
        final = self._work.path(segment)
        with as_output_error(final):
            if final.exists():
                return
            temporary = Path(tempfile.mkdtemp(prefix=".", dir=final.parent))
            try:
                self._convert(segment, temporary)
                temporary.rename(final)
            except OSError:
                if not final.exists():  # else another worker was faster
                    raise
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    def _convert(self, segment: Segment, folder: Path) -> None:
        work, options = self._work, self._options
        trace = Trace(seams=work.lead_in is not None)
        if segment.index and not trace.seams:
            before = work.segments[segment.index - 1]
            trace.memory = _read_state(work.path(before))
        paths = work.parts(folder)
        for path in paths.values():
            path.parent.mkdir()
        report, stages = Report(), Stages()
        start = segment.lead - self._margin
        chosen = self._find_person(segment)
        with open_reader(work.source, options, start if start > 0 else None) as reader:
            origin = work.segments[0].first
            outputs = plan_outputs(paths, reader.info, options, origin, chosen)
            run_span(
                segment, reader, outputs, options, lambda: self._engine, report,
                stages=stages, trace=trace, regions=work.regions,
            )  # fmt: skip
        if chosen:
            last = segment.index == len(work.segments) - 1
            report.notes += chosen.report() if last else chosen.notes
            write_json(folder / _PERSON, chosen.as_json())
        report.seconds, report.shares = stages.total(), stages.shares()
        if not trace.seams:
            (folder / "state.safetensors").write_bytes(_pack(trace.memory))
        with (folder / "edges.npz").open("wb") as file:
            edges: dict[str, Any] = trace.edges
            np.savez_compressed(file, **edges)
        self._write_record(segment, folder, trace, report)

    def _find_person(self, segment: Segment) -> Person | None:
        """Restore the chosen person's follower to its state before a segment."""
        work, index = self._work, segment.index
        if self._options.person is None:
            return None
        if index < len(work.people):
            state = work.people[index]
        else:
            before = work.path(work.segments[index - 1]) / _PERSON
            state = json.loads(before.read_text("utf-8"))
        return Person.from_json(parse_who(self._options.person), state)

    def _write_record(
        self, segment: Segment, folder: Path, trace: Trace, report: Report
    ) -> None:
        """Write the record of a segment that `join` needs."""
        paths, end = self._work.parts(folder), segment.end
        record = {
            "frames": [
                [str(frame.time), str(frame.duration), frame.name, frame.number]
                for frame in trace.frames
            ],
            "depth": {
                kind: reorder_depth(path)
                for kind, path in paths.items()
                if not is_sequence(path)
            },
            "shares": {k: v * report.seconds for k, v in report.shares.items()},
            "engine": report.engine,
            "notes": [*self._notes, *report.notes],
            "cuts": report.cuts,
            "damaged": {
                time: name
                for time, name in report.damaged.items()
                if segment.first <= time and (end is None or time < end)
            },
        }
        write_json(folder / "segment.json", record)


def _pack(memory: Memory) -> bytes:
    # safetensors takes memory for contiguous, whatever the strides are.
    arrays = {str(n): np.ascontiguousarray(s) for n, s in enumerate(memory.state)}
    if memory.cuts.picture is not None:
        arrays[_PICTURE] = memory.cuts.picture
    shape, region, changes = memory.shape, str(memory.region), memory.cuts.changes
    about = {"shape": shape, "region": region, "changes": changes}
    return save(arrays, {name: json.dumps(value) for name, value in about.items()})


def _read_state(folder: Path) -> Memory:
    with safe_open(folder / "state.safetensors", "np") as file:
        about = {name: json.loads(text) for name, text in file.metadata().items()}
        arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
    picture = arrays.pop(_PICTURE, None)
    cuts = Cuts(picture, about["changes"])
    state = [arrays[name] for name in sorted(arrays, key=int)]
    return Memory(tuple(about["shape"]), state, Fraction(about["region"]), cuts)


def _run_side_by_side(
    load: Callable[[], Any],
    work: Work,
    missing: list[Segment],
    workers: int,
    step: Callable[[], object],
) -> None:
    make = partial(_load_converter, load, work)
    processes = min(workers, len(missing))
    for _, result in run_all(make, SegmentConverter.__call__, missing, processes):
        if isinstance(result, ProcessKilledError):
            raise MemoryError(
                "workers were killed twice before one finished a segment; use fewer "
                "(--workers)"
            ) from result
        step()


def _load_converter(load: Callable[[], Any], work: Work) -> SegmentConverter:
    return SegmentConverter(load(), work)
