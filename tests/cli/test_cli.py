"""What the command line promises: flags, exit codes, one line for every error."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Printed, Refused, Run, make_clip
from fakes import Fake, colours, decode, names, sound, times
from test_words import DEFAULTS as RECORDED
from test_words import LATER, RIGHT, normal

from rematte.cli import completion, doctor, flags, live
from rematte.convert import Report
from rematte.errors import OutputError
from rematte.live.run import SHOWS, LiveReport
from rematte.network.matting_network import VARIANTS, MattingNetwork
from rematte.resume import LEAD_IN, LENGTH
from rematte.version import __version__
from rematte.weights import registry


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "in.mp4", colours(), sound=True)


def test_convert_writes_and_tells(
    run: Run, printed: Printed, fake: Fake, clip: Path
) -> None:
    target = clip.with_name("out.mp4")
    out = printed("convert", clip, "-o", target, "--background", "green")
    assert out.startswith("10 frames of 32x24 in ")
    assert "downsample ratio 1, device " in out
    assert f"output: {target}\n" in out
    assert len(times(target)) == 10
    assert sound(target) == sound(clip)
    target = clip.with_name("out.mov")
    words = "convert", clip, "-o", target, "-y"
    assert run(*words, "--limit", "1")[1].startswith("1 frame of 32x24 in ")
    assert run(*words, "-q") == (0, "", "")
    out = printed(*words, "--json")
    found = json.loads(out)
    assert (found["frames"], found["outputs"]) == (10, {"output": str(target)})
    assert sum(found["shares"].values()) == pytest.approx(1)


KINDS = ("composition", "alpha", "foreground", "plate")
# Flags that the converter never sees, or by another name.
OWN = {
    *("debug", "command", "input", "raw_input", "format", "resume", "workers"),
    *("lead_in", "segment", "variant", "weights", "device", "quiet", "json", *KINDS),
}
DEFAULTS = {
    **{name: LATER[name] for name in LATER if name != "device"},
    **{name: value for name, value in RECORDED["convert"].items() if name not in OWN},
    **{f"output_{kind}": None for kind in KINDS},
    "progress": False,
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the converter and the loader were called with."""
    found: dict[str, Any] = {}

    def convert_video(model: Any, source: str, **options: Any) -> Report:
        found.update(options, source=source)
        return Report(frames=1, seconds=1)

    def load_for(*arguments: Any) -> str:
        found["model"] = arguments
        return "a network"

    monkeypatch.setattr("rematte.convert.convert_video", convert_video)
    monkeypatch.setattr("rematte.engines.choose.load_for", load_for)
    return found


# Recorded command lines whose conversion is one run, on the CPU.
CONVERTING = [
    (words, values)
    for words, values in RIGHT
    if words[:2] == ["convert", "in.mp4"] and not {"--resume", "cuda:1"} & {*words}
]
# The same of flags that came later: the words, and the option that they set.
LATER_WORDS = [
    ("--plate p.mov", "output_plate", "p.mov"),
    ("--include 1,2,3,4 --include m.png", "include", ["1,2,3,4", "m.png"]),
    ("--exclude 1,2,3,4", "exclude", ["1,2,3,4"]),
    ("--quality best", "quality", "best"),
    ("--region full", "region", "full"),
    ("--warmup 3", "warmup", 3),
    ("--cuts c.csv", "cuts", "c.csv"),
    ("--downsample-ratio full-body", "downsample_ratio", "full-body"),
    ("--alpha-mode straight", "alpha_mode", "straight"),
    ("--exr-compression none", "exr_compression", "none"),
    ("--fit cover", "fit", "cover"),
    ("--max-bytes 9", "max_bytes", 9),
    ("--max-rate 30", "max_rate", "30"),
    ("--packed stacked", "packed", "stacked"),
    ("--preset web", "preset", "web"),
]


@pytest.mark.parametrize(
    ("words", "values"),
    [
        *CONVERTING,
        *((["convert", "in.mp4", *w.split()], {name: v}) for w, name, v in LATER_WORDS),
    ],
)
def test_every_flag_reaches_the_converter(
    run: Run, calls: dict[str, Any], words: list[str], values: dict[str, Any]
) -> None:
    assert run(*words, "--device", "cpu")[0] == 0
    assert (calls.pop("source"), calls.pop("device")) == ("in.mp4", "cpu")
    given = {name: values.get(name) for name in ("weights", "variant")}
    engine, dtype = values.get("engine", "auto"), values.get("dtype", "float32")
    assert calls.pop("model") == (engine, *given.values(), "cpu", dtype)
    kinds = {f"output_{kind}": values[kind] for kind in KINDS if values.get(kind)}
    own = {name: value for name, value in values.items() if name not in OWN}
    found = {name: normal(value) for name, value in calls.items()}
    assert found == {**DEFAULTS, **own, **kinds}


def test_fast_is_the_fast_network_unless_weights_or_a_ratio_are_given(
    run: Run, calls: dict[str, Any]
) -> None:
    for words, weights, quality in (
        ("", registry.FAST, "balanced"),
        ("--weights w.pth", "w.pth", "fast"),
        ("--variant resnet50", None, "fast"),
        ("--downsample-ratio 0.5", None, "fast"),
    ):
        calls.clear()
        run("convert", "in.mp4", "--quality", "fast", *words.split())
        assert (calls["model"][1], calls["quality"]) == (weights, quality)


@pytest.mark.usefixtures("fake")
def test_segments_of_another_run_are_named(run: Run, clip: Path) -> None:
    left = clip.with_name(".out.mkv.segments")
    left.mkdir()
    code, _, err = run("convert", clip, "-o", clip.with_name("out.mkv"))
    assert code == 0
    assert f"note: {left} holds segments of an earlier run" in err


INTERRUPTED_IMPORT = ImportError("initialization failed")
INTERRUPTED_IMPORT.__cause__ = KeyboardInterrupt()


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (INTERRUPTED_IMPORT, 130, "rematte: interrupted"),
        (ValueError("must be\n 1"), 2, "must be 1"),
        (RuntimeError("odd"), 1, "RuntimeError: odd"),
        (MemoryError(), 5, "--resize"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to"), 5, "--seq-chunk"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 5, "of memory"),
        (RuntimeError("MPS backend out of memory"), 5, "out of memory"),
    ],
    ids=repr,
)
def test_errors_on_the_way_have_their_codes_and_one_line(
    refused: Refused, fake: Fake, clip: Path, error: Exception, code: int, words: str
) -> None:
    fake.fail_at, fake.error = 3, error
    assert words in refused(code, "convert", clip, "-o", clip.with_name("out.mp4"))
    assert names(clip.parent) == {"in.mp4"}


def test_an_interrupt_tells_what_was_kept(
    refused: Refused, fake: Fake, clip: Path
) -> None:
    fake.fail_at, fake.error = 3, KeyboardInterrupt()
    words = ("convert", clip, "-o", clip.with_name("out.mp4"), "--warmup", "0")
    assert str(clip.with_name("out.partial.mp4")) in refused(130, *words)
    assert len(decode(clip.with_name("out.partial.mp4"))) == 3


def test_an_interrupt_before_any_frame_leaves_nothing(
    here: Path, run: Run, fake: Fake, clip: Path
) -> None:
    fake.fail_at, fake.error = 0, KeyboardInterrupt()
    words = "-o cut.mov --composition com.mp4 --alpha pha --foreground fgr_%04d.png"
    code, _, err = run("convert", "in.mp4", *words.split())
    assert (code, err) == (130, "rematte: interrupted\n")
    assert names(clip.parent) == {"in.mp4"}


def test_debug_shows_the_traceback(run: Run, fake: Fake, clip: Path) -> None:
    fake.fail_at = 0
    with pytest.raises(RuntimeError, match="the fake network broke"):
        run("--debug", "convert", clip, "-o", clip.with_name("out.mp4"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "no output"),
        ("-o out.xyz", "unknown suffix"),
        ("-o out.png", "a folder"),
        ("-o out.mp4 --background transparent", ".mov"),
        ("-o out.mp4 --start -- -1", ""),
        ("-o out.mov --crf 20", "crf"),
        ("-o out.mp4 --codec prores", "prores"),
        ("-o out.mp4 --device cuda:99", "cuda:99"),
        ("-o out.mp4 --device tpu", "tpu"),
        ("-o out.mp4 --alpha ./out.mp4", "write elsewhere"),
    ],
)
def test_wrong_values_exit_2_with_one_line(
    here: Path, refused: Refused, fake: Fake, clip: Path, words: str, said: str
) -> None:
    assert said in refused(2, "convert", clip, *words.split())
    assert names(clip.parent) == {"in.mp4"}


@pytest.mark.parametrize("words", ["--help", "convert --help", "weights --help"])
def test_help(printed: Printed, words: str) -> None:
    out = printed(*words.split())
    assert out.startswith("usage: rematte")
    assert "130 interrupted" in " ".join(out.split())


def test_what_the_help_repeats_of_slow_modules_is_so(run: Run) -> None:
    """The command line imports nothing slow before a command runs."""
    assert live.SHOWS == SHOWS
    assert flags.VARIANTS == VARIANTS
    _, out, _ = run("convert", "--help")
    text = " ".join(out.split())
    assert f"has settled (default: {LEAD_IN})" in text
    assert f"frames in a segment (default: at most {LENGTH})" in text


def test_completion_scripts_know_commands_and_flags(printed: Printed) -> None:
    for shell in completion.SHELLS:
        out = printed("--print-completion", shell)
        for word in ("make-testset", "background-fit", "stretch", "openvino-float32"):
            assert word in out


def test_completion_is_installed_where_the_shell_looks(
    printed: Printed, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/usr/bin/zsh")
    for words, path in {
        "bash": ".local/share/bash-completion/completions/rematte",
        "": ".zfunc/_rematte",
        "fish": ".config/fish/completions/rematte.fish",
    }.items():
        out = printed("--install-completion", *words.split())
        assert f"wrote {tmp_path / path}" in out
        assert (tmp_path / path).read_text()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".zfunc/_rematte"))
    refused(1, "--install-completion", "fish")
    monkeypatch.setenv("SHELL", "/bin/sh")
    assert "one of bash, zsh, fish" in refused(2, "--install-completion")


def test_version_names_the_licences(printed: Printed) -> None:
    out = printed("--version")
    assert __version__ in out
    assert out.count("Apache-2.0") == 2
    assert "rematte-mobilenetv3" in out


def test_weights_list(printed: Printed) -> None:
    out = printed("weights", "list")
    for word in (*registry.WEIGHTS, "GPL-3.0", "Apache-2.0", "bundled", "to fetch"):
        assert word in out


def test_weights_info_path_verify(printed: Printed) -> None:
    out = printed("weights", "info")
    for told in ("of the weights: Apache", "of the code: Apache", "docs/model_card.md"):
        assert told in out
    out = printed("weights", "path")
    assert Path(out.strip()).is_file()
    out = printed("weights", "verify", "rematte-mobilenetv3")
    assert str(registry.WEIGHTS[registry.DEFAULT].sha256) in out


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMATTE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setenv("REMATTE_OFFLINE", "1")


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    "words",
    [
        "weights path rvm-mobilenetv3",
        "weights verify rvm-mobilenetv3",
        "weights download rvm-resnet50",
        "weights info nonsense",
        "weights path nonsense",
        "convert IN -o out.mp4 --weights rvm-mobilenetv3",
        "convert IN -o out.mp4 --variant resnet50",
    ],
)
def test_missing_weights_exit_4(refused: Refused, clip: Path, words: str) -> None:
    line = refused(4, *words.replace("IN", str(clip)).split())
    assert "rematte-mobilenetv3" in line or "download" in line
    assert names(clip.parent) == {"in.mp4"}


@pytest.mark.usefixtures("no_weights")
def test_weights_info_tells_of_files_that_are_not_here(printed: Printed) -> None:
    out = printed("weights", "info", "rvm-resnet50")
    assert "licence of the weights: GPL-3.0\nlicence of the code: Apache-2.0" in out
    assert "not here; to fetch from https://github.com/" in out


def test_weights_of_the_users_own(printed: Printed, tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    torch.save(MattingNetwork("mobilenetv3").state_dict(), path)
    out = printed("weights", "info", path)
    assert "mobilenetv3" in out
    assert "3,748,633" in out


def test_doctor(printed: Printed) -> None:
    out = printed("doctor")
    for word in ("torch", "openvino", "ffmpeg", "libx264", "prores_ks", "rematte-mob"):
        assert word in out
    assert all(line.endswith(":") or "  " in line.strip() for line in out.splitlines())
    out = printed("doctor", "--json")
    found = json.loads(out)
    assert set(found) == {"versions", "devices", "extras", "encoders", "weights"}
    assert found["encoders"]["h264 (libx264)"] == "ok"


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "rematte", *(str(word) for word in words)]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.skipif(os.name != "posix", reason="streams are closed as in sh")
def test_closed_streams_do_no_harm(closed: str, clip: Path, tmp_path: Path) -> None:
    words = shlex.join(command("convert", clip, "-o", "o.mkv", "--device", "cpu"))
    shell = ["sh", "-c", f"{words} {closed}; echo $?"]
    for expected in ("0", "1"):  # then the output exists
        done = subprocess.run(
            shell, cwd=tmp_path, capture_output=True, text=True, timeout=180, check=True
        )
        assert done.stdout.split()[-1] == expected
        assert "Traceback" not in done.stderr
    assert len(decode(tmp_path / "o.mkv")) == len(decode(clip))


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_an_interrupt_leaves_a_playable_part(
    number: str, run: Run, tmp_path: Path
) -> None:
    """A kill cannot be caught; the next conversion removes what it leaves."""
    frames = [np.full((48, 64, 3), 60, np.uint8)] * 3000
    clip = make_clip(tmp_path / "in.mp4", frames, options={"preset": "ultrafast"})
    with subprocess.Popen(
        command("convert", clip, "-o", tmp_path / "out.mkv", "--device", "cpu"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # Else a run of these tests under nohup would go on here.
        preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),
    ) as process:  # fmt: skip
        try:
            deadline = time.monotonic() + 180
            while names(tmp_path) == {"in.mp4"}:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            time.sleep(1)
            process.send_signal(getattr(signal, number))
            out, err = process.communicate(timeout=180)
        finally:
            process.kill()
    if number == "SIGKILL":
        (hidden,) = names(tmp_path) - {"in.mp4"}
        *_, err = run("convert", clip, "-o", tmp_path / "out.mkv", "--limit", "2")
        assert f"removed what a killed conversion had left: {hidden}" in err
        assert names(tmp_path) == {"in.mp4", "out.mkv"}
        return
    assert (process.returncode, out) == (130, "")
    assert (err[:9], err.count("\n")) == ("rematte: ", 1)
    assert names(tmp_path) == {"in.mp4", "out.partial.mkv"}
    found = times(tmp_path / "out.partial.mkv")
    assert 0 < len(found) < 3000
    assert found[-1] == pytest.approx(Fraction(len(found) - 1, 25), abs=1e-3)


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX")
@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT", "SIGTERM"])
def test_two_signals_at_once_interrupt_once(
    name: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell and the system each send SIGHUP; the second may come while saving."""
    number = getattr(signal, name)

    def interrupted(options: object) -> int:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        signal.raise_signal(number)
        monkeypatch.setattr("rematte.cli.app._SETTLING", 0)  # later, the user insists
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        return 0

    monkeypatch.setattr(doctor, "run", interrupted)
    usual = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
    before = signal.signal(number, usual)
    try:
        assert run("doctor")[0] == 0
        assert signal.getsignal(number) == usual
    finally:
        signal.signal(number, before)


INSISTING = """
import signal, sys, threading, time
from rematte.cli import app

def run(options):
    threading.Thread(target=time.sleep, args=(60,)).start()
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.raise_signal(signal.SIGINT)

app._SETTLING, app.doctor.run, sys.argv[1:] = 0, run, ["doctor"]
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(app.main())
"""
WHILE_IMPORTED = """
import sys

class Interrupt:
    def find_spec(self, name, *more):
        if name == "rematte.cli.parser":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
import rematte.cli
"""
WHILE_PARSED = """
import sys
from rematte.cli import app

def interrupt():
    raise KeyboardInterrupt

app.build_parser = interrupt
sys.exit(app.main())
"""


@pytest.mark.parametrize("code", [INSISTING, WHILE_IMPORTED, WHILE_PARSED])
def test_an_interrupt_at_any_moment_is_one_line_and_the_end(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "rematte: interrupted\n"


def test_an_error_of_live_has_a_line_of_its_own(
    run: Run, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rate, which has no end of line on a terminal, is erased without escapes."""

    def broken(*args: object, report: Callable[[LiveReport], None], **how: Any) -> None:
        report(LiveReport())
        raise OutputError("-: broken")

    monkeypatch.setattr("rematte.live.run.live", broken)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    code, _, err = run("live", "camera", "--device", "cpu")
    assert (code, err.split("\r")[-1]) == (1, "rematte: -: broken\n")
    assert "\x1b" not in err
