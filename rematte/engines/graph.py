"""Networks as OpenVINO graphs, which need no torch.

A graph is the network's coarse part, with every tensor where `OpenVINOEngine` may cut
it as an output. The graphs of the bundled weights are in the package
(`tools/write_graph.py` makes them), and their constants are the weights' files. Others
are converted once and cached.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from rematte.engines.runtimes import package_versions
from rematte.version import __version__
from rematte.weights.registry import (
    BUNDLED_DIR,
    DEFAULT,
    FAST,
    WEIGHTS,
    download_dir,
)

# Names of the graph's inputs, and of its outputs before the new states: features at
# 1/2, 1/4 and 1/8, the decoder's result, and the maps of `Matted` without and with the
# guided filter.
INPUTS = ("picture", "r1", "r2", "r3", "r4")
OUTPUTS = ("f1", "f2", "f3", "hidden", "plain", "refined")


@dataclass(frozen=True)
class Graph:
    """A network as an OpenVINO graph."""

    model: Path  # the .xml file
    # The files that hold its constants, concatenated; for bundled graphs the first is
    # the file of the weights.
    constants: tuple[Path, ...]
    digest: str  # identifies the weights; for bundled ones what `weights_digest` gives


def _bundled(name: str, digest: str) -> Graph:
    entry = WEIGHTS[name]
    files = [entry.file, *([WEIGHTS[entry.shares].file] if entry.shares else [])]
    weights = [BUNDLED_DIR / file for file in files]
    constants = (*weights, weights[0].with_suffix(".constants"))
    return Graph(weights[0].with_suffix(".xml"), constants, digest)


ALL_BUNDLED = (
    _bundled(
        DEFAULT, "d03ffdf5ab7927a4a63bdee7f9e3950a6beafad0c66c40325ded55222c108da4"
    ),
    _bundled(FAST, "e9f2e0ba031734b968fe05ef2a5efb164e6f5e6d4b2111268b718708a2cedca9"),
)
BUNDLED = ALL_BUNDLED[0]


def cached_graph(digest: str) -> Graph:
    """Return the graph of some weights in the cache, where it may not exist yet."""
    versions = f"{__version__} {package_versions(['openvino'])}"
    key = hashlib.sha256(f"{digest} {versions}".encode()).hexdigest()[:16]
    path = download_dir() / "openvino" / f"{key}.xml"
    return Graph(path, (path.with_suffix(".bin"),), digest)
