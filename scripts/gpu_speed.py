"""Measure a CUDA GPU: what a step takes, and what bounds a conversion.

    python scripts/gpu_speed.py [--device cuda] [--frames 200] [--clip CLIP] > gpu.jsonl

Every way runs in the same process, on the same random frames: frozen TorchScript as the
reference runs it, eager, channels last, a CUDA graph of one recurrent step, and
torch.compile. JSON lines: frames per second, median and 95th percentile [ms]
of one frame at a time, and peak memory [MB]. With --clip, conversions of it too. On the
CPU it only shows that it works.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rematte import convert_video
from rematte.network import MattingNetwork
from rematte.weights import load_network

SIZES = ((1920, 1080, 0.25), (3840, 2160, 0.125), (512, 288, 1.0))
Run = Callable[[Tensor], object]


def looped(model: Callable[..., tuple[Tensor, ...]], ratio: float) -> Run:
    """One step after the other, the state kept."""
    state: list[Tensor | None] = [None] * 4

    def run(src: Tensor) -> object:
        fgr, pha, *state[:] = model(src, *state, ratio)
        return fgr, pha

    return run


def graphed(model: nn.Module, src: Tensor, ratio: float) -> Run:
    """One step as a CUDA graph, which reads and writes the same memory every time."""
    held = src.clone()
    with torch.inference_mode():
        state = [r.clone() for r in model(held, None, None, None, None, ratio)[2:]]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # capture wants a few steps before it
            for _ in range(3):
                model(held, *state, ratio)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            fgr, pha, *after = model(held, *state, ratio)
            for old, new in zip(state, after, strict=True):
                old.copy_(new)

    def run(frame: Tensor) -> object:
        held.copy_(frame)
        graph.replay()
        return fgr, pha

    return run


def ways(network: MattingNetwork, src: Tensor, ratio: float) -> dict[str, Run]:
    """All that is measured, by name."""
    frozen = torch.jit.freeze(torch.jit.script(network))
    last = load_network(device=src.device, dtype=src.dtype)
    last = last.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = {
        "frozen": looped(frozen, ratio),
        "eager": looped(network, ratio),
        "channels last": looped(last, ratio),
    }
    if src.is_cuda:
        found["graph"] = graphed(network, src, ratio)
        nhwc = src.contiguous(memory_format=torch.channels_last)
        found["graph, channels last"] = graphed(last, nhwc, ratio)
        compiled = torch.compile(network, mode="max-autotune-no-cudagraphs")
        found["compiled"] = looped(compiled, ratio)
    return found


def measure(run: Run, frames: list[Tensor], count: int) -> dict[str, float]:
    """Throughput without waiting, then the time of single steps."""
    cuda = frames[0].is_cuda
    wait: Callable[[], object] = torch.cuda.synchronize if cuda else lambda: None
    with torch.inference_mode():
        for index in range(10):
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


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure a CUDA GPU.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="float16", choices=("float16", "float32"))
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--clip", type=Path, help="convert this too")
    options = parser.parse_args()
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(json.dumps({"device": name, "torch": torch.__version__}))
    network = load_network(device=device, dtype=dtype)
    for width, height, ratio in SIZES:
        shape = 1, 3, height, width
        frames = [torch.rand(shape, device=device, dtype=dtype) for _ in range(4)]
        for way, run in ways(network, frames[0], ratio).items():
            found = measure(run, frames, options.frames)
            row = {"size": f"{width}x{height}", "ratio": ratio, "way": way, **found}
            print(json.dumps(row), flush=True)
    if options.clip:
        for engine, chunk in (("plain", 1), ("plain", 4), ("plain", 8), ("torch", 1)):
            with tempfile.TemporaryDirectory() as folder:
                report = convert_video(
                    network,
                    options.clip,
                    output_composition=Path(folder) / "out.mp4",
                    output_video_mbps=4,
                    seq_chunk=chunk,
                    engine=engine,
                    progress=False,
                )
            fps = report.frames / report.seconds
            row = {"clip": options.clip.name, "engine": engine, "chunk": chunk}
            print(json.dumps(row | {"fps": fps, "shares": report.shares}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
