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
from rematte.engines import choose, cpu
from rematte.engines.choose import choose_engine, installed, make_engine
from rematte.matting.loop import Memory, matte, matte_coarse
from rematte.network.matting_network import MattingNetwork, refine
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
    found = list(
        matte_coarse(
            lambda size, refined: make_engine(name, model, refined),
            frames,
            downsample_ratio=ratio,
        )
    )
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

    def run(shown: list[Frame], memory: Memory) -> list[NDArray[np.uint8]]:
        if name == "plain":
            mattes: Any = matte(model, shown, downsample_ratio=0.5, memory=memory)
        else:
            engine = make_engine(name, model, True)
            mattes = matte_coarse(
                lambda *_: engine, shown, downsample_ratio=0.5, memory=memory
            )
        return [torch.cat([each.fgr, each.pha]).numpy() for each in mattes]

    memory = Memory()
    run(frames[:3], memory)
    assert memory.shape == (70, 97, 3)
    kept = load(save({str(n): each for n, each in enumerate(memory.state)}))
    again = Memory(memory.shape, [kept[name] for name in sorted(kept)])
    # Asked for again, the engine gives what it was given.
    state = [each.clone() for each in again.state]
    run([], again)
    assert all(map(torch.equal, again.state, state))
    # The decoder's bfloat16 states are kept as such.
    if name == "openvino":
        dtypes = {each.dtype for each in memory.state}
        assert dtypes <= {torch.bfloat16, torch.float32}
        assert len(dtypes) == 1
    whole, rest = run(frames, Memory()), run(frames[3:], again)
    for one, other in zip(whole[3:], rest, strict=True):
        assert np.abs(one - other).max() < 1e-6
    anew = run(frames[3:], Memory())
    assert np.abs(whole[3] - anew[0]).max() > 1e-4


def test_a_new_size_begins_anew(model: MattingNetwork) -> None:
    rng = np.random.default_rng(0)
    sizes = (48, 64), (48, 64), (64, 48), (64, 48)
    shown = [
        Frame(rng.integers(0, 256, (*size, 3), np.uint8), index, 1)  # type: ignore[arg-type]
        for index, size in enumerate(sizes)
    ]
    make = cpu.TorchEngine
    both = list(matte_coarse(lambda size, refined: make(model, refined), shown))
    last = list(matte_coarse(lambda size, refined: make(model, refined), shown[2:]))
    assert np.array_equal(both[3].maps, last[1].maps)


def test_a_ratio_that_leaves_nothing_is_refused(
    model: MattingNetwork, frames: list[Frame]
) -> None:
    with pytest.raises(ValueError, match="leaves nothing of a frame of 97x70"):
        list(matte_coarse(lambda *_: None, frames, downsample_ratio=0.01))  # type: ignore[arg-type, return-value]


def test_the_fastest_is_chosen_and_remembered(
    model: MattingNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def measure(engine: cpu.Engine, size: tuple[int, int]) -> float:
        asked.append(engine.name)
        return {"openvino-float32": 1.0}.get(engine.name, 2.0)

    monkeypatch.setattr(choose, "_measure", measure)
    monkeypatch.setattr(choose, "download_dir", lambda: tmp_path / "cache")
    names = [name for name, there in installed().items() if there]
    assert len(names) == len(NAMES), "the extras openvino and onnx are missing"
    engine, why = choose_engine(model, (32, 32), True, None)
    assert (engine.name, asked) == ("openvino-float32", names)
    assert "torch 2000 ms" in why
    engine, why = choose_engine(model, (32, 32), True, 10_000)
    assert (engine.name, why, len(asked)) == (
        "openvino-float32", "measured before", len(names)
    )  # fmt: skip
    choose_engine(model, (32, 48), True, None)
    assert len(asked) == 2 * len(names)
    (tmp_path / "cache" / "engines.json").write_text("{")  # damaged: measured again
    choose_engine(model, (32, 32), True, None)
    assert len(asked) == 3 * len(names)
    _, why = choose_engine(model, (32, 32), True, 120)  # pays where it is known
    assert why == "measured before"
    _, why = choose_engine(model, (32, 32), True, 99)
    assert why == "fewer than 100 frames"


def seen(engine: cpu.Engine, picture: NDArray[np.float32]) -> Tensor:
    """What the maps of a first step make of the picture: foreground less it, alpha."""
    maps = torch.from_numpy(engine.step(picture, None)[0])
    return refine(torch.from_numpy(picture).movedim(-1, 1), maps[:, :4], maps[:, 4:])


def test_a_converted_model_is_kept_for_every_size(
    model: MattingNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openvino

    monkeypatch.setattr(cpu, "download_dir", lambda: tmp_path)
    picture = np.random.default_rng(0).random((1, 48, 64, 3), np.float32)
    expected = seen(make_engine("torch", model, True), picture)
    made = make_engine("openvino-float32", model, True)
    assert (seen(made, picture) - expected).abs().max() < 1e-4
    kept = sorted(path.suffix for path in (tmp_path / "openvino").iterdir())
    assert kept == 6 * [".bin"] + 6 * [".xml"]

    def convert(*arguments: object, **named: object) -> None:
        raise AssertionError("it was kept")

    with monkeypatch.context() as patch:
        patch.setattr(openvino, "convert_model", convert)
        for size in ((48, 64), (35, 51)):
            picture = np.random.default_rng(1).random((1, *size, 3), np.float32)
            expected = seen(make_engine("torch", model, True), picture)
            engine = make_engine("openvino-float32", model, True)
            assert (seen(engine, picture) - expected).abs().max() < 1e-4
        other = formula_network("mobilenetv3", "deep_guided_filter")
        with pytest.raises(AssertionError, match="it was kept"):  # not other weights'
            make_engine("openvino-float32", other, True).step(picture, None)
    for path in (tmp_path / "openvino").glob("*.xml"):
        path.write_text("damaged")
    engine = make_engine("openvino-float32", model, True)
    assert (seen(engine, picture) - expected).abs().max() < 1e-4


def test_a_short_clip_needs_no_building(
    model: MattingNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "download_dir", lambda: tmp_path)
    engine, why = choose_engine(model, (32, 32), True, 20)
    assert (engine.name, why) == ("torch", "fewer than 300 frames")


def test_an_engine_that_is_missing_says_what_to_install(
    model: MattingNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs openvino: pip install .*\[openvino\]"):
        make_engine("openvino", model, True)
    engine, why = choose_engine(model, (32, 32), True, None)
    assert (engine.name, why) == ("torch", "no other is installed")


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
