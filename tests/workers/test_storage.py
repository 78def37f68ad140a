"""Object storage: read and written like folders, complete or not at all."""

import os
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, make_clip
from fakes import Fake, colours, convert, decode, names

from rematte.errors import InputError, OutputError
from rematte.options import Options
from rematte.video.output_paths import sweep
from rematte.workers import storage
from rematte.workers.jobs import run as run_batch
from rematte.workers.planning import find_inputs, plan


def keys(bucket: str) -> list[str]:
    inside = storage.list_files(storage.to_path(bucket))
    return [name.removeprefix(f"{bucket}/") for name in inside]


@pytest.fixture
def clips(bucket: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder in object storage with two videos, one that is none, and a note."""
    clip = make_clip(here / "clip.mp4", colours(4, (64, 48)))
    files: Any = storage.to_path(bucket).fs  # type: ignore[attr-defined]
    for name in ("a.mp4", "more/b.mp4"):
        files.put_file(str(clip), f"{bucket}/clips/{name}")
    files.pipe_file(f"{bucket}/clips/bad.mp4", b"no video")
    files.pipe_file(f"{bucket}/clips/note.md", b"to be left alone")
    monkeypatch.setenv("TMPDIR", str(here))
    monkeypatch.setattr("tempfile.tempdir", None)
    return f"{bucket}/clips"


def test_addresses_are_found_like_files(clips: str, tmp_path: Path) -> None:
    def found(*words: str) -> list[tuple[str, str]]:
        return [(str(path), str(folder)) for path, folder in find_inputs(words)]

    assert found(clips) == [
        (f"{clips}/a.mp4", "."), (f"{clips}/bad.mp4", "."),
        (f"{clips}/more/b.mp4", "more"),
    ]  # fmt: skip
    assert found(f"{clips}/**/[ab].mp4", f"{clips}/a.mp4") == [
        (f"{clips}/a.mp4", "."), (f"{clips}/more/b.mp4", ".")
    ]  # fmt: skip
    (tmp_path / "list.txt").write_text(f"clip.mp4\n{clips}/more\n")
    assert found("list.txt") == [("clip.mp4", "."), (f"{clips}/more/b.mp4", ".")]
    with pytest.raises(InputError, match="no video there"):
        found(f"{clips}/none.mp4")


def test_a_batch_reads_and_writes(
    clips: str, tmp_path: Path, fake: Fake, run: Run
) -> None:
    words = [
        "batch", clips, "-o", clips.replace("clips", "out"), "--alpha", "{stem}.mkv",
        "--suffix", ".mkv", "--downsample-ratio", "1",
    ]  # fmt: skip
    code, out, _ = run(*words)
    assert code == 1
    assert "2 done, 1 failed" in out
    assert f"failed   {clips}/bad.mp4" in out
    bucket = clips.removesuffix("/clips")
    assert [key for key in keys(bucket) if "out" in key] == [
        "out/a.mkv", "out/more/b.mkv"
    ]  # fmt: skip
    local = storage.fetch(storage.to_path(f"{bucket}/out/more/b.mkv"), tmp_path)
    assert len(decode(local)) == 4
    # Nothing temporary is left, and what is to stay local does.
    assert names(tmp_path) >= {"clip.mp4", "a.mkv", "b.mkv"}
    assert not [name for name in names(tmp_path) if name.startswith("rematte-")]
    code, out, _ = run(*words)  # nothing is replaced unasked
    assert code == 1
    assert out.count("exists; pass overwrite") == 2
    code, out, _ = run(*words, "--skip-existing")
    assert "2 skipped" in out


def test_outputs_appear_together_or_not_at_all(clips: str) -> None:
    outputs = {
        "output": f"{clips}/{{stem}}-out.mkv",
        "alpha": "s3://nowhere/{stem}.mkv",
    }
    jobs = plan(find_inputs([f"{clips}/a.mp4"]), outputs, ".mkv")
    before = keys(clips)
    (done,) = run_batch(jobs, Fake, Options(downsample_ratio=1))
    assert (done.status, done.code) == ("failed", 1)
    assert "s3://nowhere/a.mkv: The specified bucket does not exist;" in done.error
    assert keys(clips) == before


def test_what_cannot_be_is_said(clips: str, tmp_path: Path, monkeypatch: Any) -> None:
    with pytest.raises(ValueError, match="must begin with s3:// or gs://"):
        storage.to_path("ftp://server/a.mp4")
    with pytest.raises(OutputError, match="does not appear at once"):
        storage.local_target(storage.to_path(f"{clips}/%04d.png"), tmp_path / "x", True)
    with pytest.raises(InputError, match=r"none.mp4: .*check the address"):
        storage.fetch(storage.to_path(f"{clips}/none.mp4"), tmp_path)
    monkeypatch.setattr(storage, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'rematte\[s3\]'"):
        storage.to_path(clips)


def test_what_killed_writers_leave_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".a.123.partial.mkv").touch()
    (tmp_path / ".a.mkv.123.partial.nut").touch()  # its lossless frames
    (tmp_path / f".{tmp_path.name}-a.123.partial.png").mkdir()
    kept = {"a.mkv", ".a.b.12.partial.mkv", ".a.12.partial.mov", "a.partial.mkv"}
    for name in kept:
        (tmp_path / name).touch()
    sweep(tmp_path / "a.mkv")
    sweep(tmp_path / "a.png")
    sweep(tmp_path / "none/here.mkv")
    assert names(tmp_path) == kept


def test_a_folder_that_cannot_be_listed_is_not_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", closed)
    assert sweep(tmp_path / "a.mkv", ended_only=True) == []


def test_what_the_same_number_left_is_swept(tmp_path: Path) -> None:
    """In a container, the process before this one had its number."""
    old, new = (
        tmp_path / f".{name}.{os.getpid()}.partial.mkv" for name in ("old", "new")
    )
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    assert sweep(tmp_path / "old.mkv", ended_only=True) == [old.name]
    assert sweep(tmp_path / "new.mkv", ended_only=True) == []


def test_a_folder_that_the_same_number_left_does_not_stop_a_conversion(
    tmp_path: Path,
) -> None:
    left = tmp_path / f".out-out.{os.getpid()}.partial"
    left.mkdir()
    os.utime(left, (0, 0))
    clip = make_clip(tmp_path / "in.mp4", colours())
    report = convert(clip, tmp_path / "out")
    assert (
        f"out: removed what a killed conversion had left: {left.name}" in report.notes
    )
    assert names(tmp_path) == {"in.mp4", "out"}
