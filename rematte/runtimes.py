"""Imports runtimes that would report their use, with that switched off.

`rematte` promises that nothing leaves the machine unasked. The package imports these
runtimes through this module alone. What the caller imported or set before stays as it
is.
"""

import os
import sys
from pathlib import Path
from typing import Any

from rematte.weights import download_dir


def import_openvino() -> Any:
    """Import OpenVINO without the package that would send usage data for it.

    The process that sends also takes a core for a second or two. OpenVINO does without
    that package where it is not installed, so it is hidden while OpenVINO is imported.
    """
    hidden = "openvino_telemetry"
    hides = not {"openvino", hidden} & sys.modules.keys()
    if hides:
        sys.modules[hidden] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if hides:
            del sys.modules[hidden]
    return openvino


def import_onnxruntime() -> Any:
    """Import ONNX Runtime without its telemetry.

    The Linux build of 1.32 writes a device id and a queue of events into the cache
    folder and looks up a server to send them to. It reads the variable only once, while
    it is imported.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def import_ray() -> Any:
    """Import Ray without its usage statistics; its processes inherit the variable."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    return ray


def keep_home_clean() -> None:
    """Have Keras write its settings into the cache folder, not into the home folder.

    It writes them when it is imported, which coremltools does too. Settings that the
    user has already stay in use.
    """
    if not Path("~/.keras/keras.json").expanduser().is_file():
        os.environ.setdefault("KERAS_HOME", str(download_dir() / "keras"))
