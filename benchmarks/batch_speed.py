"""Measure the frames per second of several ways to convert many short clips.

    python benchmarks/batch_speed.py [--clip demo/clip.mp4] [--clips 20] [--frames 50]

All write the alpha matte, with the engine torch where there is a choice. The time
includes starting processes and Ray, and loading the model. Streams run the network on
frames of several clips at once; see docs/cluster.md.
"""

import argparse
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

from rematte import load_model
from rematte.matting.background import Renderer
from rematte.options import Options
from rematte.streams import Streams
from rematte.video.encoding import choose
from rematte.video.frame import Frame
from rematte.video.reader import VideoReader
from rematte.video.writer import FileWriter
from rematte.workers import jobs as batch
from rematte.workers import ray_cluster as cluster
from rematte.workers.planning import Job, find_inputs, plan


def in_streams(jobs: list[Job], together: int, limit: int) -> None:
    """Convert clips, several at once in one batch of the network."""
    streams = Streams(load_model())
    waiting, active = deque(jobs), dict[Hashable, tuple[Iterator[Frame], FileWriter]]()
    draw = Renderer("alpha")
    with ExitStack() as stack:
        while waiting or active:
            while waiting and len(active) < together:
                job = waiting.popleft()
                target = job.outputs["alpha"]
                reader = stack.enter_context(VideoReader(job.input))
                target.parent.mkdir(exist_ok=True)
                encoding = choose(target, reader.info, alpha=False, gray=True)
                writer = FileWriter(target, reader.info, encoding, job.input)
                active[str(job.input)] = islice(reader, limit), writer
            frames: dict[Hashable, Frame] = {}
            for name, (source, writer) in list(active.items()):
                frame = next(source, None)
                if frame is not None:
                    frames[name] = frame
                    continue
                writer.finish()
                del active[name]
                streams.leave(name)
            for stream, matted in streams(frames).items():
                frame = replace(matted.frame, pixels=draw(matted))
                active[stream][1].write(frame)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", type=Path, default=Path("demo/clip.mp4"))
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--frames", type=int, default=50, help="of each clip")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--together", type=int, default=4, help="streams at once")
    options = parser.parse_args()
    settings = Options(limit=options.frames, engine="torch")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index in range(options.clips):
            shutil.copy(options.clip, folder / f"{index:02}{options.clip.suffix}")
        inputs = find_inputs([folder])

        def run(way: str, convert: Callable[[list[Job]], object]) -> None:
            jobs = plan(inputs, {"alpha": f"{folder}/{way}/{{stem}}.mkv"}, "")
            begin = time.perf_counter()
            convert(jobs)
            seconds = time.perf_counter() - begin
            made = len(list((folder / way).glob("*.mkv")))
            if made != len(jobs):
                raise SystemExit(f"{way}: {made} of {len(jobs)} clips")
            rate = made * options.frames / seconds
            print(f"{way:<12} {seconds:7.1f} s {rate:7.1f} frames/s", flush=True)

        def alone(jobs: list[Job], workers: int) -> None:
            list(batch.run(jobs, load_model, settings, workers=workers))

        def on_ray(jobs: list[Job]) -> None:
            load = partial(load_model, None, None)
            on_cpu = replace(settings, device="cpu")
            list(cluster.run(jobs, load, on_cpu, workers=options.workers, cpus=1))

        run("one-by-one", partial(alone, workers=1))
        run("jobs", partial(alone, workers=options.workers))
        run("streams", lambda jobs: in_streams(jobs, options.together, options.frames))
        run("ray", on_ray)


if __name__ == "__main__":
    main()
