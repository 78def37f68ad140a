"""Runs a program where everything that it tries to send, and writes, can be seen.

The program gets a network namespace of its own (`unshare`) with nothing but the
loopback device. The kernel counts there every connect() and every packet that finds no
route, in IPv4 and IPv6, from any process or library. It counts datagrams too, since a
name server may be on the loopback device. TCP over that device is allowed: the page and
Ray use it.
"""

import ctypes
import gc
import json
import os
import struct
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from fcntl import ioctl
from itertools import chain
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
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
_ENTER = ["unshare", "--user", "--map-root-user", "--net", "--mount"]
_SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK, _IFF_UP = 0x8914, 0x8916, 0x891C, 1
# What a user may have set, and what would hide a lack of ours.
_HIDDEN = ("KERAS", "ORT_", "RAY_", "REMATTE", "XDG_", "MPL", "HF_", "TF_", "OMP_")


@dataclass
class Seen:
    """What a program did; files in the cache folder do not count as written."""

    code: int
    text: str  # all that it printed
    sent: dict[str, int]  # what it tried to send off this machine, counted
    written: set[str]  # in the home and the working folder


def require_namespaces() -> None:
    """Skip the test where this system allows no namespaces."""
    try:
        allowed = subprocess.run([*_ENTER, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("this system allows no network namespaces (unshare --user --net)")


def watch(programs: dict[str, str], folder: Path, first: str = "") -> dict[str, Seen]:
    """Run Python programs in `folder`, with an empty home, and see what each does.

    Each is a process of its own, forked from one that has run `first`, since importing
    torch takes seconds.

    Args:
        programs: Names and Python code.
        folder: The working folder. What is in it already does not count as written.
        first: Code that all programs need, as imports. What it does is seen as "first".
    """
    aside = folder.parent / f"{folder.name}-aside"
    home, given, found = aside / "home", aside / "given.json", aside / "found.json"
    home.mkdir(parents=True)
    given.write_text(json.dumps({"first": first, "programs": programs}))
    keep = {k: v for k, v in os.environ.items() if not k.startswith(_HIDDEN)}
    with TemporaryDirectory() as temporary:  # short, for the sockets of Ray
        environment = {
            **keep, "HOME": str(home), "TMPDIR": temporary, "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        done = subprocess.run(
            [*_ENTER, sys.executable, __file__, str(given), str(found)],
            cwd=folder, env=environment, capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(found.read_text())
    return {
        name: Seen(code, text, sent, set(written))
        for name, (code, text, sent, written) in rows.items()
    }


def snapshot(*folders: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file, without Python's caches."""
    found = {}
    for top, inside, files in chain.from_iterable(map(os.walk, folders)):
        inside[:] = {*inside} - {"__pycache__", ".git"}
        for name in files:
            state = os.lstat(path := f"{top}/{name}")
            found[path] = state.st_size, state.st_mtime_ns
    return found


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


def _written() -> set[str]:
    """Files in the home and the working folder, without those in the cache folder."""
    home, work = Path.home(), Path.cwd()
    return {
        str(path.relative_to(top.parent))
        for top in (home, work)
        for path in top.rglob("*")
        if not path.is_dir() and home / ".cache" not in path.parents
    }


def _see(code: str, output: Path, fork: bool) -> tuple[Any, ...]:
    """Run code, in a fork or here, and see what it does."""
    sent, files = _counts(), _written()
    child = os.fork() if fork else 0
    if child == 0:
        if fork:
            for number in (1, 2):
                os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        exec(code, {"__name__": "__main__"})
        if fork:
            sys.exit()  # as every program ends, with what runs at its end
    status = os.waitpid(child, 0)[1] if fork else 0
    after = {kind: count - sent[kind] for kind, count in _counts().items()}
    text = output.read_text() if output.exists() else ""
    return os.waitstatus_to_exitcode(status), text, after, sorted(_written() - files)


def _main(given: Path, found: Path) -> None:
    _start_loopback()
    _hide_services()
    task = json.loads(given.read_text())
    rows = {"first": _see(task["first"], given, False)}
    gc.freeze()  # else every fork would copy what its collector visits as it ends
    for name, code in task["programs"].items():
        rows[name] = _see(code, given.with_name(f"{name}.txt"), True)
    found.write_text(json.dumps(rows))


if __name__ == "__main__":
    _main(*map(Path, sys.argv[1:]))
