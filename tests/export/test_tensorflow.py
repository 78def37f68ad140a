"""TensorFlow, Keras and TensorFlow Lite: the documented call, equality, examples."""

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import draw_disc, make_clip, needing
from exporting import exported
from fakes import ROOT, decode, formula_network
from numpy.typing import NDArray

from rematte.export.formats import Request
from rematte.export.verify import compare, real_frames, true_outputs
from rematte.network.matting_network import REFINERS, VARIANTS, MattingNetwork

OUTPUTS = ("fgr", "pha", "r1o", "r2o", "r3o", "r4o")
pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("tensorflow")]
packages = needing("tensorflow", "ai_edge_litert", "ai_edge_quantizer")


@cache
def networks(variant: str, refiner: str) -> tuple[MattingNetwork, Any]:
    from rematte.export.tensorflow.saved_model import carried_over

    network = formula_network(variant, refiner)
    return network, carried_over(network)


def last(x: NDArray[Any]) -> NDArray[Any]:
    return np.moveaxis(x, 1, -1)


def eager(
    network: MattingNetwork, frames: list[NDArray[Any]], ratio: float
) -> list[dict[str, NDArray[Any]]]:
    """What PyTorch makes of planar frames, channels last."""
    found = []
    for true in true_outputs(network, frames, ratio):
        values = map(last, (true.fgr, true.pha, *(true.states or ())))
        found.append(dict(zip(OUTPUTS, values, strict=True)))
    return found


@pytest.mark.parametrize("refiner", REFINERS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_documented_loop_of_two(variant: str, refiner: str) -> None:
    """A batch of two, at an odd size, states from scalar zeros, in tf.function."""
    import tensorflow as tf

    network, model = networks(variant, refiner)
    frames = list(real_frames((97, 161), 6))
    pairs = [np.concatenate(both) for both in zip(frames[:3], frames[3:], strict=True)]
    function = tf.function(model)
    for ratio in (0.6, 1.0):
        # The fast filter divides by var + 1e-5, which float32 resolves badly.
        limit = 3e-3 if refiner == "fast_guided_filter" and ratio != 1 else 1e-4
        rec = [tf.constant(0.0)] * 4
        downsample_ratio = tf.constant(ratio)
        for src, true in zip(pairs, eager(network, pairs, ratio), strict=True):
            out = function([tf.constant(last(src)), *rec, downsample_ratio])
            rec = [out["r1o"], out["r2o"], out["r3o"], out["r4o"]]
            for name in OUTPUTS:
                assert out[name].shape == true[name].shape
                error = np.abs(out[name].numpy() - true[name])
                assert error.max() < limit, name
                assert error.mean() < 1e-5, name


def test_the_size_of_the_coarse_pass() -> None:
    """PyTorch's own, floor(side * ratio) in float64; the usual ratio is float32."""
    import tensorflow as tf

    from rematte.export.tensorflow.network.matting_network import shrink

    for side in (720, 1080, 1440, 2160, 361, 641):
        frames = tf.zeros([1, side, 2, 3])
        for ratio in (0.125, 0.25, 0.375, 0.5, 0.6, 0.7, 0.9, 1.0):
            exact = int(side * ratio)
            double = tf.constant(ratio, tf.float64)
            assert shrink(frames, double).shape[1] == exact, (side, ratio)
            rounded = shrink(frames, tf.constant(ratio)).shape[1]
            # 720 * 0.7 is 503.99999999999994 in float64, and 504 in float32.
            assert rounded == exact + (ratio == 0.7 and side in (720, 1440))


FRESH = """
import sys
import numpy as np
import tensorflow as tf
{first}
given = np.load("given.npz")
rec = [tf.constant(0.)] * 4
downsample_ratio = tf.constant(0.6)
for index in range(3):
    out = model([tf.constant(given[f"src{{index}}"]), *rec, downsample_ratio])
    fgr, pha, *rec = (out[k] for k in ("fgr", "pha", "r1o", "r2o", "r3o", "r4o"))
zeros = [tf.zeros([1, 1, 1, 1])] * 4
again = model([tf.constant(given["src0"]), *zeros, downsample_ratio])
np.savez("found.npz", again=again["pha"], **{{k: v.numpy() for k, v in out.items()}})
assert not {{"torch", "rematte"}} & set(sys.modules)
"""
SAVED_MODEL = """
model = tf.saved_model.load("net")
signature = model.signatures["serving_default"]
names = {"src", "r1i", "r2i", "r3i", "r4i", "downsample_ratio"}
assert set(signature.structured_input_signature[1]) == names
assert set(signature.structured_outputs) == {"fgr", "pha", "r1o", "r2o", "r3o", "r4o"}
"""
KERAS = """
import keras, rvm_tensorflow
model = tf.function(keras.models.load_model("net.keras"))
"""


@pytest.mark.parametrize("name", ["tensorflow", "keras"])
def test_in_a_bare_process(name: str, bundled: MattingNetwork, tmp_path: Path) -> None:
    """A SavedModel needs nothing of rematte, a .keras file one folder of it."""
    target = tmp_path / ("net.keras" if name == "keras" else "net")
    target.symlink_to(exported(name).path)
    copied = ROOT / "rematte/export/tensorflow/network"
    shutil.copytree(copied, tmp_path / "rvm_tensorflow")
    frames = list(real_frames((97, 161), 3))
    given = {f"src{index}": last(src) for index, src in enumerate(frames)}
    np.savez(tmp_path / "given.npz", **given)
    code = FRESH.format(first=KERAS if name == "keras" else SAVED_MODEL)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    found = np.load(tmp_path / "found.npz")
    true = eager(bundled, frames, 0.6)
    for key, value in true[-1].items():
        assert np.abs(found[key] - value).max() < 1e-4, key
    assert np.abs(found["again"] - true[0]["pha"]).max() < 1e-4


def call(model: Any, **changed: Any) -> Any:
    given = {"src": np.zeros([1, 96, 160, 3], np.float32), "rec": [np.float32(0)] * 4}
    given |= {"ratio": np.float32(0.5)} | changed
    return model([given["src"], *given["rec"], given["ratio"]])


def test_bad_input_is_told() -> None:
    from rematte.export.tensorflow.network import MattingNetwork as TensorFlowNetwork

    network, model = networks("mobilenetv3", "deep_guided_filter")
    out = call(model)
    states = [out[name] for name in OUTPUTS[2:]]
    for said, changed in (
        ("src must be .* channels last", {"src": np.zeros([1, 3, 96, 160], "f4")}),
        ("divide 8-bit frames by 255", {"src": np.zeros([1, 96, 160, 3], np.uint8)}),
        (r"must be in \(0, 1\], got 2", {"ratio": np.float32(2)}),
        ("start again with zeros", {"rec": states, "ratio": np.float32(1)}),
    ):
        with pytest.raises(ValueError, match=said):
            call(model, **changed)
    with pytest.raises(ValueError, match="variant must be"):
        TensorFlowNetwork("vgg")
    with pytest.raises(ValueError, match="refiner must be"):
        TensorFlowNetwork("resnet50", "none")
    other = TensorFlowNetwork("mobilenetv3", "fast_guided_filter")
    with pytest.raises(ValueError, match="choose the variant and refiner"):
        other.load_torch_weights(network.state_dict())


@pytest.mark.parametrize(("size", "ratio"), [((90, 160), 0.7), ((97, 161), 1.0)])
def test_tflite_at_other_ratios(
    size: tuple[int, int], ratio: float, bundled: MattingNetwork, tmp_path: Path
) -> None:
    """At 0.7, 90 rows become 62; in float32 they would be 63."""
    from rematte.export.tensorflow.tflite import open_model, write

    path, request = tmp_path / "net.tflite", Request(size=size, ratio=ratio)
    write(bundled, path, request)
    step = open_model(path, request, ratio)
    found = compare(bundled, step, list(real_frames(size, 10)), ratio)
    assert max(found.most.values()) < 1e-4


def test_the_examples_run(bundled: MattingNetwork, tmp_path: Path) -> None:
    from rematte.export.tensorflow.tflite import write

    small = tmp_path / "net.tflite"
    write(bundled, small, Request(size=(64, 96), ratio=0.5))
    clip = make_clip(tmp_path / "in.mp4", draw_disc(6).frames)
    results = []
    for example, model, ratio in (
        ("tensorflow_video", exported("tensorflow").path, ["0.5"]),
        ("tensorflow_video", exported("keras").path, ["0.5"]),
        ("tflite_video", small, []),
    ):
        target, program = tmp_path / "out.mp4", ROOT / "examples" / f"{example}.py"
        words = [sys.executable, program, model, clip, target, *ratio]
        subprocess.run(words, check=True, env={"PYTHONPATH": str(ROOT)})
        results.append(np.stack(decode(target)).astype(int))
        assert results[-1].shape == (6, 64, 96, 3)
    for other in results[1:]:
        assert np.abs(results[0] - other).mean() < 1
