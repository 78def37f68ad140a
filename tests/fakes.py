"""Networks too simple to be wrong, called like the real one, for fast tests."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterable
from dataclasses import fields
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from clips import packets, read_label
from golden.formula import formula_tensor
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from rematte import MattingNetwork
from rematte.convert import Report, convert_video
from rematte.options import OPTIONS, Options
from rematte.segments import convert_long
from rematte.video.frame import Frame
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader

ROOT = Path(__file__).parent.parent


class Fake(nn.Module):
    """Alpha is a running mean of the red channel, the foreground the frame inverted.

    Args:
        memory: Share of the state in alpha; 0 forgets everything.
        fail_at: Index of the frame at which to raise.
        error: What to raise there.

    Attributes:
        chunks: How many frames each call was given.
        ratios: The ratio of each call.
        fresh: How many calls had no state.
    """

    def __init__(
        self,
        memory: float = 0.5,
        fail_at: int | None = None,
        error: BaseException | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1), requires_grad=False)
        self.memory, self.fail_at = memory, fail_at
        self.error = error or RuntimeError("the fake network broke")
        self.seen = 0
        self.chunks: list[int] = []
        self.ratios: list[float] = []
        self.fresh = 0
        self.eval()

    def forward(self, src: Tensor, r1: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
        self.chunks.append(src.shape[1])
        self.ratios.append(rest[-1])
        self.fresh += r1 is None
        alphas = []
        for red in (src[:, :, :1] * self.weight).unbind(1):
            if self.seen == self.fail_at:
                raise self.error
            self.seen += 1
            r1 = red if r1 is None else self.memory * r1 + (1 - self.memory) * red
            alphas.append(r1)
        zero = torch.zeros(1)
        return 1 - src, torch.stack(alphas, 1), torch.stack(alphas)[-1], *[zero] * 3


class Slow(Fake):
    """Takes a while for each call, so that there is time to stop it."""

    def __init__(self, memory: float = 0.5, seconds: float = 0.1) -> None:
        super().__init__(memory)
        self.seconds = seconds

    def forward(self, *given: Any) -> tuple[Tensor, ...]:
        time.sleep(self.seconds)
        return super().forward(*given)


class Deadly(Fake):
    """Kills its process at the third frame of clips, so often for each width.

    A file, the tally, gets a line for each frame.
    """

    def __init__(self, tally: Path, times: dict[int, int]) -> None:
        super().__init__()
        self.tally, self.times = tally, times

    def forward(self, src: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        width = src.shape[-1]
        with self.tally.open("a") as file:
            file.write(f"{os.getpid()} {width}\n")
        died = self.tally.with_suffix(f".died-{width}")
        count = len(died.read_text()) if died.exists() else 0
        if self.seen >= 2 and count < self.times.get(width, 0):
            died.write_text("x" * (count + 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(src, *rest)


class Scriptable(nn.Module):
    """The same with `memory` a half, for TorchScript."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1), requires_grad=False)
        self.eval()

    def forward(
        self,
        src: Tensor,
        r1: Tensor | None,
        r2: Tensor | None,
        r3: Tensor | None,
        r4: Tensor | None,
        ratio: float,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        reds = src[:, :, :1] * self.weight
        state = reds[:, 0] if r1 is None else r1
        alphas: list[Tensor] = []
        for index in range(reds.shape[1]):
            red = reds[:, index]
            if index > 0 or r1 is not None:
                state = 0.5 * state + 0.5 * red
            alphas.append(state)
        zero = torch.zeros(1)
        return 1 - src, torch.stack(alphas, 1), state, zero, zero, zero


def colours(count: int = 10, size: tuple[int, int] = (32, 24)) -> list[NDArray[Any]]:
    """Frames (H, W, 3) of which no two are alike, nor two corners of one."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    frames = []
    for index in range(count):
        red = (x * 255 // max(width - 1, 1) + 25 * index) % 256
        green = y * 255 // max(height - 1, 1)
        blue = np.full_like(x, 20 * index % 256)
        frames.append(np.stack([red, green, blue], 2).astype(np.uint8))
    return frames


def scenes(*lengths: int, size: tuple[int, int] = (64, 40)) -> list[NDArray[Any]]:
    """Frames (H, W, 3) of scenes with so many frames each, which move slowly."""
    rng = np.random.default_rng(7)
    frames = []
    for length in lengths:
        blocks = rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
        picture = blocks.repeat(8, 0).repeat(8, 1)
        frames += [np.roll(picture, index, 1) for index in range(length)]
    return frames


def save_images(folder: Path, frames: list[NDArray[Any]], suffix: str = ".png") -> Path:
    """Write frames as numbered images, without the code under test."""
    folder.mkdir()
    for index, frame in enumerate(frames):
        path = folder / f"shot{index}{suffix}"
        Image.fromarray(frame).save(path, compress_level=1)  # of PNG
    return folder


def lay_out(folder: Path, pictures: dict[str, Any]) -> Path:
    """Write images by their names, and lists of them as folders of frames."""
    for name, pixels in pictures.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(pixels, list):
            save_images(path, pixels)
        else:
            Image.fromarray(pixels).save(path)
    return folder


def open_image(path: Path) -> NDArray[Any]:
    """Read an image as it is stored, without the code under test."""
    with Image.open(path) as image:
        return np.asarray(image)


def decode(path: Path) -> list[NDArray[Any]]:
    """All frames of a video as RGB."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def times(path: Path) -> list[Fraction]:
    """When every frame of a video is shown [s]."""
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def sound(path: Path, index: int = 0) -> list[tuple[Fraction, bytes]]:
    """Time [s] and bytes of every packet of one of a file's sounds."""
    return [(p.pts * p.time_base, bytes(p)) for p in packets(path, "audio", index)]


def as_frames(
    pictures: Iterable[NDArray[Any]], rate: Fraction | int = 25
) -> list[Frame]:
    """Frames that show pictures one after another."""
    step = 1 / Fraction(rate)
    return [Frame(each, index * step, step) for index, each in enumerate(pictures)]


def read_all(path: Path | str, **options: Any) -> tuple[list[Frame], list[str]]:
    """The frames that the reader gives, and its notes."""
    with VideoReader(path, ReadOptions(**options)) as reader:
        return list(reader), reader.notes


def read(path: Path | str, **options: Any) -> list[Frame]:
    """The frames alone."""
    return read_all(path, **options)[0]


def labels(frames: Iterable[Frame]) -> list[int]:
    """The indices that `frame_label` drew."""
    return [read_label(frame.pixels) for frame in frames]


def convert(
    source: Path | str, output: Any = None, model: Any = None, **options: Any
) -> Report:
    """Convert quietly in one run, with a `Fake` unless another network is given."""
    given = {"downsample_ratio": 1, "progress": False} | options
    return convert_video(model or Fake(), source, output=output, **given)


def convert_in_parts(
    source: Path | str, output: Any = None, load: Any = Fake, **options: Any
) -> Report:
    """The same in segments, with a record of what is done."""
    given = {"downsample_ratio": 1, "progress": False, "resume": True} | options
    return convert_long(load, source, output=output, **given)


def python(
    code: str, *words: object, exits: int = 0, cwd: Path = ROOT, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run a program in a process of its own, which finds this package."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == exits, done.stdout + done.stderr
    return done


def threads() -> set[str]:
    """Names of the threads that run, without those that wait for rows of pictures."""
    names = {thread.name for thread in threading.enumerate()}
    return {name for name in names if not name.startswith("rematte-rows")}


def names(folder: Path) -> set[str]:
    """What lies in a folder, hidden files too."""
    return {path.name for path in folder.iterdir()}


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its bytes, and folders; links are not followed."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if not path.is_symlink()
    }


def random_network() -> MattingNetwork:
    """A MobileNetV3 network that has learned nothing, always the same one."""
    torch.manual_seed(0)
    return MattingNetwork("mobilenetv3").eval()


def formula_network(variant: str, refiner: str) -> MattingNetwork:
    """A network whose every weight is a function of its key and shape."""
    network = MattingNetwork(variant, refiner).eval().requires_grad_(False)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict({k: _formula_tensor(k, s) for k, s in shapes.items()})
    return network


@cache
def _formula_tensor(key: str, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.asarray(formula_tensor(key, shape)))


def flag_defaults(except_for: Collection[str]) -> dict[str, Any]:
    """The command line's defaults of the options that have flags, but for some."""
    return {
        each.name: OPTIONS[each.name].command_default or each.default
        for each in fields(Options)
        if OPTIONS[each.name].flag and each.name not in except_for
    }
