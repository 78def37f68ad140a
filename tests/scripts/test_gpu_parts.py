"""What travels to a lent GPU arrives whole."""

import io
import json
import os
import runpy
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/gpu_parts.py"


def test_parts_make_the_files_again(tmp_path: Path) -> None:
    files = [tmp_path / "a.tar", tmp_path / "t.safetensors"]
    for path in files:
        path.write_bytes(os.urandom(50_000))
    parts = runpy.run_path(str(SCRIPT))["pack"](files, tmp_path / "parts", 30_000)
    assert max(part.stat().st_size for part in parts) <= 30_000
    assert sorted(p.name for p in (tmp_path / "parts").iterdir()) == [
        part.name for part in parts
    ]
    whole = b"".join(part.read_bytes() for part in parts)
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        for path in files:
            member = archive.extractfile(path.name)
            assert member is not None
            assert member.read() == path.read_bytes()


def test_the_calls_are_within_the_limits(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    names = ["s.tar", "teacher.safetensors", "av-1-x.whl", "state.pt"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / ".gitignore").write_text("*\n")
    words = [sys.executable, str(SCRIPT), *names]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    calls = [json.loads(line) for line in done.stdout.splitlines()]
    assert calls[0]["carry"] == [".gpu/part-00"]
    for call in calls:
        assert len(call["command"]) <= 2000
        assert call["timeout_s"] <= 600
        check = subprocess.run(["bash", "-n", "-c", call["command"]])
        assert check.returncode == 0
    assert "model.teacher=/tmp/gpu/teacher.safetensors" in calls[1]["command"]


@pytest.mark.parametrize(
    ("words", "message"),
    [(["none"], "none is no file"), ([__file__, "--out", "/x"], "must lie in")],
)
def test_what_is_wrong_is_said(words: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert message in done.stderr
