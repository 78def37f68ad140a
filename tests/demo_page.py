"""Shared by tests of the browser demo: a server, a browser, and how to use the page."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from conftest import make_clip, require
from fakes import ROOT
from numpy.typing import NDArray

from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader

WEB = ROOT / "web"
VITE = WEB / "node_modules/vite/bin/vite.js"
CLIP = ROOT / "demo" / "clip.mp4"
SIZE = (128, 160)  # of the clips that are made of it; it is upright
FLAGS = [
    # A GPU in software.
    *("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"),
    *("--enable-features=Vulkan", "--use-angle=swiftshader"),
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--enable-precise-memory-info",
    "--js-flags=--expose-gc",
]
Image = NDArray[np.uint8]
Page = Any
ENGINES = {"webgpu": "WebGPU", "webgl": "WebGL", "wasm": "WebAssembly"}


def require_web() -> None:
    there = {
        "Node": shutil.which("node"),
        "web/dist": (WEB / "dist/index.html").is_file(),
        "web/node_modules": (WEB / "node_modules/vite").is_dir(),
    }
    require([name for name, found in there.items() if not found], "web")


class Server:
    """The server that `make web` starts, on a free port, for a page that was built."""

    def __init__(self, folder: Path = WEB) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = ["node", VITE, "preview", "--port", str(port), "--strictPort"]
        self.process = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL)
        self.address = f"http://127.0.0.1:{port}/"
        end = time.monotonic() + 30
        while time.monotonic() < end and self.process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.1)
        pytest.fail("the server did not start")

    def stop(self) -> None:
        self.process.kill()  # it would wait for idle connections
        self.process.wait()


def serve() -> Iterator[Server]:
    """Serve the page for a while."""
    require_web()
    server = Server()
    yield server
    server.stop()


def draw_pictures() -> list[Image]:
    """Frames of the demo's clip, small."""
    with VideoReader(CLIP, ReadOptions(size=SIZE)) as reader:
        return [frame.pixels for frame in islice(reader, 50)]


def write_clip(pictures: list[Image], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("web") / "people.mp4", pictures)


def start_browser(
    launch: Any, pictures: list[Image], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    require_web()
    camera = tmp_path_factory.mktemp("camera") / "people.y4m"
    with camera.open("wb") as file:
        file.write(b"YUV4MPEG2 W%d H%d F25:1 Ip C420jpeg\n" % SIZE)
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            planes = frame.reformat(format="yuv420p", dst_color_range=2).to_ndarray()
            file.write(b"FRAME\n" + planes.tobytes())
    chromium = launch(*FLAGS, f"--use-file-for-fake-video-capture={camera}")
    yield chromium
    chromium.close()


Opener = Callable[..., Page]


def pages(browser: Any, server: Server) -> Iterator[Opener]:
    """Open the page with a backend, and wait until its output was checked."""
    contexts = []

    def give(backend: str = "wasm", **words: Any) -> Page:
        words = {"locale": "en-US", "permissions": ["camera"]} | words
        context = browser.new_context(**words)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: pytest.fail(str(error)))
        page.goto(server.address)
        if backend == "webgl" or backend == "webgpu":
            page.select_option("#backend", backend)
        ready(page, backend)
        return page

    yield give
    for context in contexts:
        context.close()


def wait(page: Page, condition: str, arg: Any = None, timeout: int = 30_000) -> None:
    """Wait until a JavaScript expression, or a function of `arg`, holds.

    Playwright's own waiting compiles text in the page, which its policy forbids.
    """
    end = time.monotonic() + timeout / 1000
    while not page.evaluate(condition, arg):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


def ready(page: Page, backend: str) -> None:
    wait(
        page,
        "name => document.getElementById('engine').textContent.startsWith(name)"
        " || document.getElementById('message').textContent",
        arg=ENGINES[backend],
        timeout=150_000,
    )
    assert page.text_content("#message") == ""


def open_file(page: Page, clip: Path) -> None:
    page.select_option("#size", "0")
    page.set_input_files("#video", clip)
    wait(page, "document.getElementById('pause').disabled === false")
    page.evaluate("rematte.hold()")


def choose(page: Page, view: str) -> None:
    page.check(f"input[name=view][value={view}]", force=True)


def step(page: Page, time: float | None = None) -> tuple[Image, Image, float]:
    """Matte one frame; give what went in, (H, W, 3), what came out, and the ratio."""
    if time is not None:
        page.evaluate("time => rematte.seek(time)", time)
    done = page.evaluate(
        """async () => {
          const {width, height, ratio, given, shown} = await rematte.step();
          return {size: [height, width], ratio, given: [...given],
            shown: [...shown.data], shape: [shown.height, shown.width]};
        }"""
    )
    given = np.array(done["given"], np.uint8).reshape(*done["size"], 4)[..., :3]
    shown = np.array(done["shown"], np.uint8).reshape(*done["shape"], 4)
    return given, shown, done["ratio"]


def canvas(page: Page) -> Image:
    """What is seen, (H, W, 4)."""
    done = page.evaluate(
        """() => {
          const {width, height} = document.getElementById('canvas');
          const context = document.getElementById('canvas').getContext('2d');
          return [height, width, [...context.getImageData(0, 0, width, height).data]];
        }"""
    )
    return np.array(done[2], np.uint8).reshape(done[0], done[1], 4)


class Truth:
    """The network in PyTorch, shown the same frames."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network
        self.rec: list[Any] = [None] * 4

    def __call__(self, given: Image, ratio: float) -> tuple[Any, Any]:
        src = torch.from_numpy(given).movedim(-1, 0)[None] / 255
        with torch.inference_mode():
            fgr, pha, *self.rec = self.network(src, *self.rec, ratio)
        return fgr[0].movedim(0, -1).numpy() * 255, pha[0, 0].numpy()[..., None]


def overlap(one: NDArray[Any], two: NDArray[Any]) -> float:
    """Intersection over union of two alphas."""
    return float(np.minimum(one, two).sum() / np.maximum(one, two).sum())
