"""Small video files drawn by the tests themselves; no assets, no network."""

import importlib.util
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from fakes import Fake
from numpy.typing import NDArray

from rematte import MattingNetwork, load_model
from rematte.cli import app as cli
from rematte.engines import choose
from rematte.weights import load as weights
from rematte.workers import pool, storage

Run = Callable[..., tuple[int, str, str]]
# Chromium as root, without what it would ask the network for.
QUIET = (
    *("--no-sandbox", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)

SOUND_RATE = 48_000
Image = NDArray[np.uint8]


def made_once(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]
) -> Path:
    """Make a folder once for all processes that share the tests.

    Args:
        factory: Knows where temporary folders are.
        name: The folder's name.
        make: Fills the empty folder that it is given.
    """
    top = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        top = top.parent
    target = top / name
    if not target.exists():
        made = factory.mktemp(name)
        make(made)
        with suppress(OSError):  # another process was faster
            made.rename(target)
    return target


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep converted models, and which engine is fastest, out of the user's cache."""
    folder = made_once(tmp_path_factory, "cache", lambda _: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield


@pytest.fixture(autouse=True, scope="session")
def _heed_ctrl_c() -> None:
    """A shell's background job ignores Ctrl-C, and so do those that it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _quick_processes() -> Iterator[None]:
    """Fork worker processes from one that has imported torch, which takes seconds.

    In test_pool, and in commands that are processes of their own, they start as they do
    for users. Their environment is that of the first test that needs one.
    """
    if "forkserver" not in get_all_start_methods():
        yield
        return
    quick = get_context("forkserver")
    quick.set_forkserver_preload(["torch", "rematte.convert", "rematte.serve.work"])

    def get(method: str | None = None) -> BaseContext:
        return quick if method == "spawn" else get_context(method)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "get_context", get)
        patch.setattr("multiprocessing.get_context", get)  # of the bench
        yield


@dataclass(frozen=True)
class DiscClip:
    """A disc that moves over a gradient, and where it is.

    Attributes:
        frames: (H, W, 3) RGB, the disc over the background.
        alpha: (H, W) coverage of the disc, 0 to 255, with an antialiased edge.
        background: (H, W, 3) RGB, the same for all frames.
        colour: The disc's RGB.
    """

    frames: list[Image]
    alpha: list[Image]
    background: Image
    colour: tuple[int, int, int]

    @property
    def rgba(self) -> list[Image]:
        """(H, W, 4) straight alpha: the disc's colour where it is, black elsewhere."""
        pictures = []
        for alpha in self.alpha:
            picture = np.zeros((*alpha.shape, 4), np.uint8)
            picture[alpha > 0, :3] = self.colour
            picture[..., 3] = alpha
            pictures.append(picture)
        return pictures


def draw_disc(count: int = 12, size: tuple[int, int] = (96, 64)) -> DiscClip:
    """Draw a disc that moves to the right by one pixel a frame.

    Args:
        count: How many frames.
        size: Width and height [pixels].
    """
    width, height = size
    y, x = np.mgrid[:height, :width].astype(np.float64)
    background = np.stack(
        [40 + 60 * x / width, 60 + 60 * y / height, np.full_like(x, 90)], 2
    )
    colour = (210, 160, 120)
    radius = min(size) / 4
    frames, alphas = [], []
    for index in range(count):
        distance = np.hypot(x - width / 3 - index, y - height / 2)
        alpha = np.clip(radius - distance + 0.5, 0, 1)
        mixed = alpha[..., None] * colour + (1 - alpha[..., None]) * background
        frames.append(mixed.round().astype(np.uint8))
        alphas.append((alpha * 255).round().astype(np.uint8))
    return DiscClip(frames, alphas, background.round().astype(np.uint8), colour)


def frame_label(index: int, size: tuple[int, int] = (96, 64)) -> Image:
    """Draw a gray frame whose brightness tells its index (0 to 24) in any codec."""
    return np.full((size[1], size[0], 3), 10 + 10 * index, np.uint8)


def read_label(pixels: NDArray[Any]) -> int:
    """Read the index that `frame_label` drew."""
    unit = 257 if pixels.itemsize == 2 else 1
    return round((float(pixels[..., :3].mean(dtype=float)) / unit - 10) / 10)


def noise(count: int = 10, size: tuple[int, int] = (64, 48)) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (size[1], size[0], 3), np.uint8) for _ in range(count)]


def yuv_frame(planes: Sequence[NDArray[Any]], pix_fmt: str) -> av.VideoFrame:
    """Make a frame of code values: one (H, W) array per plane, native byte order."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, pix_fmt)
    wide = frame.format.components[0].bits > 8
    for plane, values in zip(frame.planes, planes, strict=True):
        shape = (plane.height, plane.line_size // (1 + wide))
        padded = np.zeros(shape, np.uint16 if wide else np.uint8)
        padded[:, : plane.width] = values
        plane.update(padded.tobytes())
    return frame


@dataclass(frozen=True)
class Tags:
    """Colour tags of a clip, as H.273 code points; 2 is unspecified, range 1 limited.

    Range and matrix also decide how RGB frames are converted, as for BT.601 and
    limited where they are unspecified.
    """

    matrix: int = 2
    range: int = 0
    primaries: int = 2
    transfer: int = 2


def make_clip(
    path: Path,
    frames: Sequence[NDArray[Any] | av.VideoFrame] | int = 10,
    *,
    size: tuple[int, int] = (96, 64),
    rate: Fraction | int = 25,
    times: Sequence[Fraction] | None = None,
    time_base: Fraction | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    tags: Tags | None = None,
    matrix: Sequence[int] | None = None,
    aspect: Fraction = Fraction(1),
    sound: bool | Sequence[str] = False,
    sound_codec: str = "aac",
    sound_seconds: float | None = None,
    subtitles: Sequence[tuple[float, float, str]] = (),
    chapters: Sequence[tuple[float, float, str]] = (),
    title: str = "",
    faststart: bool = False,
) -> Path:
    """Write a small real video file.

    `make_clip(tmp_path / "a.mp4")` is ten frames of 96x64 at 25 per second, whose
    brightness tells their index (`read_label`).

    Args:
        path: Where to; the suffix decides on the container.
        frames: RGB arrays (H, W, 3) of 8 or 16 bits; frames in `pix_fmt` to encode
            as they are; or how many labelled frames to draw.
        size: Width and height of drawn frames.
        rate: Frames per second.
        times: When each frame is shown [s], instead of evenly from 0.
        time_base: The unit of `times`; a thousandth of a frame's length unless given.
        codec: FFmpeg's name of the encoder.
        pix_fmt: FFmpeg's name of the pixel format.
        options: For the encoder; lossless for libx264 unless given.
        tags: Colour tags; none unless given.
        matrix: The nine integers of a display matrix (rotation, mirroring).
        aspect: Width of a pixel over its height.
        sound: One stereo tone if true; or a language for each of several.
        sound_codec: FFmpeg's name of the sound's encoder.
        sound_seconds: Length of the sound; as long as the picture unless given.
        subtitles: Start, end [s] and text of each; mkv and mp4 only.
        chapters: Start, end [s] and title of each.
        title: The title tag.
        faststart: Whether an mp4's index comes first.

    Returns:
        `path`.
    """
    rate = Fraction(rate)
    time_base = time_base or 1 / rate / 1000
    if isinstance(frames, int):
        frames = [frame_label(index, size) for index in range(frames)]
    tags = tags or Tags()
    pictures = [_picture(frame, pix_fmt, tags) for frame in frames]
    if times is None:
        times = [index / rate for index in range(len(pictures))]
    languages = ["eng"] if sound is True else list(sound or ())
    if sound_seconds is None:
        sound_seconds = float(times[-1] + 1 / rate)
    with av.open(str(path), "w", options=_mux_options(path, time_base, faststart)) as c:
        c.metadata.update({"title": title} if title else {})
        c.set_chapters([_chapter(*chapter) for chapter in chapters])
        if options is None:
            options = _LOSSLESS.get(codec, {})
        video: Any = c.add_stream(codec, rate=rate, options=options)
        video.width, video.height = pictures[0].width, pictures[0].height
        video.pix_fmt = pix_fmt
        video.codec_context.time_base = video.time_base = time_base
        video.sample_aspect_ratio = aspect
        _tag(video.codec_context, tags)
        if matrix is not None:
            video.set_display_matrix(matrix)
        tones: list[Any] = []
        for language in languages:
            tones.append(c.add_stream(sound_codec, rate=SOUND_RATE))
            tones[-1].metadata["language"] = language
        text = _subtitle_stream(c, path) if subtitles else None
        for index, tone in enumerate(tones):
            for piece in _sound(220.0 * (index + 1), sound_seconds):
                c.mux(tone.encode(piece))
            c.mux(tone.encode(None))
        for subtitle in subtitles:
            c.mux(_subtitle(text, *subtitle))
        _encode(c, video, pictures, times, 1 / rate)
    return path


_LOSSLESS = {
    "libx264": {"qp": "0"},
    "libx265": {"x265-params": "log-level=error:lossless=1"},
}


def _mux_options(path: Path, time_base: Fraction, faststart: bool) -> dict[str, str]:
    if path.suffix not in (".mp4", ".mov"):
        return {}
    # Without it, the first frame's time would be rounded to a millisecond.
    options = {"movie_timescale": str(time_base.denominator)}
    return options | ({"movflags": "+faststart"} if faststart else {})


def _encode(
    container: av.container.OutputContainer,
    stream: Any,
    pictures: list[av.VideoFrame],
    times: Sequence[Fraction],
    last: Fraction,
) -> None:
    base = stream.codec_context.time_base
    ticks = [round(time / base) for time in [*times, times[-1] + last]]
    lengths = {now: after - now for now, after in pairwise(ticks)}
    for picture, now in zip([*pictures, None], ticks, strict=True):
        if picture is not None:
            picture.time_base, picture.pts = base, now
            picture.duration = lengths[now]
        for packet in stream.encode(picture):
            if len(pictures) < 3:
                packet.dts = packet.pts  # libx265 leaves it uninitialised
            packet.duration = packet.duration or lengths[packet.pts]
            container.mux(packet)


def _tag(target: Any, tags: Tags) -> None:
    target.colorspace, target.color_range = tags.matrix, tags.range
    target.color_primaries, target.color_trc = tags.primaries, tags.transfer


def _picture(
    frame: NDArray[Any] | av.VideoFrame, pix_fmt: str, tags: Tags
) -> av.VideoFrame:
    if not isinstance(frame, av.VideoFrame):
        name = {(3, 1): "rgb24", (3, 2): "rgb48le", (4, 1): "rgba"}[
            frame.shape[2], frame.itemsize
        ]
        matrix = {1: 1, 9: 9}.get(tags.matrix, 5)  # libswscale's own numbers
        frame = av.VideoFrame.from_ndarray(frame, name).reformat(
            format=pix_fmt,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=2,
            dst_color_range=2 if "yuvj" in pix_fmt else tags.range or 1,
            interpolation="ACCURATE_RND",
        )
    _tag(frame, tags)
    return frame


def _sound(pitch: float, seconds: float) -> list[av.AudioFrame]:
    """A stereo tone in pieces."""
    total = round(seconds * SOUND_RATE)
    wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(total) / SOUND_RATE)
    pieces = []
    for begin in range(0, total, 1024):
        part = np.tile(wave[begin : begin + 1024].astype(np.float32), (2, 1))
        piece = av.AudioFrame.from_ndarray(part, "fltp", "stereo")
        piece.sample_rate, piece.pts = SOUND_RATE, begin
        piece.time_base = Fraction(1, SOUND_RATE)
        pieces.append(piece)
    return pieces


def _subtitle_stream(container: av.container.OutputContainer, path: Path) -> Any:
    kind = "mov_text" if path.suffix in (".mp4", ".mov") else "subrip"
    return container.add_mux_stream(kind, time_base=Fraction(1, 1000))


def _subtitle(stream: Any, begin: float, end: float, words: str) -> Any:
    data = words.encode()
    if stream.container.format.name in ("mp4", "mov"):
        data = len(data).to_bytes(2, "big") + data
    packet: Any = av.Packet(data)
    packet.stream = stream
    packet.time_base = Fraction(1, 1000)
    packet.pts = packet.dts = round(begin * 1000)
    packet.duration = round((end - begin) * 1000)
    return packet


def _chapter(begin: float, end: float, title: str) -> Any:
    return {
        "id": round(begin * 1000),
        "start": round(begin * 1000),
        "end": round(end * 1000),
        "time_base": Fraction(1, 1000),
        "metadata": {"title": title},
    }


@pytest.fixture(name="make_clip")
def make_clip_fixture() -> Callable[..., Path]:
    """`make_clip` (see there), for tests that take it as a fixture."""
    return make_clip


@pytest.fixture(scope="session")
def disc() -> DiscClip:
    """Twelve frames of a moving disc, 96x64, with the true alpha."""
    return draw_disc()


@pytest.fixture(scope="session")
def bundled() -> MattingNetwork:
    """The network with the bundled weights; to be left as it is."""
    network = load_model()
    assert isinstance(network, MattingNetwork)
    return network


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command; gives the exit code and all that it and FFmpeg print."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        code = cli.main([str(word) for word in words])
        return code, *capfd.readouterr()

    return run


@pytest.fixture(scope="session")
def _object_storage() -> Iterator[str]:
    """A server that speaks S3, on this machine; gives its address."""
    server = pytest.importorskip("moto.server", reason="needs moto, flask, flask-cors")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    thread = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    thread.start()
    host, port = thread.get_host_and_port()
    yield f"http://{host}:{port}"
    thread.stop()


@pytest.fixture
def bucket(_object_storage: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket in object storage; gives its address."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", _object_storage)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anyone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    address = "s3://bucket"
    files: Any = storage.to_path(address)
    files.fs.mkdir("bucket")
    yield address
    files.fs.rm("bucket", recursive=True)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Takes the place of the real network."""
    network = Fake()

    def load_for(
        engine: str, weights: Any, variant: Any, device: str, dtype: str = "float32"
    ) -> Fake:
        return network.to(device, getattr(torch, dtype))

    monkeypatch.setattr(choose, "load_for", load_for)
    monkeypatch.setattr(weights, "load_model", lambda *args: network.to(*args[2:]))
    return network


def require(missing: Sequence[str], which: str) -> None:
    """Skip a test where anything is missing, or fail if a variable insists on it.

    Args:
        missing: What is missing.
        which: The variable is REMATTE_REQUIRE_WHICH, the remedy `make test-which`.
    """
    variable = f"REMATTE_REQUIRE_{which.upper()}"
    if missing and os.environ.get(variable):
        pytest.fail(f"{variable} is set, but {missing} are missing")
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: make test-{which}")


def needs(*modules: str) -> None:
    """Skip where packages are missing; fail where all have to be there."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    require(missing, "exports")


def find_chromium() -> str | None:
    """Give the path of Chromium, if it is installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="module")
def launch() -> Iterator[Callable[..., Any]]:
    """Start Chromium with the given flags; the caller closes it.

    Its event loop runs in this thread, so no test of another module may see it.
    """
    path = find_chromium()
    missing = [] if path else ["Chromium"]
    if importlib.util.find_spec("playwright") is None:
        missing.append("playwright")
    require(missing, "web")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        start = playwright.chromium.launch
        yield lambda *flags: start(executable_path=path, args=[*QUIET, *flags])


def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Mount a small disk in memory for a while, or skip the test."""
    tool = shutil.which("mount")
    if tool is None or not hasattr(os, "getuid") or os.getuid() != 0:
        pytest.skip("mounting a small disk needs root")
    folder.mkdir()
    command = [tool, "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a small disk: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for 300 kB."""
    yield from mounted(tmp_path / "disk", "size=300k")


@pytest.fixture
def closed_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that cannot be written."""
    yield from mounted(tmp_path / "closed", "size=300k,ro")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU, unless a run insists that there is one."""
    if torch.cuda.is_available() or os.environ.get("REMATTE_REQUIRE_CUDA"):
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip("no CUDA GPU that torch can use"))
