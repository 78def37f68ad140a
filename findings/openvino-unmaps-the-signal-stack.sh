#!/bin/sh
# Expected: a thread's signal stack (sigaltstack) is valid memory, whatever libraries are
# loaded. Actual: on Linux, every OpenVINO core that uses the CPU sets a signal stack and
# unmaps it when it is deleted. If two cores are deleted in the order of their creation, the
# second restores the stack of the first, which is already unmapped. Python's handlers run
# on this stack, so the next Ctrl-C is a segmentation fault instead of KeyboardInterrupt.
# This only reads the stack's address, and sends no signal.
# Source: sigaltstack(2); openvinotoolkit/openvino pull request 11894.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 openvino==2026.4.1
"$folder/venv/bin/python" - <<'PYTHON'
import ctypes
import sys
from pathlib import Path

import openvino


class Stack(ctypes.Structure):
    _fields_ = [
        ("start", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    ]


def is_memory(stage):
    stack = Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    start, within = stack.start or 0, False
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, end = (int(each, 16) for each in line.split()[0].split("-"))
        within = within or first <= start < end
    state = "mapped" if within else "not mapped" if start else "none"
    print(f"{stage}: signal stack at {start:#x}, {state}")
    return within


def make_core():
    core = openvino.Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")
    return core


print("openvino", openvino.__version__)
is_memory("no core")
first = make_core()
one = is_memory("one core")
second = make_core()
two = is_memory("two cores")
del first
last = is_memory("the first deleted")
del second
as_met = one and two and last and not is_memory("both deleted")
print("as met" if as_met else "this has changed")
sys.exit(not as_met)
PYTHON
