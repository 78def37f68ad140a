"""Networks of the tests of Ray, in a module that its workers import quickly."""

import os
import signal
import time
from pathlib import Path

import torch
from fakes import Deadly, Fake

from rematte.resume import plan as segments


def fakes(device: torch.device) -> Fake:
    return Fake()


def deadly(tally: Path, times: dict[int, int], device: torch.device) -> Deadly:
    with tally.with_suffix(".loads").open("a") as file:
        file.write(f"{os.getpid()}\n")
    return Deadly(tally, times)


def short_segments(tally: Path, times: dict[int, int], device: torch.device) -> Fake:
    segments.LENGTH = 4
    return Deadly(tally, times)


def with_environment(
    environment: dict[str, str], tally: Path, device: torch.device
) -> Fake:
    os.environ.update(environment)
    return Deadly(tally, {80: 1})


class _Interrupting(Fake):
    """Interrupts the process group of the batch at frame 100, as Ctrl-C does.

    No encoder holds back so many frames, so there is a hidden file by then.
    """

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group

    def forward(self, src, *rest):  # type: ignore[no-untyped-def]
        if self.seen >= 100:
            os.killpg(self.group, signal.SIGINT)
            time.sleep(600)  # until the batch kills this process
        return super().forward(src, *rest)


def interrupting(group: int, options: object, device: str) -> _Interrupting:
    return _Interrupting(group)
