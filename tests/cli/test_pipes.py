"""The standard input and output, named pipes, and links as outputs."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, make_clip
from fakes import (
    Fake,
    colours,
    convert,
    convert_in_parts,
    decode,
    names,
    read,
)
from PIL import Image

from rematte.cli import app as cli
from rematte.conversion.pipes import Piped, through_files
from rematte.errors import InputError, OutputError
from rematte.video.opening import open_input

RATIO = ("--downsample-ratio", "1")
Captured = pytest.CaptureFixture[bytes]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield
    assert [*temporary.iterdir()] == []
    assert not Path("-").exists()


def clip(name: str) -> Path:
    return make_clip(Path(name), colours(3), sound=True)


def feed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


# What is read and what is written do not know of each other: each is tried once.
@pytest.mark.parametrize(
    ("source", "kind"),
    [
        *(("in.mkv", kind) for kind in (None, "mkv", "webm", "mov", "mp4", "nut")),
        *(("in.nut", "gif"), ("in.ts", "mkv"), ("in.mp4", None)),
    ],
)
def test_from_standard_input_to_standard_output(
    source: str, kind: str | None, fake: Fake, monkeypatch: pytest.MonkeyPatch,
    capfdbinary: Captured,
) -> None:  # fmt: skip
    feed(monkeypatch, clip(source).read_bytes())
    format_ = ("--format", kind) if kind else ()
    assert cli.main(["convert", "-", "-o", "-", *RATIO, *format_]) == 0
    made, said = capfdbinary.readouterr()
    assert {*Path().iterdir()} == {Path(source)}
    target = Path(f"got.{kind or 'mkv'}")
    target.write_bytes(made)
    assert len(decode(target)) == 3
    with open_input(target) as container:
        assert len(container.streams.audio) == (kind != "gif")
    assert b"note: the standard input was copied to a temporary file" in said
    assert b"output: -" in said


def test_words_for_programs_go_to_stderr(fake: Fake, capfdbinary: Captured) -> None:
    assert cli.main(["convert", str(clip("in.mkv")), "--alpha", "-", "--json"]) == 0
    made, said = capfdbinary.readouterr()
    assert made.startswith(b"\x1aE\xdf\xa3")
    report = json.loads(said.splitlines()[-1])
    assert report["outputs"] == {"alpha": "-"}


def read_pipe(name: str) -> tuple[threading.Thread, list[bytes]]:
    """Make a named pipe and read it in a thread; gives where the bytes will be."""
    os.mkfifo(name)
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(Path(name).read_bytes()))
    thread.start()
    return thread, got


def test_through_named_pipes(run: Run, fake: Fake) -> None:
    content = clip("in.mkv").read_bytes()
    os.mkfifo("from")
    writing = threading.Thread(target=lambda: Path("from").write_bytes(content))
    writing.start()
    reading, got = read_pipe("to.webm")
    code, out, err = run("convert", "from", "-o", "to.webm", *RATIO, "--workers", "1")
    assert code == 0
    assert "output: to.webm" in out
    assert "note: from was copied to a temporary file" in err
    assert "note: to.webm: sound" in err
    writing.join(60)
    reading.join(60)
    Path("got.webm").write_bytes(got[0])
    assert len(decode(Path("got.webm"))) == 3
    assert Path("to.webm").is_fifo()


def test_a_named_pipe_of_no_format_gets_matroska(run: Run, fake: Fake) -> None:
    clip("in.mkv")
    reading, got = read_pipe("to.fifo")
    code, _, err = run("convert", "in.mkv", "-o", "to.fifo", *RATIO)
    assert code == 0
    assert "note: to.fifo: Matroska is sent, since .fifo is no format" in err
    reading.join(60)
    assert got[0].startswith(b"\x1aE\xdf\xa3")


def test_raw_video_comes_and_goes_exactly(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, capfdbinary: Captured
) -> None:
    frames = [np.full((31, 45, 3), (9 * n, 120, 250), np.uint8) for n in range(5)]
    feed(monkeypatch, b"".join(frame.tobytes() for frame in frames))
    raw = ("--raw-input", "45x31", "--frame-rate", "24000/1001", "--format", "rgba")
    assert cli.main(["convert", "-", "-o", "-", "--region", "full", *RATIO, *raw]) == 0
    made, _ = capfdbinary.readouterr()
    got = np.frombuffer(made, np.uint8).reshape(5, 31, 45, 4)
    video = make_clip(Path("in.mkv"), frames, codec="ffv1", pix_fmt="bgr0", options={})
    convert(video, "out.mkv", codec="ffv1", edge_colour="clean", warmup="auto")
    true = [frame.pixels for frame in read("out.mkv", alpha=True)]
    assert np.array_equal(got, np.stack(true))
    assert got[..., 3].min() < 255


@pytest.mark.parametrize(
    ("words", "content", "text"),
    [
        (["--raw-input", "4x2"], b"", "--raw-input needs --frame-rate"),
        (["--raw-input", "4x2", "--frame-rate", "5"], b"", "no frame came"),
        (["--raw-input", "4x2", "--frame-rate", "5"], b"1" * 30, "frame 1 has 6 of 24"),
        (["--format", "rgb24"], b"", "rgb24 has no alpha"),
        (["--format", "gray"], b"", "gray has no colours"),
    ],
)
def test_raw_video_that_does_not_fit_is_one_line(
    words: list[str], content: bytes, text: str, run: Run, monkeypatch: Any
) -> None:
    feed(monkeypatch, content)
    code, out, err = run("convert", "-", "-o", "-", *words)
    assert code in (2, 3)
    assert (out, len(err.splitlines())) == ("", 1)
    assert text in err


def test_between_real_ffmpegs_no_frame_is_lost(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, capfdbinary: Captured
) -> None:
    """Raw RGB24 and NUT in, raw RGBA and NUT out."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("the program ffmpeg is not installed")
    source = "ffmpeg -v error -f lavfi -i testsrc=s=64x48:r=25:d=0.48"
    raw = "--raw-input 64x48 --frame-rate 25 --format rgba"
    for made, words, taken in (
        ("-c:v ffv1 -f nut", "--format nut", ""),
        ("-f rawvideo -pix_fmt rgb24", raw, "-f rawvideo -pix_fmt rgba -s 64x48 -r 25"),
    ):
        feed(monkeypatch, ffmpeg(f"{source} {made} -"))
        command = f"convert - -o - -q --downsample-ratio 1 {words}"
        assert cli.main(command.split()) == 0
        sent, said = capfdbinary.readouterr()
        assert said == b""
        sink = f"ffmpeg -v error {taken} -i - -f rawvideo -pix_fmt rgba -"
        assert len(ffmpeg(sink, sent)) == 12 * 64 * 48 * 4


def ffmpeg(command: str, given: bytes = b"") -> bytes:
    """Run the program with what it reads; gives what it writes."""
    done = subprocess.run(command.split(), input=given, capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout


def test_a_device_as_output(run: Run, fake: Fake) -> None:
    clip("in.mkv")
    assert run("convert", "in.mkv", "-o", "/dev/null", "-q", *RATIO) == (0, "", "")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ("convert - -o -", 3, "-: not a video or image that FFmpeg can read"),
        ("convert - -o out.mp4", 3, "-: not a video or image that FFmpeg can read"),
        ("convert - -o - --alpha -", 2, "-: only one output can go there"),
        ("convert - -o out.mov --resume", 2, "--resume needs files"),
        ("convert in.mkv -o - --resume", 2, "--resume needs files"),
        ("convert in.mkv -o out.mov --format mkv", 2, "--format has no effect without"),
        ("convert in.mkv -o - --format jpg", 2, "- is one image"),
        ("convert in.mkv -o a --background -", 2, "background '-' is neither"),
        ("convert in.mkv -o a.mp4 --background pipe", 3, "pipe: not a file"),
        ("convert in.mkv -o ./-", 1, "- is the standard output"),
        ("batch - -o out", 2, "- is the standard input or output"),
        ("batch in.mkv -o -", 2, "- is the standard input or output"),
        ("batch pipe -o out", 1, ""),
    ],
)
def test_what_pipes_cannot_do(
    words: str, code: int, text: str, run: Run, fake: Fake, monkeypatch: Any
) -> None:
    clip("in.mkv")
    os.mkfifo("pipe")
    feed(monkeypatch, b"nothing that is a video")
    got, out, err = run(*words.split())
    assert (got, out if code > 1 else "") == (code, "")
    assert text in err
    assert len(err.splitlines()) == bool(text)
    assert {*Path().iterdir()} <= {Path("in.mkv"), Path("pipe"), Path("out")}


def test_from_python_a_pipe_is_no_file() -> None:
    clip("in.mkv")
    os.mkfifo("pipe")
    with pytest.raises(InputError, match="pipe: not a file"):
        convert("pipe", "o.mov")
    for target in ("-", "pipe"):
        with pytest.raises(OutputError, match=f"{target}.*`rematte convert`"):
            convert("in.mkv", target)


def test_a_reader_that_has_gone_is_one_line() -> None:
    Path("made.mkv").write_bytes(bytes(1 << 20))
    read, write = os.pipe()
    os.close(read)
    piped = Piped("x", {"output": "made.mkv"}, {"made.mkv": "-"})
    with (
        io.FileIO(write, "wb") as standard,
        pytest.raises(OutputError, match=r"^-: .*has ended \(broken pipe\)$"),
    ):
        piped.send(standard)  # type: ignore[arg-type]


def test_a_terminal_is_no_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    with pytest.raises(OutputError, match="terminal"), through_files("x", {"a": "-"}):
        pass


def test_messages_may_go_to_a_terminal_beside_a_pipe(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, capfdbinary: Captured
) -> None:
    clip("in.mkv")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert cli.main(["convert", "in.mkv", "-o", "-", *RATIO]) == 0
    assert capfdbinary.readouterr().out


def wait_for(met: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not met():
        assert time.monotonic() < end
        time.sleep(0.1)


def _start(*words: str, stdout: int = subprocess.PIPE) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "rematte", *words]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2]),
             "TMPDIR": tempfile.gettempdir()},
    )  # fmt: skip


def test_the_command_itself(tmp_path: Path) -> None:
    """Bytes go through; a closed output, a lost reader and Ctrl-C are one line."""
    video = clip("in.mkv").read_bytes()
    with _start("convert", "-", "-o", "-", "-q", *RATIO) as whole:
        made, said = whole.communicate(video, timeout=120)
    assert (whole.returncode, said) == (0, b"")
    Path("got.mkv").write_bytes(made)
    assert len(decode(Path("got.mkv"))) == 3

    words = [sys.executable, "-m", "rematte", "convert", "got.mkv", "-o", "-", *RATIO]
    closed = ["sh", "-c", '"$@" >&-', "sh", *words]
    done = subprocess.run(closed, check=False, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (
        1, b"rematte: -: the standard output is closed; send it to a program\n"
    )  # fmt: skip

    reader, writer = os.pipe()
    os.close(reader)
    with _start("weights", "list", stdout=writer) as lost:
        os.close(writer)
        _, said = lost.communicate(timeout=60)
    assert (lost.returncode, len(said.splitlines())) == (1, 1)
    assert b"broken pipe" in said

    with _start("convert", "-", "-o", "-", "-q", *RATIO) as stopped:
        stopped.stdin.write(video)
        stopped.stdin.flush()
        wait_for(lambda: any(Path(tempfile.gettempdir()).glob("rematte-*/input")))
        stopped.send_signal(signal.SIGINT)
        assert stopped.wait(60) == 130
        assert stopped.communicate() == (b"", b"rematte: interrupted\n")


def test_an_output_that_is_a_link_writes_to_its_target() -> None:
    clip("in.mkv")
    Path("disk").mkdir()
    Path("disk/real.data").write_bytes(b"before")
    Path("cut.mov").symlink_to("disk/real.data")
    with pytest.raises(OutputError, match=r"real\.data exists"):
        convert("in.mkv", "cut.mov", overwrite=False)
    for way in (convert, convert_in_parts):
        way("in.mkv", "cut.mov")
        assert Path("cut.mov").is_symlink()
        assert len(decode(Path("cut.mov"))) == 3
        assert [*Path("disk").iterdir()] == [Path("disk/real.data")]
        Path("disk/real.data").write_bytes(b"before")
    assert names(Path()) == {"in.mkv", "disk", "cut.mov"}


def test_links_of_all_kinds() -> None:
    clip("in.mkv")
    Image.fromarray(colours(1)[0]).save("in.png")
    Path("disk/folder").mkdir(parents=True)
    Path("dangling.mov").symlink_to("disk/new.mov")
    Path("lost.mov").symlink_to("nowhere/new.mov")
    Path("loop.mov").symlink_to("loop.mov")
    Path("folder").symlink_to("disk/folder")
    Path("later").symlink_to("disk/later")
    Path("still.png").symlink_to("disk/photo")
    Path("disk/folder/0001.png").symlink_to("../one.png")
    convert("in.mkv", "dangling.mov", overwrite=False)
    assert len(decode(Path("disk/new.mov"))) == 3
    with pytest.raises(OutputError, match=r"^lost\.mov: folder .*nowhere does not"):
        convert("in.mkv", "lost.mov")
    with pytest.raises(OutputError, match=r"^loop\.mov: a link that leads to itself"):
        convert("in.mkv", "loop.mov")
    with pytest.raises(InputError, match=r"^loop\.mov: no such file"):
        convert("loop.mov", "o.mov")
    for name in ("folder", "later"):
        convert("in.mkv", name)
        assert Path(name).is_symlink()
    assert names(Path("disk/later")) == {"0000.png", "0001.png", "0002.png"}
    assert Path("disk/folder/0001.png").is_symlink()
    assert Path("disk/one.png").is_file()
    convert("in.png", "still.png")
    assert Path("still.png").is_symlink()
    assert Path("disk/photo").read_bytes().startswith(b"\x89PNG")
    Path("same.mkv").symlink_to("in.mkv")
    with pytest.raises(ValueError, match="is the input itself"):
        convert("in.mkv", "same.mkv")
