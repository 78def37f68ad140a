"""Reads checkpoint files and builds the network that they belong to.

Knows files and keys; no names of weights and no downloads.
"""

import contextlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from rematte.errors import WeightsError
from rematte.network.matting_network import MattingNetwork
from rematte.weights.download import check_variant
from rematte.weights.registry import WEIGHTS


def read_metadata(path: Path) -> dict[str, str]:
    """Read what `rematte train` wrote into weights; empty if others made them."""
    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get("rematte", "{}")
    try:
        facts = json.loads(text)
    except ValueError:
        return {}
    return {str(name): str(value) for name, value in facts.items()}


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict of any stored dtype, without running code from the file.

    That is a `torch.save` file (bare or under "state_dict") or a safetensors file.

    Raises:
        WeightsError: If the file is missing, empty, damaged, or holds anything else.
    """
    remedy = "fetch or copy it again; .pth, .safetensors and TorchScript can be read"
    try:
        with path.open("rb") as file:
            head = file.read(512)
        if not head:
            raise WeightsError(f"weights file {path} is empty; {remedy}")
        # A safetensors file is an 8-byte length, then JSON.
        content = (
            _read_safetensors(path)
            if head[8:9] == b"{"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (WeightsError, MemoryError):
        raise
    except OSError as error:
        # torch reads beyond the end of some truncated files, which is one of these.
        problem = f"cannot read weights file {path}: {error}; {remedy}"
        raise WeightsError(problem) from error
    except Exception as error:
        # Damaged pickles raise nearly every class there is, in many lines each.
        problem = f"weights file {path} {_damage(path, head)}; {remedy}"
        raise WeightsError(problem) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor)
        for key, value in state.items()
    ):
        raise WeightsError(
            f"weights file {path} holds no state dict; "
            'save model.state_dict() itself, or {"state_dict": model.state_dict()}'
        )
    return dict(state)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a file, and from the file beside it the tensors that both share."""
    tensors = load_file(path)
    facts = read_metadata(path)
    if "shared" in facts:
        with safe_open(path.with_name(facts["shared_with"]), "pt") as file:
            tensors |= {name: file.get_tensor(name) for name in facts["shared"].split()}
    return tensors


def recognise(state: Mapping[str, Tensor], source: str | Path) -> tuple[str, str]:
    """Recognise the variant and the refiner of a checkpoint by its keys.

    They are one of `VARIANTS`, and "deep_guided_filter" or "fast_guided_filter".

    Raises:
        WeightsError: If the keys of `source` are those of some other network.
    """
    refined = any(key.startswith("refiner.") for key in state)
    refiner = "deep_guided_filter" if refined else "fast_guided_filter"
    if any(key.startswith("backbone.features.") for key in state):
        fast = any(key.startswith("decoder.decode0.low.") for key in state)
        return "mobilenetv3_fast" if fast else "mobilenetv3", refiner
    if any(key.startswith("backbone.layer") for key in state):
        return "resnet50", refiner
    raise WeightsError(
        f"weights file {source} is not a checkpoint of this network: no key begins "
        f"with backbone.features. or backbone.layer, {len(state)} keys such as "
        f"{_some(state)}; known names: {', '.join(WEIGHTS)}"
    )


def build(
    state: Mapping[str, Tensor], source: str | Path, wanted: str | None
) -> MattingNetwork:
    """Build the network that the state dict of `source` belongs to, and load it.

    Raises:
        WeightsError: If a key is missing, unexpected or of another shape, or the
            variant is not the one wanted; None takes any.
    """
    variant, refiner = recognise(state, source)
    check_variant(variant, wanted, source)
    with torch.random.fork_rng(devices=[]):
        # Loading replaces the initial values: drawing them must not move the
        # caller's random numbers.
        network = MattingNetwork(variant, refiner)
    expected = network.state_dict()
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    misfits = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    faults = {"missing": missing, "unexpected": unexpected, "of wrong shape": misfits}
    if any(faults.values()):
        found = "; ".join(
            f"{len(keys)} keys {fault}: {_some(keys)}"
            for fault, keys in faults.items()
            if keys
        )
        if all(k.startswith("refiner.") for keys in faults.values() for k in keys):
            looks = "the refiner is another one: drop its keys to use the fast one"
        else:
            looks = f"it is incomplete, or not this {variant}: use a whole checkpoint"
        raise WeightsError(
            f"weights file {source} does not fit {variant} with {refiner}: {found}; "
            + looks
        )
    network.load_state_dict(state, strict=True)
    return network


def is_torchscript(path: Path) -> bool:
    """Return whether a file is a TorchScript archive, whatever its suffix."""
    if not zipfile.is_zipfile(path):
        return False
    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        # torch.save writes zip files too, but none with constants in it.
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
    return False


def load_torchscript(
    path: Path, wanted: str | None, device: str | torch.device
) -> torch.nn.Module:
    """Load a TorchScript archive of the wanted variant, or of any if that is None."""
    try:
        module: torch.nn.Module = torch.jit.load(path, map_location=device)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(
            f"TorchScript file {path} cannot be loaded ({reason}); export it again"
        ) from error
    if wanted is not None and module.state_dict():  # a frozen archive has no keys
        check_variant(recognise(module.state_dict(), path)[0], wanted, path)
    return module


def _damage(path: Path, head: bytes) -> str:
    if zipfile.is_zipfile(path):
        return "is damaged, or holds Python objects beside tensors (not loaded: unsafe)"
    if head.isascii() and b"\0" not in head:
        return "is text (a saved web page, or a Git LFS pointer), not weights"
    return "is truncated, damaged, or no weights"


def _some(keys: Mapping[str, Tensor] | list[str]) -> str:
    return ", ".join(list(keys)[:3]) + (", ..." if len(keys) > 3 else "")
