"""`rematte serve` as a process, and what both tests of its page by clicks do there."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

ROOT = Path(__file__).parents[2]
CLIP = ROOT / "demo" / "clip.mp4"
LONG = 300_000  # a conversion on a machine with other things to do [ms]
expect.set_options(timeout=30_000)  # an answer on such a machine


class Served:
    """The server of a work folder; at the end of `with` it ends as by Ctrl-C."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        words = ["serve", "--folder", str(folder), "--port", str(port), "--jobs", "2"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rematte", *words],
            stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        self.address = re.search(r"http\S+", self.process.stdout.readline())[0]  # type: ignore[index]
        self.port = int(self.address.split("/")[2].split(":")[1])

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.end() == 0

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        code = self.process.wait(30)
        self.process.stdout.close()
        return code


@contextmanager
def opened(browser: Any, address: str, **how: Any) -> Iterator[Page]:
    """Open the page in a new profile; it must report no error of its own."""
    context = browser.new_context(locale="en-US", accept_downloads=True, **how)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda log: "Security" in log.text and errors.append(log.text))
    page.goto(address)
    yield page
    context.close()
    assert not errors


def upload(page: Page, *paths: Path) -> None:
    before = page.locator(".card").count()
    page.set_input_files("#files", [str(path) for path in paths])
    expect(page.locator(".card")).to_have_count(before + len(paths), timeout=LONG)


def is_state(page: Page, state: str) -> None:
    expect(page.locator(".card").first).to_have_attribute(
        "data-state", state, timeout=LONG
    )
