"""Every engine gives the network's frames."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import make_clip
from fakes import as_frames, colours, convert, formula_network, python
from numpy.typing import NDArray
from safetensors.numpy import load, save

import rematte
from rematte.engines import choose, convert_graph, graph
from rematte.engines.choose import choose_engine, load_for
from rematte.engines.convert_graph import as_graph
from rematte.engines.graph import ALL_BUNDLED, BUNDLED
from rematte.engines.module import ModuleEngine
from rematte.engines.openvino import CompiledGraph, OpenVINOEngine, is_readable
from rematte.errors import WeightsError
from rematte.export.verify import CLIP
from rematte.matting.loop import Memory, matte, run
from rematte.matting.matte import Matted
from rematte.matting.region import Region, Regions, Window
from rematte.network.matting_network import MattingNetwork
from rematte.video.frame import Frame
from rematte.video.pixels import resize
from rematte.video.reader import VideoReader
from rematte.weights.load import load_network

*NAMES, _ = choose.CPU_ENGINES  # the last is what they are compared with


@pytest.fixture(scope="module", autouse=True)
def _converted_once() -> Iterator[None]:
    """Convert the same weights once, which takes seconds; all else is done again."""
    convert, kept = convert_graph.convert, dict[str, Any]()

    def convert_once(network: MattingNetwork) -> Any:
        digest = convert_graph.weights_digest(network)
        if digest not in kept:
            kept[digest] = convert(network)
        return kept[digest]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert_graph, "convert", convert_once)
        yield


@pytest.fixture
def frames() -> list[Frame]:
    """A small copy of somebody who moves."""
    with VideoReader(CLIP) as reader:
        shown = list(islice(reader, 6))
    return [replace(each, pixels=resize(each.pixels, 97, 70)) for each in shown]


@pytest.fixture
def drawn() -> list[Frame]:
    """Frames without people."""
    return as_frames(colours(6, (97, 70)))


def alpha_of(matted: Matted) -> NDArray[np.float32]:
    """Alpha (H, W, 1) in [0, 1]."""
    return matted.pixels("alpha", True) / np.float32(65535)


def assert_near(
    found: Iterable[Matted], true: Iterable[Matted], most: float, mean: float
) -> None:
    for mine, theirs in zip(found, true, strict=True):
        error = np.abs(alpha_of(mine) - alpha_of(theirs))
        assert error.max() < most
        assert error.mean() < mean


@pytest.mark.parametrize("ratio", [1.0, 0.5])
@pytest.mark.parametrize("name", NAMES)
def test_every_engine_equals_the_network(
    name: str, ratio: float, bundled: MattingNetwork, frames: list[Frame],
    drawn: list[Frame],
) -> None:  # fmt: skip
    shown = frames + drawn
    true = list(matte(bundled, shown, downsample_ratio=ratio))
    engine = choose_engine(bundled, engine=name)
    found = list(run(engine, shown, downsample_ratio=ratio))
    loose = name == "openvino"  # the decoder in bfloat16, where the processor can
    assert_near(found, true, *((0.1, 5e-3) if loose else (1e-3, 1e-5)))
    for mine, theirs in zip(found, true, strict=True):
        colours = (each.pixels("foreground", True) / 65535 for each in (mine, theirs))
        assert np.abs(next(colours) - next(colours)).mean() < (1e-2 if loose else 2e-5)


def test_enlarged_windows_agree(bundled: MattingNetwork, frames: list[Frame]) -> None:
    window = Window(10, 4, (10, 4, 58, 52))
    region = Region(windows=(window,), size=(48, 48), ratio=1.5)
    regions = Regions(frames[0].pixels.shape[:2], (region,))
    true, found = (
        list(run(engine, frames, regions=regions))
        for engine in (ModuleEngine(bundled), choose_engine(bundled, engine="openvino"))
    )
    assert_near(found, true, 0.1, 5e-3)


@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_its_own_decoder_changes_nothing(ratio: float, frames: list[Frame]) -> None:
    """As on a processor that has bfloat16; what passes between parts is rounded."""
    whole, parts = (OpenVINOEngine(BUNDLED, False) for _ in range(2))
    parts._mixed = True
    assert_near(
        *(run(engine, frames, downsample_ratio=ratio) for engine in (whole, parts)),
        0.1, 5e-3,
    )  # fmt: skip


@pytest.mark.parametrize("size", [(48, 64), (35, 51)])
def test_no_convolution_waits_for_maps_to_be_joined(size: tuple[int, int]) -> None:
    ops = CompiledGraph(BUNDLED)._read(size).get_ops()
    kinds = [node.get_type_name() for node in ops]
    convolutions = [node for node in ops if node.get_type_name() == "Convolution"]
    sources = {node.input_value(0).get_node().get_type_name() for node in convolutions}
    assert len(convolutions) > 60
    assert "Concat" not in sources
    assert "AvgPool" not in kinds


@pytest.mark.parametrize("name", [*NAMES, "plain"])
def test_a_state_that_was_kept_is_the_same(
    name: str, bundled: MattingNetwork, frames: list[Frame]
) -> None:
    """Through a file, bit for bit, in whatever precision it is."""

    def mattes_of(shown: list[Frame], memory: Memory) -> list[NDArray[np.float32]]:
        engine = choose_engine(bundled, engine=name)
        mattes = run(engine, shown, downsample_ratio=0.5, memory=memory)
        return [alpha_of(each) for each in mattes]

    memory = Memory()
    mattes_of(frames[:3], memory)
    assert memory.shape == (70, 97, 3)
    kept = load(save({str(n): each for n, each in enumerate(memory.state)}))
    again = Memory(memory.shape, [kept[name] for name in sorted(kept)])
    # Asked for again, the engine gives what it was given.
    state = [each.copy() for each in again.state]
    mattes_of([], again)
    assert all(map(np.array_equal, again.state, state))
    whole, rest = mattes_of(frames, Memory()), mattes_of(frames[3:], again)
    for one, other in zip(whole[3:], rest, strict=True):
        assert np.abs(one - other).max() < 1e-4
    reset = mattes_of(frames[3:], Memory())
    assert np.abs(whole[3] - reset[0]).max() > 1e-3


def test_a_state_in_half_precision_is_kept_bit_for_bit() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        engine = ModuleEngine(None, "cpu", dtype)
        drawn = torch.randn(1, 2, 3, 4).to(dtype)
        state = [drawn.contiguous(memory_format=torch.channels_last)]
        packed = engine.pack(state)
        assert packed[0].flags.c_contiguous
        (again,) = engine.unpack(packed)
        assert torch.equal(again, state[0])
        assert again.dtype == dtype


def test_a_new_size_begins_anew() -> None:
    rng = np.random.default_rng(0)
    sizes = (48, 64), (48, 64), (64, 48), (64, 48)
    shown = as_frames([rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes])
    engines = [OpenVINOEngine(BUNDLED, False) for _ in range(2)]
    both, last = map(list, map(run, engines, (shown, shown[2:])))
    assert np.array_equal(alpha_of(both[3]), alpha_of(last[1]))


@pytest.mark.parametrize(("name", "runs"), [
    *((name, name) for name in (*NAMES, "plain")),
    *(("onnxruntime", "openvino ("), ("torch", "plain (")),  # were retired
])  # fmt: skip
def test_a_conversion_says_what_ran(
    name: str, runs: str, bundled: MattingNetwork, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mp4", colours(4, (64, 48)))
    report = convert(clip, model=bundled, output_alpha=tmp_path / "a.mkv", engine=name)
    assert report.frames == 4
    assert report.engine == name or (name != runs and report.engine.startswith(runs))
    assert any(name in note for note in report.notes) == (name == "onnxruntime")


def off(found: Any, network: MattingNetwork, size: tuple[int, int]) -> float:
    """How far alpha of an engine's first step is from the network's."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    shown = as_frames([pixels])
    engine = choose_engine(found, engine="openvino-float32")
    mine = next(run(engine, shown, downsample_ratio=0.5))
    true = next(matte(network, shown, downsample_ratio=0.5))
    return float(np.abs(alpha_of(mine) - alpha_of(true)).max())


@pytest.mark.parametrize(
    ("weights", "graph"), [*zip((None, "rematte-fast"), ALL_BUNDLED, strict=True)]
)
def test_bundled_graphs_are_of_their_weights(weights: str | None, graph: Any) -> None:
    """None has to be converted, neither from a file nor from a loaded network."""
    network = load_network(weights)
    assert as_graph(network) == load_for("auto", weights) == graph
    for size in ((96, 128), (71, 103), (10, 14)):
        assert off(graph, network, size) < 1e-4


def test_own_weights_are_converted_once_for_every_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "download_dir", lambda: tmp_path)
    model = formula_network("mobilenetv3", "fast_guided_filter")
    assert off(model, model, (96, 128)) < 1e-3
    kept = sorted(path.suffix for path in (tmp_path / "openvino").iterdir())
    assert kept == [".bin", ".xml"]

    def convert(*arguments: object, **named: object) -> None:
        raise AssertionError("it was kept")

    with monkeypatch.context() as patch:
        patch.setattr(convert_graph, "convert", convert)
        assert off(model, model, (71, 103)) < 1e-3
        other = formula_network("resnet50", "deep_guided_filter")
        with pytest.raises(AssertionError, match="it was kept"):  # not other weights'
            off(other, other, (96, 128))
    assert off(other, other, (96, 128)) < 1e-3
    for path in (tmp_path / "openvino").glob("*.xml"):
        path.write_text("damaged")
    assert is_readable(as_graph(model))


def test_files_need_torch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "download_dir", lambda: tmp_path / "cache")
    own = tmp_path / "own.pth"
    torch.save(formula_network("mobilenetv3", "fast_guided_filter").state_dict(), own)
    first = load_for("auto", own)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert load_for("auto", own) == first != BUNDLED
    with pytest.raises(WeightsError, match="are mobilenetv3, but variant='resnet50'"):
        load_for("auto", "rematte-mobilenetv3", "resnet50")
    with pytest.raises(ImportError):
        load_for("plain", own)


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file, and no folder")
    monkeypatch.setattr(graph, "download_dir", lambda: tmp_path / "cache")
    other = formula_network("mobilenetv3", "fast_guided_filter")
    assert off(other, other, (96, 128)) < 1e-3


def test_ctrl_c_interrupts_after_engines_were_deleted() -> None:
    """OpenVINO changes the stack that signals run on; what is left must be one."""
    code = """
import signal
from rematte.engines.graph import BUNDLED
from rematte.engines.openvino import OpenVINOEngine
signal.signal(signal.SIGINT, signal.default_int_handler)
first, second = (OpenVINOEngine(BUNDLED, False) for _ in range(2))
del first
del second
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""
    assert python(code).stdout == "interrupted\n"


def test_an_engine_that_is_missing_says_what_to_install(
    bundled: MattingNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs openvino: pip install openvino"):
        choose_engine(bundled, engine="openvino")
    engine = choose_engine(bundled)
    assert (engine.name, engine.reason) == ("plain", "openvino is not installed")


def test_engines_run_only_what_they_can(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", colours(4, (64, 48)))
    half = rematte.load_model(dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="engine openvino runs a float32 MattingN"):
        convert(clip, model=half, output_alpha=tmp_path / "a.mkv", engine="openvino")
    with pytest.raises(ValueError, match="engine must be one of auto, openvino"):
        convert(clip, model=half, output_alpha=tmp_path / "a.mkv", engine="quick")
