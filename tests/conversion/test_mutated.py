"""Files with random damage: one line of error, or an output; never a crash or a hang.

A child process converts them, so that a crash or a hang fails one test and not the run.
`REMATTE_MUTATIONS=1000` tries that many instead of a few.
"""

import io
import os
import random
import resource
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from clips import encode_image, frame_label, make_clip
from fakes import Fake

from rematte.cli import app as cli
from rematte.engines import choose
from rematte.workers.pool import ProcessKilledError, WorkerProcess

COUNT = int(os.environ.get("REMATTE_MUTATIONS", "60"))
TIMEOUT = 60.0  # with one file, on a busy machine [s]
MEMORY = 3 << 30  # that one file may take beyond what the child has [bytes]
RATE = Fraction(25)


def starts(folder: Path) -> list[Path]:
    """Draw one valid file of each kind."""
    sound: dict[str, Any] = {"sound": True, "sound_seconds": 0.4}
    png, exr = folder / "a.png", folder / "a.exr"
    png.write_bytes(encode_image("png", frame_label(0)))
    exr.write_bytes(encode_image("exr", frame_label(0), to="gbrpf32le"))
    return [
        make_clip(folder / "a.mp4", 8, **sound),
        make_clip(folder / "b.mov", 8, codec="prores_ks", pix_fmt="yuva444p10le",
                  options={}, **sound),
        make_clip(folder / "c.mkv", 8, **sound, subtitles=[(0.1, 0.2, "a")],
                  chapters=[(0, 0.1, "one")]),
        make_clip(folder / "d.webm", 8, codec="libvpx-vp9", options={},
                  sound_codec="libopus", time_base=Fraction(1, 1000), **sound),
        make_clip(folder / "e.ts", 8, time_base=Fraction(1, 90000), **sound),
        make_clip(folder / "f.avi", 8, codec="mpeg4", time_base=1 / RATE, options={},
                  sound_codec="pcm_s16le", **sound),
        make_clip(folder / "g.mxf", 8, codec="mpeg2video", pix_fmt="yuv422p",
                  time_base=1 / RATE, options={"b": "1000000"}),
        png,
        exr,
        make_clip(folder / "h.gif", 8, codec="gif", pix_fmt="rgb8", options={},
                  time_base=Fraction(1, 100)),
    ]  # fmt: skip


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Damage a file in one of the ways that disks, networks and attackers do."""
    out = bytearray(data)
    at = chance.randrange(len(out))
    length = chance.choice([1, 4, 64, 1024])
    way = chance.randrange(6)
    if way == 0:  # cut off
        del out[max(at, 1) :]
    elif way == 1:  # a hole
        del out[at : at + length]
    elif way == 2:  # zeros
        out[at : at + length] = bytes(len(out[at : at + length]))
    elif way == 3:  # a piece twice
        out[at:at] = out[at : at + length]
    else:  # random bytes or large numbers, mostly in the header
        for _ in range(chance.choice([1, 3, 20])):
            at = min(chance.randrange(len(out)), chance.randrange(len(out)))
            if way == 4:
                out[at] = chance.randrange(256)
            else:
                out[at : at + 4] = chance.choice([b"\xff" * 4, b"\x7f\xff\xff\xff"])
    return bytes(out)


def _prepare() -> None:
    """Limit the memory of this process, and let it convert without a network."""
    used = int(Path("/proc/self/statm").read_text().split()[0])
    limit = used * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    choose.load_for = lambda *_: Fake()


def _convert(_: None, words: list[str]) -> tuple[int, str]:
    """Give the exit code and what was said, in a process of its own."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        return cli.main(words), err.getvalue()


class Child:
    """A process that converts files, started again when it was lost."""

    def __init__(self) -> None:
        self.process = WorkerProcess(_prepare, 1)

    def convert(self, *words: str | Path) -> tuple[int, str]:
        """Give exit code and stderr; a code of -1 says what happened to the child."""
        try:
            given = [str(word) for word in ("convert", *words)]
            return self.process.call(_convert, given, timeout=TIMEOUT)
        except (ProcessKilledError, TimeoutError) as error:
            self.process.close()
            self.process = WorkerProcess(_prepare, 1)
            return -1, f"crashes or hangs: {error}"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return starts(tmp_path_factory.mktemp("starts"))


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    child = Child()
    yield child
    child.process.close()


# All but weights missing and an interrupt.
CODES = {0, 1, 2, 3, 5}


def test_damaged_files_give_a_line_or_an_output(
    files: list[Path], child: Child, tmp_path: Path
) -> None:
    faults = []
    for number in range(COUNT):
        chance = random.Random(number)
        start = files[number % len(files)]
        still = start.suffix in (".png", ".exr")
        source = tmp_path / f"in{number}{start.suffix}"
        source.write_bytes(mutate(start.read_bytes(), chance))
        target = tmp_path / f"out{number}{'.png' if still else '.mkv'}"
        more = ["--ignore-errors"] if not still and number % 3 == 0 else []
        words = [source, "-o", target, "--downsample-ratio", "1", *more]
        code, err = child.convert(*words)
        problem = err if code == -1 or "unexpected" in err or "Traceback" in err else ""
        problem = problem or (f"exit code {code}: {err}" if code not in CODES else "")
        if code and (target.exists() or [*tmp_path.glob(".*")]):
            problem += "; left something behind"
        if problem:
            faults.append(f"{number} {start.name}: {problem}")
        else:
            source.unlink()
        target.unlink(missing_ok=True)
    assert not faults, "\n".join(faults)


def test_the_starts_are_right(files: list[Path], child: Child, tmp_path: Path) -> None:
    for start in files:
        target = tmp_path / f"o{'.png' if start.suffix in ('.png', '.exr') else '.mkv'}"
        code, err = child.convert(start, "-o", target, "-y")
        assert code == 0, (start.name, err)
