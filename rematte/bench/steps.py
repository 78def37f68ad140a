"""Compares speed and memory of this build with a plain one, in the same run.

`plain` is a simple implementation of the reference: the whole network as frozen
TorchScript in float32; decoding, network, compositing and x264 one after the other.
"""

import itertools
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from av.video.frame import VideoFrame
from torch import Tensor

from rematte.convert import convert_video
from rematte.engines.choose import CPU_ENGINES, choose_engine
from rematte.engines.device import choose_device
from rematte.engines.runtimes import package_versions, processor
from rematte.matting.loop import run as run_engine
from rematte.matting.matte import Plate
from rematte.network.matting_network import MattingNetwork
from rematte.video.frame import Frame, Pixels
from rematte.video.opening import open_input, open_output
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader
from rematte.weights.load import load_network

GREEN = (120, 255, 155)
MBPS = 4.0  # bit rate of the files [Mbit/s]
_WARM = 4  # frames before the clock starts
_FRAMES = 90  # in a file
# Steps of a turn that count, and first steps that do not: they still suffer from the
# other process's idle threads, and find none of their data in the caches.
_COUNTED, _DROPPED = 6, 3
_TURNS = 2.0  # time that `quick` spends on turns [s]


@dataclass(frozen=True)
class Case:
    """One measurement to make."""

    # "network" (float frame in memory to mattes), "memory" (8-bit frames to 8-bit
    # composites) or "file" (video file to H.264 file).
    kind: str
    width: int
    height: int
    ratio: float  # the downsample ratio
    engine: str  # one of `choose.ENGINES`
    chunk: int = 1  # frames at once, for plain


@dataclass
class Result:
    """The result of one measurement."""

    case: Case
    engine: str  # the one that ran, also where the case says "auto"
    fps: float  # frames per second: over the whole file, else 1 over the median
    median: float  # median of the time per frame [s]; the mean for a file
    p95: float  # 95th percentile of the time per frame [s]; 0 for a file
    memory: float  # peak memory of the process [MB]
    # Shares of the stages in the work, for a file.
    shares: dict[str, float] = field(default_factory=dict)
    ratio_to_plain: float = 0.0  # `fps` divided by that of plain in the same run


FULL = tuple(
    Case(kind, width, height, ratio, engine, chunk)
    for kind, sizes in {
        "network": ((512, 288, 1.0),),
        "memory": ((1280, 720, 0.375), (1920, 1080, 0.25), (3840, 2160, 0.125)),
        "file": ((1280, 720, 0.375), (1920, 1080, 0.25), (3840, 2160, 0.125)),
    }.items()
    for width, height, ratio in sizes
    for engine, chunk in (
        ("plain", 1), *([("plain", 4)] if kind == "memory" else []),
        *((name, 1) for name in CPU_ENGINES if name != "plain"),
    )
)  # fmt: skip


def drawn(width: int, height: int, count: int) -> Iterator[Pixels]:
    """Draw a moving clip: a soft figure in front of a busy wall."""
    rng = np.random.default_rng(0)
    wall = rng.integers(40, 200, (height // 16 + 2, width // 16 + 2, 3), np.uint8)
    wall = wall.repeat(16, 0).repeat(16, 1)[:height, :width]
    y, x = np.ogrid[:height, :width]
    head = np.maximum(0.45 - y / height, 0) ** 2 / 0.02
    skin = np.array([190, 140, 110], np.float32)
    for index in range(count):
        middle = 0.5 * width / height + 0.15 * np.sin(index / 8)
        body = ((x / height - middle) ** 2 / 0.06 + head).astype(np.float32)
        alpha = np.clip((1 - body) * 8, 0, 1)
        inside = alpha > 0
        pixels, share = wall.copy(), alpha[inside, None]
        pixels[inside] = share * skin + (1 - share) * wall[inside]
        yield pixels


def write_clip(path: Path, width: int, height: int, count: int, source: str) -> None:
    """Write a video to measure with: drawn, or a real one at the wanted size."""
    with open_output(path) as container:
        stream: Any = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "16"}
        for pixels in _pixels(width, height, count, source):
            array: Any = np.ascontiguousarray(pixels)
            frame = VideoFrame.from_ndarray(array, "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _pixels(width: int, height: int, count: int, source: str) -> Iterator[Pixels]:
    if not source:
        yield from drawn(width, height, count)
        return
    given = 0
    while given < count:
        with VideoReader(source, ReadOptions(size=(width, height))) as reader:
            for frame in itertools.islice(reader, count - given):
                given += 1
                yield frame.pixels


class Plain:
    """Runs the whole network as frozen TorchScript, and nothing at the same time.

    Args:
        network: The network to freeze.
    """

    def __init__(self, network: MattingNetwork) -> None:
        self._model = torch.jit.freeze(torch.jit.script(network))
        self._states: list[Tensor | None] = [None] * 4

    def matte(self, src: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
        """Matte (1, T, 3, H, W)."""
        fgr, pha, *self._states = self._model(src, *self._states, ratio)
        return fgr, pha

    def composite(self, chunk: Sequence[Pixels], ratio: float) -> list[Pixels]:
        """Composite 8-bit frames over green."""
        src = torch.from_numpy(np.stack(chunk)).movedim(-1, 1).float().div(255)
        fgr, pha = self.matte(src[None], ratio)
        green = torch.tensor(GREEN).view(3, 1, 1) / 255
        out = fgr * pha + green * (1 - pha)
        codes = out[0].mul(255).byte().movedim(1, -1).contiguous().numpy()
        return list(codes)

    def convert(self, source: Path, target: Path, ratio: float, limit: int) -> None:
        """Convert a file."""
        with open_input(source) as reader, open_output(target) as writer:
            video: Any = reader.streams.video[0]
            video.thread_type = "AUTO"
            stream: Any = writer.add_stream("libx264", rate=video.average_rate)
            stream.width, stream.height = video.width, video.height
            stream.pix_fmt, stream.bit_rate = "yuv420p", int(MBPS * 1e6)
            for frame in itertools.islice(reader.decode(video), limit):
                pixels: Any = frame.to_ndarray(format="rgb24")
                (pixels,) = self.composite([pixels], ratio)
                writer.mux(stream.encode(VideoFrame.from_ndarray(pixels, "rgb24")))
            writer.mux(stream.encode(None))


def _steps(case: Case, source: str, network: MattingNetwork) -> tuple[Any, str]:
    """Make a function that does one step, and give the name of its engine."""
    frames = list(_pixels(case.width, case.height, 8, source))
    cycle = itertools.cycle(frames)
    if case.engine == "plain":
        plain = Plain(network)
        if case.kind == "memory":
            chunks = (
                list(itertools.islice(cycle, case.chunk)) for _ in itertools.count()
            )
            return (lambda: plain.composite(next(chunks), case.ratio)), "plain"
        src = torch.from_numpy(frames[0]).movedim(-1, 0)[None, None].float().div(255)
        return (lambda: plain.matte(src, case.ratio)), "plain"
    engine = choose_engine(network, engine=case.engine)
    endless = (Frame(pixels, 0, 0) for pixels in cycle)  # type: ignore[arg-type]
    mattes = run_engine(engine, endless, downsample_ratio=case.ratio)
    if case.kind == "network":
        return (lambda: next(mattes)), engine.name
    green = Plate(np.array([[GREEN]], np.uint8))

    def step() -> Pixels:
        return next(mattes).pixels("composite", False, green)

    return step, engine.name


def _time(step: Any, count: int) -> list[float]:
    seconds = []
    with torch.inference_mode():
        for _ in range(count):
            begin = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - begin)
    return seconds


def _turn(step: Any, chunk: int) -> list[float]:
    """Do the steps of a turn, and give the times that count per frame [s]."""
    dropped, counted = -(-_DROPPED // chunk), -(-_COUNTED // chunk)
    return [each / chunk for each in _time(step, dropped + counted)[dropped:]]


def _measure_file(case: Case, clip: Path, weights: str | None, count: int) -> Result:
    network = load_network(weights)
    target = clip.with_name("out.mp4")
    if case.engine == "plain":
        plain = Plain(network)
        with torch.inference_mode():
            plain.convert(clip, target, case.ratio, _WARM)
            begin = time.perf_counter()
            plain.convert(clip, target, case.ratio, count)
        seconds, engine, shares = time.perf_counter() - begin, "plain", {}
    else:
        name: Any = case.engine
        run = partial(
            convert_video, network, clip, downsample_ratio=case.ratio,
            output_composition=target, output_video_mbps=MBPS, engine=name,
            progress=False,
        )  # fmt: skip
        run(limit=_WARM)
        report = run()
        # Building the engine is done once, whatever the length.
        seconds, engine = report.seconds - report.setup, report.engine
        shares = report.shares
    mean = seconds / count
    return Result(case, engine, 1 / mean, mean, 0.0, _peak(), shares)


def _peak() -> float:
    """Return the peak memory of this process [MB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _child() -> ProcessPoolExecutor:
    """Start a separate process, so that peak memory is measured for it alone."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def _call_alone(function: Callable[..., Any], *arguments: Any) -> Any:
    with _child() as child:
        return child.submit(function, *arguments).result()


_started: list[Any] = []  # a child process's step, which cannot be sent


def _start(case: Case, source: str, weights: str | None) -> str:
    step, engine = _steps(case, source, load_network(weights))
    _time(step, _WARM)
    _started[:] = [step]
    return engine


def _run_turn(chunk: int) -> list[float]:
    return _turn(_started[0], chunk)


def run(
    cases: Sequence[Case],
    source: str = "",
    weights: str | None = None,
    turns: int = 6,
    frames: int = _FRAMES,
) -> Iterator[Result]:
    """Measure cases, each in its own process, and skip engines that are not installed.

    All but files take turns with the first of their size, so that a noisy machine slows
    both alike: a ratio to plain is that of such a pair, and plain's own row says how
    fast it was before the first.

    Cases are grouped by kind and size, with plain first in each group. `source` is a
    video to measure with; "" draws one. Each case in memory gets so many turns, and a
    file has so many frames.
    """
    alike = attrgetter("kind", "width", "height", "ratio")
    for (kind, *_), group in itertools.groupby(cases, alike):
        if kind == "file":
            yield from _measure_files(list(group), source, weights, frames)
        else:
            yield from _take_turns(list(group), source, weights, turns)


def _measure_files(
    cases: list[Case], source: str, weights: str | None, frames: int
) -> Iterator[Result]:
    plain, first = 0.0, cases[0]
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "in.mp4"
        _call_alone(write_clip, clip, first.width, first.height, frames, source)
        for case in cases:
            result = _call_alone(_measure_file, case, clip, weights, frames)
            plain = plain or result.fps
            result.ratio_to_plain = result.fps / plain
            yield result


def _take_turns(
    cases: list[Case], source: str, weights: str | None, turns: int
) -> Iterator[Result]:
    first, *others = cases
    with _child() as plain:
        engine = plain.submit(_start, first, source, weights).result()
        seconds = []
        for _ in range(turns):
            seconds += plain.submit(_run_turn, first.chunk).result()
        peak = plain.submit(_peak).result()
        yield _result(first, engine, seconds, seconds, peak)
        for case in others:
            with _child() as other:
                engine = other.submit(_start, case, source, weights).result()
                plains, seconds = [], []
                for _ in range(turns):
                    plains += plain.submit(_run_turn, first.chunk).result()
                    seconds += other.submit(_run_turn, case.chunk).result()
                peak = other.submit(_peak).result()
                yield _result(case, engine, seconds, plains, peak)


def _result(
    case: Case, engine: str, seconds: list[float], plains: list[float], peak: float
) -> Result:
    middle, p95 = median(seconds), float(np.percentile(seconds, 95))
    ratio = median(plains) / middle
    return Result(case, engine, 1 / middle, middle, p95, peak, ratio_to_plain=ratio)


def quick(clip: Path, weights: str | None = None) -> dict[str, Any]:
    """Measure the three main ratios to plain, which takes turns with this build.

    `clip` has 60 frames of 1920x1080; outputs are written to its folder.
    """
    network = load_network(weights)
    best = "openvino"
    found: dict[str, Any] = {"engine": best, **machine()}
    for name, kind, width, height, ratio in (
        ("hd_memory", "memory", 1920, 1080, 0.25),
        ("network_288p", "network", 512, 288, 1.0),
    ):
        seconds: dict[Any, list[float]] = {}
        for engine in ("plain", best):
            step, _ = _steps(Case(kind, width, height, ratio, engine), "", network)
            _time(step, _WARM)
            seconds[step] = []
        started = time.perf_counter()
        while not all(seconds.values()) or time.perf_counter() - started < _TURNS:
            for step, taken in seconds.items():
                taken += _turn(step, 1)
        plain, ours = map(median, seconds.values())
        found |= {f"{name}_plain_fps": 1 / plain, f"{name}_fps": 1 / ours}
        found[f"{name}_ratio"] = plain / ours
    fps = [
        _measure_file(Case("file", 1920, 1080, 0.25, engine), clip, weights, count).fps
        for engine, count in (("plain", 12), (best, 60))
    ]
    found |= {"hd_file_plain_fps": fps[0], "hd_file_fps": fps[1]}
    found["hd_file_ratio"] = fps[1] / fps[0]
    return found


def machine() -> dict[str, Any]:
    """Describe this machine and the versions of the runtimes."""
    device, _ = choose_device()
    names = ("torch", "openvino", "numpy", "av")
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "device": str(device),
        "versions": package_versions(names),
    }


def as_table(results: Sequence[Result]) -> str:
    """Format results as a Markdown table."""
    lines = [
        "| what | size | ratio | engine | chunk | frames/s | x plain | median ms | "
        "p95 ms | peak MB | shares |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for result in results:
        case = result.case
        shares = ", ".join(f"{name} {part:.0%}" for name, part in result.shares.items())
        p95 = f"{result.p95 * 1e3:.0f}" if result.p95 else ""
        lines.append(
            f"| {case.kind} | {case.width}x{case.height} | {case.ratio:g} | "
            f"{result.engine} | {case.chunk} | {result.fps:.1f} | "
            f"{result.ratio_to_plain:.2f} | {result.median * 1e3:.0f} | {p95} | "
            f"{result.memory:.0f} | {shares} |"
        )
    return "\n".join(lines)


def as_json(result: Result) -> str:
    """Format a result as one line of JSON."""
    return json.dumps(asdict(result))


def write_plot(results: Sequence[Result], path: Path) -> None:
    """Draw frames per second as bars, one group for each size."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ValueError(
            "--plot needs matplotlib: pip install 'rematte[evaluate]'"
        ) from error
    labels = [
        f"{r.case.kind} {r.case.width}x{r.case.height}\n{r.engine}"
        + (f" x{r.case.chunk}" if r.case.chunk > 1 else "")
        for r in results
    ]
    figure = Figure((8, 0.4 * len(results) + 1), layout="constrained")
    axes = figure.subplots()
    colours = ["0.6" if r.case.engine == "plain" else "tab:green" for r in results]
    axes.barh(labels, [r.fps for r in results], color=colours)
    axes.invert_yaxis()
    axes.set_xlabel("frames per second (gray: plain)")
    figure.savefig(path, dpi=120)
