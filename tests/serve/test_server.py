"""The page's server over HTTP: what it does, and all that it refuses."""

import json
import os
import re
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import Run, make_clip
from fakes import Fake, decode
from PIL import Image
from starlette.testclient import TestClient
from torch import Tensor

from rematte.errors import OutputError
from rematte.serve import serve
from rematte.serve.jobs import Jobs
from rematte.serve.networks import Networks
from rematte.serve.server import make_app
from rematte.serve.settings import check_settings

TOKEN, PORT = "the-token", 8770
HOST = f"127.0.0.1:{PORT}"
ORIGIN = {"origin": f"http://{HOST}"}
MIB = 2**20
MARK = ".made-by-rematte-serve"
New = Callable[..., "Server"]


class Slow(Fake):
    """Takes a while for each frame, so that there is time to stop it."""

    def forward(self, src: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        time.sleep(0.1)
        return super().forward(src, *rest)


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


def converted(server: Server, clip: Path) -> str:
    """Upload and convert a clip, and close the server; gives the job's id."""
    server.start(id := server.add(clip))
    server.wait_done(id)
    server.jobs.close()
    return id


def change_entry(server: Server, id: str, change: Callable[[Any], None]) -> None:
    """Change what is kept of a job, of a server that was closed."""
    database = sqlite3.connect(server.folder / "jobs.sqlite")
    query = "SELECT data FROM job WHERE id = ?"
    change(data := json.loads(database.execute(query, (id,)).fetchone()[0]))
    with database:
        database.execute("UPDATE job SET data = ? WHERE id = ?", (json.dumps(data), id))
    database.close()


def error(answer: Any, code: int = 0) -> str:
    """What an answer says is wrong, which is one line; its status must be `code`."""
    text = answer.json()["error"]
    assert "\n" not in text
    assert code in (0, answer.status_code)
    return str(text)


def test_every_answer_has_the_guarding_headers(shared: Server) -> None:
    for path in ("", "main.js", "nowhere", "api/jobs/none/cancel", f"http://{HOST}/x"):
        headers = shared.client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        assert not any(name.startswith("access-control") for name in headers)


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", "%00", "é"])
def test_a_wrong_token_is_refused(shared: Server, token: str) -> None:
    for path in ("/", "/main.js", "/api/events", "/api/jobs"):
        answer = shared.client.get(f"http://{HOST}/{token}{path}")
        assert "rematte serve" in error(answer, 404)
        answer = shared.client.post(f"http://{HOST}/{token}{path}", content=b"x")
        assert answer.status_code == 404


def test_the_address_without_a_slash_leads_to_the_page(shared: Server) -> None:
    answer = shared.client.get(f"http://{HOST}/{TOKEN}")
    assert answer.headers["location"] == f"/{TOKEN}/"
    assert "<title>rematte" in shared.client.get("").text


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:1", ""]
)
def test_another_host_is_refused(shared: Server, host: str) -> None:
    """A name of an attacker's that leads to 127.0.0.1 (DNS rebinding)."""
    answer = shared.client.get("", headers={"host": host})
    assert HOST in error(answer, 421)


def test_localhost_is_another_name(shared: Server) -> None:
    headers = {"host": f"localhost:{PORT}", "origin": f"http://localhost:{PORT}"}
    assert shared.client.get("", headers=headers).status_code == 200
    assert shared.client.post("api/jobs", headers=headers).status_code == 400


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", f"https://{HOST}", f"http://{HOST}.evil", ""],
)
def test_other_pages_are_refused(shared: Server, clip: Path, origin: str) -> None:
    for method, path in [
        ("POST", "api/jobs?name=clip.mp4"),
        ("POST", "api/jobs/x/start"),
        ("PUT", "api/jobs/x/background?name=a.png"),
        ("DELETE", "api/jobs/x"),
    ]:
        how = {"content": clip.read_bytes(), "headers": {"origin": origin}}
        answer = shared.client.request(method, path, **how)
        assert "Origin" in error(answer, 403)
    assert not shared.files()


def test_a_request_without_an_origin_is_refused(shared: Server) -> None:
    request = shared.client.build_request("POST", "api/jobs?name=a.mp4", content=b"x")
    del request.headers["origin"]
    assert shared.client.send(request).status_code == 403


@pytest.mark.parametrize(
    "name",
    [
        *("", "../../x.mp4", "..\\x.mp4", "/etc/x.mp4", "a\x00.mp4", "a\n.mp4"),
        *("x" * 252 + ".mp4", "x" * 9000 + ".mp4", "..", "clip", "clip.txt", "a.m3u8"),
    ],
)
def test_hostile_names_are_refused(shared: Server, clip: Path, name: str) -> None:
    before = set(shared.folder.parent.rglob("*"))
    answer = shared.upload(clip, name)
    assert error(answer, 400).startswith("name ")
    assert set(shared.folder.parent.rglob("*")) == before


@pytest.mark.parametrize(
    "name", ["%2e%2e%2fx.mp4", "%00.mp4", "a b é 视频 '\"<b>.mp4", "x" * 251 + ".mp4"]
)
def test_odd_names_are_shown_only(shared: Server, clip: Path, name: str) -> None:
    answer = shared.upload(clip, name)
    assert answer.status_code == 201
    id = answer.json()["id"]
    assert shared.job(id)["name"] == name
    assert shared.files() == {f"{id}/source.mp4"}
    shared.remove(id)


@pytest.mark.parametrize(
    "content",
    [
        b"Dear diary,\n" * 1000,
        b"\0" * 5000,
        b"",
        b"ffconcat version 1.0\nfile '../../secret.mp4'\n",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///SECRET\n#EXT-X-ENDLIST\n",
        b"HALF",
    ],
)
def test_what_is_no_video_is_refused(
    shared: Server, clip: Path, tmp_path: Path, content: bytes
) -> None:
    """Lists that name other files too, which FFmpeg would read, and half a video."""
    whole = clip.read_bytes()
    (shared.folder / "secret.mp4").write_bytes(whole)
    content = content.replace(b"SECRET", str(clip).encode())
    content = content.replace(b"HALF", whole[: len(whole) // 2])
    (tmp_path / "text.mp4").write_bytes(content)
    answer = shared.upload(tmp_path / "text.mp4")
    assert error(answer, 422).startswith("text.mp4: ")
    assert str(shared.folder) not in error(answer)
    assert not shared.files()
    assert not shared.jobs.listing()


def test_uploads_have_a_limit(new: New, clip: Path) -> None:
    server = new(Fake, limit=1000)
    assert "at most 0.001 MB" in error(server.upload(clip), 413)

    def parts() -> Iterator[bytes]:  # with no length said beforehand
        yield from [b"x" * 600] * 3

    answer = server.client.post("api/jobs?name=a.mp4", content=parts())
    assert answer.status_code == 413
    assert not server.files()


def test_what_does_not_fit_on_the_disk_is_refused(
    shared: Server, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert "do not fit" in error(shared.upload(clip), 507)
    assert not shared.files()


@pytest.mark.parametrize(
    "path",
    [
        *("api/jobs/none/still/frame", "api/jobs/..%2f..%2ftoken/still/frame", "token"),
        *("%2e%2e/server.py", "..%2fserver.py", "../server.py", "%2fetc%2fpasswd"),
        *("api/jobs/none/files/mov", "api/jobs/none/background", "jobs.sqlite"),
    ],
)
def test_nothing_else_can_be_read(shared: Server, path: str) -> None:
    shared.jobs.store.folder("x")
    answer = shared.client.get(f"http://{HOST}/{TOKEN}/{path}")
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "settings must be"),
        ({}, "outputs must be a list"),
        ({"outputs": []}, "outputs must be a list"),
        ({"outputs": ["../x"]}, "a list of mov, webm, webp, mp4, alpha"),
        ({"outputs": [{}]}, "outputs must be a list"),
        ({"outputs": ["mov", "webm"]}, "choose one transparent file"),
        ({"outputs": ["mp4"], "background": "/etc/x.png"}, "background must be"),
        ({"outputs": ["mp4"], "background": 3}, "background must be"),
        ({"outputs": ["mp4"], "background": "file:../../x"}, "background must be"),
        ({"outputs": ["mp4"], "background": "ready:../x"}, "background must be"),
        ({"outputs": ["mp4"], "quality": "x"}, "quality must be one of fast, balanced"),
        ({"outputs": ["mp4"], "quality": 2}, "quality must be"),
        ({"outputs": ["mp4"], "preset": "web"}, "preset must be one of resolve, web"),
        ({"outputs": ["webm"], "preset": []}, "preset must be"),
    ],
)
def test_settings_are_checked(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_settings(settings)


def test_the_command_says_what_fails(shared: Server, run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for code, folder, words, said in (
        (1, tmp_path, ["--port", "70000"], "--port"),
        (1, shared.folder, [], "give another"),  # another server is on it
        (1, tmp_path / "file", [], "give a folder that can be"),
        (2, tmp_path, ["--jobs", "0"], ""),
        (2, tmp_path, ["--upload-limit", "0"], ""),
    ):
        found, _, text = run("serve", "--folder", folder, "--port", "0", *words)
        assert (found, text.count("\n")) == (code, 1)
        assert said in text


def test_a_missing_extra_is_named(run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    for name in ("rematte.serve", "rematte.serve.server"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, _, text = run("serve", "--folder", tmp_path)
    assert code == 1
    assert "pip install 'rematte[web]'" in text


def test_a_video_in_and_results_out(shared: Server, clip: Path, tmp_path: Path) -> None:
    answer = shared.upload(clip, "my clip.mp4")
    assert answer.status_code == 201
    id = answer.json()["id"]
    info = shared.job(id)["info"]
    assert (info["width"], info["height"], info["frames"]) == (96, 64, 20)
    outputs = ["mov", "mp4", "alpha"]
    assert shared.start(id, outputs=outputs, background="#ff0000").status_code == 204
    job = shared.wait_done(id)
    assert (job["state"], job["done"], job["frames"]) == ("done", 20, 20)
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
        server.start(id, background=f"file:{which}")
        assert server.wait_done(id)["state"] == "done"
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
    assert server.start(id, background="ready:studio").status_code == 204
    assert server.wait_done(id)["state"] == "done"


def test_a_job_is_cancelled_and_started_again(slow: Server, clip: Path) -> None:
    id = slow.add(clip)
    slow.start(id, outputs=["mov"])
    slow.wait(id, lambda job: job["done"] > 2)
    assert slow.files() > {f"{id}/source.mp4"}
    assert slow.start(id).status_code == 400
    assert slow.client.post(f"api/jobs/{id}/cancel").status_code == 204
    assert slow.job(id)["state"] == "cancelled"
    slow.start(id, outputs=["alpha"])  # at once, while the process still ends
    job = slow.wait_done(id)
    assert (job["state"], job["done"]) == ("done", 20)
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
        server.start(id)
        job = server.wait_done(id)
        assert job["state"] == "failed"
        assert "the fake network broke" in job["error"]
    assert server.file(id, "mp4").status_code == 404
    assert server.files() == {f"{id}/source.mp4"}


def test_jobs_outlive_the_server(new: New, clip: Path) -> None:
    server = new()
    first, second, third = (server.add(clip) for _ in range(3))
    server.start(first)
    server.start(second, background="blur")
    server.wait(first, lambda job: job["done"] > 0)
    server.jobs.close()
    again = new(Fake)
    assert [job["id"] for job in again.jobs.listing()] == [first, second, third]
    assert again.job(third)["state"] == "ready"
    assert again.job(second)["settings"]["background"] == "blur"
    for id in (first, second):
        job = again.wait_done(id)
        assert (job["state"], job["done"]) == ("done", 20)


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


def test_large_uploads_are_written_part_by_part(shared: Server, clip: Path) -> None:
    """A video with 25 MB of padding, sent in parts, arrives byte for byte."""
    padding = (25 * MIB).to_bytes(4, "big") + b"free" + b"x" * (25 * MIB - 8)
    whole = clip.read_bytes() + padding

    def parts() -> Iterator[bytes]:
        for begin in range(0, len(whole), 100_000):
            yield whole[begin : begin + 100_000]

    answer = shared.client.post("api/jobs?name=large.mp4", content=parts())
    assert answer.status_code == 201
    id = answer.json()["id"]
    assert (shared.folder / "jobs" / id / "source.mp4").read_bytes() == whole
    shared.remove(id)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("before", [None, 0o755])
def test_what_is_kept_is_private(new: New, tmp_path: Path, before: int | None) -> None:
    work = tmp_path / "work"
    if before is not None:  # a folder that was there, with a list that others can read
        server = new(Fake)
        server.jobs.store.token()
        server.jobs.close()
        for path in (work, work / "jobs", *work.glob("[jt]*")):
            path.chmod(before)
    server = new(Fake)
    server.jobs.store.token()
    id = server.jobs.store.new_folder()
    assert work.stat().st_mode & 0o777 == (before or 0o700)
    for name, mode in {
        "jobs": 0o700, f"jobs/{id}": 0o700, "jobs.sqlite": 0o600, "token": 0o600,
        f"jobs/{MARK}": 0o600,
    }.items():  # fmt: skip
        assert (work / name).stat().st_mode & 0o777 == mode, name
    with pytest.raises(sqlite3.OperationalError):
        sqlite3.connect(work / "jobs.sqlite", timeout=0).execute("SELECT * FROM job")


def tree(folder: Path) -> dict[str, bytes]:
    """Every file and what is in it; links are not followed."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_what_others_made_stays(new: New, clip: Path, tmp_path: Path) -> None:
    """Folders in `jobs`, one of them named like ours, and what links lead to."""
    top = tmp_path / "work" / "jobs"
    for name in ("holiday", "0123456789abcdef", "out-1"):
        (top / name).mkdir(parents=True)
        (top / name / "photo.jpg").write_bytes(b"mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/letter.txt").write_bytes(b"mine too")
    (top / "link").symlink_to(tmp_path / "elsewhere")
    (top / "fedcba9876543210").symlink_to(tmp_path / "elsewhere")
    before = tree(tmp_path)
    for _ in range(2):
        server = new(Fake)
        assert any("it is left as it is" in note for note in server.jobs.store.notes)
        id = server.add(clip)
        server.start(id)
        assert server.wait_done(id)["state"] == "done"
        assert server.remove(id) == 204
        server.jobs.close()
        assert before.items() <= tree(tmp_path).items()
        assert (top / "link").is_symlink()


@pytest.mark.parametrize("name", ["jobs", "jobs.sqlite", "token"])
def test_links_are_refused(tmp_path: Path, name: str) -> None:
    work, other = tmp_path / "work", tmp_path / "other"
    work.mkdir()
    (other / "0123456789abcdef").mkdir(parents=True)
    (other / "0123456789abcdef/photo.jpg").write_bytes(b"mine")
    (work / name).symlink_to(other if name == "jobs" else other / "file")
    with pytest.raises(OutputError, match="is a link"):
        Jobs(work, Fake, 1, 1)
    assert tree(other) == {"0123456789abcdef/photo.jpg": b"mine"}


def test_a_job_folder_that_became_a_link_is_not_followed(
    new: New, clip: Path, tmp_path: Path
) -> None:
    server = new(Fake)
    id = server.add(clip)
    server.jobs.close()
    (server.folder / "jobs" / id).rename(tmp_path / "moved")
    (server.folder / "jobs" / id).symlink_to(tmp_path / "moved")
    before = tree(tmp_path / "moved")
    server = new(Fake)
    assert "no longer in the work folder" in server.job(id)["error"]
    assert "no longer in" in error(server.start(id))
    assert "no longer in" in error(server.still(id))
    assert server.remove(id) == 204
    assert not server.jobs.listing()
    assert tree(tmp_path / "moved") == before


def test_an_upload_that_was_cut_off_is_deleted(new: New, clip: Path) -> None:
    server = new(Fake)
    kept = server.add(clip)
    half = server.jobs.store.new_folder()
    (server.jobs.store.folder(half) / "source.mp4").write_bytes(b"half")
    server.jobs.close()
    assert new(Fake).files() == {f"{kept}/source.mp4"}


@pytest.mark.parametrize("content", [b"", b"no database" * 999, "job", "other", "cut"])
def test_unreadable_lists_are_moved(new: New, clip: Path, content: bytes | str) -> None:
    server = new(Fake)
    id = server.add(clip)
    server.jobs.close()
    path = server.folder / "jobs.sqlite"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    else:
        path.unlink()
        with sqlite3.connect(path) as database:
            database.execute(f"CREATE TABLE {content} (name TEXT)")
        database.close()
    damaged = path.read_bytes()
    server = new(Fake)
    assert server.jobs.listing() == []
    assert server.files() == {f"{id}/source.mp4"}
    if content != b"":  # which is an empty list
        assert "renamed to jobs.sqlite.unread-1" in server.jobs.store.notes[0]
        assert (server.folder / "jobs.sqlite.unread-1").read_bytes() == damaged
    assert server.upload(clip).status_code == 201


@pytest.mark.parametrize(
    "change",
    [
        *({"id": "../../elsewhere"}, {"file": "../../secret.mp4"}, {"state": "odd"}),
        *({"settings": None}, {"info": None}, {"results": [{"run": "../.."}]}),
        *({"results": 3}, {"name": None, "info": []}),
    ],
)
def test_damaged_entries_are_left(new: New, clip: Path, change: dict[str, Any]) -> None:
    server = new(Fake)
    first, second = (server.add(clip) for _ in range(2))
    server.jobs.close()
    change_entry(server, first, lambda data: data.update(change))
    server = new(Fake)
    assert [job["id"] for job in server.jobs.listing()] == [second]
    assert "is damaged" in server.jobs.store.notes[0]
    assert server.files() == {f"{id}/source.mp4" for id in (first, second)}


def test_a_token_that_is_none_is_renamed(new: New) -> None:
    server = new(Fake)
    (server.folder / "token").write_text("my own file")
    assert len(server.jobs.store.token()) == 43
    assert (server.folder / "token.unread-1").read_text() == "my own file"
    assert "token.unread-1" in server.jobs.store.notes[0]


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
        assert server.start(id).status_code == 204
        job = server.wait_done(id)
        assert (job["state"], len(job["results"])) == ("done", 1)
        assert "disk is full" in " ".join(job["notes"])
    for answer in (server.upload(clip), server.client.delete(f"api/jobs/{first}")):
        assert "disk is full" in error(answer, 507)
    assert {job["id"] for job in server.jobs.listing()} == {first, second}


def test_results_stay_until_new_ones_are_done(new: New, clip: Path) -> None:
    server = new()
    id = server.add(clip)

    def get(kind: str) -> int:
        return int(server.file(id, kind).status_code)

    server.start(id, outputs=["alpha"])
    assert server.wait_done(id)["state"] == "done"
    made = server.files()
    server.start(id, outputs=["mov"])
    server.wait(id, lambda job: job["done"] > 2)
    assert get("alpha") == get("playable") == 200
    assert get("mov") == 404
    server.client.post(f"api/jobs/{id}/cancel")
    server.wait(id, lambda job: server.files() == made)
    assert get("alpha") == 200
    server.start(id, outputs=["mov"])
    server.wait(id, lambda job: job["done"] > 2)
    server.jobs.close()  # as if it were killed
    server = new(Fake)
    assert get("alpha") == 200
    assert server.wait_done(id)["state"] == "done"
    assert (get("mov"), get("alpha"), get("alpha?run=1")) == (200, 404, 200)
    assert get("alpha?run=77") == get("alpha?run=../..") == 404
    for _ in range(2):
        server.start(id)
        server.wait_done(id)
    runs = [result["run"] for result in server.job(id)["results"]]
    assert runs == [5, 4, 3]
    kept = {"source.mp4", "out-3", "out-4", "out-5"}
    server.wait(id, lambda _: {f.split("/")[1] for f in server.files()} == kept)


def test_a_rerun_that_fails_leaves_the_result(new: New, clip: Path) -> None:
    id = converted(new(Fake), clip)
    server = new(Broken)
    server.start(id)
    job = server.wait_done(id)
    assert (job["state"], len(job["results"])) == ("failed", 1)
    assert server.file(id, "mp4").status_code == 200


def test_results_of_an_older_version_are_found(new: New, clip: Path) -> None:
    id = converted(server := new(Fake), clip)
    folder = server.jobs.store.folder(id)
    (folder / "out-1").rename(folder / "out")
    change_entry(server, id, lambda data: data.pop("results"))
    server = new(Fake)
    assert server.file(id, "mp4").status_code == 200


def test_nothing_waits_for_previews(new: New, clip: Path, tmp_path: Path) -> None:
    server = new(partial(Meeting, tmp_path, 999))  # which never ends a frame
    ids = [server.add(clip) for _ in range(2)]
    for id in ids:
        answer = server.client.post(f"api/jobs/{id}/cutout", json={"at": 0})
        assert answer.status_code == 202
    begun = time.monotonic()
    assert server.start(ids[0]).status_code == 204
    assert server.client.post(f"api/jobs/{ids[0]}/cancel").status_code == 204
    assert server.client.delete(f"api/jobs/{ids[1]}").status_code == 204
    assert time.monotonic() - begun < 300  # a preview takes 1000
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
    server.start(id)
    job = server.wait_done(id)
    assert job["state"] == "failed"
    assert "more than 1.0 GB of memory" in job["error"]
    assert "--" not in job["error"]
    assert server.upload(clip).status_code == 201


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[" * 9000, b'{"a":' * 1900, b"\xff\xfe", b"[]", b"null"),
        *(b"9" * 9000, b'{"outputs": ["mp4"], "background": "\\ud800"}'),
        *(
            b'{"outputs": ["mp4"], "quality": %b}' % value
            for value in (b"NaN", b"1e999", b"9" * 4000, b"[" * 900 + b"]" * 900)
        ),
    ],
)
def test_a_bad_body_is_one_line(shared: Server, clip: Path, body: bytes) -> None:
    id = shared.add(clip)
    answer = shared.client.post(f"api/jobs/{id}/start", content=body)
    assert len(error(answer, 400)) < 300
    assert shared.job(id)["state"] == "ready"
    shared.remove(id)


def test_serve_ends_with_an_interrupt_and_keeps_its_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("uvicorn.Server.run", stop)
    told: list[str] = []
    for _ in range(2):
        serve(tmp_path / "work", Fake, port=0, report=told.append)
    tokens = [address.split("/")[3] for address in told]
    assert tokens[0] == tokens[1]
    assert len(tokens[0]) > 40
    assert (tmp_path / "work" / "token").stat().st_mode & 0o077 == 0
    serve(tmp_path / "other", Fake, port=0, report=told.append)
    assert told[-1].split("/")[3] != tokens[0]
