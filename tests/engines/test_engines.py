"""Every engine gives the network's frames, and the choice is remembered."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_clip
from fakes import colours, formula_network
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor

import rematte
from rematte.convert import convert_video
from rematte.engines import choose, openvino
from rematte.engines.choose import choose_engine, installed, make_engine
from rematte.engines.engine import Engine
from rematte.engines.runtimes import import_openvino
from rematte.engines.torch_cpu import TorchEngine
from rematte.matting.loop import Memory, matte, run
from rematte.network.matting_network import MattingNetwork
from rematte.video.frame import Frame

NAMES = tuple(installed())


@pytest.fixture(scope="module")
def model() -> MattingNetwork:
    network = rematte.load_model()
    assert isinstance(network, MattingNetwork)
    return network


@pytest.fixture
def frames() -> list[Frame]:
    step = Fraction(1, 25)
    shown = colours(6, (97, 70))
    return [Frame(pixels, index * step, step) for index, pixels in enumerate(shown)]


@pytest.mark.parametrize("ratio", [1.0, 0.5])
@pytest.mark.parametrize("name", NAMES)
def test_every_engine_equals_the_network(
    name: str, ratio: float, model: MattingNetwork, frames: list[Frame]
) -> None:
    true = list(matte(model, frames, downsample_ratio=ratio))
    found = list(run(make_engine(name, model), frames, downsample_ratio=ratio))
    assert len(found) == len(true)
    # The decoder in bfloat16, where the processor can. Drawn frames without people are
    # the worst case; on footage the mean is 0.02 levels of 255 (docs/performance.md).
    loose = name == "openvino"
    for mine, theirs in zip(found, true, strict=True):
        assert (mine.pha - theirs.pha).abs().max() < (0.1 if loose else 1e-3)
        assert (mine.pha - theirs.pha).abs().mean() < (5e-3 if loose else 1e-5)
        assert (mine.fgr - theirs.fgr).abs().mean() < (1e-2 if loose else 1e-5)
        assert torch.equal(mine.src, theirs.src)


@pytest.mark.parametrize("name", [*NAMES, "plain"])
def test_a_state_that_was_kept_is_the_same(
    name: str, model: MattingNetwork, frames: list[Frame]
) -> None:
    """Through a file, bit for bit, in whatever precision it is."""

    def mattes_of(shown: list[Frame], memory: Memory) -> list[NDArray[np.uint8]]:
        if name == "plain":
            mattes: Any = matte(model, shown, downsample_ratio=0.5, memory=memory)
        else:
            engine = make_engine(name, model)
            mattes = run(engine, shown, downsample_ratio=0.5, memory=memory)
        return [torch.cat([each.fgr, each.pha]).numpy() for each in mattes]

    memory = Memory()
    mattes_of(frames[:3], memory)
    assert memory.shape == (70, 97, 3)
    kept = load(save({str(n): each for n, each in enumerate(memory.state)}))
    again = Memory(memory.shape, [kept[name] for name in sorted(kept)])
    # Asked for again, the engine gives what it was given.
    state = [each.clone() for each in again.state]
    mattes_of([], again)
    assert all(map(torch.equal, again.state, state))
    # The decoder's bfloat16 states are kept as such.
    if name == "openvino":
        dtypes = {each.dtype for each in memory.state}
        assert dtypes <= {torch.bfloat16, torch.float32}
        assert len(dtypes) == 1
    whole, rest = mattes_of(frames, Memory()), mattes_of(frames[3:], again)
    for one, other in zip(whole[3:], rest, strict=True):
        assert np.abs(one - other).max() < 1e-6
    anew = mattes_of(frames[3:], Memory())
    assert np.abs(whole[3] - anew[0]).max() > 1e-4


def test_a_new_size_begins_anew(model: MattingNetwork) -> None:
    rng = np.random.default_rng(0)
    sizes = (48, 64), (48, 64), (64, 48), (64, 48)
    shown = [
        Frame(rng.integers(0, 256, (*size, 3), np.uint8), index, 1)  # type: ignore[arg-type]
        for index, size in enumerate(sizes)
    ]
    both, last = (list(run(TorchEngine(model), some)) for some in (shown, shown[2:]))
    assert torch.equal(both[3].pha, last[1].pha)


def test_a_ratio_that_leaves_nothing_is_refused(
    model: MattingNetwork, frames: list[Frame]
) -> None:
    with pytest.raises(ValueError, match="leaves nothing of a frame of 97x70"):
        list(run(TorchEngine(model), frames, downsample_ratio=0.01))


def auto(model: MattingNetwork, size: tuple[int, int], frames: int | None) -> Engine:
    """The engine that is chosen for frames of twice this size."""
    return choose_engine(
        model, torch.device("cpu"), torch.float32, ratio=0.5, frames=frames,
        size=(2 * size[0], 2 * size[1]),
    )  # fmt: skip


def test_the_fastest_is_chosen_and_remembered(
    model: MattingNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def measure(engine: Engine, size: tuple[int, int], ratio: float) -> float:
        asked.append(engine.name)
        return {"openvino-float32": 1.0}.get(engine.name, 2.0)

    monkeypatch.setattr(choose, "_measure", measure)
    monkeypatch.setattr(choose, "download_dir", lambda: tmp_path / "cache")
    names = [name for name, there in installed().items() if there]
    assert len(names) == len(NAMES), "the extra openvino is missing"
    engine = auto(model, (32, 32), None)
    assert (engine.name, asked) == ("openvino-float32", names)
    assert "torch 2000 ms" in engine.reason
    engine = auto(model, (32, 32), 10_000)
    assert (engine.name, engine.reason) == ("openvino-float32", "measured before")
    assert len(asked) == len(names)
    auto(model, (32, 48), None)
    assert len(asked) == 2 * len(names)
    (tmp_path / "cache" / "engines.json").write_text("{")  # damaged: measured again
    auto(model, (32, 32), None)
    assert len(asked) == 3 * len(names)
    # Building pays where the choice is known.
    assert auto(model, (32, 32), 20).reason == "measured before"
    assert auto(model, (32, 32), 19).reason == "fewer than 20 frames"


def test_the_engine_that_was_retired_gives_way_to_the_fastest(
    model: MattingNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "download_dir", lambda: tmp_path)
    clip = make_clip(tmp_path / "in.mp4", colours(4, (64, 48)))
    out = tmp_path / "a.mkv"
    report = convert_video(
        model, clip, output_alpha=out, engine="onnxruntime", progress=False
    )
    assert report.engine.startswith("torch (onnxruntime is no longer an engine; fewer")
    assert any("onnxruntime is no longer an engine" in note for note in report.notes)


def seen(engine: Engine, size: tuple[int, int]) -> Tensor:
    """Alpha of a first step, on a frame of this size at half of it."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    shown = Frame(pixels, Fraction(0), Fraction(1))
    return next(run(engine, [shown], downsample_ratio=0.5)).pha


def test_a_converted_model_is_kept_for_every_size(
    model: MattingNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "download_dir", lambda: tmp_path)
    expected = seen(make_engine("torch", model), (96, 128))
    made = make_engine("openvino-float32", model)
    assert (seen(made, (96, 128)) - expected).abs().max() < 1e-4
    kept = sorted(path.suffix for path in (tmp_path / "openvino").iterdir())
    assert kept == [".bin", ".xml"]

    def convert(*arguments: object, **named: object) -> None:
        raise AssertionError("it was kept")

    with monkeypatch.context() as patch:
        patch.setattr(import_openvino(), "convert_model", convert)
        for size in ((96, 128), (71, 103)):
            expected = seen(make_engine("torch", model), size)
            engine = make_engine("openvino-float32", model)
            assert (seen(engine, size) - expected).abs().max() < 1e-4
        other = formula_network("mobilenetv3", "deep_guided_filter")
        with pytest.raises(AssertionError, match="it was kept"):  # not other weights'
            seen(make_engine("openvino-float32", other), (96, 128))
    for path in (tmp_path / "openvino").glob("*.xml"):
        path.write_text("damaged")
    engine = make_engine("openvino-float32", model)
    assert (seen(engine, (71, 103)) - expected).abs().max() < 1e-4


def test_a_short_clip_needs_no_building(
    model: MattingNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "download_dir", lambda: tmp_path)
    engine = auto(model, (32, 32), 20)
    assert (engine.name, engine.reason) == ("torch", "fewer than 150 frames")


def test_an_engine_that_is_missing_says_what_to_install(
    model: MattingNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs openvino: pip install .*\[openvino\]"):
        make_engine("openvino", model)
    engine = auto(model, (32, 32), None)
    assert (engine.name, engine.reason) == ("torch", "no other is installed")


@pytest.mark.parametrize("name", ["torch", "openvino-float32", "plain"])
def test_a_conversion_says_what_ran(
    name: str, model: MattingNetwork, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mp4", colours(4, (64, 48)))
    report = convert_video(
        model, clip, output_alpha=tmp_path / "a.mkv", engine=name, progress=False
    )
    assert report.engine == name
    assert report.frames == 4


def test_engines_run_only_what_they_can(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", colours(4, (64, 48)))
    half = rematte.load_model(dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="engine openvino runs a float32 MattingN"):
        convert_video(half, clip, output_alpha=tmp_path / "a.mkv", engine="openvino")
    with pytest.raises(ValueError, match="engine must be one of auto, torch"):
        convert_video(half, clip, output_alpha=tmp_path / "a.mkv", engine="quick")
