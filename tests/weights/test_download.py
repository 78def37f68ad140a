"""Finding and downloading weights. No test leaves this machine."""

import dataclasses
import hashlib
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from conftest import one_line
from fakes import python

from rematte.errors import WeightsError
from rematte.network.matting_network import MattingNetwork
from rematte.weights import registry
from rematte.weights.describe import describe
from rematte.weights.download import download, verify
from rematte.weights.load import load_model

NAME = "rvm-mobilenetv3"
FILE = "rvm_mobilenetv3.pth"
BUNDLED = registry.BUNDLED_DIR / registry.WEIGHTS[registry.DEFAULT].file


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Send every search folder into tmp_path; return $REMATTE_HOME."""
    monkeypatch.setenv("REMATTE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.delenv("REMATTE_OFFLINE", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "home"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("checkpoint") / FILE
    torch.save(load_model().state_dict(), path)
    return path.read_bytes()


class Server(ThreadingHTTPServer):
    """Serves one payload; knobs make it misbehave."""

    payload = b""
    ranges = True  # honours Range
    cut = None  # closes the connection after this many bytes
    status = None  # answers this instead

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        payload = self.server.payload
        start = 0
        if asked and self.server.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        status = self.server.status or (206 if start else 200)
        if start >= len(payload) > 0:
            status = 416
        body = b"" if status >= 400 else payload[start:]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 206:
            span = f"bytes {start}-{len(payload) - 1}/{len(payload)}"
            self.send_header("Content-Range", span)
        self.end_headers()
        self.wfile.write(body[: self.server.cut])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def serve(server: Server, monkeypatch: pytest.MonkeyPatch):
    """Point NAME at the server; its hash is known unless told otherwise."""

    def point(payload: bytes, known: bool = True, sha256: str | None = None) -> Server:
        server.payload = payload
        digest = sha256 or (hashlib.sha256(payload).hexdigest() if known else None)
        entry = dataclasses.replace(
            registry.WEIGHTS[NAME],
            url=f"http://127.0.0.1:{server.server_port}/{FILE}",
            sha256=digest,
        )
        monkeypatch.setitem(registry.WEIGHTS, NAME, entry)
        return server

    return point


PAYLOAD = bytes(range(256)) * 20_000  # 5 MB: several blocks
DIGEST = hashlib.sha256(PAYLOAD).hexdigest()


def test_search_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / name for name in ("hub/checkpoints", "xdg/rematte", "home")]
    assert registry.find(NAME) is None
    for folder in folders:  # the last one wins
        folder.mkdir(parents=True)
        (folder / FILE).write_bytes(b"x")
        assert registry.find(NAME) == folder / FILE
    monkeypatch.delenv("REMATTE_HOME")
    assert registry.find(NAME) == folders[1] / FILE
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # invalid by the XDG rules
    monkeypatch.setenv("HOME", str(tmp_path))
    assert registry.find(NAME) == folders[0] / FILE
    assert registry.download_dir() == tmp_path / ".cache" / "rematte"


def test_a_name_beats_a_file_of_that_name_but_a_path_does_not(here: Path) -> None:
    Path(registry.DEFAULT).write_bytes(b"")
    load_model(registry.DEFAULT)
    with pytest.raises(WeightsError, match="is empty"):
        load_model(Path(registry.DEFAULT))


def test_resnet50_is_found_recognised_and_chosen_by_variant(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = dataclasses.replace(registry.WEIGHTS["rvm-resnet50"], sha256=None)
    monkeypatch.setitem(registry.WEIGHTS, "rvm-resnet50", entry)
    home.mkdir()
    made = MattingNetwork("resnet50")
    torch.save(made.half().state_dict(), home / entry.file)
    model = load_model(variant="resnet50")
    assert sum(p.numel() for p in model.parameters()) == entry.parameters


def test_download_checks_and_places_the_file(serve, home: Path, capsys) -> None:
    server = serve(PAYLOAD)
    path = download(NAME)
    assert path == home / FILE
    assert path.read_bytes() == PAYLOAD
    assert [p.name for p in home.iterdir()] == [FILE]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "GPL-3.0" in captured.err
    (home / FILE).unlink()
    download(NAME, progress=False)
    assert capsys.readouterr().err == ""
    assert download(NAME) == path
    assert len(server.asked) == 2


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_is_continued(serve, home: Path, ranges: bool) -> None:
    server = serve(PAYLOAD)
    server.cut = 2_000_000
    with pytest.raises(WeightsError, match="closed after 2000000 of 5120000 bytes"):
        download(NAME, progress=False)
    assert not (home / FILE).exists()
    server.cut = None
    server.ranges = ranges
    assert download(NAME, progress=False).read_bytes() == PAYLOAD
    assert server.asked == [None, "bytes=2000000-"]


def test_a_part_that_is_too_long_starts_over(serve, home: Path) -> None:
    server = serve(PAYLOAD)
    home.mkdir()
    (home / (FILE + ".part")).write_bytes(PAYLOAD + b"more")
    assert download(NAME, progress=False).read_bytes() == PAYLOAD
    assert server.asked == [f"bytes={len(PAYLOAD) + 4}-", None]


@pytest.mark.parametrize(
    ("payload", "known", "message"),
    [
        (PAYLOAD, {"sha256": "0" * 64}, f"is {DIGEST}, expected 0000.*deleted"),
        (b"<html>rate limit</html>", {"known": False}, "is text"),
    ],
    ids=["another hash", "no hash"],
)
def test_what_is_not_the_file_is_reported_and_deleted(
    serve, home: Path, payload: bytes, known: dict[str, object], message: str
) -> None:
    serve(payload, **known)
    with pytest.raises(WeightsError, match=message):
        download(NAME, progress=False)
    assert list(home.iterdir()) == []


def test_an_unknown_hash_is_recorded_and_checked_afterwards(
    serve, home: Path, checkpoint: bytes
) -> None:
    serve(checkpoint, known=False)
    load_model(NAME)
    digest = hashlib.sha256(checkpoint).hexdigest()
    assert (home / (FILE + ".sha256")).read_text() == f"{digest}  {FILE}\n"
    assert verify(NAME).endswith(f"ok (SHA-256 {digest})")
    assert digest in describe(NAME)
    (home / FILE).write_bytes(checkpoint + b"\0")
    for use in (verify, load_model):
        with pytest.raises(WeightsError, match=f"expected {digest}; delete it and run"):
            use(NAME)
    assert download(NAME, progress=False).read_bytes() == checkpoint


def test_a_file_placed_by_hand_is_recorded(home: Path) -> None:
    home.mkdir()
    (home / FILE).write_bytes(b"anything")
    assert "no hash was known, recorded" in verify(NAME)
    assert verify(NAME).startswith(f"{home / FILE}: ok")


def test_offline_names_address_folder_and_way_out(
    serve, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(PAYLOAD)
    monkeypatch.setenv("REMATTE_OFFLINE", "1")
    with pytest.raises(WeightsError, match="REMATTE_OFFLINE forbids") as error:
        load_model(NAME)
    address = f"http://127.0.0.1:{server.server_port}/{FILE}"
    for said in (address, f"into {home}", "rematte-mobilenetv3"):
        assert said in one_line(error)
    assert server.asked == []


@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("an error", r"404.*or use rematte-mobilenetv3"),
        ("nobody listens", r"cannot fetch.*or use rematte-mobilenetv3"),
        ("no folder", "cannot fetch rvm-mobilenetv3"),
    ],
)
def test_a_download_that_cannot_be_names_the_way_out(
    serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str, said: str
) -> None:
    server = serve(PAYLOAD)
    if why == "an error":
        server.status = 404
    elif why == "nobody listens":
        entry = dataclasses.replace(
            registry.WEIGHTS[NAME], url=f"http://127.0.0.1:9/{FILE}"
        )
        registry.WEIGHTS[NAME] = entry
    else:
        (tmp_path / "file").touch()
        monkeypatch.setenv("REMATTE_HOME", str(tmp_path / "file/sub"))
    with pytest.raises(WeightsError, match=said) as error:
        download(NAME, progress=False)
    one_line(error)


def test_bundled_weights_are_verified_and_never_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert download(registry.DEFAULT) == BUNDLED
    assert ": ok (SHA-256 " in verify(registry.DEFAULT)
    monkeypatch.setattr(registry, "BUNDLED_DIR", tmp_path)
    with pytest.raises(WeightsError, match="install rematte again"):
        load_model()


def test_describe_recognises_a_copy(tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(BUNDLED.read_bytes())
    for said in ("name: rematte-mobilenetv3", f"file: {copy}", "distillation"):
        assert said in describe(copy)


def test_named_weights_are_described_without_torch() -> None:
    code = (
        "import sys; from rematte.cli import main\n"
        "for words in ['list'], ['path'], ['verify', 'rematte-fast'], ['info']:\n"
        "    assert main(['weights', *words]) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    python(code)


def test_the_hub_folder_is_that_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TORCH_HOME", "~/elsewhere"), ("XDG_CACHE_HOME", "/cache")):
        monkeypatch.undo()
        monkeypatch.delenv("TORCH_HOME", raising=False)
        monkeypatch.setenv(name, value)
        known = torch.hub.get_dir()
        with monkeypatch.context() as patch:
            patch.delitem(sys.modules, "torch")
            assert str(registry._torch_hub()) == known
