"""Imports runtimes that would report their use, with the reports switched off.

`rematte` promises that nothing leaves the machine unasked. The package imports these
runtimes only through this module. Modules and variables that the caller imported or
set before are left alone.
"""

import os
import platform
import secrets
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Lock
from typing import Any

from rematte.weights.registry import download_dir

_ONE_AT_A_TIME = Lock()


def import_openvino() -> Any:
    """Import OpenVINO without the package that would send usage data for it.

    The sending process also takes a core for a second or two. OpenVINO works without
    that package, so it is hidden while OpenVINO is imported.
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


def openvino_core() -> Any:
    """Return the process's only core of OpenVINO.

    On Linux every core gives its thread a stack for signals, which it unmaps when it is
    deleted. If two cores are deleted in the order in which they were made, the second
    puts back the stack of the first, and the next Ctrl-C is a segmentation fault
    (2026.4.1, `findings/openvino-unmaps-the-signal-stack.sh`). So this one stays.
    """
    with _ONE_AT_A_TIME:  # two threads could each make one
        return _core()


@cache
def _core() -> Any:
    return import_openvino().Core()


def import_onnxruntime() -> Any:
    """Import ONNX Runtime without its telemetry.

    The Linux build of 1.32 writes a device id and a queue of events into the cache
    folder and looks up a server to send them to. It reads the variable only once, while
    it is imported.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def import_ray(alone: bool = False) -> Any:
    """Import Ray without its usage statistics; its processes inherit the variables.

    If it is to run `alone`, on this machine only, it uses the loopback address, for
    which Ray has a switch named after other systems; else it would look for an address
    of the machine by connecting to a public name server.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if alone:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    return ray


def start_ray(**settings: Any) -> None:
    """Start Ray on this machine; nothing is sent or written to the home folder.

    Without a token of the user's, Ray would write one there. With its statistics off,
    the process that reports them asks the metadata services of three clouds all the
    same (2.60), so it is not started; without the dashboard it has no other work.
    """
    ray = import_ray(alone=True)
    from ray._private import services

    variables = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    saved = Path("~/.ray/auth_token").expanduser().exists()
    if not saved and not any(name in os.environ for name in variables):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    starts = services.start_api_server
    services.start_api_server = lambda *args, **kwargs: ("", None)
    try:
        ray.init(address="local", include_dashboard=False, **settings)
    finally:
        services.start_api_server = starts


def keep_home_clean() -> None:
    """Have Keras write its settings into the cache folder, not into the home folder.

    It writes them when it is imported, which coremltools does too. Settings that the
    user has already stay in use.
    """
    if not Path("~/.keras/keras.json").expanduser().is_file():
        os.environ.setdefault("KERAS_HOME", str(download_dir() / "keras"))


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """Return the processor's name, if the system knows it."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor()
    names = [line for line in text.splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.processor()
