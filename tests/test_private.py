"""Nothing leaves the machine, and nothing is written where nobody asked for it.

Every command and engine runs in a namespace without a network; see `isolated`. Exports
to other runtimes are in test_export_private.py.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_disc, make_clip, needs
from fakes import save_images
from isolated import ROOT, require_namespaces, snapshot, watch

from rematte.export import FORMATS

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


def test_ray_is_private(folder: Path) -> None:
    needs("ray")
    words = [
        "batch",
        "in.mp4",
        "-o",
        "out",
        "--ray",
        "--worker-cpus",
        "1",
        "--jobs",
        "1",
    ]
    is_private([*REMATTE, *words], folder, "out")


SERVE = """
import json, re, signal, subprocess, sys, time
from urllib.request import Request, urlopen

command = [sys.executable, "-m", "rematte", "serve", "--folder", "out", "--port", "0"]
server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
address = re.search("http[^ ]+", server.stdout.readline())[0]

def ask(path, data=None, method=None):
    headers = {"origin": address.rpartition("/")[0].rpartition("/")[0]}
    return urlopen(Request(address + path, data, headers, method=method))

id = json.load(ask("api/jobs?name=in.mp4", open("in.mp4", "rb").read()))["id"]
while ask(f"api/jobs/{id}/preview/1").status == 202:
    time.sleep(0.1)
settings = {"outputs": ["mp4"], "background": "blur", "ratio": "auto"}
ask(f"api/jobs/{id}/start", json.dumps(settings).encode())
for line in ask("api/events"):
    if line.startswith(b"data:"):
        state = json.loads(line[5:])["jobs"][0]["state"]
        assert state != "failed"
        if state == "done":
            break
server.send_signal(signal.SIGINT)
sys.exit(server.wait())
"""


def test_the_page_is_private(folder: Path) -> None:
    needs("starlette", "uvicorn")
    is_private([*PYTHON, SERVE], folder, "out")


BENCH = """
import sys
from rematte.cli import app as cli
from rematte import bench
bench._TURNS, bench._FRAMES = 0.1, 12
sys.exit(cli.main(["bench", "--quick"]))
"""


def test_bench_is_private(folder: Path) -> None:
    is_private([*PYTHON, BENCH], folder)


RECIPE = """
[data]
mattes = ["mattes"]
backgrounds = ["behind"]

[run]
out = "out"
workers = 1

[[phase]]
name = "a step"
kind = "matting"
steps = 1
segmentation = false
size = [64, 64]
rates = { backbone = 1e-4, aspp = 1e-4, decoder = 1e-4, refiner = 1e-4 }
"""


def test_training_is_private(folder: Path) -> None:
    disc = draw_disc(3)
    for name, frames in {"fgr": disc.frames, "pha": disc.alpha}.items():
        (folder / "mattes" / name).mkdir(parents=True)
        save_images(folder / "mattes" / name / "1", frames)
    save_images(folder / "behind", disc.frames)
    (folder / "r.toml").write_text(RECIPE)
    is_private([*REMATTE, "train", "r.toml", "--device", "cpu"], folder, "out")


EXPORT = """
import sys
from rematte.cli import app as cli
from rematte.export import core as exporting
exporting._CHECKS = ((96, 160, 1.0, 2),)
sys.exit(cli.main(["export", *sys.argv[1:]]))
"""


FIXED = ("--static", "160x96", "--downsample-ratio", "1")


def export_is_private(folder: Path, name: str) -> None:
    """Export to a format in an environment that has its runtime."""
    needs(*FORMATS[name].needs)
    target = f"out{FORMATS[name].suffix}"
    words = FIXED if FORMATS[name].fixed == "always" else ()
    is_private([*PYTHON, EXPORT, name, "-o", target, *words], folder, "out")


# Those of `make test`; the others are in test_export_private.py.
@pytest.mark.parametrize("name", ["torchscript", "pt2", "onnx", "openvino"])
def test_exports_are_private(folder: Path, name: str) -> None:
    export_is_private(folder, name)
