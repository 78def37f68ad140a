"""The browser demo in a real browser, beside the network in PyTorch."""

import os
import re
from pathlib import Path
from typing import Any

import av
import demo_page
import numpy as np
import pytest
from conftest import make_clip
from demo_page import (
    CLIP,
    ROOT,
    SIZE,
    WEB,
    Image,
    Opener,
    Page,
    Server,
    Truth,
    canvas,
    choose,
    open_file,
    overlap,
    ready,
    require_web,
    step,
    wait,
)

from rematte.export.verify import compare, real_frames
from rematte.network.matting_network import MattingNetwork
from rematte.video.reader import VideoReader

server = pytest.fixture(scope="module")(demo_page.serve)
pictures = pytest.fixture(scope="module")(demo_page.draw_pictures)
clip = pytest.fixture(scope="module")(demo_page.write_clip)
browser = pytest.fixture(scope="module")(demo_page.start_browser)
open_page = pytest.fixture(scope="module")(demo_page.pages)


@pytest.fixture(scope="module")
def webgl(open_page: Opener, clip: Path) -> Page:
    """A page of TensorFlow.js, whose shaders take long to compile without a GPU."""
    page = open_page("webgl")
    open_file(page, clip)
    return page


@pytest.fixture(scope="module")
def page(open_page: Opener, clip: Path) -> Page:
    """The page with a file in it, that gives frames when asked."""
    page = open_page()
    open_file(page, clip)
    return page


@pytest.mark.parametrize(("folder", "fixture"), [("fine", "bundled"), ("fast", "fast")])
def test_the_browsers_onnx_file_is_the_network(
    folder: str, fixture: str, request: pytest.FixtureRequest
) -> None:
    require_web()
    onnx = pytest.importorskip("onnx")
    from rematte.export.formats import Request
    from rematte.export.onnx import open_model

    path = WEB / "public/models" / folder / "network.onnx"
    network = request.getfixturevalue(fixture)
    found = compare(
        network, open_model(path, Request(), 0.6), real_frames((97, 161), 8), 0.6
    )
    assert found.mean["pha"] < 1e-3
    assert path.stat().st_size < 8e6
    graph = onnx.load(path).graph
    shapes = {tensor.name: tensor.dims for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Conv" and any(
            a.name == "group" and a.i == 1 for a in node.attribute
        ):
            name = node.input[1]
            assert shapes.get(name, shapes.get(f"{name}.float16"))[1] % 4 == 0


def test_padding_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = pytest.importorskip("onnx")
    from rematte.engines.runtimes import import_onnxruntime

    InferenceSession = import_onnxruntime().InferenceSession

    monkeypatch.syspath_prepend(ROOT / "tools")
    from web_models import for_browsers

    path = tmp_path / "net.onnx"
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 18]>
        net (float[1, 5, 9, 7] x) => (float[1, 2, 9, 7] y) {
            y = Conv <pads = [1, 1, 1, 1]> (x, weights)
        }"""
    )
    draw = np.random.default_rng(0).standard_normal
    weights = draw((2, 5, 3, 3)).astype(np.float16).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "weights"))
    onnx.save(model, path)
    given = {"x": draw((1, 5, 9, 7)).astype(np.float32)}
    (before,) = InferenceSession(path).run(None, given)
    for_browsers(path)
    (after,) = InferenceSession(path).run(None, given)
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert [node.op_type for node in onnx.load(path).graph.node] == [
        "Cast",
        "Pad",
        "Conv",
    ]


def test_an_emulated_gpu_is_not_chosen(page: Page) -> None:
    assert page.title() == "rematte"
    assert page.evaluate("crossOriginIsolated")
    assert page.input_value("#backend") == "automatic"
    expected = (
        r"WebAssembly · ONNX Runtime, \d+ threads, fast network; its output was.*"
    )
    assert re.fullmatch(expected, page.text_content("#engine"))
    assert page.text_content("#wait") == ""


@pytest.mark.parametrize(
    ("backend", "count"), [("webgpu", 2), ("webgl", 3), ("wasm", 6)]
)
def test_alpha_of_a_file(
    backend: str,
    count: int,
    open_page: Opener,
    clip: Path,
    request: pytest.FixtureRequest,
) -> None:
    if backend == "webgl":
        page = request.getfixturevalue("webgl")
    else:
        page = open_page(backend)
        open_file(page, clip)
    choose(page, "alpha")
    # Without a GPU the page takes the fast network.
    truth = Truth(request.getfixturevalue("fast" if backend == "wasm" else "bundled"))
    for index in range(count):
        given, shown, ratio = step(page, index / 25 + 0.01)
        _, alpha = truth(given, ratio)
        assert 0.1 < alpha.mean() < 0.9
        assert overlap(shown[..., :1] / 255, alpha) > 0.99


def test_alpha_of_a_camera(open_page: Opener, fast: MattingNetwork) -> None:
    page = open_page()
    choose(page, "alpha")
    page.select_option("#size", "256")
    page.click("#empty [data-source=camera]")
    wait(page, "document.getElementById('empty').hidden", timeout=60_000)
    page.evaluate("rematte.hold()")
    truth = Truth(fast)
    frames = []
    for _ in range(6):
        given, shown, ratio = step(page)
        _, alpha = truth(given, ratio)
        assert 0.1 < alpha.mean() < 0.9
        assert overlap(shown[..., :1] / 255, alpha) > 0.99
        frames.append(given)
    assert any((frame != frames[0]).any() for frame in frames)
    page.context.close()


def image_file(tmp_path: Path, colour: tuple[int, int, int]) -> Path:
    picture = np.full((40, 60, 3), colour, np.uint8)
    frame = av.VideoFrame.from_ndarray(picture, "rgb24")
    with av.open(str(tmp_path / "behind.png"), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 60, 40, "rgb24"
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return tmp_path / "behind.png"


def test_every_view(page: Page, fast: MattingNetwork, tmp_path: Path) -> None:
    page.evaluate("rematte.hold()")
    truth = Truth(fast)
    blue, red = (20, 60, 200), (180, 30, 20)
    page.set_input_files("#image", image_file(tmp_path, blue))
    video = make_clip(tmp_path / "red.mp4", [np.full((64, 96, 3), red, np.uint8)] * 25)
    page.set_input_files("#backdrop", video)
    wait(page, "rematte.behind.image && rematte.behind.video")
    solid = {"white": (255,) * 3, "green": (120, 255, 153), "image": blue, "video": red}
    for view in (
        "white",
        "green",
        "image",
        "video",
        "transparent",
        "foreground",
        "alpha",
    ):
        choose(page, view)
        given, _, ratio = step(page)
        foreground, alpha = truth(given, ratio)
        seen = canvas(page).astype(float)
        assert seen.shape[:2] == (SIZE[1], SIZE[0])
        if view == "transparent":
            assert np.abs(seen[..., 3:] - alpha * 255).mean() < 1
            continue
        behind = np.array(solid.get(view, (0, 0, 0)))
        expected = {
            "foreground": foreground,
            "alpha": np.repeat(alpha * 255, 3, 2),
        }.get(view, alpha * foreground + (1 - alpha) * behind)
        assert np.abs(seen[..., :3] - expected).mean() < 3, view
        assert (seen[..., 3] == 255).all()


def test_blur_is_behind_and_not_on_people(page: Page, fast: MattingNetwork) -> None:
    page.evaluate("rematte.hold()")
    truth = Truth(fast)
    choose(page, "blur")
    for _ in range(3):
        given, _, ratio = step(page)
        foreground, alpha = truth(given, ratio)
    seen = canvas(page)[..., :3].astype(float)
    inside = alpha[..., 0] > 0.99
    assert np.abs(seen - foreground)[inside].mean() < 3
    outside = alpha[..., 0] < 0.01
    assert outside.sum() > 10
    source = given.astype(float)
    rough = [np.abs(np.diff(x, axis=1))[outside[:, 1:]].mean() for x in (seen, source)]
    assert rough[0] < rough[1] / 2


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_states_are_shown(page: Page, fast: MattingNetwork, number: int) -> None:
    page.evaluate("rematte.hold()")
    truth = Truth(fast)
    choose(page, f"r{number}")
    for _ in range(2):  # the second one proves that reading a state keeps it
        given, shown, ratio = step(page)
        truth(given, ratio)
    state = truth.rec[number - 1][0].numpy()
    channels, height, width = state.shape
    rows = shown.shape[0] // height
    columns = shown.shape[1] // width
    assert rows * columns == channels
    mine = shown[..., 0].reshape(rows, height, columns, width).swapaxes(1, 2)
    expected = 127.5 * (1 + state)
    assert np.abs(mine.reshape(state.shape) - expected).mean() < 2


def test_a_recording_plays(open_page: Opener, clip: Path, tmp_path: Path) -> None:
    page = open_page()
    open_file(page, clip)
    page.evaluate("rematte.step()")
    page.click("#record")
    assert page.text_content("#record") == "Stop recording"
    for index in range(15):
        # A state is of another size: it has to fit in.
        choose(page, "r1" if index > 11 else "transparent")
        page.evaluate("rematte.step()")
        page.wait_for_timeout(200)
    with page.expect_download() as download:
        page.click("#record")
    name = download.value.suggested_filename
    assert name.startswith("rematte-")
    assert name.endswith(".webm")
    download.value.save_as(tmp_path / name)
    decoder: Any = av.CodecContext.create("libvpx-vp9", "r")  # with alpha
    with av.open(str(tmp_path / name)) as container:
        packets = container.demux(video=0)
        frames = [frame for packet in packets for frame in decoder.decode(packet)]
    assert len(frames) > 8
    assert {(frame.width, frame.height) for frame in frames} == {SIZE}
    times = [frame.pts for frame in frames]
    assert times == sorted(set(times))
    alpha = frames[5].to_ndarray(format="rgba")[..., 3]
    assert alpha[:6, :6].max() < 10
    assert (alpha > 245).mean() > 0.1
    page.context.close()


@pytest.mark.parametrize(("backend", "count"), [("wasm", 1000), ("webgl", 50)])
def test_many_frames_leave_memory_flat(
    backend: str,
    count: int,
    browser: Any,
    open_page: Opener,
    tmp_path: Path,
    pictures: list[Image],
    request: pytest.FixtureRequest,
) -> None:
    """Tensors, the page's heap, and all of the processes: buffers, WebAssembly.

    The GPU in software is slow; by hand, it was run for a thousand frames too.
    """
    page = request.getfixturevalue("webgl") if backend == "webgl" else open_page()
    tiny = [picture[::4, ::4] for picture in pictures[:5]]
    open_file(page, make_clip(tmp_path / "tiny.mp4", tiny))
    processes = browser.new_browser_cdp_session()

    def after_frames(frames: int) -> tuple[int, int, int]:
        tensors, heap = page.evaluate(
            """async count => {
              for (let at = 0; at < count; at++) await rematte.step();
              gc();
              return [await rematte.tensors(), performance.memory.usedJSHeapSize];
            }""",
            frames,
        )
        page.workers[0].evaluate("gc()")
        found = processes.send("SystemInfo.getProcessInfo")["processInfo"]
        return tensors, heap, sum(resident(process["id"]) for process in found)

    tensors, heap, whole = after_frames(count // 5)
    sizes = [whole]
    # Caches of the GPU in software, as of shaders, may grow for a while; what every
    # step leaves behind grows for ever: 40 MB and more in five rounds.
    while len(sizes) < 6 or (sizes[-1] > sizes[-6] + 20e6 and len(sizes) < 21):
        now, page_heap, processes_now = after_frames(count // 5)
        assert now == tensors
        sizes.append(processes_now)
    assert page_heap < heap + 1e6
    assert sizes[-1] <= sizes[-6] + 20e6, sizes
    page.context.close()


def resident(process: int) -> int:
    """Memory of a process [bytes]; 0 where the system does not tell."""
    status = Path(f"/proc/{process}/statm")
    if not status.exists():
        return 0
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_works_offline_once_loaded(browser: Any, clip: Path) -> None:
    own = Server()
    context = browser.new_context(locale="en-US")
    try:
        page = context.new_page()
        page.goto(own.address)
        ready(page, "wasm")
        own.stop()
        page.reload()
        ready(page, "wasm")
        open_file(page, clip)
        step(page)
    finally:
        own.stop()
        context.close()


def test_a_file_that_is_no_video_is_refused(
    open_page: Opener, clip: Path, tmp_path: Path
) -> None:
    page = open_page()
    (tmp_path / "text.mp4").write_text("no video")
    page.set_input_files("#video", tmp_path / "text.mp4")
    wait(page, "document.getElementById('message').textContent")
    expected = "This browser cannot play text.mp4. Convert it to MP4 (H.264) or WebM."
    assert page.text_content("#message") == expected
    open_file(page, clip)
    step(page)
    assert page.is_hidden("#empty")
    page.set_input_files("#video", tmp_path / "text.mp4")
    wait(page, "!document.getElementById('empty').hidden")
    assert page.is_disabled("#record")
    assert page.text_content("#picture") == "\N{EN DASH}"
    make_clip(tmp_path / "damaged.mp4", 4)
    data = (tmp_path / "damaged.mp4").read_bytes()
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    (tmp_path / "damaged.mp4").write_bytes(
        data[:start] + np.random.default_rng(0).bytes(end - start) + data[end:]
    )
    page.set_input_files("#video", tmp_path / "damaged.mp4")
    wait(page, "document.getElementById('message').textContent.includes('damaged')")
    assert page.is_disabled("#pause")
    page.set_input_files("#image", tmp_path / "text.mp4")
    wait(page, "document.getElementById('message').textContent.includes('show text')")
    page.context.close()


def test_a_pause_while_a_file_opens(open_page: Opener) -> None:
    """The picture comes nevertheless, also where another was about to open."""
    page = open_page()
    size = page.evaluate(
        """async () => {
          const answer = await fetch('./sample.mp4');
          const files = new DataTransfer();
          files.items.add(new File([await answer.blob()], 'sample.mp4'));
          const input = document.getElementById('video');
          input.files = files.files;
          for (let at = 0; at < 2; at++) input.dispatchEvent(new Event('change'));
          await rematte.hold();
          const {width, height} = await rematte.step();
          return [width, height];
        }"""
    )
    with VideoReader(CLIP) as reader:
        height, width = next(iter(reader)).pixels.shape[:2]
    assert size[0] / size[1] == pytest.approx(width / height, rel=0.01)
    assert page.text_content("#message") == ""
    page.context.close()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NotAllowedError", "Access to the camera was denied."),
        ("NotFoundError", "There is no camera."),
        ("NotReadableError", "The camera cannot be read."),
    ],
)
def test_a_camera_that_is_refused(page: Page, name: str, message: str) -> None:
    page.evaluate(
        "name => { navigator.mediaDevices.getUserMedia = async () => {"
        " throw new DOMException('no', name); }; }",
        name,
    )
    page.click(".panel [data-source=camera]")
    wait(
        page,
        "text => document.getElementById('message').textContent.startsWith(text)",
        arg=message,
    )


def test_a_backend_with_wrong_numbers_is_not_used(browser: Any, server: Server) -> None:
    context = browser.new_context(locale="en-US", service_workers="block")
    context.route(
        "**/check.json",
        lambda route: route.fulfill(
            json=route.fetch().json() | {"alpha": [0] * (96 * 160)}
        ),
    )
    # The others, slow here, fail to load.
    context.route(re.compile("asyncify|tfjs-"), lambda route: route.abort())
    page = context.new_page()
    page.goto(server.address)
    wait(page, "document.getElementById('message').textContent", timeout=150_000)
    told = page.text_content("#message")
    assert told.startswith(
        "The network does not run here: wasm: its alpha is off by 0."
    )
    context.close()


CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
  const rgb = colours => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) {
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
    }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = colours => rgb(colours)
    .map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [.2126, .7152, .0722][at], 0);
  const poor = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!own || !element.checkVisibility() || element.disabled) continue;
    const layers = [];
    for (let up = element; up; up = up.parentElement) {
      layers.unshift(getComputedStyle(up).backgroundColor);
    }
    const [a, b] = [light(layers), light([...layers, getComputedStyle(element).color])];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) poor.push(`${element.textContent.trim()} ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


def test_looks(open_page: Opener, clip: Path) -> None:
    """Contrast of WCAG AA in both looks and languages, also at phone width; names."""
    page = open_page(viewport={"width": 360, "height": 740}, color_scheme="dark")
    seen = set()
    for _ in range(2):
        for _ in range(2):
            seen.add(page.evaluate("document.documentElement.dataset.theme"))
            wait(page, "!document.getAnimations().length")  # colours fade
            assert page.evaluate(CONTRAST) == []
            page.click("#theme")
        seen.add(page.text_content("h2"))
        assert "undefined" not in page.inner_text("body")
        page.click("#language")
    assert {"dark", "light", "Cut people out of video, right here"} < seen
    assert len(seen) == 4  # and the title in Chinese
    wide = "document.documentElement.scrollWidth > innerWidth"
    assert not page.evaluate(wide)
    open_file(page, clip)
    assert not page.evaluate(wide)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, select, input, a')]
          .filter(e => e.checkVisibility() && !(e.textContent.trim()
            || e.labels?.[0]?.textContent.trim())).map(e => e.outerHTML)"""
    )
    assert nameless == []
    page.context.close()


AXE = """async () => {
  const {violations} = await axe.run(document);
  return violations.map(({id, nodes}) => `${id}: ${nodes.map(each => each.html)}`);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(open_page: Opener, clip: Path, scheme: str) -> None:
    page = open_page(color_scheme=scheme)
    page.evaluate((WEB / "node_modules/axe-core/axe.min.js").read_text())
    page.evaluate("document.querySelector('details').open = true")
    assert page.evaluate(AXE) == []
    open_file(page, clip)
    page.evaluate("rematte.step()")
    page.click("#language")
    assert page.evaluate(AXE) == []
    page.context.close()


def test_what_is_said_already_is_not_announced_again(page: Page) -> None:
    page.evaluate(
        """() => {
          window.said = [];
          for (const each of document.querySelectorAll('[role=status]')) {
            new MutationObserver(() => said.push(each.textContent)).observe(
              each, {childList: true, characterData: true, subtree: true});
          }
        }"""
    )
    for _ in range(2):
        page.click("#theme")
    assert page.evaluate("said") == []
    for _ in range(2):
        page.click("#language")
    # The engine and what else is shown, in the other language and back.
    said = page.evaluate("said")
    assert len(said) == len(set(said)) >= 2


def test_it_can_be_installed(browser: Any, server: Server) -> None:
    page = browser.new_page()
    page.goto(server.address)
    ready(page, "wasm")
    session = page.context.new_cdp_session(page)
    errors = session.send("Page.getInstallabilityErrors")["installabilityErrors"]
    # Not in a window without a trace, as contexts of tests are.
    assert [e["errorId"] for e in errors if e["errorId"] != "in-incognito"] == []
    manifest = session.send("Page.getAppManifest")
    assert manifest["errors"] == []
    assert manifest["data"]
    page.close()


def test_what_the_page_loads_is_small(browser: Any, server: Server) -> None:
    """On a first visit, before the network's weights and the engine that runs it."""
    context = browser.new_context(locale="en-US")
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = context.new_page()
    page.goto(server.address)
    ready(page, "wasm")
    context.close()
    names = [url.removeprefix(server.address).strip("/") for url in asked]
    first = {
        name or "index.html"
        for name in names[: names.index("models/fast/network.onnx")]
    }
    assert {"index.html", "sw.js"} < first
    own = [WEB / "dist" / name for name in first if not re.search(r"ort[-.]", name)]
    assert sum(path.stat().st_size for path in own) < 100e3


def test_the_keyboard_is_enough(open_page: Opener) -> None:
    page = open_page()
    visited = []
    for _ in range(20):
        page.keyboard.press("Tab")
        focus = "document.activeElement"
        visited.append(
            page.evaluate(f"{focus}.id || {focus}.dataset.source || {focus}.value")
        )
    for name in (
        *("language", "theme", "camera", "file", "sample", "format", "size", "ratio"),
    ):
        assert name in visited
    assert "backend" in visited
    page.focus("input[name=view][value=green]")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.value") == "white"
    assert page.is_checked("input[name=view][value=white]")
    page.focus("#empty [data-source=sample]")
    page.keyboard.press("Enter")
    wait(page, "document.getElementById('empty').hidden", timeout=60_000)
    assert page.evaluate("document.activeElement.id") == "pause"
    page.context.close()
