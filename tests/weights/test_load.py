"""Finding, fetching, checking and loading weights. No test leaves this machine."""

import dataclasses
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rematte.errors import WeightsError
from rematte.network.matting_network import MattingNetwork
from rematte.weights import load as weights

NAME = "rvm-mobilenetv3"
FILE = "rvm_mobilenetv3.pth"
BUNDLED = weights.BUNDLED_DIR / weights.WEIGHTS[weights.DEFAULT].file


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
def state() -> dict[str, torch.Tensor]:
    return {
        key: value.float() if value.is_floating_point() else value
        for key, value in load_file(BUNDLED).items()
    }


@pytest.fixture(scope="module")
def checkpoint(
    state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory
) -> bytes:
    path = tmp_path_factory.mktemp("checkpoint") / FILE
    torch.save(state, path)
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
            weights.WEIGHTS[NAME],
            url=f"http://127.0.0.1:{server.server_port}/{FILE}",
            sha256=digest,
        )
        monkeypatch.setitem(weights.WEIGHTS, NAME, entry)
        return server

    return point


PAYLOAD = bytes(range(256)) * 20_000  # 5 MB: several blocks


# The bundled file


def test_bundled_file_is_what_the_table_says() -> None:
    entry = weights.WEIGHTS[weights.DEFAULT]
    content = BUNDLED.read_bytes()
    assert len(content) == entry.size
    assert len(content) < 16e6
    assert hashlib.sha256(content).hexdigest() == entry.sha256


def test_bundled_weights_load_offline_strictly_and_frozen(
    monkeypatch: pytest.MonkeyPatch, state: dict[str, torch.Tensor]
) -> None:
    monkeypatch.setenv("REMATTE_OFFLINE", "1")
    model = weights.load_model()
    loaded = model.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    count = sum(p.numel() for p in model.parameters())
    assert count == weights.WEIGHTS[weights.DEFAULT].parameters


def test_loading_leaves_the_random_numbers_alone() -> None:
    before = torch.random.get_rng_state()
    weights.load_model()
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", weights.WEIGHTS)
def test_table_is_consistent(name: str) -> None:
    entry = weights.WEIGHTS[name]
    assert entry.name == name
    assert entry.licence == ("Apache-2.0" if entry.url is None else "GPL-3.0")
    assert entry.url is None or entry.url.endswith("/v1.0.0/" + entry.file)
    model = MattingNetwork(entry.variant)
    assert sum(p.numel() for p in model.parameters()) == entry.parameters


# Loading files


@pytest.mark.parametrize("suffix", ["pth", "pt", "safetensors", "ckpt"])
@pytest.mark.parametrize("stored", [torch.float32, torch.float16])
def test_loads_a_file_by_its_content(
    tmp_path: Path, state: dict[str, torch.Tensor], suffix: str, stored: torch.dtype
) -> None:
    path = tmp_path / f"mine.{suffix}"
    kept = {
        key: value.to(stored) if value.is_floating_point() else value
        for key, value in state.items()
    }
    # The last suffix says nothing: a safetensors file under another name.
    save = save_file if suffix in ("safetensors", "ckpt") else torch.save
    save(kept, path)
    loaded = weights.load_model(path).state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)
    assert loaded["project_mat.conv.weight"].dtype == torch.float32


def test_loads_a_wrapped_state_dict_in_the_dtype_asked_for(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / "wrapped.pth"
    torch.save({"state_dict": state, "epoch": 3}, path)
    model = weights.load_model(str(path), dtype=torch.bfloat16)
    loaded = model.state_dict()
    assert loaded["project_mat.conv.weight"].dtype == torch.bfloat16
    assert loaded["backbone.features.0.1.num_batches_tracked"].dtype == torch.int64


def test_a_file_without_refiner_gets_the_fast_guided_filter(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / "fast.safetensors"
    kept = {k: v for k, v in state.items() if not k.startswith("refiner.")}
    save_file(kept, path)
    assert weights.load_model(path).state_dict().keys() == kept.keys()
    assert "refiner: fast_guided_filter" in weights.describe(path)


def test_resnet50_is_found_recognised_and_chosen_by_variant(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = dataclasses.replace(weights.WEIGHTS["rvm-resnet50"], sha256=None)
    monkeypatch.setitem(weights.WEIGHTS, "rvm-resnet50", entry)
    home.mkdir()
    made = MattingNetwork("resnet50")
    torch.save(made.half().state_dict(), home / entry.file)
    model = weights.load_model(variant="resnet50")
    assert sum(p.numel() for p in model.parameters()) == entry.parameters
    with pytest.raises(WeightsError, match=r"are resnet50, but variant='mobilenetv3'"):
        weights.load_model(home / entry.file, variant="mobilenetv3")


class Scripted(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = torch.nn.ModuleDict({"features": torch.nn.Linear(2, 2)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.backbone["features"](x)


def test_torchscript_is_returned_as_it_is(tmp_path: Path) -> None:
    made = Scripted()
    path = tmp_path / "model.pth"
    torch.jit.trace(made, torch.zeros(1, 2)).save(str(path))
    model = weights.load_model(path, variant="mobilenetv3")
    x = torch.ones(1, 2)
    assert isinstance(model, torch.jit.ScriptModule)
    assert torch.equal(model(x), made(x))
    assert str(path) in weights.describe(path)
    with pytest.raises(WeightsError, match=r"mobilenetv3, but variant='resnet50'"):
        weights.load_model(path, variant="resnet50")


# Files that do not fit


def one_line(error: pytest.ExceptionInfo[WeightsError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_the_other_variant_is_named_with_the_remedy() -> None:
    with pytest.raises(WeightsError) as error:
        weights.load_model(BUNDLED, variant="resnet50")
    text = one_line(error)
    assert "are mobilenetv3, but variant='resnet50' was asked for" in text
    assert "leave variant out, or give weights of resnet50" in text


def test_a_name_of_the_other_variant_is_refused_before_any_download() -> None:
    with pytest.raises(WeightsError, match="rvm-resnet50 are resnet50, but variant="):
        weights.load_model("rvm-resnet50", variant="mobilenetv3")


def test_wrong_keys_are_counted_and_named(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / "odd.pth"
    odd = dict(state)
    for key in [k for k in odd if k.startswith("aspp.")]:
        del odd[key]
    odd["extra.weight"] = torch.zeros(1)
    odd["project_mat.conv.bias"] = torch.zeros(7)
    torch.save(odd, path)
    with pytest.raises(WeightsError) as error:
        weights.load_model(path)
    text = one_line(error)
    assert "7 keys missing: aspp." in text
    assert ", ...;" in text
    assert "1 keys unexpected: extra.weight" in text
    assert "of wrong shape: project_mat.conv.bias (7,) instead of (4,)" in text
    assert "incomplete" in text


def test_a_broken_refiner_is_recognised(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / "refiner.pth"
    torch.save({k: v for k, v in state.items() if k != "refiner.conv.6.bias"}, path)
    with pytest.raises(WeightsError, match="the refiner is another one: drop its keys"):
        weights.load_model(path)


def test_another_network_is_no_checkpoint_of_this_one(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(
        WeightsError, match=r"no checkpoint of this network.*weight, bi"
    ):
        weights.load_model(path)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.pth"
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match="holds no state dict; save"):
        weights.load_model(path)


def test_python_objects_are_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "whole_model.pth"
    torch.save(Scripted(), path)
    with pytest.raises(WeightsError, match="Python objects beside tensors") as error:
        weights.load_model(path)
    one_line(error)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[: len(content) // 2], "truncated, damaged"),
        (lambda content: content[:9], "truncated, damaged"),
        (lambda content: b"\x80\x02" + content[99:999], "truncated, damaged"),
        (lambda content: b"<!DOCTYPE html>\n404", "is text"),
        (lambda content: b"version {https://git-lfs", "is text"),
        (lambda content: b"", "is empty"),
    ],
)
def test_damaged_files_give_one_line(
    tmp_path: Path, checkpoint: bytes, suffix: str, damage, reason: str
) -> None:
    path = tmp_path / f"broken.{suffix}"
    path.write_bytes(damage(checkpoint if suffix == "pth" else BUNDLED.read_bytes()))
    with pytest.raises(WeightsError, match=reason) as error:
        weights.load_model(path)
    assert "fetch or copy it again" in one_line(error)


def test_damaged_torchscript_gives_one_line(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "broken.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/constants.pkl", b"no pickle")
    with pytest.raises(WeightsError, match="export it again") as error:
        weights.load_model(path)
    one_line(error)


def test_unknown_names_and_folders_list_the_known_names(tmp_path: Path) -> None:
    for wrong in ("rvm-mobilnet", tmp_path / "absent.pth", tmp_path):
        with pytest.raises(WeightsError, match="known names: rematte-mobilenetv3, rvm"):
            weights.load_model(wrong)
    with pytest.raises(WeightsError, match="unknown weights 'x'; known names"):
        weights.find("x")


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"variant must be one of .*, got 'resnet'"):
        weights.load_model(variant="resnet")
    with pytest.raises(ValueError, match=r"dtype must be floating.*, got torch\.int8"):
        weights.load_model(dtype=torch.int8)


# Searching


def test_search_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [
        tmp_path / "hub" / "checkpoints",
        tmp_path / "xdg" / "rematte",
        tmp_path / "home",
    ]
    assert weights.find(NAME) is None
    for folder in folders:  # the last one wins
        folder.mkdir(parents=True)
        (folder / FILE).write_bytes(b"x")
        assert weights.find(NAME) == folder / FILE
    monkeypatch.delenv("REMATTE_HOME")
    assert weights.find(NAME) == folders[1] / FILE
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # invalid by the XDG rules
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights.find(NAME) == folders[0] / FILE
    assert weights.download_dir() == tmp_path / ".cache" / "rematte"


def test_a_name_beats_a_file_of_that_name_but_a_path_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(weights.DEFAULT).write_bytes(b"")
    weights.load_model(weights.DEFAULT)
    with pytest.raises(WeightsError, match="is empty"):
        weights.load_model(Path(weights.DEFAULT))


# Downloading


def test_download_checks_and_places_the_file(serve, home: Path, capsys) -> None:
    server = serve(PAYLOAD)
    path = weights.download(NAME)
    assert path == home / FILE
    assert path.read_bytes() == PAYLOAD
    assert [p.name for p in home.iterdir()] == [FILE]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "GPL-3.0" in captured.err
    assert weights.download(NAME) == path
    assert len(server.asked) == 1


def test_no_bar_without_progress(serve, capsys) -> None:
    serve(PAYLOAD)
    weights.download(NAME, progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_is_continued(serve, home: Path, ranges: bool) -> None:
    server = serve(PAYLOAD)
    server.cut = 2_000_000
    with pytest.raises(WeightsError, match="closed after 2000000 of 5120000 bytes"):
        weights.download(NAME, progress=False)
    assert not (home / FILE).exists()
    server.cut = None
    server.ranges = ranges
    assert weights.download(NAME, progress=False).read_bytes() == PAYLOAD
    assert server.asked == [None, "bytes=2000000-"]


def test_a_part_that_is_too_long_starts_over(serve, home: Path) -> None:
    server = serve(PAYLOAD)
    home.mkdir()
    (home / (FILE + ".part")).write_bytes(PAYLOAD + b"more")
    assert weights.download(NAME, progress=False).read_bytes() == PAYLOAD
    assert server.asked == [f"bytes={len(PAYLOAD) + 4}-", None]


def test_a_wrong_hash_is_reported_and_deleted(serve, home: Path) -> None:
    serve(PAYLOAD, sha256="0" * 64)
    got = hashlib.sha256(PAYLOAD).hexdigest()
    with pytest.raises(WeightsError, match=f"is {got}, expected 0000.*deleted"):
        weights.download(NAME, progress=False)
    assert list(home.iterdir()) == []


def test_an_unknown_hash_is_recorded_and_checked_afterwards(
    serve, home: Path, checkpoint: bytes
) -> None:
    serve(checkpoint, known=False)
    weights.load_model(NAME)
    digest = hashlib.sha256(checkpoint).hexdigest()
    assert (home / (FILE + ".sha256")).read_text() == f"{digest}  {FILE}\n"
    assert weights.verify(NAME).endswith(f"ok (SHA-256 {digest})")
    assert digest in weights.describe(NAME)
    (home / FILE).write_bytes(checkpoint + b"\0")
    for use in (weights.verify, weights.load_model):
        with pytest.raises(WeightsError, match=f"expected {digest}; delete it and run"):
            use(NAME)
    assert weights.download(NAME, progress=False).read_bytes() == checkpoint


def test_without_a_hash_the_file_must_fit_the_network(serve, home: Path) -> None:
    serve(b"<html>rate limit</html>", known=False)
    with pytest.raises(WeightsError, match="is text"):
        weights.download(NAME, progress=False)
    assert list(home.iterdir()) == []


def test_a_file_placed_by_hand_is_recorded(home: Path) -> None:
    home.mkdir()
    (home / FILE).write_bytes(b"anything")
    assert "no hash was known, recorded" in weights.verify(NAME)
    assert weights.verify(NAME).startswith(f"{home / FILE}: ok")


def test_offline_names_address_folder_and_way_out(
    serve, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(PAYLOAD)
    monkeypatch.setenv("REMATTE_OFFLINE", "1")
    with pytest.raises(WeightsError, match="REMATTE_OFFLINE forbids") as error:
        weights.load_model(NAME)
    text = one_line(error)
    assert f"http://127.0.0.1:{server.server_port}/{FILE}" in text
    assert f"into {home}" in text
    assert "rematte-mobilenetv3" in text
    assert server.asked == []


def test_server_errors_name_the_way_out(serve) -> None:
    server = serve(PAYLOAD)
    server.status = 404
    with pytest.raises(WeightsError, match=r"404.*or use rematte-mobilenetv3") as error:
        weights.download(NAME, progress=False)
    one_line(error)


def test_an_unreachable_server_names_the_way_out(serve, server: Server) -> None:
    serve(PAYLOAD)
    entry = weights.WEIGHTS[NAME]
    assert entry.url is not None
    closed = entry.url.replace(str(server.server_port), "9")  # discard: nobody listens
    weights.WEIGHTS[NAME] = dataclasses.replace(entry, url=closed)
    with pytest.raises(WeightsError, match=r"cannot fetch.*or use rematte-mobilenetv3"):
        weights.download(NAME, progress=False)


def test_a_folder_that_cannot_be_made_is_reported(
    serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(PAYLOAD)
    (tmp_path / "file").touch()
    monkeypatch.setenv("REMATTE_HOME", str(tmp_path / "file" / "sub"))
    with pytest.raises(WeightsError, match="cannot fetch rvm-mobilenetv3"):
        weights.download(NAME, progress=False)


# Bundled weights through the same functions, and what the command line prints


def test_bundled_weights_are_verified_and_never_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert weights.download(weights.DEFAULT) == BUNDLED
    assert ": ok (SHA-256 " in weights.verify(weights.DEFAULT)
    monkeypatch.setattr(weights, "BUNDLED_DIR", tmp_path)
    with pytest.raises(WeightsError, match="install rematte again"):
        weights.load_model()


def test_verify_says_what_to_do_about_absent_weights() -> None:
    with pytest.raises(WeightsError, match="rematte weights download rvm-resnet50"):
        weights.verify("rvm-resnet50")


def test_list_rows() -> None:
    heading, *rows = weights.list_rows()
    assert heading == ("name", "variant", "parameters", "licence", "where")
    assert rows[0] == (weights.DEFAULT, "mobilenetv3", "3.7 M", "Apache-2.0", "bundled")
    assert [row[-1] for row in rows[1:]] == ["to fetch", "to fetch"]


def test_describe_states_both_licences_and_where(tmp_path: Path) -> None:
    text = weights.describe("rvm-resnet50")
    assert "licence of the weights: GPL-3.0\nlicence of the code: Apache-2.0" in text
    assert "not here; to fetch from https://github.com/" in text
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(BUNDLED.read_bytes())
    text = weights.describe(copy)
    assert "name: rematte-mobilenetv3" in text
    assert f"file: {copy}" in text
    assert "distillation" in text
