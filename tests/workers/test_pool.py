"""Worker processes: what is lost, what is tried again, and how they end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from rematte.workers import pool
from rematte.workers.pool import ProcessKilledError, WorkerProcess, run_all


@pytest.fixture(autouse=True)
def _start_as_for_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "get_context", get_context)


def load(folder: Path) -> Path:
    """A model that leaves a file for each process that loads it."""
    (folder / f"loaded-{os.getpid()}").touch()
    return folder


def fail_to_load() -> None:
    raise LookupError("no weights")


def work(folder: Path, item: Any) -> tuple[int, Any]:
    if item == "die":
        (folder / f"died-{os.getpid()}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "fail":
        raise ZeroDivisionError("as asked")
    if item == "wait":
        (folder / "waiting").touch()
        try:
            time.sleep(600)
        finally:
            (folder / "wound-up").touch()
    return os.getpid(), item


def count_to(model: Any, number: int, report: Callable[[int], object]) -> int:
    for each in range(number):
        report(each)
    return number


def until(met: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not met():
        assert time.monotonic() < end
        time.sleep(0.02)


def has_ended(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "Z"


def test_every_item_is_done_and_the_model_loaded_once_a_process(tmp_path: Path) -> None:
    results = dict(run_all(partial(load, tmp_path), work, range(9), 2))
    assert all(item == result[1] for item, result in results.items())
    assert results.keys() == {*range(9)}
    used = {process for process, _ in results.values()}
    assert {p.name for p in tmp_path.iterdir()} == {f"loaded-{pid}" for pid in used}
    assert len(used) <= 2
    assert all(map(has_ended, used))


def test_a_killed_process_costs_its_item_alone(tmp_path: Path) -> None:
    """The item is tried once more; what it left behind is removed each time."""
    cleaned: list[str] = []
    items = ["die", "a", "die", "b", "c"]
    found = list(run_all(partial(load, tmp_path), work, items, 2, cleaned.append))
    assert sorted(item for item, _ in found) == sorted(items)
    for item, result in found:
        assert isinstance(result, ProcessKilledError) == (item == "die")
    assert [item for item, _ in found[-2:]] == ["die", "die"]  # after the others
    assert cleaned == ["die"] * 4
    assert len(list(tmp_path.glob("died-*"))) == 4


def test_errors_are_raised_with_their_traceback(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="as asked") as caught:
        list(run_all(partial(load, tmp_path), work, ["a", "fail", "b"], 1))
    assert "in work" in caught.value.__notes__[0]
    with pytest.raises(LookupError, match="no weights"):
        list(run_all(fail_to_load, work, ["a"], 1))


def test_closing_interrupts_what_runs(tmp_path: Path) -> None:
    cleaned: list[str] = []
    items = ["a", "wait"]
    results = run_all(partial(load, tmp_path), work, items, 2, cleaned.append)
    assert next(results)[0] == "a"
    until((tmp_path / "waiting").exists)
    results.close()  # type: ignore[attr-defined]
    assert (tmp_path / "wound-up").exists()
    assert cleaned == []
    for path in tmp_path.glob("loaded-*"):
        assert has_ended(int(path.name.partition("-")[2]))


def run_here(code: str, folder: Path) -> subprocess.Popen[str]:
    """Start a program in a folder, in a process group of its own."""
    (folder / "main.py").write_text(code)
    here = Path(__file__).parent
    paths = [str(here), str(here.parent.parent)]
    return subprocess.Popen(
        [sys.executable, "main.py"], cwd=folder, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        start_new_session=True,
    )  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_processes_end_with_their_parent(tmp_path: Path, number: int) -> None:
    """Ctrl-C in a terminal reaches all; there is one traceback, and none of workers."""
    code = (
        "from functools import partial; from pathlib import Path; import test_pool\n"
        "if __name__ == '__main__':\n"
        "    load = partial(test_pool.load, Path())\n"
        "    list(test_pool.run_all(load, test_pool.work, ['wait', 'wait'], 2))\n"
    )
    process = run_here(code, tmp_path)
    try:
        until(lambda: len(list(tmp_path.glob("loaded-*"))) == 2)
        until((tmp_path / "waiting").exists)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.kill()
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    for path in tmp_path.glob("loaded-*"):
        worker = int(path.name.partition("-")[2])
        until(partial(has_ended, worker))
    if number == signal.SIGINT:
        assert error.count("Traceback") == 1
        assert (tmp_path / "wound-up").exists()


def test_one_process_reports_and_has_a_timeout(tmp_path: Path) -> None:
    process = WorkerProcess(partial(load, tmp_path), 1)
    try:
        seen: list[int] = []
        assert process.call(count_to, 3, report=seen.append) == 3
        assert seen == [0, 1, 2]
        with pytest.raises(ZeroDivisionError):
            process.call(work, "fail")
        assert process.call(work, 1)[1] == 1  # an error does not end it
        with pytest.raises(TimeoutError, match="within 1 seconds"):
            process.call(work, "wait", timeout=1)
        with pytest.raises(ProcessKilledError, match="perhaps for its memory"):
            process.call(work, 2)
    finally:
        process.close()
    assert not process.alive


def load_torch() -> Any:
    import torch

    return torch


def count_threads(torch: Any) -> Any:
    return torch.get_num_threads()


def test_torch_has_its_share_of_the_cores() -> None:
    count = (os.cpu_count() or 1) + 1  # torch itself would never take as many
    process = WorkerProcess(load_torch, count)
    try:
        assert process.call(count_threads) == count
    finally:
        process.close()


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX")
def test_ctrl_c_does_not_reach_the_first_process_while_it_starts(
    tmp_path: Path,
) -> None:
    """Before it starts, multiprocessing starts a process of its own."""
    code = (
        "import os; from functools import partial; from pathlib import Path\n"
        "import signal, test_pool\n"
        "if __name__ == '__main__':\n"
        "    worker = test_pool.WorkerProcess(partial(test_pool.load, Path()), 1)\n"
        "    os.kill(worker._process.pid, signal.SIGINT)\n"
        "    assert worker.call(test_pool.work, 'a')[1] == 'a'\n"
        "    worker.close()\n"
    )
    assert run_here(code, tmp_path).communicate(timeout=60)[1] == ""
