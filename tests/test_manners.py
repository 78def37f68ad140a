"""A conversion leaves the program that calls it as it was."""

import json
import logging
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from conftest import make_clip
from fakes import python

import rematte
from rematte.engines import convert_graph
from rematte.engines.graph import BUNDLED, cached_graph
from rematte.engines.module import ModuleEngine
from rematte.engines.openvino import read
from rematte.video.frame import Frame
from rematte.weights.download import sha256

# Prints the names of new threads, and what else differs after two conversions.
CALLER = """
import json, logging, random, sys, threading, warnings
import av, numpy, torch
import rematte

def state():
    known = {"root": logging.root, **logging.root.manager.loggerDict}
    loggers = {
        name: (each.level, each.propagate, len(each.handlers), each.disabled)
        for name, each in known.items() if isinstance(each, logging.Logger)
    }
    numbers = (
        random.getstate(), numpy.random.get_state()[1].tolist(),
        torch.random.get_rng_state().tolist(),
    )
    return loggers, numbers, list(warnings.filters), torch.get_num_threads()

model = rematte.load_model()
loggers, *before = state()
for options in {"warmup": "auto", "edge_colour": "clean"}, {"engine": "plain"}:
    rematte.convert_video(
        model, "in.mp4", output="out.mov", region="auto", progress=False, **options
    )
now, *after = state()
print(json.dumps({
    "threads": [each.name for each in threading.enumerate()],
    "loggers": [name for name, each in loggers.items() if now[name] != each],
    "loud": [name for name in now if name not in loggers and now[name][0]],
    "same": before == after,
}))
"""


def test_a_conversion_leaves_no_trace_in_its_process(tmp_path: Path) -> None:
    make_clip(tmp_path / "in.mp4", 3, size=(96, 64))
    done = python(CALLER, cwd=tmp_path)
    assert done.stderr == ""
    left = json.loads(done.stdout)
    others = [name for name in left["threads"] if not name.startswith("rematte-")]
    assert others == ["MainThread"]
    assert (left["loggers"], left["loud"], left["same"]) == ([], [], True)


def test_the_log_says_what_is_slow_and_what_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # Any graph will do here, and making one takes seconds.
    monkeypatch.setattr(convert_graph, "convert", lambda network: read(BUNDLED))
    make_clip(tmp_path / "in.mp4", 2, size=(96, 64))
    state = rematte.load_model().state_dict()
    state["project_mat.conv.bias"] = state["project_mat.conv.bias"] + 0.125
    torch.save(state, tmp_path / "other.pth")

    graph = cached_graph(f"{sha256(tmp_path / 'other.pth')} None").model
    graph.parent.mkdir(parents=True)
    graph.write_text("damaged")
    with caplog.at_level(logging.INFO, "rematte"):
        rematte.convert_video(
            tmp_path / "other.pth", tmp_path / "in.mp4", output=tmp_path / "out.mov",
            device="cpu", progress=False,
        )  # fmt: skip
    ours = [each for each in caplog.records if each.name.startswith("rematte.")]
    levels = {each.getMessage(): each.levelname for each in ours}
    assert levels.pop(f"{graph} is damaged and made again") == "WARNING"
    assert set(levels.values()) == {"INFO"}
    texts = " ".join(levels)
    assert "weights converted for OpenVINO" in texts
    assert "engine openvino ready for 96x64, ratio 1" in texts


def test_the_log_says_that_a_chunk_is_halved(caplog: pytest.LogCaptureFixture) -> None:
    def full(src: torch.Tensor, *_: object) -> object:
        raise torch.OutOfMemoryError if src.shape[1] > 1 else ValueError

    engine = ModuleEngine(full, chunk=2, report=lambda _: None)
    pixels = torch.zeros(8, 8, 3, dtype=torch.uint8).numpy()
    frames = [Frame(pixels, Fraction(n), Fraction(1)) for n in range(2)]
    with pytest.raises(ValueError, match=r"^$"):
        engine.step(frames, None)
    assert [each.levelname for each in caplog.records] == ["WARNING"]
