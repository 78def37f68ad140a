"""Measure a CUDA GPU: the time of a step, and the bottleneck of a conversion.

    python benchmarks/gpu_speed.py [--compiled] [--clip CLIP ...] > gpu.jsonl

All variants run in the same process on the same random frames: frozen TorchScript as
the reference runs it, the same with cuDNN's kernel search, eager mode, and the recorded
CUDA graph of a conversion, with --compiled also after torch.compile. Prints JSON lines:
frames per second, median and 95th percentile [ms] of single frames, and peak memory
[MB]. With --clip, they give the frames per second of each stage of its conversion alone
and of the whole, over all its frames after a warm-up. On a CPU this is only a test.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rematte.conversion.outputs import plan_outputs
from rematte.convert import convert_video
from rematte.engines.cuda_graph import RecordedNetwork
from rematte.matting.background import Renderer, make_background
from rematte.matting.loop import matte
from rematte.network.matting_network import MattingNetwork
from rematte.options import Options
from rematte.video.reader import VideoReader
from rematte.video.writer import FileWriter
from rematte.weights.load import load_network

SIZES = ((1920, 1080, 0.25), (3840, 2160, 0.125))
Run = Callable[[Tensor], object]
_KEPT = 40  # frames of a clip in memory, for the stages


def looped(model: Callable[..., tuple[Tensor, ...]], ratio: float) -> Run:
    """One step after the other, the state kept."""
    state: list[Tensor | None] = [None] * 4

    def run(src: Tensor) -> object:
        fgr, pha, *state[:] = model(src, *state, ratio)
        return fgr, pha

    return run


def ways(
    network: MattingNetwork, cuda: bool, compiled: bool
) -> Iterator[tuple[str, Any]]:
    """All that is measured, by name."""

    def frozen() -> Any:
        return torch.jit.freeze(torch.jit.script(network))

    yield "frozen", frozen()
    torch.backends.cudnn.benchmark = True
    yield "frozen, cudnn.benchmark", frozen()
    torch.backends.cudnn.benchmark = False
    yield "eager", network
    if cuda:
        yield "recorded", RecordedNetwork(network)
    if cuda and compiled:
        yield "recorded, compiled", RecordedNetwork(network, compiled=True)


def measure(run: Run, frames: list[Tensor], count: int) -> dict[str, float]:
    """Throughput without waiting, then the time of single steps."""
    cuda = frames[0].is_cuda
    wait: Callable[[], object] = torch.cuda.synchronize if cuda else lambda: None
    with torch.inference_mode():
        for index in range(min(20, count)):
            run(frames[index % len(frames)])
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        wait()
        begin = time.perf_counter()
        for index in range(count):
            run(frames[index % len(frames)])
        wait()
        fps = count / (time.perf_counter() - begin)
        steps = []
        for index in range(count):
            begin = time.perf_counter()
            run(frames[index % len(frames)])
            wait()
            steps.append((time.perf_counter() - begin) * 1e3)
    peak = torch.cuda.max_memory_allocated() / 1e6 if cuda else 0.0
    p95 = float(np.percentile(steps, 95))
    return {"fps": fps, "median": float(np.median(steps)), "p95": p95, "memory": peak}


def rate(items: Iterable[object]) -> float:
    """Items per second; the first ones warm up."""
    iterator = iter(items)
    for _ in islice(iterator, 10):
        pass
    begin, count = time.perf_counter(), 0
    for _ in iterator:
        count += 1
    return count / (time.perf_counter() - begin)


def stages(model: Any, path: Path, device: torch.device) -> dict[str, float]:
    """Frames per second of each stage alone."""
    with VideoReader(path) as reader:
        found = {"decode": rate(reader)}
    with VideoReader(path) as reader:
        frames = list(islice(reader, _KEPT))
    green = Renderer("composition", background=make_background("green"))
    dtype = next(model.parameters()).dtype
    used = RecordedNetwork(model) if device.type == "cuda" else model

    def mattes() -> Iterator[Any]:
        # The clip over and over, so that a recording does not count.
        several = (frame for _ in range(4) for frame in frames)
        return matte(used, several, device=device, dtype=dtype)

    with tempfile.TemporaryDirectory() as folder:
        look = Options(output_video_mbps=4)
        paths = {"composition": Path(folder) / "out.mp4"}
        (item,) = plan_outputs(paths, reader.info, look)
        writer = FileWriter(item.path, reader.info, item.encoding)

        def written() -> Iterator[None]:
            for index in range(4 * len(frames)):
                frame = frames[index % len(frames)]
                writer.write(replace(frame, time=index * frame.duration))
                yield
            writer.complete(None)

        found["encode"] = rate(written())
        writer.discard()
    found["upload, network"] = rate(mattes())
    found["upload, network, composite, download"] = rate(map(green, mattes()))
    return found


def convert(model: Any, path: Path, engine: str, chunk: int) -> dict[str, Any]:
    """Frames per second of a conversion, and how the work was divided."""
    with tempfile.TemporaryDirectory() as folder:
        for limit in (24, None):  # the first warms up
            report = convert_video(
                model,
                path,
                output_composition=Path(folder) / "out.mp4",
                output_video_mbps=4,
                seq_chunk=chunk,
                engine=engine,  # type: ignore[arg-type]
                limit=limit,
                progress=False,
            )
    shares = {name: round(share, 2) for name, share in report.shares.items()}
    return {"fps": report.frames / report.seconds, "shares": shares}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure a CUDA GPU.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="float16", choices=("float16", "float32"))
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--compiled", action="store_true", help="takes minutes")
    parser.add_argument("--clip", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    cuda = device.type == "cuda"

    def tell(**row: Any) -> None:
        short = {
            key: float(f"{value:.4g}") if isinstance(value, float) else value
            for key, value in row.items()
        }
        print(json.dumps(short), flush=True)

    name = torch.cuda.get_device_name() if cuda else "CPU"
    tell(device=name, torch=torch.__version__, cuda=torch.version.cuda)
    network = load_network(device=device, dtype=dtype)
    for path in options.clip:
        tell(clip=path.name, **stages(network, path, device))
        for engine, chunk in (("torch", 1), ("plain", 1)):
            row = convert(network, path, engine, chunk)
            tell(clip=path.name, engine=engine, chunk=chunk, **row)
    for width, height, ratio in SIZES:
        shape = 1, 3, height, width
        frames = [torch.rand(shape, device=device, dtype=dtype) for _ in range(4)]
        for way, model in ways(network, cuda, options.compiled):
            found = measure(looped(model, ratio), frames, options.frames)
            tell(size=f"{width}x{height}", ratio=ratio, way=way, **found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
