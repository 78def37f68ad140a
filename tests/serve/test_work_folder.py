"""The folder of the page's server: what outlives it, and what others made there."""

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import Fake, contents
from serving import MARK, Broken, New, Server, clip, error, new

from rematte.errors import OutputError
from rematte.serve import serve
from rematte.serve.jobs import Jobs

__all__ = ["clip", "new"]  # the fixtures


def converted(server: Server, clip: Path, **settings: Any) -> str:
    """Upload and convert a clip, and close the server; gives the job's id."""
    server.finish(id := server.add(clip), **settings)
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
    before = contents(tmp_path)
    for _ in range(2):
        server = new(Fake)
        assert any("it is left as it is" in note for note in server.jobs.store.notes)
        id = server.add(clip)
        server.finish(id)
        assert server.remove(id) == 204
        server.jobs.close()
        assert before.items() <= contents(tmp_path).items()
        assert (top / "link").is_symlink()


@pytest.mark.parametrize("name", ["jobs", "jobs.sqlite", "token"])
def test_links_are_refused(tmp_path: Path, name: str) -> None:
    work, other = tmp_path / "work", tmp_path / "other"
    work.mkdir()
    (other / "0123456789abcdef").mkdir(parents=True)
    (other / "0123456789abcdef/photo.jpg").write_bytes(b"mine")
    (work / name).symlink_to(other if name == "jobs" else other / "file")
    before = contents(other)
    with pytest.raises(OutputError, match="is a link"):
        Jobs(work, Fake, 1, 1)
    assert contents(other) == before


def test_a_job_folder_that_became_a_link_is_not_followed(
    new: New, clip: Path, tmp_path: Path
) -> None:
    server = new(Fake)
    id = server.add(clip)
    server.jobs.close()
    (server.folder / "jobs" / id).rename(tmp_path / "moved")
    (server.folder / "jobs" / id).symlink_to(tmp_path / "moved")
    before = contents(tmp_path / "moved")
    server = new(Fake)
    assert "no longer in the work folder" in server.job(id)["error"]
    assert "no longer in" in error(server.start(id))
    assert "no longer in" in error(server.still(id))
    assert server.remove(id) == 204
    assert not server.jobs.listing()
    assert contents(tmp_path / "moved") == before


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


def test_results_stay_until_new_ones_are_done(new: New, clip: Path) -> None:
    id = converted(new(Fake), clip, outputs=["alpha"])
    server = new()

    def get(kind: str) -> int:
        return int(server.file(id, kind).status_code)

    assert server.job(id)["state"] == "done"
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
        server.finish(id)
    runs = [result["run"] for result in server.job(id)["results"]]
    assert runs == [5, 4, 3]
    kept = {"source.mp4", "out-3", "out-4", "out-5"}
    server.wait(id, lambda _: {f.split("/")[1] for f in server.files()} == kept)


def test_a_rerun_that_fails_leaves_the_result(new: New, clip: Path) -> None:
    id = converted(new(Fake), clip)
    server = new(Broken)
    assert len(server.finish(id, "failed")["results"]) == 1
    assert server.file(id, "mp4").status_code == 200


def test_results_of_an_older_version_are_found(new: New, clip: Path) -> None:
    id = converted(server := new(Fake), clip)
    folder = server.jobs.store.folder(id)
    (folder / "out-1").rename(folder / "out")
    change_entry(server, id, lambda data: data.pop("results"))
    server = new(Fake)
    assert server.file(id, "mp4").status_code == 200


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
