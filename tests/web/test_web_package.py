"""The npm package `rematte-web` as it is packed, in Node and in Chromium."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import demo_page
import numpy as np
import pytest
from demo_page import WEB, Server, Truth, overlap, wait

from rematte.network.matting_network import MattingNetwork as Network

pictures = pytest.fixture(scope="module")(demo_page.draw_pictures)
browser = pytest.fixture(scope="module")(demo_page.start_browser)
MODELS = WEB / "public/models/fine"
Pictures = list[demo_page.Image]
PAGE = """<!doctype html><script type="module">
import {createMatter} from 'rematte-web';
window.createMatter = createMatter;
</script>"""
# Threads of WebAssembly need a page that is isolated from others.
CONFIG = """const headers = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
};
export default {worker: {format: 'es'}, build: {target: 'es2022'}, preview: {headers}};
"""
IN_NODE = """
import {readFileSync} from 'node:fs';
import {createMatter} from 'rematte-web';
const refused = await Promise.all([
  {models: 'file:///x/', backend: 'gpu'}, {models: 'file:///x/', size: 8}, {},
].map(options => createMatter(options).catch(error => error.message)));
const {models, width, height, frames} = JSON.parse(readFileSync(process.argv[2]));
const matter = await createMatter({models});
const alphas = [];
const tensors = [];
for (const frame of frames) {
  const data = Uint8Array.from(frame);
  const {alpha, rgba} = await matter.matte({data, width, height});
  alphas.push([...alpha]);
  if (alpha[9] !== rgba[39]) throw new Error('alpha is not that of rgba');
  tensors.push(await matter.tensors());
}
await matter.reset();
const again = await matter.matte({data: Uint8Array.from(frames[0]), width, height});
const same = [...again.alpha].every((value, at) => value === alphas[0][at]);
const tiny = matter.matte({data: new Uint8Array(400), width: 10, height: 10});
refused.push(await tiny.catch(error => error.message));
const {backend} = matter;
matter.close();
refused.push(await matter.reset().catch(error => error.message));
console.log(JSON.stringify({backend, alphas, tensors, same, refused}));
"""
TYPED = """
import {createMatter, type Matte, type Matter} from 'rematte-web';
const models = (name: string) => `models/${name}`;
const options = {models, backend: 'wasm' as const, size: 384};
const matter: Matter = await createMatter(options);
const matte: Matte = await matter.matte(new ImageData(64, 64));
const alpha: Uint8ClampedArray = matte.alpha;
// @ts-expect-error: there is no such backend
await createMatter({models: 'models/', backend: 'cpu'});
"""


def check(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packed package and what it depends on."""
    demo_page.require_web()
    folder = tmp_path_factory.mktemp("packed")
    packed = check(
        *("npm", "pack", "--silent", "--pack-destination", folder), cwd=WEB / "package"
    )
    modules = folder / "node_modules"
    modules.mkdir()
    shutil.unpack_archive(folder / packed.split()[-1], modules)
    (modules / "package").rename(modules / "rematte-web")
    about = json.loads((modules / "rematte-web/package.json").read_text())
    for name in {name.split("/")[0] for name in about["dependencies"]}:
        (modules / name).symlink_to(WEB / "node_modules" / name)
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


def rgba(picture: demo_page.Image) -> list[int]:
    opaque = np.full((*picture.shape[:2], 1), 255, np.uint8)
    return list(map(int, np.concatenate([picture, opaque], 2).ravel()))


def test_in_node(installed: Path, pictures: Pictures, bundled: Network) -> None:
    height, width = pictures[0].shape[:2]
    given = {"models": MODELS.as_uri(), "width": width, "height": height}
    given |= {"frames": [rgba(picture) for picture in pictures[:3]]}
    (installed / "frames.json").write_text(json.dumps(given))
    (installed / "main.js").write_text(IN_NODE)
    done = json.loads(check("node", "main.js", "frames.json", cwd=installed))
    truth = Truth(bundled)
    for picture, alpha in zip(pictures, done["alphas"], strict=False):
        found = np.array(alpha).reshape(height, width, 1) / 255
        assert overlap(found, truth(picture, 1)[1]) > 0.99
    assert done["backend"] == "wasm"
    assert done["tensors"] == [4, 4, 4]
    assert done["same"]  # nothing is remembered after a reset
    for message, words in zip(
        done["refused"],
        (
            "backend is gpu; use automatic, webgpu, webgl, wasm",
            "size is 8; use 64 or more",
            "models is missing; give the address",
            "a frame of 10x10 at ratio 1 leaves less than 16 pixels; use a larger",
            "the matter was closed",
        ),
        strict=True,
    ):
        assert message.startswith(words)


IN_A_WINDOW = """
import {readFileSync, writeFileSync} from 'node:fs';
import {createMatter} from 'rematte-web';
const [models, width, height] = process.argv.slice(2);
const matter = await createMatter({models, size: 256});
const length = 4 * width * height;
const bytes = readFileSync('frames.rgba');
const windows = [];
let last;
for (let at = 0; at < bytes.length; at += length) {
  const frame = {data: bytes.subarray(at, at + length), width: +width, height: +height};
  last = await matter.matte(frame, {region: 'auto'});
  windows.push(await matter.window());
}
writeFileSync('alpha', last.alpha);
const tensors = await matter.tensors();
matter.close();
console.log(JSON.stringify({windows, tensors}));
"""


def test_window_follows(installed: Path, pictures: Pictures, bundled: Network) -> None:
    """The person is seen larger, with states that move along."""
    height, width, count = 400, 640, 30
    frames = np.full((count, height, width, 4), 255, np.uint8)
    frames[..., :3] = pictures[0][2, 2]
    for n, frame in enumerate(frames):
        left = 60 + 40 * min(8, max(0, n - 16))
        frame[100:260, left : left + 128, :3] = pictures[n]
    (installed / "frames.rgba").write_bytes(frames.tobytes())
    (installed / "window.js").write_text(IN_A_WINDOW)
    words = ("node", "window.js", MODELS.as_uri(), str(width), str(height))
    done = json.loads(check(*words, cwd=installed))
    window = done["windows"][-1]
    assert window["width"] < 0.87 * width
    lefts = [each["left"] for each in done["windows"] if each]
    assert len(set(lefts)) > 1, done["windows"]
    assert done["tensors"] == 4
    alpha = np.fromfile(installed / "alpha", np.uint8).reshape(height, width)
    inside = np.zeros((height, width), bool)
    rows = slice(max(0, window["top"]), window["top"] + window["height"])
    inside[rows, max(0, window["left"]) : window["left"] + window["width"]] = True
    assert (alpha[~inside] == 0).all()
    truth = Truth(bundled)
    for frame in frames:
        whole = truth(frame[..., :3], 0.4)[1]
    # The same person, whom the network sees at another size.
    assert overlap(alpha[..., None] / 255, whole) > 0.8


def test_its_types(installed: Path) -> None:
    (installed / "typed.mts").write_text(TYPED)
    check(
        *("node", WEB / "node_modules/typescript/bin/tsc", "--noEmit", "--strict"),
        *("--target", "es2022", "--module", "nodenext", "typed.mts"),
        cwd=installed,
    )


@pytest.fixture(scope="module")
def address(installed: Path) -> Iterator[str]:
    """Where a page that uses the package is served, with the models."""
    (installed / "index.html").write_text(PAGE)
    public = installed / "public/models"
    public.mkdir(parents=True)
    for name in ("network.onnx", "check.json"):
        shutil.copyfile(MODELS / name, public / name)
    (installed / "vite.config.js").write_text(CONFIG)
    check("node", demo_page.VITE, "build", cwd=installed)
    server = Server(installed)
    yield server.address
    server.stop()


def test_in_chromium(
    browser: Any, address: str, pictures: Pictures, bundled: Network
) -> None:
    page = browser.new_page()
    page.goto(address)
    wait(page, "typeof createMatter === 'function'")
    page.evaluate(
        """async () => {
          const models = () => './models/';
          window.matter = await createMatter({models, backend: 'wasm'});
        }"""
    )
    truth = Truth(bundled)
    height, width = pictures[0].shape[:2]
    for picture in pictures[:3]:
        alpha = page.evaluate(
            """async ([bytes, width, height]) => {
              const data = Uint8ClampedArray.from(bytes);
              const image = new ImageData(data, width, height);
              const bitmap = await createImageBitmap(image);
              return [...(await matter.matte(bitmap)).alpha];
            }""",
            [rgba(picture), width, height],
        )
        found = np.array(alpha).reshape(height, width, 1) / 255
        assert overlap(found, truth(picture, 1)[1]) > 0.99
    stopped = page.evaluate(
        """async () => {
          const control = new AbortController();
          const opened = createMatter({models: './models/', signal: control.signal});
          control.abort(new Error('not needed'));
          matter.close();
          return opened.catch(error => error.message);
        }"""
    )
    assert stopped == "not needed"
    page.close()
