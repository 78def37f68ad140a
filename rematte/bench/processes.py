"""Measures whole processes: the command as it is started, and the published program."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rematte.bench import steps
from rematte.bench.steps import MBPS, write_clip
from rematte.errors import InputError

_HD, _SMALL = (1920, 1080), (640, 480)


@dataclass(frozen=True)
class Process:
    """The time and memory that a process took."""

    seconds: float  # wall time [s]
    cpu: float  # processor time [s]
    memory: float  # peak memory [MB]; 0 if the system does not report it


def run_process(words: Sequence[str | Path], folder: Path, **variables: str) -> Process:
    """Run a program in a folder to its end, and measure it.

    `variables` are added to the environment.

    Raises:
        InputError: If it fails; its last line is in the message.
    """
    begin, before = time.perf_counter(), _cpu()
    with tempfile.TemporaryFile() as messages:
        program = subprocess.Popen(
            [str(word) for word in words], cwd=folder, stdout=messages,
            stderr=messages, env=os.environ | variables,
        )  # fmt: skip
        memory = 0.0
        try:
            while program.poll() is None:
                memory = max(memory, _peak_of(program.pid))
                time.sleep(0.02)
        finally:  # of an interrupt, which only a terminal sends to the program too
            program.kill()
            program.wait()
        seconds = time.perf_counter() - begin
        if program.returncode:
            messages.seek(0)
            lines = messages.read().decode(errors="replace").split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "no words")
            raise InputError(f"{words[1]} failed with {program.returncode}: {last}")
    return Process(seconds, _cpu() - before, memory)


def _cpu() -> float:
    """Return the processor time of all child processes that have ended [s]."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _peak_of(process: int) -> float:
    """Return a process's peak memory so far [MB]; 0 if the system does not report it.

    `wait4` would include this process, of which the other one started as a copy.
    """
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def convert_words(clip: Path, target: Path, *more: str | Path) -> list[str | Path]:
    """Return the words of a conversion to a green composition at HD's usual ratio."""
    return [
        *(sys.executable, "-m", "rematte", "convert", clip, "--composition", target),
        *("--mbps", str(MBPS), "--quiet", "--overwrite", *more),
    ]


def quick(weights: str | None = None) -> dict[str, Any]:
    """Measure what matters most, in about a minute on two cores.

    Returns:
        The results of `steps.quick`, and "first_run_s": time for 5 frames of 640x480
        with empty caches [s]; "short_clip_ratio": speed of 60 frames of HD relative to
        `--engine plain`; "peak_mb": peak memory meanwhile [MB].
    """
    chosen = [] if weights is None else ["--weights", weights]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small, large, target = (folder / n for n in ("small.mp4", "hd.mp4", "out.mp4"))
        write_clip(small, *_SMALL, 5, "")
        write_clip(large, *_HD, 60, "")
        words = convert_words(small, target, *chosen)
        first = run_process(words, folder, XDG_CACHE_HOME=str(folder / "cache"))
        usual = convert_words(large, target, "--downsample-ratio", "0.25", *chosen)
        ours, plain = (
            run_process([*usual, "--engine", engine], folder)
            for engine in ("auto", "plain")
        )
        return steps.quick(large, weights) | {
            "first_run_s": first.seconds,
            "short_clip_ratio": plain.seconds / ours.seconds,
            "peak_mb": ours.memory,
        }


def against(
    program: Path, checkpoint: Path, *, frames: int = 100, turns: int = 3
) -> dict[str, Any]:
    """Compare the published program with this one, as whole processes in turns.

    `program` is its folder, with an inference.py that takes the documented flags and
    loads the checkpoint. The drawn clip has so many frames of 1920x1080, and the
    medians of so many turns are compared.

    Raises:
        InputError: If the program or the checkpoint does not exist, or fails.
    """
    script = program.resolve() / "inference.py"
    for path in (script, checkpoint):
        if not path.is_file():
            raise InputError(f"{path} is not there: give the folder of the program")
    taken: dict[str, list[Process]] = {"reference": [], "rematte": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip, target = folder / "in.mp4", folder / "out.mp4"
        write_clip(clip, *_HD, frames, "")
        words: dict[str, list[str | Path]] = {
            "reference": [
                *(sys.executable, script, "--variant", "mobilenetv3"),
                *("--checkpoint", checkpoint.resolve(), "--device", "cpu"),
                *("--input-source", clip, "--output-type", "video"),
                *("--output-composition", target, "--output-video-mbps", str(MBPS)),
                *("--downsample-ratio", "0.25", "--seq-chunk", "1"),
            ],
            "rematte": convert_words(clip, target),
        }
        for _ in range(turns):
            for who, program_words in words.items():
                taken[who].append(run_process(program_words, folder))
    found: dict[str, Any] = {"frames": frames, "turns": turns}
    for who, each in taken.items():
        found |= {
            f"{who}_s": median(one.seconds for one in each),
            f"{who}_cpu_s": median(one.cpu for one in each),
            f"{who}_peak_mb": max(one.memory for one in each),
        }
    found["ratio"] = found["reference_s"] / found["rematte_s"]
    return found
