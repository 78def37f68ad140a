"""Reading, checking and loading weights."""

import hashlib
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import one_line
from safetensors.torch import load_file, save_file

from rematte.errors import WeightsError
from rematte.network.matting_network import MattingNetwork
from rematte.weights import registry
from rematte.weights.describe import describe
from rematte.weights.load import load_model

State = dict[str, torch.Tensor]
BUNDLED = registry.BUNDLED_DIR / registry.WEIGHTS[registry.DEFAULT].file


def as_dtype(state: State, dtype: torch.dtype) -> State:
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}


@pytest.fixture(scope="module")
def state() -> State:
    return as_dtype(load_file(BUNDLED), torch.float32)


@pytest.fixture(scope="module")
def checkpoint(state: State, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("checkpoint") / "model.pth"
    torch.save(state, path)
    return path.read_bytes()


def test_weights_share_tensors_with_the_file_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = registry.WEIGHTS[registry.FAST]
    path = tmp_path / fast.file
    path.write_bytes((registry.BUNDLED_DIR / fast.file).read_bytes())
    with pytest.raises(WeightsError, match=BUNDLED.name) as error:
        load_model(path)
    one_line(error)
    beside = tmp_path / BUNDLED.name
    beside.write_bytes(BUNDLED.read_bytes())
    loaded, named = load_model(path).state_dict(), load_model(fast.name).state_dict()
    assert loaded.keys() == named.keys()
    assert all(torch.equal(loaded[key], named[key]) for key in named)
    beside.write_bytes(BUNDLED.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(registry, "BUNDLED_DIR", tmp_path)
    with pytest.raises(WeightsError, match=f"SHA-256 of {beside}"):
        load_model(fast.name)
    beside.unlink()
    with pytest.raises(WeightsError, match=f"{registry.DEFAULT} are missing"):
        load_model(fast.name)


def test_bundled_weights_load_offline_strictly_and_frozen(
    monkeypatch: pytest.MonkeyPatch, state: State
) -> None:
    monkeypatch.setenv("REMATTE_OFFLINE", "1")
    model = load_model()
    loaded = model.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


def test_loading_leaves_the_random_numbers_alone() -> None:
    before = torch.random.get_rng_state()
    load_model()
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", registry.WEIGHTS)
def test_table_is_consistent(name: str) -> None:
    entry = registry.WEIGHTS[name]
    assert entry.name == name
    assert entry.licence == ("Apache-2.0" if entry.url is None else "GPL-3.0")
    assert entry.url is None or entry.url.endswith("/v1.0.0/" + entry.file)
    model = MattingNetwork(entry.variant) if entry.url else load_model(name)
    assert sum(p.numel() for p in model.parameters()) == entry.parameters
    if entry.url is None:
        content = (registry.BUNDLED_DIR / entry.file).read_bytes()
        assert len(content) == entry.size < (1e6 if name == registry.FAST else 8e6)
        assert hashlib.sha256(content).hexdigest() == entry.sha256


@pytest.mark.parametrize("suffix", ["pth", "pt", "safetensors", "ckpt"])
@pytest.mark.parametrize("stored", [torch.float32, torch.float16])
def test_loads_a_file_by_its_content(
    tmp_path: Path, state: State, suffix: str, stored: torch.dtype
) -> None:
    path = tmp_path / f"mine.{suffix}"
    # The last suffix says nothing: a safetensors file under another name.
    save = save_file if suffix in ("safetensors", "ckpt") else torch.save
    save(as_dtype(state, stored), path)
    loaded = load_model(path).state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)
    assert loaded["project_mat.conv.weight"].dtype == torch.float32


def test_loads_a_wrapped_state_dict_in_a_dtype(tmp_path: Path, state: State) -> None:
    path = tmp_path / "wrapped.pth"
    torch.save({"state_dict": state, "epoch": 3}, path)
    loaded = load_model(str(path), dtype=torch.bfloat16).state_dict()
    assert loaded["project_mat.conv.weight"].dtype == torch.bfloat16
    assert loaded["backbone.features.0.1.num_batches_tracked"].dtype == torch.int64


def test_a_file_without_refiner_gets_the_fast_one(tmp_path: Path, state: State) -> None:
    path = tmp_path / "fast.safetensors"
    kept = {k: v for k, v in state.items() if not k.startswith("refiner.")}
    save_file(kept, path)
    assert load_model(path).state_dict().keys() == kept.keys()
    assert "refiner: fast_guided_filter" in describe(path)


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
    model = load_model(path, variant="mobilenetv3")
    x = torch.ones(1, 2)
    assert isinstance(model, torch.jit.ScriptModule)
    assert torch.equal(model(x), made(x))
    assert str(path) in describe(path)
    with pytest.raises(WeightsError, match=r"mobilenetv3, but variant='resnet50'"):
        load_model(path, variant="resnet50")


def test_a_fast_network_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "fast.safetensors"
    made = MattingNetwork("mobilenetv3_fast").eval()
    save_file(made.state_dict(), path)
    frame = torch.rand(1, 3, 33, 47)
    for variant in (None, "mobilenetv3_fast"):
        model = load_model(path, variant)
        assert torch.equal(model(frame).pha, made(frame).pha)
    assert "variant: mobilenetv3_fast" in describe(path)
    with pytest.raises(WeightsError, match="are mobilenetv3_fast, but variant="):
        load_model(path, "mobilenetv3")


def test_the_other_variant_is_named_with_the_remedy() -> None:
    said = "are mobilenetv3, but variant='resnet50' .* out, or give weights of resnet50"
    with pytest.raises(WeightsError, match=said) as error:
        load_model(BUNDLED, variant="resnet50")
    one_line(error)


def test_a_name_of_the_other_variant_is_refused_before_any_download() -> None:
    with pytest.raises(WeightsError, match="rvm-resnet50 are resnet50, but variant="):
        load_model("rvm-resnet50", variant="mobilenetv3")


def test_wrong_keys_are_counted_and_named(tmp_path: Path, state: State) -> None:
    path = tmp_path / "odd.pth"
    odd = {k: v for k, v in state.items() if not k.startswith("aspp.")}
    odd["extra.weight"] = torch.zeros(1)
    odd["project_mat.conv.bias"] = torch.zeros(7)
    torch.save(odd, path)
    with pytest.raises(WeightsError) as error:
        load_model(path)
    text = one_line(error)
    for said in (
        "7 keys missing: aspp.", ", ...;", "1 keys unexpected: extra.weight",
        "of wrong shape: project_mat.conv.bias (7,) instead of (4,)",
        "it is incomplete", "use a whole checkpoint",
    ):  # fmt: skip
        assert said in text


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda state: {k: state[k] for k in state if k != "refiner.conv.6.bias"},
            "the refiner is another one: drop its keys",
        ),
        (lambda _: torch.nn.Linear(2, 2).state_dict(), "not a checkpoint of this"),
        (lambda _: [1, 2], "holds no state dict; save"),
        (lambda _: Scripted(), "Python objects beside tensors"),
    ],
    ids=["a broken refiner", "another network", "a list", "a pickled module"],
)
def test_what_fits_no_network(tmp_path: Path, state: State, make, reason: str) -> None:
    path = tmp_path / "other.pth"
    torch.save(make(state), path)
    with pytest.raises(WeightsError, match=reason) as error:
        load_model(path)
    assert ("weight, bi" in one_line(error)) == reason.startswith("not a checkpoint")


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
        load_model(path)
    assert "fetch or copy it again" in one_line(error)


def test_damaged_torchscript_gives_one_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/constants.pkl", b"no pickle")
    with pytest.raises(WeightsError, match="export it again") as error:
        load_model(path)
    one_line(error)


def test_unknown_names_and_folders_list_the_known_names(tmp_path: Path) -> None:
    for wrong in ("rvm-mobilnet", tmp_path / "absent.pth", tmp_path):
        with pytest.raises(WeightsError, match="known names: rematte-mobilenetv3, rem"):
            load_model(wrong)
    with pytest.raises(WeightsError, match="unknown weights 'x'; known names"):
        registry.find("x")


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"variant must be one of .*, got 'resnet'"):
        load_model(variant="resnet")
    with pytest.raises(ValueError, match=r"dtype must be floating.*, got torch\.int8"):
        load_model(dtype=torch.int8)
