"""Nothing leaves the machine, and nothing is written where nobody asked for it.

Every command and engine runs in a namespace without a network; see `isolated`. Exports
to other runtimes are in test_export_private.py.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_disc, make_clip
from fakes import save_images
from isolated import ROOT, require_namespaces, snapshot, watch
from test_export import needs

PYTHON = [sys.executable, "-c"]
REMATTE = [sys.executable, "-m", "rematte"]


@pytest.fixture(scope="module", autouse=True)
def _installation_stays() -> Iterator[None]:
    """No program here writes into the checkout or among the installed packages."""
    require_namespaces()
    places = ROOT / "rematte", Path(sys.prefix)
    before = snapshot(*places)
    yield
    assert dict(snapshot(*places).items() - before.items()) == {}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with short clips, one of them before a green screen."""
    work, disc = tmp_path / "work", draw_disc(6)
    work.mkdir()
    make_clip(work / "in.mp4", disc.frames, sound=True)
    green = [np.full_like(frame, (40, 200, 60)) for frame in disc.frames]
    make_clip(work / "screen.mp4", green)
    save_images(work / "alpha", disc.alpha)
    return work


def is_private(command: list[str], folder: Path, *outputs: str) -> None:
    """Run a command; it must send nothing and write only its outputs."""
    seen = watch(command, folder)
    assert seen.code == 0, seen.text
    assert set(seen.sent.values()) == {0}, (seen.sent, seen.text)
    expected = {f"work/{output}" for output in outputs}
    assert {
        path for path in seen.written if not path.startswith(tuple(expected))
    } == set()
    for output in expected:
        assert any(path.startswith(output) for path in seen.written), seen.written


@pytest.mark.parametrize(
    "act",
    [
        "socket().connect(('192.0.2.1', 80))",
        "socket(AF_INET, SOCK_DGRAM).connect(('192.0.2.1', 53))",
        "socket(AF_INET, SOCK_DGRAM).sendto(b'x', ('127.0.0.53', 53))",
        "socket(AF_INET6).connect(('2001:db8::1', 80))",
        "socket(AF_INET6, SOCK_DGRAM).sendto(b'x', ('2001:db8::1', 53))",
        "getaddrinfo('rematte.invalid', 80)",
    ],
)
def test_whatever_is_sent_is_seen(folder: Path, act: str) -> None:
    seen = watch([*PYTHON, f"from socket import *; {act}"], folder)
    assert sum(seen.sent.values()) > 0


def test_whatever_is_written_is_seen(folder: Path) -> None:
    code = (
        "from pathlib import Path as P; P('new').touch(); (P.home() / '.id').touch(); "
        "(P.home() / '.cache').mkdir(); (P.home() / '.cache/model').touch()"
    )
    seen = watch([*PYTHON, code], folder)
    assert seen.written == {"work/new", "work-aside/home/.id"}


ENGINES = ("torch", "openvino", "openvino-float32", "onnxruntime", "plain")


@pytest.mark.parametrize("engine", [*ENGINES, "auto"])
def test_each_engine_is_private(folder: Path, engine: str) -> None:
    if "openvino" in engine:
        needs("openvino")
    if engine == "onnxruntime":
        needs("onnx", "onnxruntime", "onnxscript")
    words = ["convert", "in.mp4", "-o", "out.mov", "--engine", engine]
    is_private([*REMATTE, *words], folder, "out.mov")


COMMANDS = {
    "workers": "convert in.mp4 -o out.mp4 --workers 2 --background blur",
    "batch": "batch in.mp4 -o out --suffix .webm --jobs 2",
    "live": "live in.mp4 -o out.mkv --no-pace",
    "key": "key screen.mp4 -o out.mov",
    "evaluate": "evaluate --pred alpha --true alpha --csv out.csv --plot out.png",
    "make-testset": "make-testset out --foreground screen.mp4 --alpha alpha "
    "--background in.mp4 --size 64x48",
    "weights": "weights list",
    "verify": "weights verify rematte-mobilenetv3",
    "doctor": "doctor",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_private(folder: Path, name: str) -> None:
    words = COMMANDS[name].split()
    is_private([*REMATTE, *words], folder, *["out"] * ("out" in COMMANDS[name]))
