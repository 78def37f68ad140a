"""Jobs of the page: they run, are cancelled, fail, and are tried again."""

import json
import re
import sqlite3
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from fakes import Fake, decode
from PIL import Image
from serving import (
    HOST,
    PORT,
    TOKEN,
    Broken,
    Meeting,
    New,
    Server,
    clip,
    error,
    new,
    shared,
    slow,
)
from starlette.testclient import TestClient
from torch import Tensor

from rematte.serve.server import make_app

__all__ = ["clip", "new", "shared", "slow"]  # the fixtures


def test_a_video_in_and_results_out(shared: Server, clip: Path, tmp_path: Path) -> None:
    answer = shared.upload(clip, "my clip.mp4")
    assert answer.status_code == 201
    id = answer.json()["id"]
    info = shared.job(id)["info"]
    assert (info["width"], info["height"], info["frames"]) == (96, 64, 20)
    outputs = ["mov", "mp4", "alpha"]
    job = shared.finish(id, outputs=outputs, background="#ff0000")
    assert (job["done"], job["frames"]) == (20, 20)
    named = "attachment; filename*=utf-8''my%20clip_"
    for kind, told in {
        "mov": f"{named}cutout.mov",
        "mp4": f"{named}composition.mp4",
        "alpha": f"{named}alpha.mp4",
        "playable": "",
    }.items():
        answer = shared.file(id, kind)
        assert answer.status_code == 200
        assert answer.headers.get("content-disposition", "") == told
        (tmp_path / "got.mov").write_bytes(answer.content)
        frames = decode(tmp_path / "got.mov")
        assert len(frames) == 20
        assert frames[0].shape == (64, 384 if kind == "playable" else 96, 3)
        with av.open(str(tmp_path / "got.mov")) as video:
            clear = "yuva" in str(video.streams.video[0].format.name)
        assert clear == (kind == "mov")
    part = shared.file(id, "mp4", headers={"range": "bytes=0-9"})
    assert (part.status_code, len(part.content)) == (206, 10)
    for kind in ("webm", "..%2f..%2fsource.mp4", "none"):
        assert shared.file(id, kind).status_code == 404
    assert shared.remove(id) == 204
    assert not shared.files()
    assert shared.remove(id) == 404


def test_a_background_is_for_all_clips(new: New, clip: Path, tmp_path: Path) -> None:
    server = new(Fake)
    id = server.add(clip)
    unknown = server.start(id, background=f"file:{'0' * 16}")
    assert "choose another" in error(unknown, 400)
    Image.new("RGB", (30, 20), (0, 0, 255)).save(tmp_path / "blue.png")

    def post(name: str, content: bytes) -> Any:
        params = {"name": name}
        return server.client.post("api/backgrounds", params=params, content=content)

    blue = (tmp_path / "blue.png").read_bytes()
    assert post("../blue.png", blue).status_code == 400
    assert post("blue.txt", blue).status_code == 400
    assert error(post("text.png", b"no image"), 422).startswith("text.png: not a")
    listed = f"ffconcat version 1.0\nfile {clip}\n".encode()
    assert post("list.png", listed).status_code == 422
    assert len(server.files()) == 1
    picture = post("blue.png", blue).json()["id"]
    video = post("a clip.mp4", clip.read_bytes()).json()["id"]
    assert server.jobs.state()["backgrounds"] == [
        {"id": picture, "name": "blue.png", "video": False},
        {"id": video, "name": "a clip.mp4", "video": True},
    ]
    for which in (picture, video):
        shown = server.client.get(f"api/backgrounds/{which}")
        assert shown.headers["content-type"] == "image/webp"
        server.finish(id, background=f"file:{which}")
    first, second = (result["run"] for result in server.job(id)["results"])
    made = server.file(id, f"mp4?run={second}")
    (tmp_path / "got.mp4").write_bytes(made.content)
    # The fake's alpha is the red channel, and the first frame is black.
    assert decode(tmp_path / "got.mp4")[0][30, 50, 2] > 200
    assert server.file(id, f"mp4?run={first}").status_code == 200
    server.jobs.close()
    server = new(Fake)
    assert len(server.jobs.state()["backgrounds"]) == 2
    assert server.client.delete(f"api/backgrounds/{video}").status_code == 204
    assert server.client.get(f"api/backgrounds/{video}").status_code == 404
    assert not server.jobs.store.folder(video).exists()
    server.finish(id, background="ready:studio")


def test_a_job_is_cancelled_and_started_again(slow: Server, clip: Path) -> None:
    id = slow.add(clip)
    slow.start(id, outputs=["mov"])
    slow.wait(id, lambda job: job["done"] > 2)
    assert slow.files() > {f"{id}/source.mp4"}
    assert slow.start(id).status_code == 400
    assert slow.client.post(f"api/jobs/{id}/cancel").status_code == 204
    assert slow.job(id)["state"] == "cancelled"
    job = slow.finish(id, outputs=["alpha"])  # while the process still ends
    assert job["done"] == 20
    made = ("source.mp4", "out-2/alpha.mp4", "out-2/playable.mp4")
    assert slow.files() == {f"{id}/{file}" for file in made}
    slow.remove(id)


def test_a_cancelled_or_removed_job_leaves_nothing(slow: Server, clip: Path) -> None:
    running, waiting = (slow.add(clip) for _ in range(2))
    for id in (running, waiting):
        slow.start(id, outputs=["mov"])
    slow.wait(running, lambda job: job["done"] > 2)
    assert slow.job(waiting)["state"] == "queued"
    for id in (waiting, running):
        slow.client.post(f"api/jobs/{id}/cancel")
        assert slow.job(id)["state"] == "cancelled"
    while any("out" in file for file in slow.files()):
        time.sleep(0.05)
    assert slow.files() == {f"{id}/source.mp4" for id in (running, waiting)}
    slow.start(running)
    slow.wait(running, lambda job: job["done"] > 0)
    for id in (waiting, running):  # that it runs is no hindrance
        slow.remove(id)
    assert not slow.jobs.listing()
    while slow.files():
        time.sleep(0.05)


def test_two_jobs_run_at_once(new: New, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "meeting").mkdir()
    server = new(partial(Meeting, tmp_path / "meeting", 2), at_once=2)
    ids = [server.add(clip) for _ in range(3)]
    for id in ids:
        server.start(id)
    while any(server.job(id)["state"] in ("queued", "running") for id in ids):
        working = [job for job in server.jobs.listing() if job["state"] == "running"]
        assert len(working) <= 2
        time.sleep(0.02)
    assert [server.job(id)["state"] for id in ids] == ["done"] * 3


def test_a_failed_job_says_why_and_can_be_tried_again(new: New, clip: Path) -> None:
    server = new(Broken)
    id = server.add(clip)
    for _ in range(2):
        assert "the fake network broke" in server.finish(id, "failed")["error"]
    assert server.file(id, "mp4").status_code == 404
    assert server.files() == {f"{id}/source.mp4"}


def test_events_tell_what_happens(slow: Server, clip: Path) -> None:
    ending = threading.Event()
    app = make_app(slow.jobs, TOKEN, PORT, 5, ending.is_set)
    id = slow.add(clip)
    slow.start(id)

    def end() -> None:
        slow.wait_done(id)
        time.sleep(0.5)
        ending.set()

    thread = threading.Thread(target=end)
    thread.start()
    client = TestClient(app, f"http://{HOST}/{TOKEN}/")
    answer = client.get("api/events")
    thread.join()
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = re.findall(r"^data: (.*)$", answer.text, re.M)
    states = [json.loads(each) for each in told]
    assert all(state["limit"] == 5 for state in states)
    done = [state["jobs"][0]["done"] for state in states]
    assert done == sorted(done)
    assert len(set(done)) > 3
    assert states[-1]["jobs"][0]["state"] == "done"
    slow.remove(id)


def test_the_queue_goes_on_when_the_list_cannot_be_written(
    new: New, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    server = new(Fake)
    first, second = (server.add(clip) for _ in range(2))
    store = server.jobs.store
    for name in ("save", "save_speed", "remove"):
        monkeypatch.setattr(store, name, fail)
    for id in (first, second):
        job = server.finish(id)
        assert len(job["results"]) == 1
        assert "disk is full" in " ".join(job["notes"])
    for answer in (server.upload(clip), server.client.delete(f"api/jobs/{first}")):
        assert "disk is full" in error(answer, 507)
    assert {job["id"] for job in server.jobs.listing()} == {first, second}


def test_nothing_waits_for_previews(new: New, clip: Path, tmp_path: Path) -> None:
    server = new(partial(Meeting, tmp_path, 999))  # which never ends a frame
    ids = [server.add(clip) for _ in range(2)]
    for id in ids:
        answer = server.client.post(f"api/jobs/{id}/cutout", json={"at": 0})
        assert answer.status_code == 202
    started = time.monotonic()
    assert server.start(ids[0]).status_code == 204
    assert server.client.post(f"api/jobs/{ids[0]}/cancel").status_code == 204
    assert server.client.delete(f"api/jobs/{ids[1]}").status_code == 204
    assert time.monotonic() - started < 300  # a preview takes 1000
    assert server.upload(clip).status_code == 201  # needs a process, but not that one


class Hungry(Fake):
    """Takes 1 GB more with each frame."""

    def forward(self, src: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        self.taken = [*getattr(self, "taken", []), np.ones(2**27)]
        return super().forward(src, *rest)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of memory there")
def test_memory_has_a_limit(new: New, clip: Path) -> None:
    server = new(Hungry, memory=10**9)
    id = server.add(clip)
    assert "more than 1.0 GB" in error(server.moment(id))
    said = server.finish(id, "failed")["error"]
    assert "more than 1.0 GB of memory" in said
    assert "--" not in said
    assert server.upload(clip).status_code == 201
