"""Fixtures that the tests share, and what they need on a machine."""

import importlib.util
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import (
    SOUND_RATE,
    DiscClip,
    Image,
    Tags,
    draw_disc,
    frame_label,
    make_clip,
    noise,
    read_label,
    yuv_frame,
)
from fakes import Fake

from rematte import MattingNetwork, load_model
from rematte.cli import app as cli
from rematte.engines import choose
from rematte.engines.graph import BUNDLED
from rematte.engines.openvino import CompiledGraph
from rematte.weights import load as weights
from rematte.weights.registry import FAST
from rematte.workers import pool, storage

Run = Callable[..., tuple[int, str, str]]
Printed = Refused = Callable[..., str]
# Chromium as root, without what it would ask the network for.
QUIET = (
    *("--no-sandbox", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)

__all__ = [
    "SOUND_RATE", "DiscClip", "Image", "Tags", "draw_disc", "frame_label", "make_clip",
    "noise", "read_label", "yuv_frame",
]  # fmt: skip


def made_once(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]
) -> Path:
    """Make a folder once for all processes that share the tests.

    Args:
        factory: Knows where temporary folders are.
        name: The folder's name.
        make: Fills the empty folder that it is given.
    """
    top = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        top = top.parent
    target = top / name
    if not target.exists():
        made = factory.mktemp(name)
        make(made)
        with suppress(OSError):  # another process was faster
            made.rename(target)
    return target


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep converted models, and which engine is fastest, out of the user's cache."""
    folder = made_once(tmp_path_factory, "cache", lambda _: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield


@pytest.fixture(autouse=True, scope="session")
def _heed_ctrl_c() -> None:
    """A shell's background job ignores Ctrl-C, and so do those that it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _quick_processes() -> Iterator[None]:
    """Fork worker processes from one that has imported torch, which takes seconds.

    In test_pool, and in commands that are processes of their own, they start as they do
    for users. Their environment is that of the first test that needs one.
    """
    if "forkserver" not in get_all_start_methods():
        yield
        return
    quick = get_context("forkserver")
    quick.set_forkserver_preload(["torch", "rematte.convert", "rematte.serve.work"])

    def get(method: str | None = None) -> BaseContext:
        return quick if method == "spawn" else get_context(method)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "get_context", get)
        patch.setattr("multiprocessing.get_context", get)  # of the bench
        yield


@pytest.fixture(autouse=True, scope="session")
def _compiled_once() -> Iterator[None]:
    """Compile the bundled network once for each size, which takes most of a second."""
    build, kept = CompiledGraph._build, dict[Any, Any]()

    def build_once(graph: CompiledGraph, size: Any, *key: Any) -> None:
        if graph._graph != BUNDLED:
            build(graph, size, *key)
            return
        key = *key, os.getpid(), os.environ.get("OMP_NUM_THREADS")
        if key not in kept:
            build(graph, size, *key[:-2])
            while len(kept) > 15:
                del kept[next(iter(kept))]
        kept[key] = kept.pop(key, size)
        graph._process = os.getpid()
        for name in ("states", "maps", "parts", "stages"):
            setattr(size, name, getattr(kept[key], name))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CompiledGraph, "_build", build_once)
        yield


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a test, which runs in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def disc() -> DiscClip:
    """Twelve frames of a moving disc, 96x64, with the true alpha."""
    return draw_disc()


@pytest.fixture(scope="session")
def bundled() -> MattingNetwork:
    """The network with the bundled weights; to be left as it is."""
    return load_model()


@pytest.fixture(scope="session")
def fast() -> MattingNetwork:
    """The network with the bundled fast weights; to be left as it is."""
    return load_model(FAST)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command; gives the exit code and all that it and FFmpeg print."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        code = cli.main([str(word) for word in words])
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def printed(run: Run) -> Printed:
    """Run a command that must succeed and warn of nothing; gives what it prints."""

    def printed(*words: str | Path) -> str:
        code, out, err = run(*words)
        assert (code, err) == (0, "")
        return out

    return printed


@pytest.fixture
def refused(run: Run) -> Refused:
    """Run a command that must fail with a code and one line; gives that line."""

    def refused(code: int, *words: str | Path) -> str:
        found, out, line = run(*words)
        assert (found, out, line.count("\n")) == (code, "", 1), line
        assert line.startswith("rematte")
        return line

    return refused


@pytest.fixture(scope="session")
def _object_storage() -> Iterator[str]:
    """A server that speaks S3, on this machine; gives its address."""
    server = pytest.importorskip("moto.server", reason="needs moto, flask, flask-cors")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    thread = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    thread.start()
    host, port = thread.get_host_and_port()
    yield f"http://{host}:{port}"
    thread.stop()


@pytest.fixture
def bucket(_object_storage: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket in object storage; gives its address."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", _object_storage)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anyone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    address = "s3://bucket"
    files: Any = storage.to_path(address)
    files.fs.mkdir("bucket")
    yield address
    files.fs.rm("bucket", recursive=True)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Takes the place of the real network."""
    network = Fake()

    def load_for(
        engine: str, weights: Any, variant: Any, device: str, dtype: str = "float32"
    ) -> Fake:
        return network.to(device, getattr(torch, dtype))

    monkeypatch.setattr(choose, "load_for", load_for)
    monkeypatch.setattr(weights, "load_model", lambda *args: network.to(*args[2:]))
    return network


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    """The text of an error, which must be one line."""
    text = str(error.value)
    assert "\n" not in text
    return text


def require(missing: Sequence[str], which: str) -> None:
    """Skip a test where anything is missing, or fail if a variable insists on it.

    Args:
        missing: What is missing.
        which: The variable is REMATTE_REQUIRE_WHICH, the remedy `make test-which`.
    """
    variable = f"REMATTE_REQUIRE_{which.upper()}"
    if missing and os.environ.get(variable):
        pytest.fail(f"{variable} is set, but {missing} are missing")
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: make test-{which}")


def needs(*modules: str) -> None:
    """Skip where packages are missing; fail where all have to be there."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    require(missing, "exports")


def needing(*modules: str) -> Any:
    """A fixture for a whole module, whose tests need packages."""
    return pytest.fixture(scope="module", autouse=True)(lambda: needs(*modules))


def find_chromium() -> str | None:
    """Give the path of Chromium, if it is installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="module")
def launch() -> Iterator[Callable[..., Any]]:
    """Start Chromium with the given flags; the caller closes it.

    Its event loop runs in this thread, so no test of another module may see it.
    """
    path = find_chromium()
    missing = [] if path else ["Chromium"]
    if importlib.util.find_spec("playwright") is None:
        missing.append("playwright")
    require(missing, "web")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        start = playwright.chromium.launch
        yield lambda *flags: start(executable_path=path, args=[*QUIET, *flags])


def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Mount a small disk in memory for a while, or skip the test."""
    tool = shutil.which("mount")
    if tool is None or not hasattr(os, "getuid") or os.getuid() != 0:
        pytest.skip("mounting a small disk needs root")
    folder.mkdir()
    command = [tool, "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a small disk: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for 300 kB."""
    yield from mounted(tmp_path / "disk", "size=300k")


@pytest.fixture
def closed_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that cannot be written."""
    yield from mounted(tmp_path / "closed", "size=300k,ro")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU, unless a run insists that there is one.

    The longest tests begin first, so that no process waits for them at the end.
    """
    items.sort(key=lambda item: item.path.name != "test_private.py")
    if torch.cuda.is_available() or os.environ.get("REMATTE_REQUIRE_CUDA"):
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip("no CUDA GPU that torch can use"))
