"""Converts a span of a video: decode, matte, composite, encode, side by side."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rematte.conversion.model import bind_loop
from rematte.conversion.outputs import Output, open_writers, publish, shifted
from rematte.conversion.report import Progress, Report, Stages, Stop, show_progress
from rematte.conversion.source import no_frame
from rematte.engines.choose import describe_engine
from rematte.engines.engine import Engine
from rematte.matting.background import Renderer
from rematte.matting.loop import Matting, Memory
from rematte.matting.matte import Matted
from rematte.matting.region import Regions
from rematte.options import Options
from rematte.prefetch import Prefetch, WriterThread
from rematte.video.base_writer import Writer
from rematte.video.frame import Frame
from rematte.video.notes import describe_damage
from rematte.video.reader import VideoReader
from rematte.video.tone import displayed

NO_PIXELS = np.empty((0, 0, 0), np.uint8)


@dataclass(frozen=True)
class Span:
    """Consecutive frames that are converted in one go; by default all that are read."""

    index: int = 0  # its position among the spans of a video, from 0
    lead: Fraction = Fraction(0)  # time of the first frame that the network sees [s]
    first: Fraction = Fraction(0)  # time of the first frame that is written [s]
    # Time of the first frame of the next span [s]; of the last one, `stop`.
    end: Fraction | None = None
    # Time of the first frame after all spans [s]; None to the end of the source.
    stop: Fraction | None = None

    def is_past(self, frame: Frame) -> bool:
        """Whether a frame belongs to a later span."""
        return self.end is not None and frame.time >= self.end


@dataclass
class Trace:
    """The record that a span keeps for its neighbours and for joining."""

    # The network's memory, before the span and later after it.
    memory: Memory = field(default_factory=Memory)
    # Whether the span starts with an empty memory, so that alpha is recorded at its
    # first frame and at the first one of the next span.
    seams: bool = False
    # Times and names of the frames that were written.
    frames: list[Frame] = field(default_factory=list)
    # Alpha at the "first" frame, and at the one "past" the last.
    edges: dict[str, NDArray[Any]] = field(default_factory=dict)


def run_span(
    span: Span,
    reader: VideoReader,
    outputs: Sequence[Output],
    options: Options,
    make_engine: Callable[[], Engine],
    report: Report,
    *,
    stages: Stages,
    trace: Trace | None = None,
    regions: Regions | None = None,
    progress: bool | Progress = False,
    stop: Stop | None = None,
) -> None:
    """Write every frame of a span to every output, and name the outputs.

    The reader was opened at the span's start or before. The engine is made when the
    first frame has been read. `trace` receives what neighbouring spans need; it is
    None for a whole video, whose files get the source's other tracks.
    """
    whole, limit = trace is None, options.limit if trace is None else None
    beyond = trace is not None and trace.seams
    shown = displayed(reader, reader.info.colour)
    looks_ahead = bool(options.warmup or options.cuts or options.person)
    if not whole:
        shown = _select(shown, span, beyond, looks_ahead)
    frames = stages.around("decode", islice(shown, limit))
    first = next(frames, None)
    if first is None:
        raise no_frame(reader, options, None if whole else span.first)
    engine = make_engine()
    matting = bind_loop(engine, options, regions, reader.info.still, looks_ahead)
    mattes = matting if trace is None else partial(_matte_written, matting, span, trace)
    stop = stop or Stop()
    counts = [count for count in (reader.info.frames, limit) if count is not None]
    total = min(counts) if any(counts) else None
    with (
        show_progress(progress, reader.path.name, total, stages) as step,
        open_writers(outputs, reader, options, first.time, tracks=whole) as writers,
    ):
        frames = chain((first,), frames)
        end = _write(stages, frames, mattes, outputs, writers, report, step, stop)
        stop.check(report.frames)
        if trace is not None and not trace.frames:
            raise no_frame(reader, options, span.first)
        with stages("encode"):
            if whole and options.start is not None:
                report.cuts = shifted(report.cuts, first.time)
            cuts = report.cuts if whole else None
            publish(writers, options, report.frames, end, cuts)
    report.engine, report.setup = describe_engine(engine), engine.setup
    report.outputs = {item.kind: str(item.path) for item in outputs}
    report.damaged = reader.damaged
    if whole:
        report.notes += [*reader.notes, *describe_damage(reader.damaged)]
        report.notes += notes_of(writers)
    else:
        report.notes += reader.late_notes


def notes_of(writers: Sequence[Writer]) -> list[str]:
    """Collect the notes on what differs from the source in each output."""
    return [f"{each.path.name}: {note}" for each in writers for note in each.notes]


def _select(
    frames: Iterable[Frame], span: Span, beyond: bool, looks_ahead: bool
) -> Iterator[Frame]:
    """Yield the frames that the network is to see.

    With `beyond`, one past the end of the span is among them; if the network
    `looks_ahead`, all later ones are.
    """
    for frame in frames:
        past = span.is_past(frame)
        if past and not (beyond or looks_ahead):
            return
        if looks_ahead and span.stop is not None and frame.time >= span.stop:
            return
        if frame.time >= span.lead:
            yield frame
        if past and not looks_ahead:
            return


def _matte_written(
    matting: Matting, span: Span, trace: Trace, frames: Iterable[Frame]
) -> Iterator[Matted]:
    """Matte frames, and yield the mattes that are to be written in a segment."""
    alpha = Renderer("alpha")
    is_past = None if trace.seams else span.is_past
    for matted in matting(frames, memory=trace.memory, is_past=is_past):
        frame = matted.frame
        if span.is_past(frame):
            trace.edges["past"] = alpha(matted)
            return
        if frame.time >= span.first:
            if trace.seams and not trace.frames:
                trace.edges["first"] = alpha(matted)
            trace.frames.append(frame.showing(NO_PIXELS))
            yield matted


def _write(
    stages: Stages,
    frames: Iterable[Frame],
    mattes: Callable[[Iterable[Frame]], Iterator[Matted]],
    outputs: Sequence[Output],
    writers: Sequence[Writer],
    report: Report,
    step: Callable[[int], None],
    stop: Stop,
) -> Fraction:
    """Write every matte, and return the end [s] of the last frame.

    Decoding, the network and each encoder have threads of their own; compositing runs
    in this one.
    """

    def encode(writer: Writer, frame: Frame) -> None:
        with stages("encode"):
            writer.write(frame)

    end = Fraction(0)
    with ExitStack() as stack:
        decoded = stack.enter_context(Prefetch(frames))
        made = stages.around("network", mattes(stages.around("wait", decoded)))
        ready = stack.enter_context(Prefetch(made, lambda: stop.check(report.frames)))
        sinks = [
            stack.enter_context(WriterThread(partial(encode, writer)))
            for writer in writers
        ]
        for matted in ready:
            end = matted.frame.time + matted.frame.duration
            if matted.cut:
                report.cuts.append((report.frames, float(matted.frame.time)))
            for item, sink in zip(outputs, sinks, strict=True):
                with stages("composite"):
                    drawn = matted.frame.showing(item.render(matted))
                if item is outputs[-1]:
                    del matted  # a 4K frame is large; the encoder may be slow
                sink.put(drawn)
                del drawn
            report.frames += 1
            step(report.frames)
    return end
