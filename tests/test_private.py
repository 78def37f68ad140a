"""Nothing leaves the machine, and nothing is written where nobody asked for it.

Every command and engine runs in a namespace without a network; see `isolated`. Exports
are in test_export_private.py.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_disc, make_clip, needs
from fakes import save_images
from isolated import ROOT, require_namespaces, snapshot, watch

from rematte.engines.choose import CPU_ENGINES

pytestmark = pytest.mark.timeout(1800)  # each runs many programs


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


# Each may import, of this package, what it needs; importing runtimes is done once.
FIRST = """
import sys, torch
from rematte.cli import app as cli
from rematte.engines.runtimes import import_openvino
import rematte.convert
import_openvino()
"""


def command(words: str) -> str:
    return f"{FIRST}\nsys.exit(cli.main({words.split()}))"


NO_FILES = {"first", "weights", "verify", "doctor", "bench"}


def are_private(programs: dict[str, str], folder: Path, first: str = FIRST) -> None:
    """Run programs; they must send nothing and write only what has their name."""
    for name, seen in watch(programs, folder, first).items():
        assert seen.code == 0, (name, seen.text)
        assert set(seen.sent.values()) == {0}, (name, seen.sent, seen.text)
        assert all(path.startswith(f"work/{name}") for path in seen.written), (
            name, seen.written
        )  # fmt: skip
        assert bool(seen.written) is (name not in NO_FILES), name


def test_whatever_is_sent_and_written_is_seen(folder: Path) -> None:
    acts = (
        "socket().connect(('192.0.2.1', 80))",
        "socket(AF_INET, SOCK_DGRAM).connect(('192.0.2.1', 53))",
        "socket(AF_INET, SOCK_DGRAM).sendto(b'x', ('127.0.0.53', 53))",
        "socket(AF_INET6).connect(('2001:db8::1', 80))",
        "socket(AF_INET6, SOCK_DGRAM).sendto(b'x', ('2001:db8::1', 53))",
        "getaddrinfo('rematte.invalid', 80)",
        "import atexit; atexit.register(getaddrinfo, 'rematte.invalid', 80)",
    )
    programs = {f"act{n}": f"from socket import *; {act}" for n, act in enumerate(acts)}
    programs["file"] = (
        "from pathlib import Path as P; P('new').touch(); (P.home() / '.id').touch(); "
        "(P.home() / '.cache').mkdir(); (P.home() / '.cache/model').touch()"
    )
    seen = watch(programs, folder)
    assert seen["file"].written == {"work/new", "home/.id"}
    for name in programs.keys() - {"file"}:
        assert sum(seen[name].sent.values()) > 0, name
    assert sum(seen["first"].sent.values()) == 0


ENGINES = {n: f"convert in.mp4 -o {n}.mov --engine {n}" for n in (*CPU_ENGINES, "auto")}
COMMANDS = {
    "workers": "convert in.mp4 -o workers.mp4 --workers 2 --background blur",
    "batch": "batch in.mp4 -o batch --suffix .webm",
    "ray": "batch in.mp4 -o ray --ray --worker-cpus 1 --jobs 1",
    "live": "live in.mp4 -o live.mkv --no-pace",
    "key": "key screen.mp4 -o key.mov",
    "preview": "preview in.mp4 -o preview.png",
    "inspect": "inspect in.mp4 --frames 1 -o inspect",
    "eval": "evaluate --pred alpha --true alpha --csv eval.csv --plot eval.png",
    "testset": "make-testset testset --foreground screen.mp4 --alpha alpha "
    "--background in.mp4 --size 64x48",
    "weights": "weights list",
    "verify": "weights verify rematte-mobilenetv3",
    "doctor": "doctor",
    "trained": "train r.toml --device cpu",
}


SERVE = """
import json, re, signal, subprocess, sys, time
from urllib.request import Request, urlopen

words = "-m rematte serve --folder served --port 0".split()
server = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
address = re.search("http[^ ]+", server.stdout.readline())[0]

def ask(path, data=None, method=None):
    headers = {"origin": address.rpartition("/")[0].rpartition("/")[0]}
    return urlopen(Request(address + path, data, headers, method=method))

id = json.load(ask("api/jobs?name=in.mp4", open("in.mp4", "rb").read()))["id"]
moment = json.dumps({"at": 0, "ratio": 1}).encode()
while ask(f"api/jobs/{id}/cutout", moment).status == 202:
    time.sleep(0.1)
settings = {"outputs": ["mp4"], "background": "blur"}
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


# Of few and tiny pictures, with one network and one conversion in a process of its own:
# what it does is the same.
BENCH = """
import sys
from functools import cache
from rematte.cli import app as cli
from rematte.bench import processes, steps as bench
case, write, small = bench.Case, bench.write_clip, (96, 64)
bench.Case = lambda kind, width, height, ratio, *more: case(kind, *small, 1.0, *more)
for name in "Plain", "load_network", "choose_engine":
    setattr(bench, name, cache(getattr(bench, name)))
bench.write_clip = lambda path, width, height, *more: write(path, *small, 5, *more[1:])
processes.write_clip = bench.write_clip
run, found = processes.run_process, []
def run_once(*words, **variables):
    found[:] = found or [run(*words, **variables)]
    return found[0]
processes.run_process = run_once
bench._TURNS = 0.1
sys.exit(cli.main(["bench", "--quick"]))
"""


RECIPE = """
[data]
mattes = ["mattes"]
backgrounds = ["behind"]

[run]
out = "trained"
workers = 1

[validate]
samples = 1
frames = 2
size = 64

[[phase]]
name = "a step"
kind = "matting"
steps = 1
segmentation = false
size = [64, 64]
rates = { backbone = 1e-4, aspp = 1e-4, decoder = 1e-4, refiner = 1e-4 }
"""


def test_engines_commands_the_page_and_the_bench_are_private(folder: Path) -> None:
    needs("ray", "starlette", "uvicorn")
    disc = draw_disc(3)
    for name, frames in {"fgr": disc.frames, "pha": disc.alpha}.items():
        (folder / "mattes" / name).mkdir(parents=True)
        save_images(folder / "mattes" / name / "1", frames)
    save_images(folder / "behind", disc.frames)
    (folder / "r.toml").write_text(RECIPE)
    programs = {name: command(words) for name, words in (ENGINES | COMMANDS).items()}
    programs |= {"served": SERVE, "bench": BENCH}
    are_private(programs, folder)
