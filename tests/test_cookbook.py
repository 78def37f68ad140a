"""Every program of docs/cookbook.md runs as it stands, and does what it says."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_clip
from fakes import ROOT, decode, open_image
from PIL import Image

PAGE = (ROOT / "docs" / "cookbook.md").read_text(encoding="utf-8")
PROGRAMS = dict(re.findall(r"^## (.+?)\n.*?^```python\n(.*?)^```$", PAGE, re.M | re.S))
FRAMES = 4
GIVEN = ("input.mp4", "photo.jpg")
# What a program needs that the tests may lack.
NEEDS = {"OpenCV": "cv2", "A web service": "fastapi"}
# What each leaves: the files, and how many frames each has.
LEAVES = {
    "OpenCV": {"opencv.mp4": FRAMES},
    "PyAV": {"pyav.mov": FRAMES},
    "A photo in memory": {"photo.png": 1, "white.jpg": 1},
    "Raw video between two FFmpegs": {"piped.mkv": FRAMES},
    "Files in memory": {"memory.webm": FRAMES},
    "A program for RobustVideoMatting": {"com.mp4": FRAMES, "pha.mp4": FRAMES},
    "Types": {"typed.mov": FRAMES},
    "Silent, and in your log": {"logged.mov": FRAMES},
}


@pytest.fixture
def workplace(here: Path) -> Path:
    make_clip(here / "input.mp4", FRAMES)
    Image.new("RGB", (96, 64), (200, 150, 120)).save(here / "photo.jpg")
    return here


def run(title: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "cookbook"}
    exec(compile(PROGRAMS[title], title, "exec"), names)
    return names


def test_programs_are_short() -> None:
    assert len(PROGRAMS) == len(re.findall("^## ", PAGE, re.M)) >= 14
    assert all(len(code.splitlines()) < 40 for code in PROGRAMS.values())


@pytest.mark.parametrize("title", sorted(PROGRAMS.keys() - {"Processes"}))
def test_program(title: str, workplace: Path) -> None:
    if title in NEEDS:
        pytest.importorskip(NEEDS[title])
    if "ffmpeg" in PROGRAMS[title] and shutil.which("ffmpeg") is None:
        pytest.skip("the program ffmpeg is not installed")
    names = run(title)
    leaves = LEAVES.get(title, {})
    assert {path.name for path in workplace.iterdir()} == {*GIVEN, *leaves}
    assert {name: len(decode(workplace / name)) for name in leaves} == leaves
    if title == "A web service":
        check_service(names["app"])
    if title == "A photo in memory":
        assert np.array_equal(names["alpha"], open_image(Path("photo.png"))[..., 3])
    if title == "Silent, and in your log":
        assert any("engine openvino ready for" in line for line in names["lines"])
    if title == "Cancel, and a time limit":
        assert names["stop"].is_set()


def check_service(app: Any) -> None:
    testing = pytest.importorskip("starlette.testclient")
    photo = Path("photo.jpg").read_bytes()
    with testing.TestClient(app) as client:  # so that the start's warm-up runs
        answer = client.post("/cutout", content=photo)
        assert answer.status_code == 200
        assert answer.content.startswith(b"\x89PNG")
        answer = client.post("/cutout", content=b"no picture")
    assert answer.status_code == 400
    assert "the image" in answer.json()["detail"]


def test_processes(workplace: Path) -> None:
    Path("program.py").write_text(PROGRAMS["Processes"], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "program.py"], env={"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert re.fullmatch(r"\[[\d.]+, [\d.]+\]\n", done.stdout)


def test_the_typed_program_is_the_one_that_mypy_checks() -> None:
    typed = (ROOT / "examples" / "typed.py").read_text(encoding="utf-8")
    assert typed.partition('"""\n\n')[2] == PROGRAMS["Types"]
