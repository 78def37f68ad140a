"""Kill a conversion at random moments, resume it, and compare the result with one run.

    python tools/kill_and_resume.py CLIP [--kills 20] [--frames 300] [--segment 30]

Each run with --resume is killed with SIGKILL after a random time and then resumed to
the end; the alpha, the frames' times and the sound must equal an uninterrupted run. The
kill may come while the model loads, in a segment, or while segments are joined.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av

from rematte.video.reader import VideoReader


def convert(clip: Path, folder: Path, options: argparse.Namespace) -> list[str]:
    return [
        sys.executable, "-m", "rematte", "convert", str(clip), "--resume", "-q",
        "--segment", str(options.segment), "--limit", str(options.frames),
        "--engine", options.engine, "--resize", options.resize,
        "-o", str(folder / "cut.mov"), "--alpha", str(folder / "alpha.mkv"),
    ]  # fmt: skip


def content(folder: Path) -> list[object]:
    """Decoded alpha with its times, the cut-out's times, and bytes of the sound."""
    found: list[object] = []
    for name in ("alpha.mkv", "cut.mov"):
        with VideoReader(folder / name) as reader:
            found.append(
                [(f.time, f.duration, hash(f.pixels.tobytes())) for f in reader]
            )
    with av.open(str(folder / "cut.mov")) as container:
        packets = container.demux(audio=0) if container.streams.audio else ()
        found.append([(packet.pts, bytes(packet)) for packet in packets])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill conversions and resume them.")
    parser.add_argument("clip", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--segment", type=int, default=30)
    parser.add_argument("--engine", default="torch")
    parser.add_argument("--resize", default="160x96")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        whole.mkdir()
        begin = time.perf_counter()
        subprocess.run(convert(options.clip, whole, options), check=True)
        seconds = time.perf_counter() - begin
        expected = content(whole)
        print(f"unbroken: {len(expected[0])} frames in {seconds:.1f} s")  # type: ignore[arg-type]
        for index in range(options.kills):
            folder = Path(name) / str(index)
            folder.mkdir()
            process = subprocess.Popen(convert(options.clip, folder, options))
            moment = chance.uniform(0, seconds)
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            left = sorted(path.name for path in folder.rglob("[0-9]" * 6))
            named = sorted(path.name for path in folder.glob("[!.]*"))
            subprocess.run([*convert(options.clip, folder, options), "-y"], check=True)
            same = content(folder) == expected
            clean = {path.name for path in folder.iterdir()} == {"cut.mov", "alpha.mkv"}
            print(
                f"{index + 1}: killed after {moment:.2f} s with {len(left)} segments "
                f"finished, {len(named)} files named; resumed: "
                f"{'identical' if same else 'DIFFERENT'}, "
                f"{'nothing' if clean else 'FILES'} left over",
                flush=True,
            )
            if not (same and clean):
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
