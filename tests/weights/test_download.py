"""Finding and downloading weights. No test leaves this machine."""

import dataclasses
import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

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


def one_line(error: pytest.ExceptionInfo[WeightsError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# Searching


def test_search_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [
        tmp_path / "hub" / "checkpoints",
        tmp_path / "xdg" / "rematte",
        tmp_path / "home",
    ]
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


def test_a_name_beats_a_file_of_that_name_but_a_path_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
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
    with pytest.raises(WeightsError, match=r"are resnet50, but variant='mobilenetv3'"):
        load_model(home / entry.file, variant="mobilenetv3")


# Downloading


def test_download_checks_and_places_the_file(serve, home: Path, capsys) -> None:
    server = serve(PAYLOAD)
    path = download(NAME)
    assert path == home / FILE
    assert path.read_bytes() == PAYLOAD
    assert [p.name for p in home.iterdir()] == [FILE]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "GPL-3.0" in captured.err
    assert download(NAME) == path
    assert len(server.asked) == 1


def test_no_bar_without_progress(serve, capsys) -> None:
    serve(PAYLOAD)
    download(NAME, progress=False)
    assert capsys.readouterr().err == ""


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


def test_a_wrong_hash_is_reported_and_deleted(serve, home: Path) -> None:
    serve(PAYLOAD, sha256="0" * 64)
    got = hashlib.sha256(PAYLOAD).hexdigest()
    with pytest.raises(WeightsError, match=f"is {got}, expected 0000.*deleted"):
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


def test_without_a_hash_the_file_must_fit_the_network(serve, home: Path) -> None:
    serve(b"<html>rate limit</html>", known=False)
    with pytest.raises(WeightsError, match="is text"):
        download(NAME, progress=False)
    assert list(home.iterdir()) == []


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
    text = one_line(error)
    assert f"http://127.0.0.1:{server.server_port}/{FILE}" in text
    assert f"into {home}" in text
    assert "rematte-mobilenetv3" in text
    assert server.asked == []


def test_server_errors_name_the_way_out(serve) -> None:
    server = serve(PAYLOAD)
    server.status = 404
    with pytest.raises(WeightsError, match=r"404.*or use rematte-mobilenetv3") as error:
        download(NAME, progress=False)
    one_line(error)


def test_an_unreachable_server_names_the_way_out(serve, server: Server) -> None:
    serve(PAYLOAD)
    entry = registry.WEIGHTS[NAME]
    assert entry.url is not None
    closed = entry.url.replace(str(server.server_port), "9")  # discard: nobody listens
    registry.WEIGHTS[NAME] = dataclasses.replace(entry, url=closed)
    with pytest.raises(WeightsError, match=r"cannot fetch.*or use rematte-mobilenetv3"):
        download(NAME, progress=False)


def test_a_folder_that_cannot_be_made_is_reported(
    serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(PAYLOAD)
    (tmp_path / "file").touch()
    monkeypatch.setenv("REMATTE_HOME", str(tmp_path / "file" / "sub"))
    with pytest.raises(WeightsError, match="cannot fetch rvm-mobilenetv3"):
        download(NAME, progress=False)


# Bundled weights through the same functions, and what the command line prints


def test_bundled_weights_are_verified_and_never_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert download(registry.DEFAULT) == BUNDLED
    assert ": ok (SHA-256 " in verify(registry.DEFAULT)
    monkeypatch.setattr(registry, "BUNDLED_DIR", tmp_path)
    with pytest.raises(WeightsError, match="install rematte again"):
        load_model()


def test_verify_says_what_to_do_about_absent_weights() -> None:
    with pytest.raises(WeightsError, match="rematte weights download rvm-resnet50"):
        verify("rvm-resnet50")


def test_list_rows() -> None:
    heading, *rows = registry.list_rows()
    assert heading == ("name", "variant", "parameters", "licence", "where")
    assert rows[0] == (
        registry.DEFAULT,
        "mobilenetv3",
        "3.7 M",
        "Apache-2.0",
        "bundled",
    )
    assert [row[-1] for row in rows[1:]] == ["bundled", "to fetch", "to fetch"]


def test_describe_states_both_licences_and_where(tmp_path: Path) -> None:
    text = describe("rvm-resnet50")
    assert "licence of the weights: GPL-3.0\nlicence of the code: Apache-2.0" in text
    assert "not here; to fetch from https://github.com/" in text
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(BUNDLED.read_bytes())
    text = describe(copy)
    assert "name: rematte-mobilenetv3" in text
    assert f"file: {copy}" in text
    assert "distillation" in text


@pytest.mark.parametrize(
    "words", [["list"], ["path"], ["verify", registry.FAST], ["info"]]
)
def test_named_weights_are_described_without_torch(
    words: list[str],
) -> None:
    code = (
        f"import sys; from rematte.cli import main; main(['weights', *{words}])\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_torch_hub_folder_is_the_same_with_and_without_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("TORCH_HOME", "~/elsewhere"), ("XDG_CACHE_HOME", "/cache")):
        monkeypatch.undo()
        monkeypatch.delenv("TORCH_HOME", raising=False)
        monkeypatch.setenv(name, value)
        known = torch.hub.get_dir()
        with monkeypatch.context() as patch:
            patch.delitem(sys.modules, "torch")
            assert str(registry._torch_hub()) == known
