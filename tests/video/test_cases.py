"""Files as cameras, phones, recorders and editors write them, with their right values.

`shared/cases/make_inputs.sh` makes the inputs with the ffmpeg program; what is right
for each stands in the README beside it. Every case is converted in one run and in
segments, and with several workers where it could differ; some are converted in a batch
and as the page does it, and all of them where `REMATTE_ALL_CASES` is set.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import made_once
from fakes import Fake, convert, convert_in_parts, names, read
from numpy.typing import NDArray
from test_timecode import read as timecodes

from rematte.options import Options
from rematte.serve import work
from rematte.serve.processes import Networks
from rematte.serve.settings import check_settings
from rematte.video.reader import VideoReader
from rematte.workers.jobs import run as run_batch
from rematte.workers.planning import Job

CASES = Path(__file__).parents[3] / "shared" / "cases"


@dataclass
class Made:
    """What a conversion made, as a player shows it."""

    path: Path
    notes: list[str]
    times: list[Fraction] = field(default_factory=list)  # when frames are shown [s]
    end: Fraction = Fraction(0)  # of the last frame [s]
    bursts: list[float] = field(default_factory=list)  # where sound begins again [s]

    def noted(self, *words: str) -> bool:
        """Whether one note has all of these words."""
        return any(all(word in note for word in words) for note in self.notes)


# As `before_zero.mkv` there, with all pictures that are before 0.
BEFORE_ZERO = (
    "-itsoffset -0.48 -f lavfi -i testsrc2=s=320x240:r=25:d=1.6 "
    "-itsoffset -0.48 -f lavfi -i "
    "aevalsrc=0.6*sin(2000*PI*t)*between(mod(t\\,0.4)\\,0\\,0.02)*gte(t\\,0.1)"
    ":s=48000:d=1.6 -map 0:v -map 1:a -vsync passthrough -c:v mpeg4 -q:v 3 "
    "-c:a pcm_s16le -avoid_negative_ts disabled"
)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    script = CASES / "make_inputs.sh"
    if not script.exists():
        pytest.skip("shared/cases is not here")
    if shutil.which("ffmpeg") is None:
        pytest.skip("the ffmpeg program, which makes the inputs, is not installed")

    def make(folder: Path) -> None:
        subprocess.run(["bash", script, folder], check=True, capture_output=True)
        words = [*BEFORE_ZERO.split(), str(folder / "all_before_zero.mkv")]
        subprocess.run(["ffmpeg", "-v", "error", *words], check=True)

    return made_once(tmp_path_factory, "cases", make)


def examine(path: Path, notes: list[str]) -> Made:
    """Read an output as a player shows it, with nothing of this package."""
    made = Made(path, notes)
    with av.open(f"file:{path}") as container:
        stream = container.streams.video[0]
        base = stream.time_base
        shown = sorted(
            (p.pts, p.duration or 0) for p in container.demux(stream) if p.size
        )
        made.times = [pts * base for pts, _ in shown]
        made.end = (shown[-1][0] + shown[-1][1]) * base
        if container.streams.audio:
            made.bursts = onsets(path)
    return made


def onsets(path: Path) -> list[float]:
    """When bursts of sound begin [s], as players hear them."""
    pieces: list[tuple[float, NDArray[Any]]] = []
    with av.open(f"file:{path}") as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler("flt", "mono", 48000)
        for frame in container.decode(stream):
            time = float(frame.pts * frame.time_base)
            for piece in resampler.resample(frame):
                pieces.append((time, np.abs(piece.to_ndarray()[0])))
    found: list[float] = []
    for time, samples in pieces:
        for at in np.flatnonzero(samples > 0.2):
            now = time + at / 48000
            if not found or now > found[-1] + 0.2:
                found.append(now)
            elif now > found[-1] + 0.05:
                break
    return found


# Ways to convert: each takes the input and the output, and what it gives has notes.


def in_batch(source: Path, output: Path, **settings: Any) -> Job:
    job = Job(source, {"output": output})
    (done,) = run_batch([job], Fake, Options(**settings, downsample_ratio=1))
    assert done.status == "done", done.error
    return done


def on_the_page(source: Path, output: Path, **settings: Any) -> Job:
    if settings or output.suffix != ".mov":
        pytest.skip("the page has no such settings")
    folder = output.parent / "page"
    folder.mkdir()
    work.examine(None, source)
    settings = check_settings({"outputs": ["mov"]})
    done = work.convert(
        Networks(Fake), source, folder, settings, "green", lambda *_: None
    )
    assert done.status == "done", done.error
    (folder / work.FILES["mov"]).rename(output)
    return done


WAYS: dict[str, Callable[..., Any]] = {
    "once": convert,
    "in_batch": in_batch,
    "in_segments": partial(convert_in_parts, segment=16),
    "by_workers": partial(convert_in_parts, segment=16, workers=2, resume=False),
    "on_the_page": on_the_page,
}


# What is right, by file


def is_even(made: Made, count: int, rate: Fraction | int = 25) -> None:
    assert len(made.times) == count
    assert made.times[0] == 0
    assert made.times == pytest.approx(
        [n / Fraction(rate) for n in range(count)], abs=2e-3
    )
    assert float(made.end) == pytest.approx(float(count / Fraction(rate)), abs=5e-3)


def in_sync(made: Made, *bursts: float) -> None:
    assert made.bursts == pytest.approx(bursts, abs=0.012)


def plain(made: Made) -> None:
    is_even(made, 40)
    in_sync(made, 0.4, 0.8, 1.2)


def cut(made: Made) -> None:
    is_even(made, 20)
    in_sync(made, 0, 0.4)


def joined(made: Made) -> None:
    is_even(made, 80)
    in_sync(made, 0.4, 0.8, 1.2, 2.0, 2.4, 2.8)
    assert made.noted("1.6")


def later_picture(made: Made) -> None:
    """Debian's ffmpeg leaves pictures before 0 out as it writes: 28 are in the file."""
    assert len(made.times) == 28
    assert made.times == pytest.approx([0.5 + n / 25 for n in range(28)], abs=2e-3)
    in_sync(made, 0.4, 0.8, 1.2)


def lossy(made: Made) -> None:
    assert 20 <= len(made.times) <= 40
    assert made.times[0] == 0
    assert made.bursts
    assert made.noted("sound", "damaged") or made.noted("sound", "left out")


def coded(wanted: str) -> Callable[[Made], None]:
    def check(made: Made) -> None:
        assert timecodes(made.path) == {wanted}

    return check


def one_sound(made: Made) -> None:
    plain(made)
    with av.open(str(made.path)) as container:
        assert len(container.streams.audio) == 1
    assert made.noted("2", "left out")


def no_data(made: Made) -> None:
    plain(made)
    assert made.noted("data", "left out")


def deinterlaced(made: Made) -> None:
    is_even(made, 25)
    assert made.noted("interlace")
    comb = [weave(frame.pixels) for frame in read(made.path)]
    assert max(comb[2:-2]) < 0.35, comb


def weave(pixels: NDArray[Any]) -> float:
    """How much rows differ from both neighbours, as combed ones do."""
    gray = pixels.astype(np.float32) @ np.full(3, 1 / 3, np.float32)
    up, here, down = gray[:-2], gray[1:-1], gray[2:]
    combed = (np.abs(here - up) > 20 * 257) & (np.abs(here - down) > 20 * 257)
    return float((combed & (np.sign(here - up) == np.sign(here - down))).mean())


def anamorphic(shape: Fraction, size: tuple[int, int]) -> Callable[[Made], None]:
    def check(made: Made) -> None:
        with VideoReader(made.path) as reader:
            info = reader.info
            assert (info.width, info.height) == size
            assert info.sample_aspect_ratio == shape

    return check


def camcorder(made: Made) -> None:
    is_even(made, 25)
    anamorphic(Fraction(64, 45), (720, 576))(made)
    assert made.noted("interlace")
    with av.open(str(made.path)) as container:
        assert len(container.streams.audio) == 1


def numbered(made: Made) -> None:
    is_even(made, 12)
    pictures = [frame.pixels.astype(float) for frame in read(made.path)]
    change = [np.abs(b - a).mean() for a, b in pairwise(pictures)]
    assert max(change[3:5]) < 0.1 * min(change[2], change[5])  # 1004 is held
    assert made.noted("1005", "1006")


def garbage_matte(made: Made) -> None:
    is_even(made, 10)
    for frame in read(made.path, alpha=True):
        alpha = frame.pixels[..., 3] / np.iinfo(frame.pixels.dtype).max
        assert alpha[:, 162:].max() <= 1 / 255
        assert alpha[:, :158].max() > 0.5
    assert made.noted("alpha")


@dataclass(frozen=True)
class Case:
    """An input, how it is converted, and what must be true."""

    file: str
    check: Callable[[Made], None]
    settings: dict[str, Any] = field(default_factory=dict)
    suffix: str = ".mov"

    def __str__(self) -> str:
        more = "".join(f" {k}={v}" for k, v in self.settings.items())
        return f"{self.file}{more} {self.suffix}"


TRIM: dict[str, Any] = {"start": 0.4, "end": 1.2}
START: dict[str, Any] = {"start": 0.4}
PAL = {"frame_rate": 25}
CASE_LIST = [
    *(Case("plain.ts", plain, suffix=s) for s in (".mov", ".mp4", ".mkv")),
    Case("plain.ts", cut, TRIM),
    Case("late.ts", plain),
    Case("late.ts", cut, TRIM),
    *(Case("gap.ts", joined, suffix=s) for s in (".mov", ".mkv")),
    Case("restarted.ts", joined),
    Case("before_zero.mkv", later_picture),
    *(Case("all_before_zero.mkv", plain, suffix=s) for s in (".mov", ".mp4", ".mkv")),
    Case("packets_lost.ts", lossy),
    Case("packets_lost.ts", lossy, {"ignore_errors": True}),
    *(
        Case("timecode.mp4", coded("01:00:00:00"), suffix=s)
        for s in (".mov", ".mp4", ".mkv")
    ),
    Case("timecode.mp4", coded("01:00:00:10"), START),
    Case("timecode_drop.mov", coded("00:59:59;20")),
    # The frame that is shown at 0.4 s is number 11: it begins at 0.367 s.
    Case("timecode_drop.mov", coded("01:00:00;01"), START),
    Case("timecode.mxf", coded("10:00:00:00")),
    Case("timecode.mxf", coded("10:00:00:10"), START),
    Case("unknown_sound.mov", one_sound),
    Case("unknown_data.mov", no_data),
    Case("interlaced.mp4", deinterlaced, suffix=".mp4"),  # quicker than ProRes
    Case("camcorder.dv", camcorder),
    Case("raw_23976.h264", lambda made: is_even(made, 40, Fraction(24000, 1001))),
    *(
        Case("anamorphic.mp4", anamorphic(Fraction(4, 3), (240, 240)), suffix=s)
        for s in (".mov", ".mp4", ".mkv", ".webm")
    ),
    Case("numbered", numbered, PAL),
    Case("numbered/plate.%04d.png", numbered, PAL),
    Case("numbered/plate.####.png", numbered, PAL),
    Case("has_alpha.mov", garbage_matte),
    Case("take:2.mp4", plain),
    Case("2026-01-02T12:30:00.mp4", plain),
]  # fmt: skip
# Workers read and write as segments do, and a batch as one run does: these are enough
# unless all are asked for.
FEW = {"gap.ts", "timecode_drop.mov", "numbered", "unknown_sound.mov"}
# The page converts as a batch, and lays the result beside the source.
FEW_ON_THE_PAGE = {
    *("gap.ts", "before_zero.mkv", "packets_lost.ts", "camcorder.dv", "has_alpha.mov"),
    "take:2.mp4",
}
# What these check lies in the pixels; the others look at times, sound and notes alone.
IN_FULL = {"interlaced.mp4", "camcorder.dv", "anamorphic.mp4", "has_alpha.mov"}
SMALL: dict[str, Any] = {"input_resize": (80, 60)}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASE_LIST, ids=str)
def test_case(case: Case, way: str, inputs: Path, tmp_path: Path) -> None:
    few = FEW_ON_THE_PAGE if way == "on_the_page" else FEW
    chosen = case.file in few and case.suffix == ".mov"
    if way == "by_workers":
        chosen = chosen and case.settings in ({}, PAL)
    every = chosen or way in ("once", "in_segments")
    if not every and not os.environ.get("REMATTE_ALL_CASES"):
        pytest.skip("set REMATTE_ALL_CASES for every case in every way")
    if way == "on_the_page" and "numbered" in case.file:
        pytest.skip("the page takes files alone")
    output = tmp_path / f"take:out{case.suffix}"
    small = {} if case.file in IN_FULL or way == "on_the_page" else SMALL
    done = WAYS[way](inputs / case.file, output, **case.settings, **small)
    case.check(examine(output, done.notes))
    assert names(tmp_path) - {output.name, "page"} == set()
