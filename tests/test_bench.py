"""The benchmark runs and says what it ran; its figures are not tested."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rematte.bench import processes
from rematte.bench import steps as bench
from rematte.bench.steps import Case, Result
from rematte.cli.app import build_parser
from rematte.errors import InputError
from rematte.video.reader import VideoReader
from rematte.weights.load import load_network


@pytest.mark.parametrize(("kind", "engines"), [
    ("network", [("openvino-float32", 1)]),
    ("memory", [("plain", 1), ("plain", 4)]),
    ("file", [("plain", 1), ("openvino-float32", 1)]),
])  # fmt: skip
def test_every_kind_is_measured(kind: str, engines: list[tuple[str, int]]) -> None:
    cases = [Case(kind, 64, 48, 0.5, *each) for each in engines]
    results = list(bench.run(cases, turns=2, frames=6))
    assert [result.case for result in results] == cases
    for result in results:
        assert result.fps > 0
        assert result.memory > 0
        assert result.engine == result.case.engine
        assert result.ratio_to_plain > 0
    assert results[0].ratio_to_plain == 1


def test_plain_and_this_build_give_the_same_composites() -> None:
    frames = list(bench.drawn(96, 64, 3))
    network = load_network()
    plain = bench.Plain(network)
    step, _ = bench._steps(Case("memory", 96, 64, 0.5, "openvino-float32"), "", network)
    for frame in frames:
        (theirs,) = plain.composite([frame], 0.5)
        # Plain rounds down, as the reference does.
        assert np.abs(step().astype(int) - theirs).max() <= 1


def test_results_are_a_table_a_line_and_a_picture(tmp_path: Path) -> None:
    results = [
        Result(Case("memory", 64, 48, 0.5, "plain"), "plain", 5.0, 0.2, 0.3, 800.0),
        Result(
            Case("file", 64, 48, 0.5, "auto"), "torch", 20.0, 0.05, 0.0, 700.0,
            {"network": 1.0}, 4.0,
        ),
    ]  # fmt: skip
    table = bench.as_table(results)
    assert "| file | 64x48 | 0.5 | torch | 1 | 20.0 | 4.00 |" in table
    assert json.loads(bench.as_json(results[1]))["ratio_to_plain"] == 4.0
    bench.write_plot(results, tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 1000


PROGRAM = """
import argparse, shutil, time
parser = argparse.ArgumentParser()
for flag in (
    "variant", "checkpoint", "device", "input-source", "output-type", "seq-chunk",
    "output-composition", "output-video-mbps", "downsample-ratio",
):
    parser.add_argument(f"--{flag}", required=True)
words = parser.parse_args()
assert words.output_type == "video" and words.seq_chunk == "1"
shutil.copy(words.input_source, words.output_composition)
time.sleep(0.3)  # its memory is looked at every now and then
"""


def test_another_program_is_run_beside_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_HD", (64, 48))
    (weights := tmp_path / "w.pth").write_text("weights")
    with pytest.raises(InputError, match=r"inference\.py is not there"):
        processes.against(tmp_path, weights)
    (tmp_path / "inference.py").write_text(PROGRAM)
    found = processes.against(tmp_path, weights, frames=4, turns=1)
    assert found["ratio"] == found["reference_s"] / found["rematte_s"]
    assert found["rematte_peak_mb"] > found["reference_peak_mb"] > 1
    assert found["rematte_cpu_s"] > 0
    (tmp_path / "inference.py").write_text("raise SystemExit('no weights')")
    with pytest.raises(InputError, match="failed with 1: no weights"):
        processes.against(tmp_path, weights, frames=4, turns=1)


def test_first_runs_and_short_clips_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is run; the test above runs such a process."""
    monkeypatch.setattr(processes, "_HD", (64, 48))
    monkeypatch.setattr(processes, "_SMALL", (32, 24))
    monkeypatch.setattr(bench, "quick", lambda clip, weights: {"hd_file_ratio": 1.0})
    ran = []

    def run(words: Any, folder: Path, **variables: str) -> processes.Process:
        options = build_parser().parse_args([str(word) for word in words[3:]])
        with VideoReader(options.input) as reader:
            ran.append((reader.info.width, options.engine, bool(variables)))
        assert words[:3] == [sys.executable, "-m", "rematte"]
        assert not any(map(os.path.exists, variables.values())), "no empty cache"
        return processes.Process(2.0 ** len(ran), 1.0, 10.0 * len(ran))

    monkeypatch.setattr(processes, "run_process", run)
    assert processes.quick() == {
        "first_run_s": 2, "short_clip_ratio": 2, "peak_mb": 20, "hd_file_ratio": 1
    }  # fmt: skip
    assert ran == [(32, "auto", True), (64, "auto", False), (64, "plain", False)]


def test_an_interrupt_ends_the_program_that_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def interrupt(process: int) -> float:
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(processes, "_peak_of", interrupt)
    words = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(KeyboardInterrupt):
        processes.run_process(words, tmp_path)
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)
