"""The report of a conversion and its progress, and what stops it from outside."""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any, TypeVar

from tqdm import tqdm

from rematte.errors import Cancelled, TimedOut

T = TypeVar("T")

# Called with the number of frames done and, if known, of all frames.
Progress = Callable[[int, int | None], object]


@dataclass
class Report:
    """The result of a conversion.

    Attributes:
        frames: How many frames came in, and went into every output.
        width: Width of the frames [pixels].
        height: Height of the frames [pixels].
        downsample_ratio: The ratio that the network used.
        engine: The engine that ran the network, and why.
        setup: Time spent on choosing and building the engine [s].
        looking: Time spent on finding where the network is to run [s].
        regions: Where the network ran, from which time on, and why; empty if it
            saw whole frames. See `rematte.matting.region.Region`.
        seconds: Wall time of the whole conversion.
        shares: Each stage's share of the work: decoding, the network, compositing and
            encoding; they add up to 1. Stages run side by side, so the largest one
            sets the pace.
        outputs: The files that were written, by kind.
        notes: Sentences on what differs from the source.
        damaged: Where damage was skipped, by time [s]; see `VideoReader`.
        cuts: Number of the first frame of each scene but the first, from 0, and its
            time in the outputs [s]; empty if cuts were not searched for.
    """

    frames: int = 0
    width: int = 0
    height: int = 0
    downsample_ratio: float = 1.0
    engine: str = ""
    setup: float = 0.0
    looking: float = 0.0
    regions: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    shares: dict[str, float] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    damaged: dict[float, str] = field(default_factory=dict)
    cuts: list[tuple[int, float]] = field(default_factory=list)

    def note(self, *notes: str) -> None:
        """Add notes, each once."""
        self.notes += [note for note in notes if note not in self.notes]


@dataclass
class Stop:
    """Says when a conversion must stop early; by default never."""

    cancel: Event | None = None  # stops the conversion when it is set
    timeout: float | None = None  # the longest time that it may take, above 0 [s]
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"timeout must be above 0 seconds, got {self.timeout}")

    def check(self, frames: int = 0) -> None:
        """Raise `Cancelled` or `TimedOut` after so many frames, if it is time."""
        done = f"{frames} frame{'s' * (frames != 1)}; no output is left behind"
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled(f"cancelled after {done}")
        taken = time.monotonic() - self._started
        if self.timeout is not None and taken > self.timeout:
            raise TimedOut(
                f"stopped by timeout={self.timeout} seconds after {done}; allow more "
                "time, or convert a part (start, end, limit)"
            )


class Bar(tqdm):  # type: ignore[type-arg]
    """A progress bar without tqdm's thread, which a disabled bar would start too."""

    monitor_interval = 0

    def __init__(self, *given: Any, disable: bool, **named: Any) -> None:
        # A program without a console, as on Windows, has no stderr.
        named["disable"] = disable or sys.stderr is None
        super().__init__(*given, **named)


class Stages:
    """Measures how long each stage works, without its waits for other stages.

    A stage inside another in the same thread takes its time from it.
    """

    def __init__(self) -> None:
        names = ("decode", "network", "composite", "encode", "wait")
        self._seconds = dict.fromkeys(names, 0.0)
        self._lock = threading.Lock()
        self._thread = threading.local()
        self._start = time.perf_counter()

    def _switch(self, running: list[str]) -> None:
        now = time.perf_counter()
        if running:
            with self._lock:
                self._seconds[running[-1]] += now - self._thread.since
        self._thread.since = now

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the time spent in this `with` statement as the stage's work."""
        if not hasattr(self._thread, "running"):
            self._thread.running = []
        running: list[str] = self._thread.running
        self._switch(running)
        running.append(stage)
        try:
            yield
        finally:
            self._switch(running)
            running.pop()

    def around(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Pass items on, and count the time that making them takes as the stage's."""
        iterator = iter(items)
        while True:
            with self(stage):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item
            del item  # 4K frames are large: not to be held while the next is made

    def total(self) -> float:
        """Wall time since the start [s]."""
        return time.perf_counter() - self._start

    def shares(self) -> dict[str, float]:
        """Return each stage's share of the work; see `Report.shares`."""
        with self._lock:
            seconds = {k: v for k, v in self._seconds.items() if k != "wait"}
        return as_shares(seconds)


def as_shares(seconds: dict[str, float]) -> dict[str, float]:
    """Scale times so that they add up to 1."""
    total = sum(seconds.values()) or 1.0
    return {stage: value / total for stage, value in seconds.items()}


@contextmanager
def show_progress(
    progress: bool | Progress, name: str, total: int | None, stages: Stages
) -> Iterator[Callable[[int], None]]:
    """Show the progress of a conversion, by a bar on stderr or a callback.

    `name` and the stages' shares are shown beside the bar; `total` is the number of
    frames, if known. What is yielded is to be called with the number of frames done.
    """
    with Bar(
        total=total, unit="frame", disable=progress is not True, desc=name,
        dynamic_ncols=True,
    ) as bar:  # fmt: skip

        def step(frames: int) -> None:
            bar.update()
            if callable(progress):
                progress(frames, total)
            if frames % 10 == 0 and not bar.disable:
                shares = stages.shares().items()
                text = ", ".join(f"{stage} {share:.0%}" for stage, share in shares)
                bar.set_postfix_str(text, refresh=False)

        yield step
