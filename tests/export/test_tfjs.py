"""TensorFlow.js: what is written, and what Node and Chromium make of it."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import needing, require
from exporting import exported, network
from fakes import ROOT
from numpy.typing import NDArray

from rematte.errors import OutputError
from rematte.export import export
from rematte.export.formats import Request
from rematte.export.verify import real_frames, true_outputs
from rematte.network.matting_network import MattingNetwork

HERE = Path(__file__).parent / "tfjs"
Case = tuple[int, int, float, int]  # height, width, ratio, frames
OUTPUTS = ("fgr", "pha", "r1o", "r2o", "r3o", "r4o")
pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("tfjs")]
packages = needing("tensorflow")


def needs_programs(*names: str) -> str:
    """Give the first program of these; skip where it or npm's packages are missing."""
    found = next(filter(None, map(shutil.which, names)), None)
    there = (HERE / "node_modules/@tensorflow/tfjs-backend-wasm").is_dir()
    missing = [] if found else [names[0]]
    require([*missing, *([] if there else ["npm's packages"])], "exports")
    return str(found)


def test_the_documented_names_and_shards_of_4_mib() -> None:
    model = json.loads((exported("tfjs").path / "model.json").read_text())
    assert model["format"] == "graph-model"
    inputs = ["src", "r1i", "r2i", "r3i", "r4i", "downsample_ratio"]
    assert list(model["signature"]["inputs"]) == inputs
    assert list(model["signature"]["outputs"]) == list(OUTPUTS)
    nodes = {node["name"]: node for node in model["modelTopology"]["node"]}
    assert {*inputs, *OUTPUTS} <= set(nodes)
    shards = [path.stat().st_size for path in exported("tfjs").path.glob("*.bin")]
    assert len(shards) == -(-sum(shards) // (4 << 20))
    assert max(shards) <= 4 << 20
    # Branches would force executeAsync on everyone.
    assert not {"If", "While", "Switch", "Merge"} & {n["op"] for n in nodes.values()}


def test_a_damaged_shard_is_found(tmp_path: Path) -> None:
    from rematte.export.tensorflow.tfjs import open_model

    shutil.copytree(exported("tfjs").path, tmp_path / "net")
    with next((tmp_path / "net").glob("*.bin")).open("ab") as shard:
        shard.write(b"1234")
    with pytest.raises(ValueError, match="bytes of weights, but"):
        open_model(tmp_path / "net", Request(), 0.5)


def test_a_wrong_graph_is_not_written(
    bundled: MattingNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check reads the files: weights of the wrong scale are found."""
    sizes = ((96, 160, 0.5, 2),)
    monkeypatch.setattr("rematte.export.core._CHECKS", sizes)
    monkeypatch.setattr("rematte.export.tensorflow.tfjs.SMALLEST_INT8", 1)
    with pytest.raises(OutputError, match="mean difference in alpha"):
        export(bundled, "tfjs", tmp_path / "net", precision="int8", tolerance=1e-3)
    assert not list(tmp_path.iterdir())


def run(
    program: str, backend: str, folder: Path, network: MattingNetwork, case: Case,
    work: Path, batch: int = 1,
) -> tuple[dict[str, float], dict[str, float]]:  # fmt: skip
    """Run a model over frames in JavaScript; give largest and mean differences."""
    height, width, ratio, count = case
    frames = list(real_frames((height, width), batch * count))
    given = [np.concatenate(frames[n::count]) for n in range(count)]
    np.concatenate([np.moveaxis(src, 1, -1) for src in given]).tofile(work / "frames")
    shape = f"{batch},{height},{width},3"
    files = [folder, work / "frames", work / "found"]
    words = ["node", HERE / program, *files, backend, shape, str(ratio)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = np.fromfile(work / "found", np.float32)
    errors: dict[str, list[NDArray[Any]]] = {name: [] for name in OUTPUTS}
    at = 0
    for each in true_outputs(network, given, ratio):
        arrays = (each.fgr, each.pha, *(each.states or ()))
        for name, array in zip(OUTPUTS, arrays, strict=True):
            true = np.moveaxis(array, 1, -1)
            mine = found[at : at + true.size].reshape(true.shape)
            at += true.size
            errors[name].append(np.abs(mine - true))
    assert at == found.size
    most, mean = (
        {name: float(of(each)) for name, each in errors.items()}
        for of in (np.max, np.mean)
    )
    return most, mean


@pytest.mark.parametrize(
    ("precision", "case", "batch", "large"),
    [
        ("float32", (97, 161, 0.6, 5), 1, False),
        ("float32", (96, 160, 1.0, 5), 1, False),
        ("float32", (90, 150, 0.375, 5), 1, False),
        ("float32", (97, 161, 0.6, 2), 2, False),  # two clips
        ("float32", (97, 161, 0.6, 3), 1, True),
        ("float16", (97, 161, 0.6, 5), 1, False),
        ("int8", (97, 161, 0.6, 5), 1, False),
    ],
)
def test_node(
    precision: str, case: Case, batch: int, large: bool, tmp_path: Path
) -> None:
    needs_programs("node")
    given = exported("tfjs", precision, large=large).path, network(large), case
    most, mean = run("node.mjs", "wasm", *given, tmp_path, batch)
    if precision == "float32":
        assert max(most.values()) < 1e-4
    limits = {"float32": 1e-5, "float16": 1e-3, "int8": 1e-2}
    assert large or mean["pha"] < limits[precision]


@pytest.mark.parametrize("backend", ["wasm", "webgl", "webgpu"])
def test_chromium(backend: str, tmp_path: Path, monkeypatch: Any) -> None:
    """In a real browser, on an emulated GPU; of WebGPU that alone takes a minute."""
    needs_programs("node")
    browser = needs_programs("chromium", "chromium-browser", "google-chrome")
    monkeypatch.setenv("CHROMIUM", browser)
    given = exported("tfjs").path, network(False), (97, 161, 0.6, 3)
    most, _ = run("chromium.mjs", backend, *given, tmp_path)
    assert max(most.values()) < 1e-4


def test_the_example(bundled: MattingNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_programs("node")
    monkeypatch.setenv("NODE_PATH", str(HERE / "node_modules"))
    frames = list(real_frames((72, 128), 3))
    raw = (np.moveaxis(np.concatenate(frames), 1, -1) * 255).round().astype(np.uint8)
    words = ["node", ROOT / "examples/tfjs/matte.js", exported("tfjs").path]
    done = subprocess.run(
        [*words, "128", "72", "0.5"], input=raw.tobytes(), stdout=subprocess.PIPE,
        check=True,
    )  # fmt: skip
    found = np.frombuffer(done.stdout, np.uint8).reshape(3, 72, 128, 3)
    green = np.float32([0.47, 1, 0.6]).reshape(1, 3, 1, 1)
    trues = true_outputs(bundled, frames, 0.5)
    for (_, fgr, pha, _), mine in zip(trues, found, strict=True):
        true = ((fgr * pha + green * (1 - pha)) * 255).round()[0]
        assert np.abs(np.moveaxis(true, 0, -1) - mine).max() <= 1
