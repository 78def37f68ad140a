"""Runs a program where everything that it tries to send, and writes, can be seen.

The program gets a network namespace of its own (`unshare`) with nothing but the
loopback device. The kernel counts there every connect() and every packet that finds no
route, in IPv4 and IPv6, from any process or library. It counts datagrams too, since a
name server may be on the loopback device. TCP over that device is allowed: the page and
Ray use it.
"""

import ctypes
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path
from socket import (
    AF_INET,
    AF_INET6,
    SOCK_DGRAM,
    if_nametoindex,
    inet_aton,
    inet_pton,
    socket,
)
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).parent.parent
_ENTER = ["unshare", "--user", "--map-root-user", "--net", "--mount"]
_SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK, _IFF_UP = 0x8914, 0x8916, 0x891C, 1
# What a user may have set, and what would hide a lack of ours.
_HIDDEN = ("KERAS", "ORT_", "RAY_", "REMATTE", "XDG_", "MPL", "HF_", "TF_", "OMP_")


@dataclass
class Seen:
    """What a program did.

    Attributes:
        code: Its exit code.
        text: All that it printed.
        sent: What it tried to send off this machine, counted.
        written: Files that it made in the home and the working folder, without those
            in the cache folder.
    """

    code: int
    text: str
    sent: dict[str, int]
    written: set[str]


def require_namespaces() -> None:
    """Skip the test where this system allows no namespaces."""
    try:
        allowed = subprocess.run([*_ENTER, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("this system allows no network namespaces (unshare --user --net)")


def watch(command: list[str], folder: Path, timeout: float = 600) -> Seen:
    """Run a command in `folder`, with an empty home, and see what it does.

    Args:
        command: Program and arguments; Python's `sys.executable` finds this checkout.
        folder: The working folder. What is in it already does not count as written.
        timeout: For the program [s].
    """
    aside = folder.parent / f"{folder.name}-aside"
    home, counts = aside / "home", aside / "counts.json"
    home.mkdir(parents=True)
    keep = {k: v for k, v in os.environ.items() if not k.startswith(_HIDDEN)}
    before = set(_files(folder))
    with TemporaryDirectory() as temporary:  # short, for the sockets of Ray
        environment = {
            **keep, "HOME": str(home), "TMPDIR": temporary, "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        done = subprocess.run(
            [*_ENTER, sys.executable, __file__, str(counts), *command],
            cwd=folder, env=environment, capture_output=True, text=True,
            timeout=timeout,
        )  # fmt: skip
    cache = home / ".cache"
    written = {
        str(path.relative_to(folder.parent))
        for top in (home, folder)
        for path in _files(top)
        if cache not in path.parents and path not in before
    }
    sent = json.loads(counts.read_text()) if counts.exists() else {}
    return Seen(done.returncode, done.stdout + done.stderr, sent, written)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if not path.is_dir())


def snapshot(*folders: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file, without Python's and numba's caches."""
    return {
        str(path): (state.st_size, state.st_mtime_ns)
        for folder in folders
        for path in _files(folder)
        if "__pycache__" not in path.parts and ".git" not in path.parts
        for state in [path.lstat()]
    }


def _start_loopback() -> None:
    """Start the device, with addresses as of a network: else some would not try."""
    four, six = inet_aton("198.51.100.10"), inet_pton(AF_INET6, "fd00::10")
    all_ones = inet_aton("255.255.255.255")
    with socket(AF_INET, SOCK_DGRAM) as a_socket:
        ioctl(a_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
        for request, value in (_SIOCSIFADDR, four), (_SIOCSIFNETMASK, all_ones):
            address = struct.pack("16sHH4s8x", b"lo:1", AF_INET, 0, value)
            ioctl(a_socket, request, address)
    with suppress(OSError), socket(AF_INET6, SOCK_DGRAM) as a_socket:
        index = if_nametoindex("lo")
        ioctl(a_socket, _SIOCSIFADDR, struct.pack("16sIi", six, 128, index))


def _hide_services() -> None:
    """Name services that are asked through a socket file would answer from outside."""
    ctypes.CDLL(None).mount(b"none", b"/run", b"tmpfs", 0, None)


def _counts() -> dict[str, int]:
    lines = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines()]
    found = {
        f"{names[0]}{name}": int(value)
        for names, values in zip(lines[::2], lines[1::2], strict=True)
        for name, value in zip(names[1:], values[1:], strict=True)
    }
    six = dict(
        line.split() for line in Path("/proc/net/snmp6").read_text().splitlines()
    )
    return {
        "IPv4 without a route": found["Ip:OutNoRoutes"],
        "IPv6 without a route": int(six["Ip6OutNoRoutes"]),
        "datagrams": found["Udp:OutDatagrams"] + int(six["Udp6OutDatagrams"]),
    }


if __name__ == "__main__":
    _start_loopback()
    _hide_services()
    code = subprocess.run(sys.argv[2:]).returncode
    Path(sys.argv[1]).write_text(json.dumps(_counts()))
    sys.exit(code)
