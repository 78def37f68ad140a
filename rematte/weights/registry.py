"""The table of trained weights: names, licences, origins, and where files lie.

Imports no torch, so that listing weights and printing versions is quick.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rematte.errors import WeightsError

CODE_LICENCE = "Apache-2.0"
DEFAULT = "rematte-mobilenetv3"
FAST = "rematte-fast"
VARIANTS = ("mobilenetv3", "mobilenetv3_fast", "resnet50")
BUNDLED_DIR = Path(__file__).parents[1] / "data"

_RVM = "https://github.com/PeterL1n/RobustVideoMatting/releases/download/v1.0.0/"
_RVM_ORIGIN = (
    "release v1.0.0 of RobustVideoMatting by Lin, Yang, Saleemi and Sengupta; trained "
    "on VideoMatte240K, Distinctions-646, Adobe matting, YouTubeVIS, COCO, Supervisely"
)


@dataclass(frozen=True)
class Weights:
    """One set of trained weights that has a name."""

    name: str  # what `load_model` and `--weights` take
    variant: str  # one of `VARIANTS`
    file: str  # file name in the folders that `find` searches
    parameters: int  # number of trainable parameters
    licence: str  # SPDX name of the licence of the weights, not of the code
    origin: str  # who made them and from what
    quality: str  # measured or published figures, and which of the two
    url: str | None = None  # address of the file; None if it comes with the package
    sha256: str | None = None  # known hash in hex; None if it is recorded on first use
    size: int | None = None  # length in bytes, if it is known
    # Name of the weights beside it that hold the rest of its tensors, if there are any.
    shares: str | None = None


WEIGHTS = {
    DEFAULT: Weights(
        name=DEFAULT,
        variant="mobilenetv3",
        file="rematte_mobilenetv3.safetensors",
        sha256="559beb453d3b8b82ce83e6ecf5763edf74992fc24c7773b7d46e37dea87e6f62",
        size=7_587_314,
        parameters=3_748_633,
        licence="Apache-2.0",
        origin=(
            "trained by this project from random initialisation, by distillation from "
            "the outputs and feature maps of the 8-bit TF.js release of "
            "RobustVideoMatting (GPL-3.0); see docs/model_card.md"
        ),
        quality=(
            "measured; against keyed truth, 8 clips of one man, held out: MAD 3.30e-3, "
            "Grad 1.11, dtSSD 2.60e-2 (its teacher: 3.40e-3, 1.15, 2.65e-2); against "
            "its teacher, 13 clips: MAD 6.0e-3, 1.2e-3 over five that no training saw"
        ),
    ),
    FAST: Weights(
        name=FAST,
        variant="mobilenetv3_fast",
        file="rematte_fast.safetensors",
        sha256="00fec90f5219803e76d16c12b3ef85fa3465ae6c9a559ca8dad8103c9ed63887",
        size=288_490,
        parameters=3_574_777,
        licence="Apache-2.0",
        origin=(
            "made by this project from rematte-mobilenetv3, whose encoder it has, by "
            "distillation; see docs/model_card.md"
        ),
        quality=(
            "measured; half of the arithmetic of rematte-mobilenetv3, from which its "
            "alpha differs by 3.7e-3 on 13 clips; against keyed truth, 2 clips of one "
            "man, held out: MAD 2.90e-3 (rematte-mobilenetv3: 2.90e-3)"
        ),
        shares=DEFAULT,
    ),
    "rvm-mobilenetv3": Weights(
        name="rvm-mobilenetv3",
        variant="mobilenetv3",
        file="rvm_mobilenetv3.pth",
        url=_RVM + "rvm_mobilenetv3.pth",
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
        parameters=26_890_461,
        licence="GPL-3.0",
        origin=_RVM_ORIGIN,
        quality=(
            "published, not measured here; VideoMatte240K composites 1920x1080 at "
            "ratio 0.25: MAD 5.81e-3, MSE 0.97e-3, dtSSD 1.78e-2"
        ),
    ),
}


def lookup(name: str) -> Weights:
    """Return the entry of named weights, or raise a `WeightsError` with all names."""
    if name not in WEIGHTS:
        raise WeightsError(
            f"unknown weights {name!r}; known names: {', '.join(WEIGHTS)}"
        )
    return WEIGHTS[name]


def for_quality(
    weights: Any, quality: str, ratio: float | str | None
) -> tuple[Any, str]:
    """Choose the weights for a quality, and the quality of the coarse pass.

    `weights` are the weights or the network that was given, or None; `quality` and the
    downsample `ratio` are as in `Options`. "fast" chooses the fast network where
    neither weights nor a ratio are given, and a smaller coarse pass otherwise.
    """
    if weights is None and quality == "fast" and ratio in (None, "auto"):
        return FAST, "balanced"
    return weights, quality


def find(name: str) -> Path | None:
    """Look for the file of named weights on this machine, without checking it.

    Bundled weights are in the package. Others are searched for in `$REMATTE_HOME`, in
    `$XDG_CACHE_HOME/rematte` (default `~/.cache/rematte`), then in TorchHub's folder
    of checkpoints, where other programs may have put them.
    """
    entry = lookup(name)
    if entry.url is None:
        folders = [BUNDLED_DIR]
    else:
        # download_dir() is one of the first two: what it fetches is found first.
        folders = [download_dir(), _user_cache(), _torch_hub() / "checkpoints"]
    paths = (folder / entry.file for folder in folders)
    return next((path for path in paths if path.is_file()), None)


def download_dir() -> Path:
    """Return the folder for downloads: `$REMATTE_HOME`, else the user's cache."""
    home = os.environ.get("REMATTE_HOME")
    return Path(home).expanduser() if home else _user_cache()


def _user_cache() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG rule: a relative path there is invalid and to be ignored.
    return (base if base.is_absolute() else Path.home() / ".cache") / "rematte"


def _torch_hub() -> Path:
    """Return `torch.hub.get_dir()`, without importing torch for it."""
    torch = sys.modules.get("torch")
    if torch is not None:  # the program may have set another folder
        return Path(torch.hub.get_dir())
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", f"{caches}/torch")
    return Path(os.path.expandvars(home)).expanduser() / "hub"


def list_rows() -> list[tuple[str, str, str, str, str]]:
    """Return the rows of `rematte weights list`; the first is the heading."""
    rows = [("name", "variant", "parameters", "licence", "where")]
    for entry in WEIGHTS.values():
        where = "bundled" if entry.url is None else str(find(entry.name) or "to fetch")
        millions = f"{entry.parameters / 1e6:.1f} M"
        rows.append((entry.name, entry.variant, millions, entry.licence, where))
    return rows
