"""Ray as the engine of a batch, and object storage: nothing is lost, nothing twice."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import torch
import yaml
from conftest import Refused, Run, make_clip, noise
from fakes import ROOT, Deadly, Fake, colours, decode, names, sound, times
from ray_models import deadly, fakes, short_segments, with_environment

from rematte.cli.app import build_parser
from rematte.engines.runtimes import start_ray
from rematte.options import Options
from rematte.resume import LEAD_IN
from rematte.resume import plan as segments
from rematte.resume.run import SegmentConverter
from rematte.workers import ray_cluster as cluster
from rematte.workers import storage
from rematte.workers.jobs import run as run_batch
from rematte.workers.planning import Job, find_inputs, plan
from rematte.workers.ray_actor import Worker

PATHS = ROOT, ROOT / "tests", Path(__file__).parent  # of the networks of the tests
VERSION = re.findall(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.M)[0]
OPTIONS = Options(downsample_ratio=1, device="cpu")
# A process keeps the first token that Ray reads in it, and pytest may leave this module
# and come back to it.
TOKEN = uuid4().hex

# Imported where it runs: every process that shares the tests reads this file.
if find_spec("ray") is None:
    if os.environ.get("REMATTE_REQUIRE_RAY"):
        raise ModuleNotFoundError("REMATTE_REQUIRE_RAY is set, but Ray is missing")
    pytest.skip("Ray is not installed (extra: ray)", allow_module_level=True)


@pytest.fixture(scope="module", autouse=True)
def _own_token() -> Iterator[None]:
    """Else Ray would make one in the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", TOKEN)
        yield


@pytest.fixture(scope="module")
def running(_own_token: None) -> Iterator[None]:
    """Ray on this machine, once for all tests."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, PATHS)))
        start_ray(num_cpus=2, log_to_driver=False, object_store_memory=80_000_000)
        yield
        ray.shutdown()


@pytest.fixture
def place(here: Path) -> Path:
    """A folder with three good videos and a bad one."""
    (here / "clips").mkdir()
    for name in "abc":
        make_clip(here / f"clips/{name}.mp4", colours(4, (64, 48)))
    (here / "clips/bad.mp4").write_text("no video")
    return here


def test_example_files_say_what_is_needed() -> None:
    """That they work was not tried: there is no cluster here."""
    folder = ROOT / "examples/cluster"
    image = f"rayproject/ray:{VERSION}-py311-cpu"
    assert f"FROM {image}\n" in (folder / "Dockerfile").read_text()
    cloud = yaml.safe_load((folder / "ray-cluster.yaml").read_text())
    types = cloud["available_node_types"]
    assert cloud["head_node_type"] in types
    assert types["cpu"]["resources"]["CPU"] >= 2
    for which in ("head", "worker"):
        assert "ray start" in cloud[f"{which}_start_ray_commands"][1]
    assert {"cluster_name", "provider", "auth", "docker", "max_workers"} <= set(cloud)
    job = yaml.safe_load((folder / "rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]["rayClusterSpec"]
    assert spec["rayVersion"] == VERSION
    head, (group,) = spec["headGroupSpec"], spec["workerGroupSpecs"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    for part in (head, group):
        (container,) = part["template"]["spec"]["containers"]
        assert {"name", "image", "resources", "envFrom"} <= set(container)
    options = build_parser().parse_args(job["spec"]["entrypoint"].split()[1:])
    assert (options.ray, options.jobs) == ("auto", group["maxReplicas"])


def convert(
    jobs: list[Job], load: Any = fakes, options: Options = OPTIONS, **more: Any
) -> dict[str, Job]:
    more = {"workers": 1, **more}  # each is a process, which imports torch
    found = list(cluster.run(jobs, load, options, cpus=1, **more))
    assert len(found) == len(jobs)
    return {job.input.name: job for job in found}


def test_a_lost_worker_costs_no_frame(place: Path, running: None) -> None:
    """The file is done again and appears once; one that always kills fails alone."""
    make_clip(place / "clips/once.mp4", colours(6, (80, 48)))
    make_clip(place / "clips/always.mp4", colours(6, (96, 48)))
    outputs = {"output": "out", "alpha": "out/{stem}-alpha.mkv"}
    jobs = plan(find_inputs(["clips"]), outputs, ".mkv")
    load = partial(deadly, place / "tally", {80: 1, 96: 99})
    done = convert(jobs, load, retries=1)
    always, once = done.pop("always.mp4"), done.pop("once.mp4")
    assert {name: job.status for name, job in done.items()} == {
        "a.mp4": "done", "b.mp4": "done", "c.mp4": "done", "bad.mp4": "failed"
    }  # fmt: skip
    assert done["bad.mp4"].code == 3
    assert "not a video" in done["bad.mp4"].error
    for name in "abc":
        assert len(decode(place / f"out/{name}.mkv")) == 4
    assert (once.status, once.error, once.code) == ("done", "", 0)
    assert len(decode(place / "out/once.mkv")) == once.frames == 6
    assert (always.status, always.code) == ("failed", 5)
    assert "its worker was lost 2 times" in always.error
    assert (place / "tally.died-80").read_text() == "x"
    assert (place / "tally.died-96").read_text() == "xx"
    loads = (place / "tally.loads").read_text().splitlines()
    assert len({*loads}) == len(loads) == 4  # one at first, and one after each loss
    assert names(place / "out") == {  # nothing hidden either
        f"{name}{kind}.mkv" for name in ("a", "b", "c", "once")
        for kind in ("", "-alpha")
    }  # fmt: skip


def test_segments_of_one_video_are_shared(
    place: Path, running: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is lost and done again; the video has all frames and equals the whole one."""
    wide = make_clip(place / "wide.mp4", colours(12, (80, 48)), sound=True)
    whole = plan(find_inputs([wide]), {"output": "whole"}, ".mkv")
    assert [job.status for job in run_batch(whole, Fake, OPTIONS)] == ["done"]
    jobs = plan(find_inputs([wide, "clips/bad.mp4"]), {"output": "out"}, ".mkv")
    load = partial(short_segments, place / "tally", {80: 1})
    done = convert(jobs, load, workers=2, split=True)
    assert done["bad.mp4"].status == "failed"
    assert "not a video" in done["bad.mp4"].error
    job = done["wide.mp4"]
    assert (job.status, job.frames, job.error) == ("done", 12, "")
    assert "3 segments; at the worst seam alpha differs by" in job.notes[-1]
    assert (place / "tally.died-80").read_text() == "x"
    out, true = place / "out/wide.mkv", place / "whole/wide.mkv"
    assert times(out) == times(true)
    assert sound(out) == sound(true)
    # FFV1 is exact, and the lead-in reaches to the beginning.
    pairs = zip(decode(out), decode(true), strict=True)
    assert all((one == other).all() for one, other in pairs)
    assert names(place / "out") == {"wide.mkv"}


def test_finished_segments_of_a_stopped_run_are_taken_over(
    place: Path, running: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "LENGTH", 4)
    wide = make_clip(place / "wide.mp4", colours(12, (80, 48)))
    (place / "out").mkdir()
    model = Deadly(place / "before", {})
    options = replace(OPTIONS, overwrite=False)
    work = segments.prepare(
        model, wide, lead_in=LEAD_IN, output=Path("out/wide.mkv"),
        **options.given() | {"device": torch.device("cpu")},
    )  # fmt: skip
    SegmentConverter(model, work)(work.segments[2])
    jobs = plan(find_inputs([wide]), {"output": "out"}, ".mkv")
    load = partial(short_segments, place / "tally", {})
    (job,) = convert(jobs, load, options, split=True).values()
    assert (job.status, job.frames, job.error) == ("done", 12, "")
    # Each runs on by a frame, and begins at the first one.
    assert len((place / "tally").read_text().splitlines()) == 5 + 9
    assert names(place / "out") == {"wide.mkv"}


def test_a_full_disk_fails_one_file_and_the_next_run_does_it(
    place: Path, running: None, disk: Path
) -> None:
    pictures = noise(30, (64, 48))
    clip = make_clip(place / "in.mkv", pictures, codec="ffv1", pix_fmt="bgr0")
    # Not both on that disk: who finds it full would be a matter of chance.
    jobs = plan(find_inputs(["clips/a.mp4"]), {"output": "out"}, ".mov")
    jobs += plan(find_inputs([clip]), {"output": str(disk)}, ".mov")
    load = partial(short_segments, place / "tally", {})
    for split in (False, True):
        done = convert(jobs, load, split=split)
        assert done["a.mp4"].status == "done"
        assert (done["in.mkv"].status, done["in.mkv"].code) == ("failed", 1)
        assert "no space left on the disk" in done["in.mkv"].error
        assert (names(disk), names(place / "out")) == (set(), {"a.mov"})
    subprocess.run(["mount", "-o", "remount,size=9M", str(disk)], check=True)
    done = convert(jobs, load, split=True, skip_existing=True)
    assert {name: job.status for name, job in done.items()} == {
        "a.mp4": "skipped", "in.mkv": "done"
    }  # fmt: skip
    jobs = plan(find_inputs([clip]), {"output": "whole"}, ".mov")
    (whole,) = run_batch(jobs, Fake, OPTIONS)
    out = disk / "in.mov"
    assert whole.frames == done["in.mkv"].frames == len(decode(out)) == 30
    # ProRes has no frames between, and the fake forgets more than a lead-in is long.
    pairs = zip(decode(out), decode(place / "whole/in.mov"), strict=True)
    assert all((one == other).all() for one, other in pairs)
    assert (names(disk), names(place / "out")) == ({"in.mov"}, {"a.mov"})


def test_object_storage_in_and_out(
    place: Path, running: None, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a worker is lost: its file is fetched and sent again."""
    wide = make_clip(place / "wide.mp4", colours(6, (80, 48)))
    files: Any = storage.to_path(bucket)
    for path in (place / "clips/a.mp4", wide):
        files.fs.put_file(str(path), f"{bucket}/in/{path.name}")
    jobs = plan(find_inputs([f"{bucket}/in"]), {"output": f"{bucket}/out"}, ".mkv")
    environment = {k: v for k, v in os.environ.items() if k.startswith("AWS_")}
    load = partial(with_environment, environment, place / "tally")
    done = convert(jobs, load)
    assert {name: job.status for name, job in done.items()} == dict.fromkeys(
        ("a.mp4", "wide.mp4"), "done"
    )
    made = storage.list_files(storage.to_path(bucket) / "out")
    assert made == [f"{bucket}/out/a.mkv", f"{bucket}/out/wide.mkv"]
    local = storage.fetch(storage.to_path(made[1]), place)
    assert len(decode(local)) == 6
    assert (place / "tally.died-80").read_text() == "x"


def test_the_command_runs_the_network(place: Path, running: None, run: Run) -> None:
    words = ["batch", "clips", "-o", "out", "--suffix", ".mkv", "--json", "--quiet"]
    more = ["--jobs", "1", "--worker-cpus", "1", "--device", "cpu", "--ray"]
    code, out, _ = run(*words, *more)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert {Path(row["input"]).name: row["frames"] for row in rows} == {
        "a.mp4": 4, "b.mp4": 4, "c.mp4": 4, "bad.mp4": 0
    }  # fmt: skip
    assert names(place / "out") == {"a.mkv", "b.mkv", "c.mkv"}


def test_wrong_weights_end_all(place: Path, running: None, refused: Refused) -> None:
    line = refused(4, "batch", "clips", "-o", "out", "--weights", "no", "--ray")
    assert "weights 'no' is neither" in line
    assert not (place / "out").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("--ray clips -o out", 2, "write --ray behind the inputs"),
        ("-o out --jobs 0 --ray", 2, "jobs must be 1 or more"),
        ("-o out --worker-cpus 0 --ray", 2, "worker_cpus must be 1 or more"),
        ("-o out --retries -1 --ray", 2, "retries must be 0 or more"),
        ("-o out --jobs 3 --ray", 2, "use fewer --jobs"),
        ("-o out --worker-cpus 999 --ray", 2, "of 999 cores and 0 GPUs do not fit"),
    ],
)
def test_bad_words_are_one_line(
    words: str, code: int, message: str, place: Path, running: None, refused: Refused
) -> None:
    assert message in refused(code, "batch", "clips", *words.split())


def test_a_cluster_that_is_not_there(
    place: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    words = "batch", "clips", "-o", "out", "--ray"
    assert "no Ray cluster at 127.0.0.1:1 (" in refused(1, *words, "127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install 'rematte[ray]'" in refused(1, *words)


def test_workers_that_cannot_start_are_told(
    place: Path, running: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = plan(find_inputs(["clips/a.mp4"]), {"output": "out"}, ".mkv")
    monkeypatch.setattr(Worker, "__module__", "__main__")  # goes by value
    monkeypatch.setattr(Worker, "__init__", _not_there)
    with pytest.raises(ConnectionError, match=r"no worker starts .*same extras"):
        convert(jobs, retries=0)


def _not_there(self: object, *args: object) -> None:
    raise ModuleNotFoundError("No module named 'rematte'")


def test_ctrl_c_stops_all(place: Path) -> None:
    """In a process of its own, which starts Ray itself; a worker sends the signal."""
    make_clip(place / "clips/long.mp4", colours(8, (64, 48)) * 15)
    script = (
        "import os, sys\n"
        "from functools import partial\n"
        "from ray_models import interrupting\n"
        "from rematte.cli import batch, main\n"
        "batch._load_on = partial(interrupting, os.getpid())\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = subprocess.Popen(
        [sys.executable, "-c", script, "batch", "clips/long.mp4", "-o", "out",
         "--suffix", ".mkv", "--device", "cpu", "--ray"],
        # Ray has sockets, whose paths must be short.
        env=os.environ | {
            "PYTHONPATH": os.pathsep.join(map(str, PATHS)),
            "TMPDIR": str(place), "RAY_TMPDIR": "/tmp",
        },
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        out, error = command.communicate()
    finally:
        command.kill()
        command.wait()
    assert (command.returncode, out) == (130, ""), error
    assert error.splitlines()[-1] == "rematte: interrupted"
    assert names(place / "out") == set()
    assert not list(place.glob("rematte-*"))
