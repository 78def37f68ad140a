"""Live: the newest picture goes first, and nothing waits."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import Refused, Run, make_clip, noise
from fakes import ROOT, Fake, Slow, colours, names, read

from rematte.conversion import model
from rematte.errors import InputError, OutputError
from rematte.live.controls import Controls
from rematte.live.run import LiveReport, _mattes, live
from rematte.live.sinks import StreamSink, VirtualCamera
from rematte.live.sources import LiveSource, Newest
from rematte.matter.matter import Matter
from rematte.matting.background import Renderer
from rematte.video.frame import Colour, Frame, VideoInfo
from rematte.video.writer import FileWriter
from rematte.weights.registry import DEFAULT, FAST

pytestmark = pytest.mark.usefixtures("here")
INFO = VideoInfo(64, 48, Fraction(25), Fraction(1, 90_000), Colour())


@pytest.fixture
def clip(here: Path) -> str:
    return str(make_clip(here / "in.mp4", colours(20, (64, 48))))


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A clip that is left long before its end, however slow the machine."""
    path = tmp_path_factory.mktemp("endless") / "in.mp4"
    return str(make_clip(path, colours(250, (64, 48))))


def pictures(path: str = "out.mkv") -> list[Frame]:
    """The frames of a video, with alpha where it has one."""
    return read(path, alpha=True)


def test_a_file_is_shown_at_its_own_pace() -> None:
    make_clip(Path("in.mp4"), colours(30, (64, 48)))
    started = time.monotonic()
    report = live(Fake(), "in.mp4", "out.mkv", downsample_ratio=1)
    assert time.monotonic() - started > 1.1  # 30 frames, 25 a second
    assert report.frames + report.dropped == 30
    assert report.frames == len(pictures()) > 1
    assert 0 < report.latency <= report.latency_p95


def test_what_is_too_slow_gets_the_newest(clip: str) -> None:
    report = live(Slow(), clip, "out.mkv", downsample_ratio=1)
    assert report.dropped > 5
    assert report.frames + report.dropped == 20
    # Late by the work on it and on the one before, not by all those before it: with
    # those, half of the pictures would be late by 0.6 s and more.
    assert report.latency < 0.1 * 4
    times = [frame.time for frame in pictures()]
    assert len(times) == report.frames
    assert all(b > a for a, b in pairwise(times))


def test_matte_and_picture_are_of_one_moment() -> None:
    """A picture is late as a whole; its matte is not later than its colours."""
    make_clip(Path("in.mp4"), colours(20, (64, 48)), codec="png", pix_fmt="rgb24")
    given: Any = {"downsample_ratio": 1, "background": "transparent"}
    assert live(Slow(0.0), "in.mp4", "out.mkv", **given).dropped > 5
    for frame in pictures():
        pixels = frame.pixels.astype(int)
        alpha, seen = pixels[..., 3], pixels[..., 3] > 0
        # Of the fake network alpha is red, and the foreground the picture inverted.
        assert np.abs(alpha - (255 - pixels[..., 0]))[seen].max() <= 1


def test_nothing_is_dropped_where_the_source_waits() -> None:
    make_clip(Path("in.mp4"), colours(8, (64, 48)))
    make_clip(Path("other.mp4"), colours(5, (64, 48)), rate=10)
    given: Any = {"downsample_ratio": 1, "drop": False, "overwrite": True}
    for sources in ["in.mp4"], ["other.mp4", "in.mp4"]:
        report = live(Slow(), sources, "out.mkv", **given)
        asked = [frame.time for frame in pictures(sources[0])]
        assert (report.frames, report.dropped) == (len(asked), 0)
        assert [each.time for each in pictures()] == asked
    assert 0 < report.latency <= report.latency_p95


def test_raw_video_passes_through_without_loss() -> None:
    """The command between two pipes, as FFmpeg would fill and empty them."""
    words = ["live", "-", "-o", "-", "--no-drop", "-q", "--background", "transparent"]
    words += ["--raw-input", "64x48", "--frame-rate", "25", "--format", "rgba"]
    done = subprocess.run(
        [sys.executable, "-m", "rematte", *words], cwd=ROOT,
        input=b"".join(frame.tobytes() for frame in noise(30, (64, 48))),
        capture_output=True, check=True,
    )  # fmt: skip
    assert done.stderr == b""
    assert len(done.stdout) == 30 * 48 * 64 * 4


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"raw_input": (64, 48)}, "needs frame_rate"),
        ({"frame_rate": 25}, "--frame-rate has no effect without --raw-input"),
        ({"pipe_format": "gray"}, "gray has no colours"),
        ({"pipe_format": "rgb24", "background": "transparent"}, "rgb24 has no alpha"),
        ({"pipe_format": "png"}, "pipe_format must be one of nut, rgb24, rgba, gray"),
    ],
)
def test_raw_video_that_does_not_fit(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        live(Fake(), "-", "-", **options)


@pytest.mark.parametrize(
    ("show", "background", "channels"),
    [("composition", "white", 3), ("composition", "transparent", 4),
     ("alpha", None, 3), ("foreground", None, 3)],
)  # fmt: skip
def test_the_recording_holds_what_was_shown(
    show: str, background: str | None, channels: int, endless: str
) -> None:
    given: Any = {"show": show, "background": background, "limit": 5}
    report = live(Fake(), endless, "out.mkv", downsample_ratio=1, **given)
    assert len(frames := pictures()) == report.frames == 5
    assert frames[0].pixels.shape == (48, 64, channels)


@pytest.mark.parametrize("region", ["auto", (400, 100, 100, 120)])
def test_the_region_shows_who_is_there(region: Any) -> None:
    picture = np.zeros((360, 640, 3), np.uint8)
    picture[120:180, 420:450, 0] = 255
    make_clip(Path("far.mkv"), [picture] * 30, codec="ffv1")
    live(Fake(), "far.mkv", "out.mkv", show="alpha", region=region, limit=20)
    last = pictures()[-1].pixels[..., 0]
    assert (last[124:176, 424:446] > 250).all()
    last[116:184, 416:454] = 0  # its edges, which encoding blurs
    assert last.max() < 4


def test_the_quality_is_how_large_a_copy_the_network_sees() -> None:
    make_clip(Path("wide.mp4"), 2, size=(768, 64))
    files, network = ("wide.mp4", "out.mkv"), Fake()
    for quality, ratio in (("fast", 384 / 768), ("balanced", 512 / 768)):
        live(network, *files, quality=quality, pace=False, overwrite=True)
        assert network.ratios[-1] == ratio
    with pytest.raises(ValueError, match="--quality has no effect"):
        live(network, *files, quality="fast", downsample_ratio=1)


def test_a_lighter_network_takes_the_place_of_one_that_is_too_slow(
    clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is noted before the first picture."""
    seen: list[tuple[int, list[str]]] = []

    def note(report: LiveReport) -> None:
        seen.append((report.frames, [*report.notes]))

    given: Any = {"lighter": FAST, "overwrite": True, "report": note}
    for network, taken in ((Slow(), True), (Fake(), False)):
        report = live(network, clip, "out.mkv", limit=2, **given)
        assert report.engine.startswith("openvino") is taken
        assert (f"so {FAST} takes its place" in " ".join(report.notes)) is taken
    assert seen[0][0] == 0
    assert FAST in seen[0][1][0]
    monkeypatch.setattr("rematte.live.run._SHARE", 0)
    for ratio, changes in ((None, 2), (1, 1)):  # then a smaller copy, unless forbidden
        report = live(Fake(), clip, "out.mkv", limit=2, downsample_ratio=ratio, **given)
        assert len(report.notes) == changes
        assert ("smaller copy" in report.notes[-1]) is (ratio is None)
    for name in "drop", "pace":
        with pytest.raises(ValueError, match="lighter has no effect without drop and"):
            live(Slow(), clip, "out.mkv", **given, **{name: False})


@pytest.mark.parametrize(
    ("flags", "taken"),
    [
        *(("", FAST), ("--downsample-ratio auto", FAST), ("--quality best", None)),
        *(("--downsample-ratio 0.5", None), ("--no-drop", None), ("--no-pace", None)),
        (f"--weights {DEFAULT}", None),
    ],
)
def test_the_command_takes_a_lighter_network_unless_a_choice_forbids_it(
    flags: str, taken: str | None, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    given: dict[str, Any] = {}

    def fake(*args: object, report: Any, **options: Any) -> LiveReport:
        given.update(options)
        report(LiveReport(notes=["a lighter one"]))
        return LiveReport(notes=["a lighter one", "the end"])

    monkeypatch.setattr("rematte.live.run.live", fake)
    words = ["live", "camera", "--device", "cpu", "--dtype", "float32", *flags.split()]
    assert run(*words)[2].splitlines() == ["note: a lighter one", "note: the end"]
    assert given["lighter"] == taken


def test_lighter_ones_stay_on_cpu(clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be a GPU, and --device cpu may have been asked for."""
    asked: list[str] = []

    def choose(name: str) -> tuple[str, str]:
        asked.append(name)
        return "cpu", "as asked"

    monkeypatch.setattr(model, "choose_device", choose)
    live(Slow(), clip, "out.mkv", lighter=FAST, limit=1)
    assert asked == ["cpu"]


def test_ctrl_c_completes_the_file(endless: str) -> None:
    def stop(report: LiveReport) -> None:
        if report.frames == at:
            raise KeyboardInterrupt

    at = 3
    report = live(Fake(), endless, "out.mkv", downsample_ratio=1, report=stop)
    assert report.frames == len(pictures()) == 3
    at = 0  # there is none to complete
    with pytest.raises(KeyboardInterrupt):
        live(Fake(), endless, "none.mkv", downsample_ratio=1, report=stop)
    assert not Path("none.mkv").exists()


def test_leaving_does_not_wait_for_a_late_picture() -> None:
    times = [Fraction(0), Fraction(60)]
    make_clip(Path("late.mkv"), colours(2, (64, 48)), times=times)
    with Newest(["late.mkv"]) as newest:
        assert newest.take() is not None
        start = time.monotonic()
    assert time.monotonic() - start < 5


def feed(data: bytes) -> str:
    """Make a named pipe that holds these bytes once it is read."""
    os.mkfifo("fed")
    threading.Thread(target=Path("fed").write_bytes, args=[data]).start()
    return "fed"


@pytest.mark.parametrize("size", [(64, 48), (48, 64)])
def test_a_sender_that_starts_again_goes_on(size: tuple[int, int]) -> None:
    """Its clock jumps back, and its pictures may have another size."""
    for name, each in ("a.ts", (64, 48)), ("b.ts", size):
        make_clip(Path(name), colours(10, each))
    source = feed(Path("a.ts").read_bytes() + Path("b.ts").read_bytes())
    report = live(Fake(), source, "out.mkv", downsample_ratio=1, drop=False)
    frames = pictures()
    assert report.frames == len(frames) > 15
    assert {frame.pixels.shape for frame in frames} == {(48, 64, 3)}
    assert all(b.time - a.time > Fraction(1, 30) for a, b in pairwise(frames))
    text = "; ".join(report.notes)
    assert ("scaled to 64x48" in text) == (size != (64, 48))
    assert "clock jumps back" in text


def test_raw_video_of_another_size_is_named() -> None:
    source = feed(bytes(64 * 48 * 3 + 100))
    given: Any = {"raw_input": (64, 48), "frame_rate": 25, "drop": False}
    with pytest.raises(InputError, match="is --raw-input the size of the pictures"):
        live(Fake(), source, "out.mkv", downsample_ratio=1, **given)


def test_the_state_starts_anew_with_each_source(endless: str) -> None:
    make_clip(Path("other.mp4"), colours(250, (32, 96)))
    fake, seen = Fake(), []
    stream = Matter(fake, engine="plain", downsample_ratio=1).stream()
    with Newest([endless, "other.mp4"]) as newest:
        renderers = {"green": Renderer("alpha")}
        made = _mattes(newest, stream, renderers, Controls(), LiveReport())
        for frame, _ in made:
            seen.append(frame.pixels.shape)
            if len(seen) == 3:
                newest.switch()
            if len(seen) == 8:
                break
    assert set(seen) == {(48, 64, 1)}  # the second is brought to the size of the first
    assert fake.fresh == 2


def test_a_pipe_gets_raw_video(endless: str) -> None:
    found: list[str] = []
    os.mkfifo("pipe")

    def read() -> None:
        with Path("pipe").open("rb") as file, av.open(file, format="nut") as container:
            found.extend(frame.format.name for frame in container.decode(video=0))

    reader = threading.Thread(target=read)
    reader.start()
    given: Any = {"background": "transparent", "downsample_ratio": 1, "limit": 10}
    report = live(Fake(), endless, "pipe", **given)
    reader.join(60)
    assert found == ["rgba"] * report.frames
    assert report.frames == 10


def test_a_stream_is_sent_and_received() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"udp://127.0.0.1:{taken.getsockname()[1]}"
    stop = threading.Event()

    def send() -> None:
        sink = StreamSink(f"{address}?pkt_size=1316", INFO, False, 1.0)
        index = 0
        while not stop.is_set():
            pixels = np.full((48, 64, 3), 200, np.uint8)
            sink.write(Frame(pixels, Fraction(index, 25), Fraction(1, 25)))
            index += 1
            time.sleep(0.01)
        sink.close()

    sender = threading.Thread(target=send)
    sender.start()
    try:
        source = LiveSource(address)
        assert (source.info.width, source.info.height) == (64, 48)
        received = [picture for picture, _ in zip(source, range(3), strict=False)]
        source.close()
    finally:
        stop.set()
        sender.join()
    assert all(np.abs(each.pixels.astype(int) - 200).max() < 8 for each in received)


def test_a_stream_that_never_comes_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rematte.live.sources._TIMEOUT", 0.5)
    with pytest.raises(InputError, match=r"opened \(nothing came for 0\.5 s\)"):
        LiveSource("udp://127.0.0.1:0")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("missing.mp4 -o out.mkv", 3, "cannot be opened"),
        ("camera:77 -o out.mkv", 3, "camera[:WHICH]"),
        ("text.mp4 -o out.mkv", 3, "not a video or image that FFmpeg can read"),
        ("in.mp4 -o there.mkv", 1, "there.mkv exists"),
        ("in.mp4 -o missing/out.mkv", 1, "create it first"),
        ("in.mp4 -o window --background transparent", 2, "is not transparent"),
        ("in.mp4 -o out.mp4 --background transparent", 2, "is not transparent"),
        ("in.mp4 -o udp://127.0.0.1:9 --background transparent", 2, "not transparent"),
        ("in.mp4 -o out.mkv --background plaid", 2, "neither a colour"),
        ("in.mp4 -o out.mkv --record b.mkv", 2, "--record has no effect without"),
        ("in.mp4 -o o.mp4 --show alpha --background red", 2, "--background has no eff"),
        ("in.mp4 -o o.mp4 --background-fit contain", 2, "--background-fit has no eff"),
        ("in.mp4 -o o.mov --mbps 4", 2, "--mbps has no effect without"),
        ("in.mp4 -o - --mbps 4", 2, "--mbps has no effect without"),
        ("in.mp4 -o window --record there.mkv", 1, "there.mkv exists"),
        ("in.mp4 -o in.mp4 -y", 2, "in.mp4 is the input itself; write elsewhere"),
        ("in.mp4 -o window --record ./in.mp4 -y", 2, "is the input itself"),
        ("in.mp4 -o folder", 1, "recorded to one video; end its name in .mp4"),
        ("in.mp4 -o out.mkv --limit 0", 2, "limit must be 1"),
        ("in.mp4 -o out.mkv --downsample-ratio 2", 2, "downsample_ratio must be"),
        ("in.mp4 -o out.mkv --engine plaid", 2, "invalid choice"),
        ("in.mp4 -o out.mkv --region 60,0,9,9", 2, "beyond the frame, which is 64x48"),
    ],
)
def test_bad_words_are_one_line(
    words: str, code: int, message: str, clip: str, here: Path, refused: Refused
) -> None:
    Path("text.mp4").write_text("no video")
    Path("there.mkv").write_text("mine")
    assert message in refused(code, "live", *words.split(), "--engine", "plain")
    assert names(here) == {"in.mp4", "text.mp4", "there.mkv"}
    assert Path("there.mkv").read_text() == "mine"


def test_outputs_are_checked_before_engines_are_built(
    clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("there.mkv").write_text("mine")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("rematte.live.run.Matter", None)  # and that is no function
    for output in ("there.mkv", "missing/o.mkv", "-"):
        with pytest.raises(OutputError, match=r"exists|create it|terminal"):
            live(Fake(), clip, output)


def test_a_missing_display_is_found_before_engines_are_built(
    clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pygame", reason="needs pygame-ce (extra live)")
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pygame.display.get_driver", lambda: "offscreen")
    monkeypatch.setattr("rematte.live.run.Matter", None)  # and that is no function
    with pytest.raises(OutputError, match="no display"):
        live(Fake(), clip, "window")


def test_a_session_without_a_display_is_an_error(clip: str) -> None:
    """SDL itself would draw where nobody sees it."""
    pytest.importorskip("pygame", reason="needs pygame-ce (extra live)")
    hidden = ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY", "XDG_SESSION_TYPE")
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    if sys.platform != "linux" or Path("/dev/dri/card0").exists():
        pytest.skip("this machine has a display that needs no session")
    done = subprocess.run(
        [sys.executable, "-m", "rematte", "live", clip],
        env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]  # libraries of the desktop may say theirs
    assert "no display" in line
    assert "-o a file" in line


SOURCE = "rematte.live.sources.LiveSource.__iter__"


def fail(*args: object, **kwargs: object) -> None:
    raise RuntimeError("no engine")


@pytest.mark.parametrize(
    ("place", "instead", "error", "said"),
    [
        ("rematte.live.run.Matter", fail, RuntimeError, "no engine"),
        (SOURCE, lambda _: iter(()), InputError, "no picture came"),
    ],
    ids=["no engine", "no picture"],
)
def test_what_fails_before_the_first_picture_leaves_no_file(
    clip: str, here: Path, monkeypatch: pytest.MonkeyPatch,
    place: str, instead: Any, error: type[Exception], said: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(place, instead)
    with pytest.raises(error, match=said):
        live(Fake(), clip, "out.mkv", downsample_ratio=1)
    assert names(here) == {"in.mp4"}


def test_a_full_disk_leaves_what_was_recorded(
    clip: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, count = FileWriter.write, iter(range(100))

    def fail(self: FileWriter, frame: Frame) -> None:
        if next(count) > 5:
            raise OutputError("no space left on the disk")
        write(self, frame)

    monkeypatch.setattr(FileWriter, "write", fail)
    with pytest.raises(OutputError, match=r"so far is in \S*out\.partial\.mkv"):
        live(Fake(), clip, "out.mkv", drop=False)
    assert names(here) == {"in.mp4", "out.partial.mkv"}
    assert len(pictures("out.partial.mkv")) == 6


def test_drivers_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(OutputError, match=r"pip install 'rematte\[live\]'"):
        VirtualCamera(INFO)


def test_a_source_that_breaks_off_keeps_the_recording(
    clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Fake()

    def broken(self: LiveSource) -> Iterator[Frame]:
        # So many that the first are written, whatever waits in between.
        while network.seen < 10:
            yield Frame(colours(1, (64, 48))[0], Fraction(0), Fraction(1, 25))
            time.sleep(0.01)
        raise InputError("cable: broke off")

    monkeypatch.setattr(LiveSource, "__iter__", broken)
    with pytest.raises(InputError, match="broke off"):
        live(network, clip, "out.mkv", downsample_ratio=1)
    assert len(pictures()) >= 1


def test_the_command_tells_latency_and_drops(endless: str, run: Run) -> None:
    words = ["live", endless, "-o", "o.mkv", "--engine", "plain", "--limit", "4"]
    code, out, _ = run(*words)
    assert code == 0
    assert "4 pictures in " in out
    assert "ms; engine plain" in out
