"""The page's server without a browser: what its tests share."""

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import make_clip
from fakes import Fake, Slow
from starlette.testclient import TestClient
from torch import Tensor

from rematte.serve.jobs import Jobs
from rematte.serve.processes import Networks
from rematte.serve.server import make_app

TOKEN, PORT = "the-token", 8770
HOST = f"127.0.0.1:{PORT}"
ORIGIN = {"origin": f"http://{HOST}"}
MIB = 2**20
MARK = ".made-by-rematte-serve"
New = Callable[..., "Server"]


class Meeting(Fake):
    """Waits at its first frame until as many have left their files in a folder."""

    def __init__(self, place: Path, count: int) -> None:
        super().__init__()
        self.place, self.count = place, count

    def forward(self, src: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        if not self.seen:
            (self.place / str(os.getpid())).touch()
            while len(list(self.place.iterdir())) < self.count:
                time.sleep(0.02)
        return super().forward(src, *rest)


Broken = partial(Fake, fail_at=2)


def until_made(ask: Callable[[], Any]) -> Any:
    while (answer := ask()).status_code == 202:
        time.sleep(0.05)
    return answer


class Server:
    """Jobs of a folder with the application over them."""

    def __init__(
        self, folder: Path, load: Any = Slow, at_once: int = 1, limit: int = 30 * MIB,
        memory: int | None = None, output: Path | None = None, fast: Any = None,
    ) -> None:  # fmt: skip
        self.folder = folder
        networks = partial(Networks, load, fast)
        self.jobs = Jobs(folder, networks, at_once, 1, memory, output)
        app = make_app(self.jobs, TOKEN, PORT, limit)
        self.client = TestClient(
            app, f"http://{HOST}/{TOKEN}/", headers=ORIGIN, follow_redirects=False
        )

    def upload(self, path: Path, name: str | None = None) -> Any:
        params = {"name": path.name if name is None else name}
        return self.client.post("api/jobs", params=params, content=path.read_bytes())

    def add(self, path: Path) -> str:
        return str(self.upload(path).json()["id"])

    def file(self, id: str, kind: str, **how: Any) -> Any:
        return self.client.get(f"api/jobs/{id}/files/{kind}", **how)

    def remove(self, id: str) -> int:
        return int(self.client.delete(f"api/jobs/{id}").status_code)

    def start(self, id: str, **settings: Any) -> Any:
        settings = {"outputs": ["mp4"], "background": "green", **settings}
        return self.client.post(f"api/jobs/{id}/start", json=settings)

    def still(self, id: str, kind: str = "frame", at: Any = 0) -> Any:
        """Ask for a frame until it is made."""
        address = f"api/jobs/{id}/still/{kind}"
        return until_made(lambda: self.client.get(address, params={"at": at}))

    def moment(self, id: str, what: str = "cutout", **moment: Any) -> Any:
        """Ask for a cut-out, or how sure it is, until it is made."""
        data = {"at": 0, **moment}
        address = f"api/jobs/{id}/{what}"
        return until_made(lambda: self.client.post(address, json=data))

    def job(self, id: str) -> dict[str, Any]:
        return {job["id"]: job for job in self.jobs.listing()}[id]

    def wait(self, id: str, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while not until(job := self.job(id)):
            time.sleep(0.05)
        return job

    def wait_done(self, id: str) -> dict[str, Any]:
        return self.wait(id, lambda job: job["state"] in ("done", "failed"))

    def finish(self, id: str, state: str = "done", **settings: Any) -> dict[str, Any]:
        """Start a job and wait for its end, which must be this one."""
        answer = self.start(id, **settings)
        assert answer.status_code == 204, answer.text
        job = self.wait_done(id)
        assert job["state"] == state, job["error"]
        return job

    def files(self) -> set[str]:
        top = self.folder / "jobs"
        found = {str(p.relative_to(top)) for p in top.rglob("*") if p.is_file()}
        return found - {MARK}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that leave it as it was."""
    server = Server(tmp_path_factory.mktemp("served") / "work", Fake)
    yield server
    server.jobs.close()


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same with a network that takes its time."""
    server = Server(tmp_path_factory.mktemp("slow") / "work")
    yield server
    server.jobs.close()


@pytest.fixture
def new(tmp_path: Path) -> Iterator[New]:
    made: list[Server] = []

    def new(*args: Any, **kwargs: Any) -> Server:
        made.append(Server(tmp_path / "work", *args, **kwargs))
        return made[-1]

    yield new
    for server in made:
        server.jobs.close()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.mp4", 20)


def error(answer: Any, code: int = 0) -> str:
    """What an answer says is wrong, which is one line; its status must be `code`."""
    text = answer.json()["error"]
    assert "\n" not in text
    assert code in (0, answer.status_code)
    return str(text)
