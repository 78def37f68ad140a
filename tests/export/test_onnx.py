"""ONNX: the documented interface, equality, the runner and the examples."""

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import draw_disc, make_clip, needing
from exporting import exported
from fakes import ROOT, decode, formula_network, save_images

from rematte import InputError, WeightsError
from rematte.engines.runtimes import import_onnxruntime
from rematte.export.formats import Request
from rematte.export.onnx import OPSET, open_model, write
from rematte.export.run_onnx import OnnxMatting
from rematte.export.verify import Difference, compare, real_frames, true_outputs
from rematte.network.matting_network import MattingNetwork

Fixed = Callable[[Request], Path]
SHAPING = {"Shape", "Expand", "If", "Range", "ConstantOfShape", "Cast"}
pytestmark = [pytest.mark.xdist_group("onnx")]
packages = needing("onnx", "onnxruntime", "onnxscript")


@pytest.fixture(scope="module")
def free(packages: None) -> Path:
    return exported("onnx").path


@pytest.fixture(scope="module")
def half(packages: None) -> Path:
    return exported("onnx", "float16").path


@pytest.fixture(scope="module")
def fixed(packages: None, bundled: MattingNetwork, tmp_path_factory: Any) -> Fixed:

    @cache
    def fixed(request: Request) -> Path:
        path = tmp_path_factory.mktemp("fixed") / "net.onnx"
        write(bundled, path, request)
        return path

    return fixed


def naive(path: Path, frames: list[Any], ratio: float) -> list[tuple[Any, Any]]:
    """The documentation's plain loop, and nothing else."""
    ort = import_onnxruntime()
    sess = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    rec = [np.zeros([1, 1, 1, 1], dtype=frames[0].dtype)] * 4
    downsample_ratio = np.array([ratio], dtype=np.float32)
    found = []
    for src in frames:
        fgr, pha, *rec = sess.run([], {
            "src": src, "r1i": rec[0], "r2i": rec[1], "r3i": rec[2], "r4i": rec[3],
            "downsample_ratio": downsample_ratio,
        })  # fmt: skip
        found.append((fgr, pha))
    return found


def operators(graph: Any) -> list[str]:
    """Those of a graph and of its branches."""
    found = []
    for node in graph.node:
        found.append(node.op_type)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found += operators(attribute.g)
    return found


def test_the_file_is_as_documented(free: Path) -> None:
    import onnx

    model = onnx.load(free)
    onnx.checker.check_model(model, full_check=True)
    (operators_of,) = model.opset_import
    assert (operators_of.domain, operators_of.version) == ("", OPSET)
    inputs, outputs = ([x.name for x in each] for each in
                       (model.graph.input, model.graph.output))  # fmt: skip
    assert inputs == ["src", "r1i", "r2i", "r3i", "r4i", "downsample_ratio"]
    assert outputs == ["fgr", "pha", "r1o", "r2o", "r3o", "r4o"]
    assert not model.functions
    assert b".py" not in free.read_bytes(), "paths of this machine"


@pytest.mark.parametrize("ratio", [0.6, 1])
def test_a_program_written_from_the_documentation(
    ratio: float, free: Path, bundled: MattingNetwork
) -> None:
    frames = list(real_frames((97, 161), 6))
    equal_the_network(naive(free, frames, ratio), bundled, frames, ratio)


def equal_the_network(
    found: list[Any], network: MattingNetwork, frames: list[Any], ratio: float
) -> None:
    trues = true_outputs(network, frames, ratio)
    for (fgr, pha), true in zip(found, trues, strict=True):
        assert np.abs(fgr - true.fgr).max() < 1e-4
        assert np.abs(pha - true.pha).max() < 1e-4


def test_half_precision_as_documented(half: Path) -> None:
    frames = list(real_frames((96, 160), 3))
    given = [src.astype(np.float16) for src in frames]
    for fgr, pha in naive(half, given, 0.5):
        assert fgr.dtype == pha.dtype == np.float16


def test_two_clips_at_once(free: Path, bundled: MattingNetwork) -> None:
    frames = list(real_frames((90, 150), 100))
    pairs = zip(frames[:3], frames[97:], strict=True)
    given = [np.concatenate(pair) for pair in pairs]
    equal_the_network(naive(free, given, 0.5), bundled, given, 0.5)


def difference(network: MattingNetwork, path: Path, request: Request) -> Difference:
    size, ratio = request.fixed
    frames = list(real_frames(size, 10))
    return compare(network, open_model(path, request, ratio), frames, ratio)


def test_the_guided_filter_is_in_a_branch(free: Path) -> None:
    """A ratio of 1 does not pay for it."""
    import onnx

    graph = onnx.load(free).graph
    (branches,) = [node.attribute for node in graph.node if node.op_type == "If"]
    inside = {entry.name: operators(entry.g) for entry in branches}
    assert inside["then_branch"] == ["Identity"]
    assert inside["else_branch"].count("Conv") > 3


# At 0.29, 100 pixels become 28 for torch, and 29 in single precision.
@pytest.mark.parametrize(
    ("size", "ratio"), [((97, 161), 0.6), ((110, 100), 0.29), ((81, 97), 1)]
)
def test_fixed_models_equal_eager(
    size: tuple[int, int], ratio: float, bundled: MattingNetwork, fixed: Fixed
) -> None:
    import onnx

    path = fixed(request := Request(size=size, ratio=ratio))
    assert max(difference(bundled, path, request).most.values()) < 1e-4
    graph = onnx.load(path).graph
    assert not SHAPING & set(operators(graph))
    assert all(
        side.dim_value > 0
        for entry in (*graph.input, *graph.output, *graph.value_info)
        for side in entry.type.tensor_type.shape.dim
    )
    assert [entry.name for entry in graph.input] == ["src", "r1i", "r2i", "r3i", "r4i"]


def test_the_other_filter(tmp_path: Path) -> None:
    network = formula_network("mobilenetv3", "fast_guided_filter")
    path, request = tmp_path / "net.onnx", Request(size=(96, 160), ratio=0.5)
    write(network, path, request)
    found = difference(network, path, request)
    # It divides by var + 1e-5, which float32 resolves badly.
    assert found.most["pha"] < 3e-3
    assert found.mean["pha"] < 1e-5
    assert found.most["states"] < 1e-4


def test_the_runner_equals_the_plain_loop(free: Path) -> None:
    frames = list(real_frames((48, 80), 100))
    frames += frames[::-1]
    expected = naive(free, frames, 0.75)
    runner = OnnxMatting(free, ["CPUExecutionProvider"])
    found = [runner(src, 0.75) for src in frames]
    # Compared only now: no frame may lie where another one is.
    for mine, true in zip(found, expected, strict=True):
        assert np.array_equal(mine[0], true[0])
        assert np.array_equal(mine[1], true[1])


def test_the_runner_is_reset(free: Path) -> None:
    runner = OnnxMatting(free)
    frames = list(real_frames((48, 80), 3))
    first = [runner(src) for src in frames]
    with pytest.raises(ValueError, match=r"another size, ratio or batch: call reset"):
        runner(frames[0], 0.5)
    with pytest.raises(ValueError, match="call reset"):
        runner(frames[0][:, :, :40])
    runner.reset()
    runner(frames[0][:, :, :40], 0.5)
    runner.reset()
    again = [runner(src, 1) for src in frames]
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(first, again, strict=True))


def test_the_runner_takes_fixed_and_half_models(
    fixed: Fixed, half: Path, bundled: MattingNetwork
) -> None:
    frames = list(real_frames((97, 161), 4))
    path = fixed(Request(size=(97, 161), ratio=0.6))
    runners = OnnxMatting(path), OnnxMatting(half)
    for true in true_outputs(bundled, frames, 0.6):
        assert np.abs(runners[0](true.src)[1] - true.pha).max() < 1e-4
        small = runners[1](true.src, 0.6)[1]
        assert small.dtype == np.float16
        assert np.abs(small - true.pha).mean() < 1e-3
    with pytest.raises(ValueError, match=r"made for \[1, 3, 97, 161\] alone"):
        runners[0](frames[0][:, :, :96])
    with pytest.raises(ValueError, match="made for one downsample_ratio, got"):
        runners[0](frames[0], 0.6)


@pytest.mark.parametrize("ratio", [0, -1, 1.5, 0.01, float("nan")])
def test_the_runner_refuses_ratios(ratio: float, free: Path) -> None:
    with pytest.raises(ValueError, match=r"in \(0, 1\] and leave a pixel of 80x48"):
        OnnxMatting(free)(np.zeros((1, 3, 48, 80), np.float32), ratio)


def test_the_runner_refuses_other_input(free: Path, tmp_path: Path) -> None:
    import onnx

    runner = OnnxMatting(free)
    with pytest.raises(ValueError, match=r"needs src\[None\]"):
        runner(np.zeros((3, 48, 80), np.float32))
    with pytest.raises(ValueError, match="got uint8; divide 8-bit frames by 255"):
        runner(np.zeros((1, 3, 48, 80), np.uint8))
    with pytest.raises(ValueError, match=r"providers must be of .*got 'Nope'"):
        OnnxMatting(free, ["Nope"])
    with pytest.raises(InputError, match=r"does not exist; rematte export onnx"):
        OnnxMatting(tmp_path / "missing.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(WeightsError, match="cannot run"):
        OnnxMatting(tmp_path / "broken.onnx")
    other = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {OPSET}]>'
        "other (float[1] a) => (float[1] b) { b = Identity (a) }"
    )
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(WeightsError, match=r"inputs \['a'\] and the outputs \['b'\]"):
        OnnxMatting(tmp_path / "other.onnx")


def test_a_missing_runtime_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rematte\[onnx\]'"):
        OnnxMatting("net.onnx")


def test_the_examples_run(free: Path, half: Path, tmp_path: Path) -> None:
    disc = draw_disc(6)
    # Both see the very same pixels, so that only the models differ.
    clip = make_clip(tmp_path / "in.mkv", disc.frames, codec="ffv1", pix_fmt="bgr0")
    images = save_images(tmp_path / "images", disc.frames)
    results = []
    for name, model, source in (
        ("onnx_naive", free, clip), ("onnx_io_binding", half, images),
    ):  # fmt: skip
        target = tmp_path / "out.mp4"
        words = [ROOT / "examples" / f"{name}.py", model, source, target, "0.5"]
        environment = {"PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, *words], check=True, env=environment)
        results.append(np.stack(decode(target)).astype(int))
        assert results[-1].shape == (6, 64, 96, 3)
    assert np.abs(results[0] - results[1]).mean() < 1
