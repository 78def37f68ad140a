"""Whole videos that the browser demo saves: every frame at its time, and the sound."""

import re
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import demo_page
import numpy as np
import pytest
from clips import Tags, make_clip, make_sound, packets
from demo_page import CLIP, SIZE, Image, Page, Truth, overlap, wait
from fakes import read
from numpy.typing import NDArray

from rematte.network.matting_network import MattingNetwork as Network

server = pytest.fixture(scope="module")(demo_page.serve)
pictures = pytest.fixture(scope="module")(demo_page.draw_pictures)
browser = pytest.fixture(scope="module")(demo_page.start_browser)
open_page = pytest.fixture(scope="module")(demo_page.pages)
# Uneven, as a phone's are [s].
TIMES = [Fraction(n, 100) for n in (0, 4, 8, 13, 16, 20, 31, 36, 40, 44)]
# What is not tagged, browsers do not convert as this package does.
BT709 = Tags(matrix=1, range=1, primaries=1, transfer=1)
NO_PICKER = "delete window.showSaveFilePicker"
# Stands in for the dialog, which a browser without a screen lacks.
PICKER = """() => {
  window.showSaveFilePicker = async ({suggestedName}) => {
    const folder = await navigator.storage.getDirectory();
    return folder.getFileHandle(suggestedName, {create: true});
  };
}"""
STORED = """async () => {
  const folder = await navigator.storage.getDirectory();
  const sizes = {};
  for await (const [name, handle] of folder) {
    sizes[name] = (await handle.getFile()).size;
  }
  return sizes;
}"""


@pytest.fixture(scope="module")
def source(pictures: list[Image], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "people.mp4"
    return make_clip(path, pictures[: len(TIMES)], times=TIMES, sound=True, tags=BT709)


@pytest.fixture(scope="module")
def page(open_page: Callable[..., Page]) -> Page:
    return open_page()


def open_video(page: Page, path: Path) -> None:
    page.set_input_files("#video", path)
    wait(page, "name => rematte.file()?.name === name", arg=path.name)


def ended(page: Page) -> str:
    """Wait until a video is saved; give what the page says."""
    wait(page, "!document.getElementById('save').disabled", timeout=120_000)
    return str(page.text_content("#outcome"))


def save(page: Page, source: Path, kind: str, folder: Path) -> Path:
    page.evaluate(NO_PICKER)
    open_video(page, source)
    page.select_option("#format", kind)
    with page.expect_download(timeout=120_000) as download:
        page.click("#save")
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    ended(page)
    return path


def decode(path: Path, codec: str | None = None) -> list[Any]:
    with av.open(str(path)) as container:
        decoder: Any = av.CodecContext.create(codec, "r") if codec else None
        return [
            frame
            for packet in container.demux(video=0)
            for frame in (decoder.decode(packet) if decoder else packet.decode())
        ]


def sound(path: Path) -> NDArray[Any]:
    resampler = av.AudioResampler("flt", "mono", 8000)
    with av.open(str(path)) as container:
        frames = [
            part.to_ndarray()[0]
            for frame in container.decode(audio=0)
            for part in resampler.resample(frame)
        ]
    return np.concatenate(frames)


def pitch(samples: NDArray[Any]) -> float:
    """Give the frequency of a tone [Hz]."""
    spectrum = np.abs(np.fft.rfft(samples))
    return float(spectrum.argmax() * 8000 / len(samples))


def check_alpha(found: list[Any], source: Path, network: Network) -> None:
    truth = Truth(network)
    frames = [frame.pixels for frame in read(source)]
    for alpha, frame in zip(found, frames, strict=True):
        ratio = min(1, 512 / max(frame.shape[:2]))
        # Browsers enlarge colour by other rules, which shows in so small a picture.
        assert overlap(alpha[..., None] / 255, truth(frame, ratio)[1]) > 0.96


def test_a_webm_cutout(page: Page, source: Path, fast: Network, tmp_path: Path) -> None:
    path = save(page, source, "webm", tmp_path)
    assert path.name == "people-cutout.webm"
    assert page.text_content("#outcome") == f"{path.name} is saved, with 10 frames."
    frames = decode(path, "libvpx-vp9")
    assert {(frame.width, frame.height) for frame in frames} == {SIZE}
    # WebM's times are whole milliseconds.
    times = [frame.pts / 1000 for frame in frames]
    assert times == pytest.approx([float(time) for time in TIMES], abs=0.001)
    rgba = [frame.to_ndarray(format="rgba") for frame in frames]
    check_alpha([each[..., 3] for each in rgba], source, fast)
    truth = Truth(fast)
    for frame, each in zip(read(source), rgba, strict=True):
        foreground, alpha = truth(frame.pixels, 1)
        inside = alpha[..., 0] > 0.99
        difference = (each[..., :3] - foreground)[inside].mean(0)
        assert np.abs(difference).max() < 4
    before, after = sound(source), sound(path)
    assert len(after) == pytest.approx(len(before), abs=8000 * 0.05)
    assert pitch(after) == pytest.approx(pitch(before), abs=5)


def test_mp4_over_white(
    page: Page, source: Path, fast: Network, tmp_path: Path
) -> None:
    demo_page.choose(page, "white")
    assert "White" in page.inner_text("#format option[value=mp4]")
    path = save(page, source, "mp4", tmp_path)
    demo_page.choose(page, "green")
    frames = decode(path)
    times = [float(frame.pts * frame.time_base) for frame in frames]
    assert times == pytest.approx([float(time) for time in TIMES], abs=1e-4)
    truth = Truth(fast)
    for frame, shown in zip(read(source), frames, strict=True):
        foreground, alpha = truth(frame.pixels, 1)
        expected = alpha * foreground + (1 - alpha) * 255
        difference = shown.to_ndarray(format="rgb24") - expected
        assert np.abs(difference).mean() < 8
        assert shown.to_ndarray(format="rgb24")[:6, :6].min() > 245
    copied = [[*map(bytes, packets(name, "audio"))] for name in (source, path)]
    assert copied[0] == copied[1]  # not encoded again


def test_png_pictures(page: Page, source: Path, fast: Network, tmp_path: Path) -> None:
    path = save(page, source, "png", tmp_path)
    expected = "people-cutout.zip is saved, with 10 frames and without sound."
    assert page.text_content("#outcome") == expected
    page.click("#language")
    assert page.text_content("#download") == "再次保存 people-cutout.zip"
    page.click("#language")
    alphas = []
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"{n:06}.png" for n in range(1, 11)]
        archive.extractall(tmp_path)
    for n in range(1, 11):
        (frame,) = decode(tmp_path / f"{n:06}.png")
        rgba = frame.to_ndarray(format="rgba")
        assert (rgba[rgba[..., 3] == 0] == 0).all()  # no background
        alphas.append(rgba[..., 3])
    check_alpha(alphas, source, fast)


def test_a_turned_video_is_upright(
    page: Page, pictures: list[Image], fast: Network, tmp_path: Path
) -> None:
    lying = [np.rot90(picture).copy() for picture in pictures[:3]]
    quarter = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]
    source = make_clip(tmp_path / "turned.mp4", lying, matrix=quarter, tags=BT709)
    path = save(page, source, "webm", tmp_path)
    shown = [f.to_ndarray(format="rgba") for f in decode(path, "libvpx-vp9")]
    check_alpha([each[..., 3] for each in shown], source, fast)


def test_by_keyboard_to_a_file_that_the_user_chooses(page: Page, source: Path) -> None:
    page.evaluate(PICKER)
    open_video(page, source)
    page.select_option("#format", "webm")
    page.focus("#format")
    page.keyboard.press("Tab")  # past the choice of a closer look
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    wait(page, "document.getElementById('left').textContent")
    assert not page.is_enabled("#backend")
    assert page.is_visible("#progress")
    assert ended(page).startswith("people-cutout.webm is saved")
    assert page.evaluate(STORED)["people-cutout.webm"] > 1000
    assert page.is_hidden("#progress")
    assert not page.is_disabled("#backend")
    assert page.evaluate("document.activeElement.id") == "save"
    assert page.evaluate("rematte.tensors()") == 4


@pytest.mark.parametrize("kind", ["webm", "png"])
def test_cancelling_leaves_no_file(page: Page, source: Path, kind: str) -> None:
    page.evaluate(PICKER)
    open_video(page, source)
    page.select_option("#format", kind)
    page.evaluate(
        """async () => {
          const folder = await navigator.storage.getDirectory();
          for await (const name of folder.keys()) await folder.removeEntry(name);
        }"""
    )
    page.click("#save")
    # Clicked inside the page: a busy machine may save the rest before a click comes.
    running = "document.getElementById('left').textContent.match(/^[1-8] /)"
    wait(page, f"{running} && (document.getElementById('cancel').click(), true)")
    assert ended(page) == "Cancelled. No file was left behind."
    assert page.evaluate(STORED) == {}
    assert page.text_content("#message") == ""


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_damaged_file(page: Page, tmp_path: Path, share: float) -> None:
    """What can be read of it is saved, and the page says that it is not all."""
    noise = np.random.default_rng(0).integers(0, 255, (20, 64, 96, 3), np.uint8)
    whole = make_clip(tmp_path / "whole.mp4", list(noise), faststart=True)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    page.evaluate(PICKER)
    open_video(page, cut)
    page.select_option("#format", "webm")
    page.click("#save")
    assert re.fullmatch(
        r"cut-cutout.webm is saved, with \d+ frames\. It ends early: "
        r"the rest of the video is damaged\.",
        ended(page),
    )


def test_sound_alone_and_no_file(page: Page, tmp_path: Path) -> None:
    path = make_sound(tmp_path / "song.m4a")
    page.set_input_files("#video", path)
    wait(page, "document.getElementById('message').textContent")
    expected = "song.m4a has no picture. Choose a file with a video."
    assert page.text_content("#message") == expected
    assert page.is_disabled("#save")


def test_the_sample_without_a_server(browser: Any) -> None:
    own = demo_page.Server()
    context = browser.new_context(locale="en-US")
    try:
        page = context.new_page()
        page.goto(own.address)
        demo_page.ready(page, "wasm")
        wait(page, "caches.match('./sample.mp4').then(Boolean)")
        own.stop()
        page.reload()
        demo_page.ready(page, "wasm")
        page.click(".panel [data-source=sample]")
        wait(page, "rematte.file()?.name === 'sample.mp4'")
        assert page.text_content("#message") == ""
        assert page.evaluate("rematte.file().size") == CLIP.stat().st_size
        page.evaluate("rematte.hold().then(() => rematte.step()).then(() => null)")
        page.evaluate("caches.delete('rematte')")
        page.click(".panel [data-source=sample]")
        wait(page, "document.getElementById('message').textContent")
        assert page.text_content("#message").startswith("The sample cannot be loaded.")
    finally:
        own.stop()
        context.close()
