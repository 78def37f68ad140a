"""Long videos in segments: stopped runs go on, and many workers share one video.

A segment is a run of frames that is converted into files of its own, encoded as the
final ones are, and kept in a hidden folder beside the first output until all are there
and are joined without encoding again. Alone, each segment goes on from the recurrent
state that the one before it left in its folder. Side by side, each begins some frames
early with an empty state, and how far it is off where it begins is measured.

Knows `convert`, of which a segment is one call, and no command line.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save
from tqdm import tqdm

from rematte.conversion.effects import check, need
from rematte.convert import (
    Part,
    Report,
    check_images,
    check_paths,
    convert,
    describe,
    frames_within,
    open_reader,
    plan_outputs,
    wanted_outputs,
)
from rematte.engines.choose import (
    Matting,
    choose_matting,
    chunk_length,
    placement,
    settle_engine,
)
from rematte.engines.cpu import package_versions
from rematte.errors import InputError, OutputError
from rematte.matting.background import Renderer
from rematte.matting.loop import AnyMatted, Memory, choose_ratio
from rematte.options import OPTIONS, Options, make_options
from rematte.version import __version__
from rematte.video import scene_cuts as cuts
from rematte.video.codecs import can_join, is_sequence
from rematte.video.frame import Frame
from rematte.video.images import find_images
from rematte.video.reader import VideoReader, describe_damage
from rematte.video.writer import (
    FileWriter,
    ImageWriter,
    as_output_error,
    reorder_depth,
    shorten,
)

LENGTH = 500  # frames in a segment; a run that is stopped loses at most these
LEAD_IN = 15  # frames; docs/long.md has the table it is from

# How far a segment's beginning is moved to a cut, where a seam is not seen [frames].
_REACH = 25

# Of a file, to tell it from others [bytes].
_HEAD = 1 << 20

# Exists once all is joined, from when on outputs get their names.
_NAMED = "named"
# Tells where outputs are until they get their names.
_JOINING = "joining.json"

# A decoder may need frames before the one that is wanted, and not only its key frame.
_MARGIN = 16

# By kind of output, the argument of `convert_video`.
_KINDS = {
    "output": "output",
    "composition": "output_composition",
    "alpha": "output_alpha",
    "foreground": "output_foreground",
}
_PATIENCE = 2  # times that workers may be killed with nothing done between


@dataclass(frozen=True)
class Segment:
    """A run of frames.

    Attributes:
        index: Its place, from 0.
        lead: Time of the first frame that the network sees [s].
        first: Time of the first frame that is kept [s].
        end: Time of the first frame of the next one [s]; None for the last.
    """

    index: int
    lead: Fraction
    first: Fraction
    end: Fraction | None


@dataclass(frozen=True)
class Work:
    """A conversion in segments; everything a worker has to be told.

    Attributes:
        source: The input.
        outputs: Final paths by kind: "output", "composition", "alpha", "foreground".
        options: How; the same for all of them.
        folder: Where the segments are kept.
        segments: All of them.
        lead_in: How many frames early each begins; None where it takes over the state.
        engine: What runs the network, by name.
    """

    source: Path
    outputs: Mapping[str, Path]
    options: Options
    folder: Path
    segments: Sequence[Segment]
    lead_in: int | None
    engine: str

    def place(self, segment: Segment) -> Path:
        """The folder of a segment, which exists when it is finished."""
        return self.folder / f"{segment.index:06d}"

    def missing(self) -> list[Segment]:
        """The segments that are not finished."""
        return [each for each in self.segments if not self.place(each).exists()]


@dataclass
class LongReport(Report):
    """What a conversion in segments did.

    Attributes:
        segments: How many there are.
        reused: How many of them an earlier run had finished.
        lead_in: How many frames early each began; None where the state was taken over.
        seams: For each place where two meet after a lead-in: the time [s], and the mean
            and largest difference in alpha there, in levels of 1/255, between the one
            that begins and the one that ran on.
    """

    segments: int = 0
    reused: int = 0
    lead_in: int | None = None
    seams: list[tuple[float, float, int]] = field(default_factory=list)


def plan_segments(
    times: Sequence[Fraction],
    starts: Sequence[int],
    lead_in: int = 0,
    end: Fraction | None = None,
) -> list[Segment]:
    """Cut frames into segments.

    Args:
        times: Of all frames [s], in order.
        starts: Which frames segments begin with, from 0 on.
        lead_in: Frames that each but the first begins early.
        end: When the first frame after all of them would be shown [s], if there is one.
    """
    ends = [*(times[start] for start in starts[1:]), end]
    return [
        Segment(index, times[max(0, start - lead_in)], times[start], after)
        for index, (start, after) in enumerate(zip(starts, ends, strict=True))
    ]


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
        load: Loads the model; called once in each process, so it must be picklable
            where there are several.
        input_source: A video file or a folder of images.
        resume: Go on from what an earlier run left, if it left something. Otherwise
            that is deleted, or refused unless outputs may be replaced.
        workers: Processes that convert segments side by side, sharing the cores. One
            gives what a run without segments gives.
        lead_in: With several workers, how many frames early each segment begins;
            `LEAD_IN` unless given.
        segment: Frames in each segment; by default `LENGTH`, less where that leaves
            workers without any.
        progress: Show a progress bar on stderr.
        **settings: As of `convert_video`.

    Returns:
        What was done.

    Raises:
        ValueError: As `convert_video`, and if there is something else to go on from:
            of another input, other settings or other weights.
        InputError: As `convert_video`.
        OutputError: As `convert_video`; finished segments are kept.
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
    bar = tqdm(
        total=len(work.segments), initial=len(work.segments) - len(missing),
        unit="segment", disable=not progress, desc=work.source.name,
        dynamic_ncols=True,
    )  # fmt: skip
    with bar, _kept(work):
        if min(workers, len(missing)) > 1:
            del model
            _side_by_side(load, work, workers, bar.update)
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
def _kept(work: Work) -> Iterator[None]:
    """Say in an error where finished segments are; without any, leave no folder."""
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
                f"{error}; finished segments are kept in {work.folder}, resume "
                "(--resume) goes on"
            ) from error
        raise


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
    """Check what is asked for, cut it into segments and make their folder.

    Args:
        model: A loaded network.
        input_source: See `convert_long`; likewise `resume` and `segment`.
        resume: See there.
        lead_in: Frames that each segment begins early; None if each takes over the
            state of the one before.
        segment: See there.
        share: How many workers there will be.
        **settings: As of `convert_video`.

    Raises:
        ValueError: See there.
        InputError: See there.
        OutputError: See there.
    """
    for name, value, least in (("lead_in", lead_in, 0), ("segment", segment, 1)):
        if value is not None and value < least:
            raise ValueError(f"{name} must be {least} or more frames, got {value}")
    source = Path(input_source)
    paths = {kind: settings.pop(name, None) for kind, name in _KINDS.items()}
    settings.pop("progress", None)
    options = make_options(**settings)
    outputs = wanted_outputs(options.output_type, **paths)
    folder = _work_folder(next(iter(outputs.values())))
    manifest = folder / "manifest.json"
    begun, overwrite = manifest.exists(), options.overwrite
    if begun and not (resume or overwrite):
        raise OutputError(
            f"{folder} holds segments of an earlier run; pass resume (--resume) to go "
            "on with them, or overwrite (-y) to begin anew"
        )
    # A run that was stopped while it named its outputs names them again.
    naming = resume and (folder / _NAMED).exists()
    check_paths(outputs, source, options.background, overwrite or naming)
    conditions = _conditions(
        model, source, options, {**outputs, "lead_in": lead_in, "segment": segment}
    )
    if begun and resume:
        known = json.loads(manifest.read_text("utf-8"))
        _compare(known["conditions"], conditions, folder)
    else:
        plan = _plan(model, source, outputs, options, lead_in, segment, share)
        known = {"conditions": conditions, **plan}
        with as_output_error(folder):
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir()
            _write_json(manifest, known)
    _remove_left(folder)
    segments = [
        Segment(index, *(text and Fraction(text) for text in texts))
        for index, texts in enumerate(known["segments"])
    ]
    return Work(source, outputs, options, folder, segments, lead_in, known["engine"])


def _remove_left(folder: Path) -> None:
    """Remove what a run was writing when it was stopped."""
    left = [*folder.glob(".*")]
    with suppress(OSError, ValueError):
        left += map(Path, json.loads((folder / _JOINING).read_text("utf-8")))
    for path in left:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _work_folder(output: Path) -> Path:
    """A hidden folder beside an output, or above it while that has no folder yet."""
    name = f".{shorten(output.name)}.segments"
    near, above = output.parent / name, output.parent.parent / name
    return above if above.exists() or not output.parent.is_dir() else near


def _plan(
    model: Any,
    source: Path,
    outputs: Mapping[str, Path],
    options: Options,
    lead_in: int | None,
    segment: int | None,
    share: int,
) -> dict[str, Any]:
    """The segments and the engine, as they stand in the manifest."""
    device, dtype = placement(model, options.device, options.dtype)
    with open_reader(source, options) as reader:
        info = reader.info
        times, begin, stop = frames_within(reader, options)
    if info.still:
        raise ValueError(
            f"{source} is one image, which has no segments; leave out resume and "
            "workers (--resume, --workers)"
        )
    for kind, path in outputs.items():
        if not can_join(path):
            raise ValueError(
                f"{kind} {path}: {path.suffix} cannot be joined from segments; write "
                "another format, or leave out resume and workers (--resume, --workers)"
            )
    end = times[stop] if stop < len(times) else None
    ratio = choose_ratio(info.width, info.height, options.downsample_ratio)
    engine = settle_engine(
        model, device, dtype, options.engine,
        (info.height, info.width), ratio, stop - begin,
    )  # fmt: skip
    _check_options(reader, outputs, options, engine)
    check_images(outputs, reader, options)
    if segment is None:  # all alike, and as many for each worker
        rounds = -(-(stop - begin) // (LENGTH * share))
        segment = -(-(stop - begin) // (rounds * share))
    shown = times[begin:stop]
    starts = [*range(0, len(shown), segment)]
    if lead_in is not None:  # only where there are seams
        reach = min(segment // 4, _REACH)
        starts[1:] = [_near_cut(source, options, shown, n, reach) for n in starts[1:]]
    cut = plan_segments(shown, starts, lead_in or 0, end)
    return {
        "engine": engine,
        "segments": [
            [str(part.lead), str(part.first), part.end and str(part.end)]
            for part in cut
        ],
    }


def _check_options(
    reader: VideoReader, outputs: Mapping[str, Path], options: Options, engine: str
) -> list[str]:
    """Give notes about options that do nothing; see `check`."""
    plans = plan_outputs(outputs, reader.info, options)
    return check(options, describe(reader, plans, options, engine == "plain"))


def _near_cut(
    source: Path, options: Options, times: Sequence[Fraction], start: int, reach: int
) -> int:
    """A frame within reach of one where a scene begins, else that one."""
    since, until = times[start - reach], times[min(start + reach, len(times) - 1)]
    with open_reader(source, options, since, until, cuts.SIZE) as reader:
        frames = [*reader]
    cut = cuts.find_cut(frames)
    return start if cut is None else bisect_left(times, frames[cut].time)


def _conditions(
    model: Any, source: Path, options: Options, others: Mapping[str, Any]
) -> dict[str, str]:
    """All that the result depends on, by name."""
    background = options.background
    files = {"input": source}
    if isinstance(background, str | Path) and Path(background).exists():
        files["background"] = Path(background)
    found = {}
    for name, path in files.items():
        for what, value in _look_at(path).items():
            found[f"{what} of the {name}"] = value
    for name, value in {**options.given(), **others}.items():
        free = name in OPTIONS and OPTIONS[name].may_change
        if value is not None and not free:
            found[name] = str(value.resolve() if isinstance(value, Path) else value)
    found["the weights"] = weights_hash(model)
    found["version of rematte"] = __version__
    packages = package_versions(("torch", "av", "openvino", "onnxruntime"))
    for name, version in packages.items():
        found[f"version of {name}"] = version
    return found


def _look_at(path: Path) -> dict[str, str]:
    """Size, time of change and hash of the beginning of a file, or of a folder's."""
    files = [path] if path.exists() else [image.file for image in find_images(path)[0]]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file())
    states = [file.stat() for file in files]
    head = b""
    for first in files[:1]:
        with first.open("rb") as file:
            head = file.read(_HEAD)
    return {
        "number of files": str(len(files)),
        "size": str(sum(state.st_size for state in states)),
        "time of change": str(max((state.st_mtime_ns for state in states), default=0)),
        "beginning": hashlib.sha256(head).hexdigest()[:16],
    }


def weights_hash(model: Any) -> str:
    """What tells a network's weights from all others."""
    digest = hashlib.sha256(type(model).__name__.encode())
    tensors = model.state_dict()
    if not tensors and isinstance(model, torch.jit.ScriptModule):  # frozen: in the code
        digest.update(model.save_to_buffer())
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _compare(old: Mapping[str, str], new: Mapping[str, str], folder: Path) -> None:
    """Refuse to go on with anything else."""
    others = [
        f"{name} ({old.get(name, 'default')} -> {new.get(name, 'default')})"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]
    if others:
        raise ValueError(
            f"{folder} was started with other settings: {'; '.join(others)}; give "
            "the same again, or overwrite (-y) without resume (--resume) to start over"
        )


def _write_json(path: Path, content: Any) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_text(json.dumps(content), "utf-8")
    part.replace(path)


class SegmentConverter:
    """Converts segments of one video with one model, in any order if they lead in.

    Args:
        model: A loaded network.
        work: From `prepare`.
    """

    def __init__(self, model: Any, work: Work) -> None:
        self._model, self._work = model, work
        options = work.options
        device, dtype = placement(model, options.device, options.dtype)
        self._report = Report()
        self._matting = choose_matting(
            model, device, dtype, self._report, engine=work.engine, frames=None,
            downsample_ratio=options.downsample_ratio,
            seq_chunk=chunk_length(options.seq_chunk, device),
        )  # fmt: skip

    def __call__(self, segment: Segment) -> None:
        """Convert a segment, unless that is done; its folder appears when it is.

        Raises:
            InputError: If the input cannot be read, or not from there.
            OutputError: If something cannot be written; nothing is left behind then.
        """
        place = self._work.place(segment)
        with as_output_error(place):
            if place.exists():
                return
            temporary = Path(tempfile.mkdtemp(prefix=".", dir=place.parent))
            try:
                self._convert(segment, temporary)
                temporary.rename(place)
            except OSError:
                if not place.exists():  # else another worker was faster
                    raise
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    def _convert(self, segment: Segment, folder: Path) -> None:
        work = self._work
        passage = _Passage(segment, self._matting, work.lead_in is None)
        if passage.serial and segment.index:
            passage.memory = _read_state(work.place(work.segments[segment.index - 1]))
        paths = {kind: _part(folder, kind, path) for kind, path in work.outputs.items()}
        for path in paths.values():
            path.parent.mkdir()
        options = work.options
        with open_reader(work.source, options, *options.span) as reader:
            start = segment.lead - _MARGIN / reader.info.rate
            notes = [*self._report.notes, *reader.notes]
        numbered = any(map(is_sequence, paths.values()))
        options = replace(
            options, output_type="video", engine=work.engine, overwrite=True,
            start=start if start > 0 else None, end=None, limit=None,
            # `join` gives images their final numbers.
            start_number=0 if numbered else options.start_number,
        )  # fmt: skip
        part = Part(passage.select, passage.matte, work.segments[0].first)
        report = convert(
            self._model, work.source, paths, options, progress=False, part=part
        )
        if passage.serial:
            (folder / "state.safetensors").write_bytes(_pack(passage.memory))
        with (folder / "edges.npz").open("wb") as file:
            edges: dict[str, Any] = passage.edges
            np.savez_compressed(file, **edges)
        _write_json(
            folder / "segment.json",
            {
                "frames": [
                    [str(frame.time), str(frame.duration), frame.name, frame.number]
                    for frame in passage.frames
                ],
                "depth": {
                    kind: reorder_depth(path)
                    for kind, path in paths.items()
                    if not is_sequence(path)
                },
                "shares": {k: v * report.seconds for k, v in report.shares.items()},
                "engine": self._report.engine,
                "notes": [*notes, *part.notes],
                "damaged": {
                    time: name
                    for time, name in report.damaged.items()
                    if segment.first <= time
                    and (segment.end is None or time < segment.end)
                },
            },
        )


class _Passage:
    """The frames of a segment on their way.

    Args:
        segment: Which.
        matting: Mattes them.
        serial: Whether the network goes on where the segment before ended; else it
            runs on by a frame, to be compared with the segment after.

    Attributes:
        serial: As given.
        memory: What the network remembers, before and then after.
        frames: Times and names of those that are kept.
        edges: Alpha where the segment begins, and where the next one does.
    """

    def __init__(self, segment: Segment, matting: Matting, serial: bool) -> None:
        self._segment, self._matting = segment, matting
        self.serial = serial
        self.memory = Memory()
        self.frames: list[Frame] = []
        self.edges: dict[str, NDArray[Any]] = {}
        self._alpha = Renderer("alpha")

    def _is_past(self, frame: Frame) -> bool:
        return self._segment.end is not None and frame.time >= self._segment.end

    def select(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Those that the network is to see."""
        for frame in frames:
            past = self._is_past(frame)
            if past and self.serial:
                return
            if frame.time >= self._segment.lead:
                yield frame
            if past:
                return

    def matte(self, frames: Iterable[Frame]) -> Iterator[AnyMatted]:
        """Those that are written."""
        for matted in self._matting(frames, memory=self.memory):
            frame = matted.frame
            if self._is_past(frame):
                self.edges["past"] = self._alpha(matted)
            elif frame.time >= self._segment.first:
                if not self.frames and not self.serial:
                    self.edges["first"] = self._alpha(matted)
                self.frames.append(frame.showing(_NO_PIXELS))
                yield matted


# Frames are remembered by their times.
_NO_PIXELS = np.empty((0, 0, 0), np.uint8)


def _part(folder: Path, kind: str, output: Path) -> Path:
    """Where an output of a segment is."""
    if is_sequence(output):
        return folder / kind / f"%06d{output.suffix or '.png'}"
    return folder / kind / output.name


def _pack(memory: Memory) -> bytes:
    # Copies, since a file cannot hold what shares its memory.
    tensors = {
        str(n): state.clone(memory_format=torch.contiguous_format)
        for n, state in enumerate(memory.state)
    }
    return save(tensors, {"shape": json.dumps(memory.shape)})


def _read_state(folder: Path) -> Memory:
    with safe_open(folder / "state.safetensors", "pt") as file:
        shape = tuple(json.loads(file.metadata()["shape"]))
        return Memory(shape, [file.get_tensor(name) for name in sorted(file.keys())])


def _read_record(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "segment.json").read_text("utf-8"))
    record["frames"] = [
        Frame(_NO_PIXELS, Fraction(shown), Fraction(duration), name, number)
        for shown, duration, name, number in record["frames"]
    ]
    return record


_converter: SegmentConverter  # of a worker process


def _begin(load: Callable[[], Any], work: Work, threads: int) -> None:
    global _converter
    Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    _converter = SegmentConverter(load(), work)


def _end_with_parent() -> None:
    """A process that has lost its parent would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _in_worker(segment: Segment) -> None:
    _converter(segment)


def _side_by_side(
    load: Callable[[], Any], work: Work, workers: int, done: Callable[[], object]
) -> None:
    threads = max(1, (os.cpu_count() or 1) // workers)
    begin = partial(_begin, load, work, threads)
    vain = 0
    while missing := work.missing():
        context = get_context("spawn")
        pool = ProcessPoolExecutor(min(workers, len(missing)), context, begin)
        try:
            for future in as_completed([pool.submit(_in_worker, s) for s in missing]):
                future.result()
                done()
        except BrokenProcessPool as error:  # one was killed, perhaps for its memory
            vain = vain + 1 if len(work.missing()) == len(missing) else 0
            if vain == _PATIENCE:
                raise MemoryError(
                    f"workers were killed {vain} times before one finished a segment; "
                    "use fewer (--workers)"
                ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def join(work: Work) -> LongReport:
    """Join all segments into the outputs, give these their names, delete the folder.

    Args:
        work: From `prepare`; none of its segments may be missing.

    Raises:
        InputError: If segments do not fit together.
        OutputError: If an output cannot be written; segments are kept then.
    """
    options = work.options
    with open_reader(work.source, options) as reader:
        info, source = reader.info, None if reader.images else work.source
        limits = reader.limits
        clock = reader.clock
    ratio = choose_ratio(info.width, info.height, options.downsample_ratio)
    report = LongReport(
        0, info.width, info.height, ratio,
        segments=len(work.segments), lead_in=work.lead_in, seams=_seams(work),
    )  # fmt: skip
    report.notes += _check_options(reader, work.outputs, options, work.engine)
    depth, first = _examine(work, report)
    since, until = options.span
    shift = first if since is not None else Fraction(0)
    writers: list[FileWriter | ImageWriter] = []
    try:
        for item in plan_outputs(work.outputs, info, options):
            path, encoding = item.path, item.encoding
            if encoding.image:
                writers.append(ImageWriter(path, info, encoding, options.start_number))
                continue
            like = _part(work.place(work.segments[0]), item.kind, path)
            writers.append(
                FileWriter(
                    path,
                    info,
                    encoding,
                    source,
                    shift,
                    until,
                    options.audio,
                    like,
                    limits,
                    clock,
                )
            )
        with as_output_error(work.folder):
            temporaries = [str(writer.temporary.resolve()) for writer in writers]
            _write_json(work.folder / _JOINING, temporaries)
        last = _append_all(work, writers, depth)
        limited = report.frames == options.limit
        for writer in writers:
            writer.complete(last if limited else until and max(until, last))
        with as_output_error(work.folder):
            (work.folder / _NAMED).touch()
        for writer in writers:
            writer.publish()
    except BaseException:
        for writer in writers:
            writer.discard()
        raise
    report.outputs = {kind: str(path) for kind, path in work.outputs.items()}
    for writer in writers:
        notes = [f"{writer.path.name}: {note}" for note in writer.notes]
        report.notes += [note for note in notes if note not in report.notes]
    shutil.rmtree(work.folder, ignore_errors=True)
    return report


def _append_all(
    work: Work, writers: Sequence[FileWriter | ImageWriter], depth: Mapping[str, int]
) -> Fraction:
    """Append every segment to every output; gives the end of the last frame [s]."""
    for segment in work.segments:
        place = work.place(segment)
        frames = _read_record(place)["frames"]
        for kind, writer in zip(work.outputs, writers, strict=True):
            part = _part(place, kind, work.outputs[kind])
            if isinstance(writer, ImageWriter):
                writer.append(part.parent, frames)
            else:
                writer.append(part, frames, depth[kind])
    end: Fraction = frames[-1].time + frames[-1].duration
    return end


def _examine(work: Work, report: LongReport) -> tuple[dict[str, int], Fraction]:
    """Sum up the segments, and check that each begins where the one before ends.

    Returns:
        How far decoding runs ahead, by kind of output, and when the first frame is
        shown [s].
    """
    depth = dict.fromkeys(work.outputs, 0)
    seconds: dict[str, float] = {}
    end: Fraction | None = None
    for segment in work.segments:
        record = _read_record(work.place(segment))
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
        report.frames += len(frames)
        report.engine = record["engine"]
        report.notes += [note for note in record["notes"] if note not in report.notes]
        report.damaged |= {float(at): name for at, name in record["damaged"].items()}
        for kind, frames_ahead in record["depth"].items():
            depth[kind] = max(depth[kind], frames_ahead)
        for stage, value in record["shares"].items():
            seconds[stage] = seconds.get(stage, 0) + value
    report.notes += describe_damage(report.damaged)
    total = sum(seconds.values()) or 1.0
    report.shares = {stage: value / total for stage, value in seconds.items()}
    return depth, first


def _seams(work: Work) -> list[tuple[float, float, int]]:
    """How far alpha is off where segments begin; see `LongReport`."""
    found = []
    before: NDArray[Any] | None = None
    for segment in work.segments:
        with np.load(work.place(segment) / "edges.npz") as edges:
            if before is not None and "first" in edges:
                off = np.abs(before.astype(int) - edges["first"])
                when = float(segment.first)
                found.append((when, float(off.mean()), int(off.max())))
            before = edges.get("past")
    return found
