"""The window of `live`: what it shows, its keys, and what goes on beside it."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_clip
from fakes import Fake, colours, decode, names, read_all
from numpy.typing import NDArray

from rematte.errors import OutputError
from rematte.live.controls import KEYS, Controls
from rematte.live.run import LiveReport, live
from rematte.live.sinks import VirtualCamera
from rematte.live.window import Window
from rematte.video.frame import Colour, Frame, VideoInfo

pygame = pytest.importorskip("pygame", reason="needs pygame-ce (extra live)")
INFO = VideoInfo(64, 48, Fraction(25), Fraction(1, 90_000), Colour())


@pytest.fixture(autouse=True)
def _unseen(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


def press(*keys: str) -> None:
    for key in keys:
        code = pygame.key.key_code(key)
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=code))


def shown(pixels: NDArray[np.uint8]) -> Frame:
    return Frame(pixels, Fraction(0), Fraction(1, 25))


def test_a_picture_is_scaled_smoothly_with_bars() -> None:
    window = Window(INFO, Controls(help=False), lambda: None)
    assert pygame.display.get_window_size()[0] == 640  # small pictures are enlarged
    pygame.display.set_mode((400, 150))
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, 32:] = 255, 0, 128
    window.write(shown(pixels))
    screen = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    assert not screen[:, :99].any()
    assert not screen[:, 301:].any()
    assert not screen[75, 110].any()
    assert tuple(screen[75, 290]) == (255, 0, 128)
    middle = screen[75, 190:210, 0].astype(int)
    assert len({*middle} - {0, 255}) >= 2  # no hard step between the two
    assert (np.diff(middle) >= 0).all()
    window.close()


def test_keys_are_shown_and_do_what_they_say() -> None:
    controls, switched = Controls(("green", "blur")), list[int]()
    window = Window(INFO, controls, lambda: switched.append(1))
    black = np.zeros((48, 64, 3), np.uint8)
    window.write(shown(black))
    words = pygame.surfarray.array3d(pygame.display.get_surface())
    assert words[:, -60:].max() > 200
    assert not words[:, :300].any()
    press("b", "m", "p", "space", "h", "r")
    window.refresh()
    assert (controls.background, controls.mirror, controls.paused) == (1, True, True)
    assert switched == [1]
    assert controls.recording is None
    assert "--record FILE" in controls.message
    controls.pressed -= 5  # what a key has changed is said for a while
    assert controls.message.startswith("paused")
    controls.paused, controls.nobody = False, True
    assert controls.message.startswith("nobody")
    controls.nobody = False
    window.refresh()
    assert not pygame.surfarray.array3d(pygame.display.get_surface()).any()
    for ending in ("q", "escape"):
        press(ending)
        with pytest.raises(KeyboardInterrupt):
            window.refresh()
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    with pytest.raises(KeyboardInterrupt):
        window.write(shown(black))
    assert {*KEYS} == {"b", "m", "p", "r", "space", "h", "q"}
    window.close()


def at(moments: dict[int, tuple[str, ...]]) -> Callable[[LiveReport], None]:
    """Press keys after so many pictures."""
    return lambda report: press(*moments.get(report.frames, ()))


def test_the_recording_beside_the_window_has_what_it_shows() -> None:
    half = np.zeros((48, 64, 3), np.uint8)
    half[:, :20] = 255, 100, 100  # the person, whose foreground is the inverse
    make_clip(Path("in.mkv"), [half] * 14, codec="ffv1", pix_fmt="bgr0")
    live(
        Fake(0.0), "in.mkv", "window", record="out.mkv", drop=False,
        background="blue", downsample_ratio=1,
        report=at({2: ("b", "b"), 5: ("m",), 8: ("r",), 11: ("r",)}),
    )  # fmt: skip
    assert names(Path()) == {"in.mkv", "out-2.mkv", "out.mkv"}
    first = [frame.astype(int) for frame in decode(Path("out.mkv"))]
    # The window looks at keys after it has shown a picture.
    assert len(first) == 8
    assert np.abs(first[1][24, 50] - (0, 71, 187)).max() < 4
    assert np.abs(first[4][24, 50] - (120, 255, 155)).max() < 4
    assert np.abs(first[4][24, 5] - (0, 155, 155)).max() < 4
    assert np.abs(first[7][24, 5] - (120, 255, 155)).max() < 4
    assert np.abs(first[7][24, 60] - (0, 155, 155)).max() < 4
    second, _ = read_all("out-2.mkv")
    assert second[0].time == 0
    assert len(second) == 3


def test_a_name_that_is_taken_does_not_end_the_session() -> None:
    Path("out-2.mkv").write_text("mine")
    make_clip(Path("in.mkv"), colours(9, (64, 48)))
    report = at({2: ("r",), 4: ("r",)})
    live(Fake(), "in.mkv", "window", record="out.mkv", drop=False, report=report)
    assert names(Path()) == {"in.mkv", "out.mkv", "out-2.mkv", "out-3.mkv"}
    assert Path("out-2.mkv").read_text() == "mine"


def test_a_pause_holds_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    make_clip(Path("in.mp4"), colours(6, (64, 48)))
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            press("p")

    monkeypatch.setattr("rematte.live.run.time.sleep", sleep)
    given: Any = {"drop": False, "downsample_ratio": 1, "report": at({2: ("p",)})}
    report = live(Fake(), "in.mp4", "window", **given)
    assert report.frames == 6
    assert len(waits) >= 3


def test_it_says_when_somebody_is_lost_or_found() -> None:
    """But not for a moment: a frame without anybody, or three with somebody."""
    there, empty = (np.zeros((48, 64, 3), np.uint8) for _ in range(2))
    there[10:40, 20:40, 0] = 255
    frames = [there] * 5 + [empty] + [there] * 4 + [empty] * 20
    frames += [there] * 3 + [empty] * 5 + [there] * 20
    make_clip(Path("in.mkv"), frames, codec="ffv1", pix_fmt="bgr0")
    report = live(Fake(0.0), "in.mkv", "out.mkv", drop=False, downsample_ratio=1)
    assert report.people == [(0.4, False), (1.52, True)]


def test_a_virtual_camera_gets_every_picture() -> None:
    """The real pyvirtualcam, with a stand-in for the driver (v4l2loopback)."""
    pyvirtualcam = pytest.importorskip("pyvirtualcam", reason="extra live")
    from pyvirtualcam.camera import BACKENDS

    sent: list[NDArray[np.uint8]] = []
    made: list[dict[str, Any]] = []

    class Driver:
        def __init__(self, **how: Any) -> None:
            made.append(how)

        def device(self) -> str:
            return "/dev/video9"

        def native_fourcc(self) -> None:
            return None

        def send(self, frame: NDArray[np.uint8]) -> None:
            sent.append(frame.copy())

        def close(self) -> None:
            made[-1]["closed"] = True

    pyvirtualcam.register_backend("stand-in", Driver)
    try:
        make_clip(Path("in.mp4"), colours(6, (64, 48)))
        for show in ("composition", "alpha"):
            sent.clear()
            report = live(
                Fake(), "in.mp4", "virtual-camera", show=show, drop=False,
                record=f"{show}.mkv", downsample_ratio=1,
            )  # fmt: skip
            assert report.frames == len(sent) == 6
            assert (made[-1]["width"], made[-1]["height"]) == (64, 48)
            assert made[-1]["fps"] == 25
            assert made[-1]["closed"]
            shown = decode(Path(f"{show}.mkv"))
            for frame, picture in zip(shown, sent, strict=True):
                off = frame.astype(int) - picture.reshape(48, 64, 3)
                assert np.abs(off).max() <= 1
    finally:
        del BACKENDS["stand-in"]


def test_a_driver_that_is_missing_is_named() -> None:
    pytest.importorskip("pyvirtualcam", reason="extra live")
    with pytest.raises(OutputError, match="on Linux load v4l2loopback"):
        VirtualCamera(INFO)
