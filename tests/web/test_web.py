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
from demo_page import WEB, Image, Opener, Page, Truth, open_file, overlap, step, wait
from fakes import save_images

from rematte.export.verify import compare, real_frames
from rematte.network.matting_network import MattingNetwork
from rematte.video.reader import VideoReader

Fixtures = pytest.FixtureRequest
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
    folder: str, fixture: str, request: Fixtures
) -> None:
    demo_page.require_web()
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


def test_an_emulated_gpu_is_not_chosen(page: Page) -> None:
    assert page.title() == "rematte"
    assert page.evaluate("crossOriginIsolated")
    assert page.input_value("#backend") == "automatic"
    expected = r"WebAssembly · ONNX Runtime, \d+ threads, fast network; its output.*"
    assert re.fullmatch(expected, page.text_content("#engine"))
    assert page.text_content("#wait") == ""


def step_as(truth: Truth, page: Page, time: float | None = None) -> Image:
    """Matte one frame, whose alpha must be the network's; give what went in."""
    given, shown, ratio = step(page, time)
    _, alpha = truth(given, ratio)
    assert 0.1 < alpha.mean() < 0.9
    assert overlap(shown[..., :1] / 255, alpha) > 0.99
    return given


@pytest.mark.parametrize(
    ("backend", "count"), [("webgpu", 2), ("webgl", 3), ("wasm", 6)]
)
def test_alpha_of_a_file(
    backend: str, count: int, open_page: Opener, clip: Path, request: Fixtures
) -> None:
    if backend == "webgl":
        page = request.getfixturevalue("webgl")
    else:
        page = open_page(backend)
        open_file(page, clip)
    demo_page.choose(page, "alpha")
    # Without a GPU the page takes the fast network.
    truth = Truth(request.getfixturevalue("fast" if backend == "wasm" else "bundled"))
    for index in range(count):
        step_as(truth, page, index / 25 + 0.01)


def test_alpha_of_a_camera(open_page: Opener, fast: MattingNetwork) -> None:
    page = open_page()
    demo_page.choose(page, "alpha")
    page.select_option("#size", "256")
    page.click("#empty [data-source=camera]")
    wait(page, "document.getElementById('empty').hidden", timeout=60_000)
    page.evaluate("rematte.hold()")
    truth = Truth(fast)
    frames = [step_as(truth, page) for _ in range(6)]
    assert any((frame != frames[0]).any() for frame in frames)
    page.context.close()


def test_every_view(page: Page, fast: MattingNetwork, tmp_path: Path) -> None:
    page.evaluate("rematte.hold()")
    truth = Truth(fast)
    blue, red = (20, 60, 200), (180, 30, 20)
    picture = np.full((40, 60, 3), blue, np.uint8)
    image = save_images(tmp_path / "behind", [picture]) / "shot0.png"
    page.set_input_files("#image", image)
    video = make_clip(tmp_path / "red.mp4", [np.full((64, 96, 3), red, np.uint8)] * 25)
    page.set_input_files("#backdrop", video)
    wait(page, "rematte.behind.image && rematte.behind.video")
    solid = {"white": (255,) * 3, "green": (120, 255, 153), "image": blue, "video": red}
    for view in (*solid, "transparent", "foreground", "alpha"):
        demo_page.choose(page, view)
        given, _, ratio = step(page)
        foreground, alpha = truth(given, ratio)
        seen = demo_page.canvas(page).astype(float)
        assert seen.shape[:2] == (demo_page.SIZE[1], demo_page.SIZE[0])
        if view == "transparent":
            assert np.abs(seen[..., 3:] - alpha * 255).mean() < 1
            continue
        behind = np.array(solid.get(view, (0, 0, 0)))
        maps = {"foreground": foreground, "alpha": np.repeat(alpha * 255, 3, 2)}
        expected = maps.get(view, alpha * foreground + (1 - alpha) * behind)
        assert np.abs(seen[..., :3] - expected).mean() < 3, view
        assert (seen[..., 3] == 255).all()


def test_blur_is_behind_and_not_on_people(page: Page, fast: MattingNetwork) -> None:
    page.evaluate("rematte.hold()")
    truth = Truth(fast)
    demo_page.choose(page, "blur")
    for _ in range(3):
        given, _, ratio = step(page)
        foreground, alpha = truth(given, ratio)
    seen = demo_page.canvas(page)[..., :3].astype(float)
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
    demo_page.choose(page, f"r{number}")
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
        demo_page.choose(page, "r1" if index > 11 else "transparent")
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
    assert {(frame.width, frame.height) for frame in frames} == {demo_page.SIZE}
    times = [frame.pts for frame in frames]
    assert times == sorted(set(times))
    alpha = frames[5].to_ndarray(format="rgba")[..., 3]
    assert alpha[:6, :6].max() < 10
    assert (alpha > 245).mean() > 0.1
    page.context.close()


@pytest.mark.parametrize(("backend", "count"), [("wasm", 1000), ("webgl", 50)])
def test_many_frames_leave_memory_flat(
    backend: str, count: int, browser: Any, open_page: Opener, tmp_path: Path,
    pictures: list[Image], request: Fixtures,
) -> None:  # fmt: skip
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
    status = Path(f"/proc/{process}/statm")
    if not status.exists():
        return 0
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_file_that_is_no_video(open_page: Opener, clip: Path, tmp_path: Path) -> None:
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
    with VideoReader(demo_page.CLIP) as reader:
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


def test_a_backend_with_wrong_numbers_is_not_used(browser: Any, server: Any) -> None:
    context = browser.new_context(locale="en-US", service_workers="block")
    wrong = {"alpha": [0] * (96 * 160)}
    context.route(
        "**/check.json",
        lambda route: route.fulfill(json=route.fetch().json() | wrong),
    )
    # The others, slow here, fail to load.
    context.route(re.compile("asyncify|tfjs-"), lambda route: route.abort())
    page = context.new_page()
    page.goto(server.address)
    wait(page, "document.getElementById('message').textContent", timeout=150_000)
    told = page.text_content("#message")
    assert told.startswith("The network does not run here: wasm: its alpha is off by")
    context.close()


AXE = """async () => {
  const {violations} = await axe.run(document);
  return violations.map(({id, nodes}) => `${id}: ${nodes.map(each => each.html)}`);
}"""


def test_looks(open_page: Opener, clip: Path) -> None:
    """Axe finds nothing (contrast of WCAG AA, names) in both looks and languages."""
    page = open_page(viewport={"width": 360, "height": 740}, color_scheme="dark")
    page.evaluate((WEB / "node_modules/axe-core/axe.min.js").read_text())
    page.evaluate("document.querySelector('details').open = true")
    seen = set()
    for _ in range(2):
        for _ in range(2):
            seen.add(page.evaluate("document.documentElement.dataset.theme"))
            wait(page, "!document.getAnimations().length")  # colours fade
            assert page.evaluate(AXE) == []
            page.click("#theme")
        seen.add(page.text_content("h2"))
        assert "undefined" not in page.inner_text("body")
        page.click("#language")
    assert {"dark", "light", "Cut people out of video, right here"} < seen
    assert len(seen) == 4  # and the title in Chinese
    wide = "document.documentElement.scrollWidth > innerWidth"
    assert not page.evaluate(wide)
    open_file(page, clip)
    page.evaluate("rematte.step()")
    assert not page.evaluate(wide)
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


def test_it_can_be_installed(browser: Any, server: demo_page.Server) -> None:
    page = browser.new_page()
    page.goto(server.address)
    demo_page.ready(page, "wasm")
    session = page.context.new_cdp_session(page)
    errors = session.send("Page.getInstallabilityErrors")["installabilityErrors"]
    # Not in a window without a trace, as contexts of tests are.
    assert [e["errorId"] for e in errors if e["errorId"] != "in-incognito"] == []
    manifest = session.send("Page.getAppManifest")
    assert manifest["errors"] == []
    assert manifest["data"]
    page.close()


def test_what_the_page_loads_is_small(browser: Any, server: demo_page.Server) -> None:
    """On a first visit, before the network's weights and the engine that runs it."""
    context = browser.new_context(locale="en-US")
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = context.new_page()
    page.goto(server.address)
    demo_page.ready(page, "wasm")
    context.close()
    names = [url.removeprefix(server.address).strip("/") for url in asked]
    end = names.index("models/fast/network.onnx")
    first = {name or "index.html" for name in names[:end]}
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
    wanted = {"language", "theme", "camera", "file", "sample", "format", "size"}
    assert wanted | {"ratio", "backend"} <= {*visited}
    page.focus("input[name=view][value=green]")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.value") == "white"
    assert page.is_checked("input[name=view][value=white]")
    page.focus("#empty [data-source=sample]")
    page.keyboard.press("Enter")
    wait(page, "document.getElementById('empty').hidden", timeout=60_000)
    assert page.evaluate("document.activeElement.id") == "pause"
    page.context.close()
