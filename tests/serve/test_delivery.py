"""Photos, copies of finished files, the ZIP of all, and processes that stay warm."""

import io
import os
import re
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_clip
from fakes import Fake, decode
from PIL import Image
from serving import Meeting, New, Server, error, new
from torch import Tensor

from rematte.conversion.presets import PRESETS
from rematte.errors import OutputError
from rematte.serve import jobs, processes, work
from rematte.serve.delivery import copy_out, file_name, open_output, zip_files
from rematte.serve.processes import Networks
from rematte.serve.settings import FILES, PRESET_OUTPUTS, READY, check_settings
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader

__all__ = ["new"]  # the fixture


class Dies(Fake):
    """Kills its process when it converts for the second time."""

    count = 0

    def forward(self, src: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        Dies.count += rest[0] is None if rest else 1
        if Dies.count > 1:
            os._exit(1)
        return super().forward(src, *rest)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_output(tmp_path_factory.mktemp("finished") / "new")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, output: Path) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("delivered") / "work", Fake, output=output)
    yield server
    server.jobs.close()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.mp4", 4)


def make_photo(path: Path) -> Path:
    Image.new("RGB", (40, 24), (250, 90, 60)).save(path)
    return path


def convert(server: Server, path: Path, **settings: Any) -> dict[str, Any]:
    return server.finish(server.add(path), **settings)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "avif"])
def test_a_photo_becomes_photos(
    server: Server, output: Path, tmp_path: Path, suffix: str
) -> None:
    photo = make_photo(tmp_path / f"me {suffix}.{suffix}")
    made = ["png", "jpg", "mask"] if suffix == "avif" else ["webp"]
    job = convert(server, photo, outputs=made, background="#0000ff")
    assert job["info"]["photo"]
    assert job["info"]["bytes"] == photo.stat().st_size
    assert list(job["results"][0]["sizes"]) == made
    assert not job["notes"]
    for kind in made:
        path = output / f"me {suffix}_{FILES[kind]}"
        assert path.stat().st_size == job["results"][0]["sizes"][kind]
        with Image.open(path) as image:
            assert image.size == (40, 24)
            if kind != "mask":
                assert image.mode == ("RGB" if kind == "jpg" else "RGBA")


def test_a_photo_is_no_video(server: Server, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "no.heic").write_bytes(b"nothing of the kind")
    refused = server.upload(tmp_path / "no.heic")
    assert error(refused, 422).startswith("no.heic: not a photo")
    photo, video = server.add(make_photo(tmp_path / "a.png")), server.add(clip)
    assert "outputs of a photo must be" in error(server.start(photo, outputs=["mp4"]))
    assert "outputs of a video must be" in error(server.start(video, outputs=["png"]))


def test_presets_make_what_is_taken(server: Server, clip: Path, tmp_path: Path) -> None:
    job = convert(server, clip, outputs=["webm"], preset="web")
    assert list(job["results"][0]["sizes"]) == ["webm"]
    # FFmpeg cannot read a moving WebP, whose views come from an alpha matte instead.
    job = convert(server, clip, outputs=["webp"], preset="whatsapp")
    assert list(job["results"][0]["sizes"]) == ["webp"]
    playable = server.file(job["id"], "playable")
    (tmp_path / "playable.mp4").write_bytes(playable.content)
    frame = decode(tmp_path / "playable.mp4")[0]
    assert frame.shape == (512, 3 * 512, 3)
    assert frame[:80, :512].max() < 30  # a bar, not what the network sees there
    for preset, output in PRESET_OUTPUTS.items():
        assert check_settings({"outputs": [output], "preset": preset})
    for name in READY:
        assert Path(server.jobs.backgrounds.resolve(f"ready:{name}")).is_file()


def test_errors_do_not_name_the_copy_for_viewing(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(model: Any, job: Any, *args: Any) -> None:
        job.status, job.error = "failed", f"{job.outputs['alpha']}: the disk is full"

    monkeypatch.setattr(work, "convert_job", fail)
    settings = check_settings({"outputs": ["webp"], "preset": "whatsapp"})
    given = clip, tmp_path, settings, "green"
    job = work.convert(Networks(Fake), *given, lambda *_: None)
    assert job.error == "the small copy for viewing: the disk is full"


def test_a_sticker_is_short_and_painting_fits_it(
    server: Server, tmp_path: Path
) -> None:
    red = np.full((48, 96, 3), (250, 0, 0), np.uint8)  # of which the fake cuts all out
    clip = make_clip(tmp_path / "red.mp4", [red] * 12, rate=2)
    marks = [{"keep": False, "points": [[0, 0], [0.5, 1]], "size": 0, "since": 0}]
    job = convert(
        server, clip, outputs=["webm"], preset="telegram",
        choice={"end": 5.5, "marks": marks},
    )  # fmt: skip
    made = server.jobs.outputs(server.jobs.get(job["id"]), job["results"][0]["run"])
    frames = [*VideoReader(made / "cutout.webm", ReadOptions(alpha=True))]
    assert frames[-1].time < 3
    alpha = frames[0].pixels[..., 3]
    assert alpha.shape == (512, 512)
    # The picture lies between bars, and its left half is painted out.
    assert alpha[140:370, 260:].min() > 200
    assert max(alpha[140:370, :250].max(), alpha[:120].max(), alpha[390:].max()) < 50


@pytest.mark.parametrize("name", ["LONGEST", "MOST_RATE"])
def test_the_page_knows_the_limits_of_presets(name: str) -> None:
    script = Path(jobs.__file__).with_name("static") / "settings.js"
    found = re.search(rf"const {name} = {{(.*)}};", script.read_text(encoding="utf-8"))
    limits = {
        preset: each.seconds if name == "LONGEST" else each.options.get("max_rate")
        for preset, each in PRESETS.items()
        if preset in PRESET_OUTPUTS
    }
    told = dict(re.findall(r"(\w+): (\d+)", found[1]))
    assert told == {preset: str(limit) for preset, limit in limits.items() if limit}


def test_finished_files_are_copied_and_replace_nothing(
    server: Server, clip: Path, output: Path
) -> None:
    for name in ("clip_composition.mp4", "clip_composition (2).mp4"):
        job = convert(server, clip)
        assert job["results"][0]["copies"] == [name]
        assert len(decode(output / name)) == 4
    assert not list(output.glob(".*"))
    assert server.jobs.state()["output"] == str(output)
    away = output.rename(output.with_name("away"))
    job = convert(server, clip)
    away.rename(output)
    assert "could not be copied" in job["notes"][-1]


def test_a_job_that_is_cancelled_while_it_is_copied_leaves_no_copy(
    server: Server, clip: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, stuck = set(output.iterdir()), output / "cancelled_composition.mp4"
    copied: list[Path] = []
    id = server.upload(clip, "cancelled.mp4").json()["id"]

    def copy_and_cancel(*args: Any) -> Path:
        copy = copy_out(*args)
        copied.append(copy)
        copy.unlink()
        copy.mkdir()  # a folder is not deleted, and the queue goes on
        server.jobs.cancel(server.jobs.get(id))  # type: ignore[arg-type]
        return copy

    monkeypatch.setattr(jobs, "copy_out", copy_and_cancel)
    server.start(id, outputs=["mp4", "alpha"])
    server.wait(id, lambda job: job["state"] == "cancelled")
    server.wait(id, lambda job: set(output.iterdir()) == {*before, stuck})
    stuck.rmdir()
    assert copied == [stuck]  # the other file was not copied any more
    monkeypatch.undo()
    server.finish(id)


def test_the_queue_goes_on_when_no_process_can_be_started(
    new: New, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = new(Fake)
    id = server.add(clip)

    def refuse(*args: Any) -> Any:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(processes, "WorkerProcess", refuse)
    job = server.finish(id, "failed")
    assert job["results"] == []
    assert "no process can be started" in job["error"]
    monkeypatch.undo()
    convert(server, clip)


def test_all_files_come_in_one_zip(server: Server, clip: Path) -> None:
    convert(server, clip)
    answer = server.client.get("api/rematte.zip")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert "clip_composition.mp4" in archive.namelist()
        assert {each.compress_type for each in archive.infolist()} == {0}
        done = [job for job in server.jobs.listing() if job["results"]]
        count = sum(len(job["results"][0]["sizes"]) for job in done)
        assert len(set(archive.namelist())) == count


def test_removed_files_use_no_space(server: Server, clip: Path) -> None:
    id = server.add(clip)
    before, version = server.jobs.state()["used"], server.jobs.version
    size = server.jobs.get(id).info["bytes"]  # type: ignore[union-attr]
    server.client.delete(f"api/jobs/{id}")
    assert server.jobs.state()["used"] <= before - size
    assert server.jobs.version > version


def test_a_zip_is_made_part_by_part(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(os.urandom(5_000_000))
    files = [(large, "ä.mov"), (tmp_path / "gone", "gone.mov"), (large, "ä.mov")]
    parts = list(zip_files(files))
    assert max(map(len, parts)) < 2_000_000
    with zipfile.ZipFile(io.BytesIO(b"".join(parts))) as archive:
        assert archive.namelist() == ["ä.mov", "ä (2).mov"]
        assert archive.read("ä.mov") == large.read_bytes()


def test_names_of_results_fit_any_system(tmp_path: Path) -> None:
    assert file_name("take:2?.mp4", "cutout.mov") == "take_2__cutout.mov"
    assert file_name("...mp4", "cutout.mov") == "file_cutout.mov"
    assert len(file_name("木" * 250 + ".mp4", "cutout.mov").encode()) < 200
    (tmp_path / "made").write_text("made")
    assert copy_out(tmp_path / "made", tmp_path, "made").name == "made (2)"
    same = tmp_path / "made", tmp_path, "same"
    with ThreadPoolExecutor(8) as pool:  # jobs of clips with the same name
        copies = pool.map(copy_out, *([each] * 16 for each in same))
        assert {copy.read_text() for copy in copies} == {"made"}
    assert len(list(tmp_path.glob("same*"))) == 16
    with pytest.raises(OutputError, match="--output"):
        open_output(tmp_path / "made" / "below")


def test_the_network_stays_loaded(new: New, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "seen").mkdir()
    server = new(partial(Meeting, tmp_path / "seen", 1))
    for _ in range(3):
        convert(server, clip)
    assert len(list((tmp_path / "seen").iterdir())) == 1
    assert server.jobs.state()["speeds"]["balanced"] > 0


def test_a_used_process_that_dies_is_replaced(new: New, clip: Path) -> None:
    server = new(Dies)
    for _ in range(2):  # the second one in a new process
        convert(server, clip, choice={"end": 0.08})
