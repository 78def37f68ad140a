"""Find, fetch, check and load trained weights.

Knows files, folders, hashes and licences. Knows nothing of video or of the command
line: `rematte weights ...` prints what the functions here return.
"""

import contextlib
import hashlib
import http.client
import os
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from rematte.errors import WeightsError
from rematte.network.matting_network import VARIANTS, MattingNetwork

CODE_LICENCE = "Apache-2.0"
DEFAULT = "rematte-mobilenetv3"
BUNDLED_DIR = Path(__file__).parents[1] / "data"
TIMEOUT = 30  # seconds without a byte before a connection counts as dead
BLOCK = 1 << 20  # bytes read at a time

_RVM = "https://github.com/PeterL1n/RobustVideoMatting/releases/download/v1.0.0/"
_RVM_ORIGIN = (
    "release v1.0.0 of RobustVideoMatting by Lin, Yang, Saleemi and Sengupta; trained "
    "on VideoMatte240K, Distinctions-646, Adobe matting, YouTubeVIS, COCO, Supervisely"
)


@dataclass(frozen=True)
class Weights:
    """One set of trained weights that has a name.

    Attributes:
        name: What `load_model` and `--weights` take.
        variant: "mobilenetv3" or "resnet50".
        file: File name in the folders that `find` searches.
        url: Address of the file, or None if it comes with the package.
        sha256: Known hash in hex, or None if it is recorded on first use.
        size: Length in bytes, or None if it is not known.
        parameters: Number of trainable parameters.
        licence: SPDX name of the licence of the weights, not of the code.
        origin: Who made them and from what.
        quality: Measured or published figures, and which of the two.
    """

    name: str
    variant: str
    file: str
    url: str | None
    sha256: str | None
    size: int | None
    parameters: int
    licence: str
    origin: str
    quality: str


WEIGHTS = {
    DEFAULT: Weights(
        name=DEFAULT,
        variant="mobilenetv3",
        file="rematte_mobilenetv3.safetensors",
        url=None,
        sha256="6b46ed9dace48aee4e1ada6a9dcde6a1614f34dfa13b52b43f685472b54476dd",
        size=7_587_194,
        parameters=3_748_633,
        licence="Apache-2.0",
        origin=(
            "trained by this project from random initialisation, by distillation from "
            "the outputs and feature maps of the 8-bit TF.js release of "
            "RobustVideoMatting (GPL-3.0); see docs/model_card.md"
        ),
        quality=(
            "measured; against keyed truth, 8 clips of one man, held out: MAD 3.35e-3, "
            "Grad 1.10, dtSSD 2.61e-2 (its teacher: 3.40e-3, 1.15, 2.65e-2); against "
            "its teacher, 13 clips: MAD 2.1e-3, 1.2e-3 over five that no training saw"
        ),
    ),
    "rvm-mobilenetv3": Weights(
        name="rvm-mobilenetv3",
        variant="mobilenetv3",
        file="rvm_mobilenetv3.pth",
        url=_RVM + "rvm_mobilenetv3.pth",
        sha256=None,
        size=None,
        parameters=3_748_633,
        licence="GPL-3.0",
        origin=_RVM_ORIGIN,
        quality=(
            "published, not measured here; VideoMatte240K composites 512x288: MAD "
            "6.08e-3, MSE 1.47e-3, dtSSD 1.36e-2; 1920x1080 at ratio 0.25: MAD "
            "6.57e-3, MSE 1.93e-3, dtSSD 1.90e-2"
        ),
    ),
    "rvm-resnet50": Weights(
        name="rvm-resnet50",
        variant="resnet50",
        file="rvm_resnet50.pth",
        url=_RVM + "rvm_resnet50.pth",
        # Pinned by one other public project; never fetched by this one.
        sha256="c191a807251164c073dce5fa408e7a816070d539b882b2a3150330a9fec112ce",
        size=None,
        parameters=26_890_461,
        licence="GPL-3.0",
        origin=_RVM_ORIGIN,
        quality=(
            "published, not measured here; VideoMatte240K composites 1920x1080 at "
            "ratio 0.25: MAD 5.81e-3, MSE 0.97e-3, dtSSD 1.78e-2"
        ),
    ),
}


def load_model(
    name_or_path: str | Path | None = None,
    variant: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> torch.nn.Module:
    """Load a network with its weights, ready to run.

    Args:
        name_or_path: A key of `WEIGHTS`, or a file: a state dict (`.pth`, `.pt`,
            `.safetensors`, bare or under "state_dict") or a TorchScript archive. The
            content decides, not the suffix. None means the bundled weights, or
            "rvm-resnet50" where `variant` is "resnet50".
        variant: "mobilenetv3" or "resnet50" to insist on one; None takes what the
            file holds.
        device: Where the network goes.
        dtype: Floating type of the parameters, whatever the file stores. A
            TorchScript archive keeps its own.

    Returns:
        A `MattingNetwork` in eval mode without gradients, its refiner recognised from
        the file; or the TorchScript module as it was saved. A TorchScript archive is
        a program: load only those you trust.

    Raises:
        WeightsError: If the name is unknown, the file is missing, damaged or does not
            fit the network exactly, or a download fails.
        ValueError: If `variant` or `dtype` is not one of those above.
    """
    if variant not in (None, *VARIANTS):
        raise ValueError(f"variant must be one of {VARIANTS} or None, got {variant!r}")
    if not dtype.is_floating_point:
        raise ValueError(f"dtype must be floating, e.g. torch.float32, got {dtype}")
    if name_or_path is None:
        name_or_path = "rvm-resnet50" if variant == "resnet50" else DEFAULT
    path = _resolve(name_or_path, variant)
    if _is_torchscript(path):
        return _load_torchscript(path, variant, device)
    network = _build(read_state_dict(path), path, variant)
    return network.to(device, dtype).eval().requires_grad_(False)


def load_network(
    name_or_path: str | Path | None = None,
    variant: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> MattingNetwork:
    """Load weights for work on the network's parts; as `load_model`.

    Raises:
        WeightsError: As there, and if it is a TorchScript archive.
        ValueError: As there.
    """
    model = load_model(name_or_path, variant, device, dtype)
    if not isinstance(model, MattingNetwork):
        raise WeightsError(
            f"{name_or_path} is TorchScript; give the state dict it was made of"
        )
    return model


def find(name: str) -> Path | None:
    """Look for the file of named weights on this machine.

    Bundled weights lie in the package. Others are searched in `$REMATTE_HOME`, in
    `$XDG_CACHE_HOME/rematte` (default `~/.cache/rematte`), then in
    `torch.hub.get_dir()/checkpoints`, where other programs may have put them.

    Returns:
        The first file found, unchecked, or None.

    Raises:
        WeightsError: If `name` is not a key of `WEIGHTS`.
    """
    entry = _entry(name)
    if entry.url is None:
        folders = [BUNDLED_DIR]
    else:
        # download_dir() is one of the first two: what it fetches is found first.
        hub = Path(torch.hub.get_dir()) / "checkpoints"
        folders = [download_dir(), _user_cache(), hub]
    paths = (folder / entry.file for folder in folders)
    return next((path for path in paths if path.is_file()), None)


def download_dir() -> Path:
    """Folder that downloads go to: `$REMATTE_HOME`, else the user's cache."""
    home = os.environ.get("REMATTE_HOME")
    return Path(home).expanduser() if home else _user_cache()


def download(name: str, progress: bool = True) -> Path:
    """Fetch named weights unless a good copy is here already.

    The bytes go to a `.part` file beside the target, which an interrupted download
    leaves and the next call continues. Only a complete file whose hash is right gets
    the final name. Where no hash is known, the file must fit the network, and its hash
    is recorded in `<file>.sha256` for all later checks.

    Args:
        name: A key of `WEIGHTS`.
        progress: Draw a bar on stderr.

    Returns:
        Path of the checked file.

    Raises:
        WeightsError: If `REMATTE_OFFLINE` is set, the server cannot be reached, the
            connection breaks, or the bytes are not the expected ones.
    """
    entry = _entry(name)
    found = find(name)
    if found is not None and _expected_hash(entry, found) in (None, _sha256(found)):
        return found
    if entry.url is None:
        raise WeightsError(
            f"the bundled weights {name} are missing from {BUNDLED_DIR} or changed; "
            "install rematte again"
        )
    folder = download_dir()
    remedy = (
        f"put the file of {entry.url} into {folder} by hand, or use {DEFAULT}, "
        "which is bundled and needs no network"
    )
    if os.environ.get("REMATTE_OFFLINE", "") not in ("", "0"):
        raise WeightsError(
            f"{name} is not on this machine and REMATTE_OFFLINE forbids to fetch it; "
            + remedy
        )
    target = folder / entry.file
    part = target.with_name(target.name + ".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(entry, entry.url, part, progress)
        _accept(entry, part, target)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it owns the connection
        raise WeightsError(f"cannot fetch {name} ({error}); {remedy}") from error
    return target


def verify(name: str) -> str:
    """Hash the file of named weights again and compare.

    Returns:
        One line: the path, and "ok", or that the hash was recorded for the next time
        because none was known.

    Raises:
        WeightsError: If the file is not on this machine, or its hash is wrong.
    """
    entry = _entry(name)
    path = find(name)
    if path is None:
        raise WeightsError(
            f"{name} is not on this machine; fetch it with: rematte weights download "
            + name
        )
    known = _expected_hash(entry, path) is not None
    got = _check_hash(entry, path)
    verdict = "ok" if known else "no hash was known, recorded this one"
    return f"{path}: {verdict} (SHA-256 {got})"


def list_rows() -> list[tuple[str, str, str, str, str]]:
    """Rows of `rematte weights list`; the first is the heading."""
    rows = [("name", "variant", "parameters", "licence", "where")]
    for entry in WEIGHTS.values():
        where = "bundled" if entry.url is None else str(find(entry.name) or "to fetch")
        millions = f"{entry.parameters / 1e6:.1f} M"
        rows.append((entry.name, entry.variant, millions, entry.licence, where))
    return rows


def describe(name_or_path: str | Path) -> str:
    """Describe weights in a few lines: variant, size, licences, origin, quality.

    Args:
        name_or_path: A key of `WEIGHTS` (never fetched for this), or a file.

    Returns:
        Lines of "field: value" without a final line break.

    Raises:
        WeightsError: If it is neither, or the file does not fit the network.
    """
    fields: dict[str, object] = {}
    if isinstance(name_or_path, str) and name_or_path in WEIGHTS:
        path = find(name_or_path)
        entry: Weights | None = WEIGHTS[name_or_path]
        digest = _expected_hash(WEIGHTS[name_or_path], path) or "not known yet"
    else:
        path = _resolve(name_or_path, None)
        digest = _sha256(path)
        entry = next((e for e in WEIGHTS.values() if e.sha256 == digest), None)
    if entry is not None:
        fields["name"] = entry.name
        fields["variant"] = entry.variant
        fields["parameters"] = f"{entry.parameters:,}"
        fields["origin"] = entry.origin
        fields["quality"] = entry.quality
    elif path is not None and not _is_torchscript(path):
        state = read_state_dict(path)
        network = _build(state, path, None)
        fields["variant"], fields["refiner"] = recognise(state, path)
        fields["parameters"] = f"{sum(p.numel() for p in network.parameters()):,}"
    fields["licence of the weights"] = entry.licence if entry else "not known"
    fields["licence of the code"] = CODE_LICENCE
    fields["file"] = path or f"not here; to fetch from {entry and entry.url}"
    fields["SHA-256"] = digest
    return "\n".join(f"{name}: {text}" for name, text in fields.items())


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict of any stored dtype, without running code from the file.

    Args:
        path: A `torch.save` file (bare or under "state_dict") or a safetensors file.

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
            load_file(path)
            if head[8:9] == b"{"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (WeightsError, MemoryError):
        raise
    except OSError as error:
        # torch reads beyond the end of some truncated files, which is one of these.
        raise WeightsError(
            f"cannot read weights file {path}: {error}; {remedy}"
        ) from error
    except Exception as error:
        # Damaged pickles raise nearly every class there is, in many lines each.
        raise WeightsError(
            f"weights file {path} {_damage(path, head)}; {remedy}"
        ) from (error)
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


def recognise(state: Mapping[str, Tensor], source: str | Path) -> tuple[str, str]:
    """Tell the variant and the refiner of a checkpoint from its keys.

    Args:
        state: The state dict.
        source: File or address, for the message.

    Returns:
        ("mobilenetv3" or "resnet50", "deep_guided_filter" or "fast_guided_filter").

    Raises:
        WeightsError: If the keys are those of some other network.
    """
    refined = any(key.startswith("refiner.") for key in state)
    refiner = "deep_guided_filter" if refined else "fast_guided_filter"
    if any(key.startswith("backbone.features.") for key in state):
        return "mobilenetv3", refiner
    if any(key.startswith("backbone.layer") for key in state):
        return "resnet50", refiner
    raise WeightsError(
        f"weights file {source} is no checkpoint of this network: no key begins with "
        f"backbone.features. or backbone.layer, {len(state)} keys such as "
        f"{_some(state)}; known names: {', '.join(WEIGHTS)}"
    )


def _build(
    state: Mapping[str, Tensor], source: str | Path, wanted: str | None
) -> MattingNetwork:
    """Make the network a state dict belongs to, and fill it strictly."""
    variant, refiner = recognise(state, source)
    _check_variant(variant, wanted, source)
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


def _check_variant(variant: str, wanted: str | None, source: str | Path) -> None:
    if wanted not in (None, variant):
        raise WeightsError(
            f"weights {source} are {variant}, but variant={wanted!r} was asked for; "
            f"leave variant out, or give weights of {wanted}"
        )


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        # torch.save writes zip files too, but none with constants in it.
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
    return False


def _load_torchscript(
    path: Path, wanted: str | None, device: str | torch.device
) -> torch.nn.Module:
    try:
        module: torch.nn.Module = torch.jit.load(path, map_location=device)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(
            f"TorchScript file {path} cannot be loaded ({reason}); export it again"
        ) from error
    if wanted is not None and module.state_dict():  # a frozen archive has no keys
        _check_variant(recognise(module.state_dict(), path)[0], wanted, path)
    return module


def _entry(name: str) -> Weights:
    if name not in WEIGHTS:
        raise WeightsError(
            f"unknown weights {name!r}; known names: {', '.join(WEIGHTS)}"
        )
    return WEIGHTS[name]


def _resolve(name_or_path: str | Path, wanted: str | None) -> Path:
    """Turn a name into a checked file, and a path into a file that exists."""
    if isinstance(name_or_path, str) and name_or_path in WEIGHTS:
        entry = WEIGHTS[name_or_path]
        _check_variant(entry.variant, wanted, entry.name)  # before 100 MB are fetched
        path = find(entry.name) or download(entry.name)
        _check_hash(entry, path)
        return path
    path = Path(name_or_path).expanduser()
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "is neither a file nor a known name"
        raise WeightsError(
            f"weights {str(name_or_path)!r} {kind}; known names: {', '.join(WEIGHTS)}"
        )
    return path


def _user_cache() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG rule: a relative path there is invalid and to be ignored.
    return (base if base.is_absolute() else Path.home() / ".cache") / "rematte"


def _fetch(entry: Weights, url: str, part: Path, progress: bool) -> None:
    """Bring `part` to its full length, continuing what is there."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "rematte"} | (
        {"Range": f"bytes={start}-"} if start else {}
    )
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        error.close()
        part.unlink()  # as long as the file or longer: only a new start can tell
        return _fetch(entry, url, part, progress)
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            start = 0  # the server knows no ranges and sends everything
        length = response.headers.get("Content-Length")
        total = entry.size or (start + int(length) if length else None)
        bar = tqdm(
            desc=f"{entry.file} ({entry.licence})",
            total=total,
            initial=start,
            unit="B",
            unit_scale=True,
            disable=not progress,
        )
        with part.open("r+b" if start else "wb") as file, bar:
            file.seek(start)
            while block := response.read(BLOCK):
                file.write(block)
                bar.update(len(block))
    got = part.stat().st_size
    if total is not None and got < total:
        raise ConnectionError(
            f"connection closed after {got} of {total} bytes: "
            "the same command continues from there"
        )
    return None


def _accept(entry: Weights, part: Path, target: Path) -> None:
    """Give a complete download its final name if it is what it should be."""
    got = _sha256(part)
    expected = _expected_hash(entry, target)
    try:
        if expected is None:
            _build(read_state_dict(part), part, entry.variant)
        elif got != expected:
            raise WeightsError(
                f"SHA-256 of {entry.url} is {got}, expected {expected}; the download "
                "was deleted, try again or get the file elsewhere and give its path"
            )
    except WeightsError:
        part.unlink()
        raise
    part.replace(target)
    if entry.sha256 is None:
        _record_hash(target, got)


def _check_hash(entry: Weights, path: Path) -> str:
    """Hash a file, compare, and record the hash where none is known yet."""
    got = _sha256(path)
    expected = _expected_hash(entry, path)
    if expected is None:
        with contextlib.suppress(OSError):  # a shared cache may be read-only
            _record_hash(path, got)
    elif got != expected:
        raise WeightsError(
            f"SHA-256 of {path} is {got}, expected {expected}; delete it and run: "
            f"rematte weights download {entry.name}, or give its path to use it anyway"
        )
    return got


def _expected_hash(entry: Weights, path: Path | None) -> str | None:
    if entry.sha256 is not None or path is None:
        return entry.sha256
    try:
        first = _sidecar(path).read_text("ascii").split()[:1]
    except (OSError, ValueError):
        return None
    return first[0] if first and len(first[0]) == 64 else None


def _record_hash(path: Path, digest: str) -> None:
    _sidecar(path).write_text(f"{digest}  {path.name}\n", "ascii")  # as sha256sum does


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damage(path: Path, head: bytes) -> str:
    if zipfile.is_zipfile(path):
        return "is damaged, or holds Python objects beside tensors (not loaded: unsafe)"
    if head.isascii() and b"\0" not in head:
        return "is text (a saved web page, or a Git LFS pointer), not weights"
    return "is truncated, damaged, or no weights"


def _some(keys: Mapping[str, Tensor] | list[str]) -> str:
    return ", ".join(list(keys)[:3]) + (", ..." if len(keys) > 3 else "")
