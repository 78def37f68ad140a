"""Names are files, and files are what they are: no name is an address or a pattern."""

import ast
import os
import re
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import Refused, Run, make_clip
from fakes import Fake, colours, convert, convert_in_parts, decode, read, read_all
from PIL import Image

import rematte
from rematte.errors import InputError
from rematte.options import Options
from rematte.video.opening import Limits, open_input, video_stream
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader
from rematte.workers.jobs import run as run_batch
from rematte.workers.planning import find_inputs, plan

PACKAGE = Path(rematte.__file__).parent
pytestmark = pytest.mark.usefixtures("here")

NAMES = [
    *("take:2.mp4", "2026-01-02T12:30:00.mp4", "-x.mp4", "pipe:1.mp4", "100%.mp4"),
    *("concat:a|b.mp4", "http:x.mp4", "data:,x.mp4", "a%03d.mp4", "a?b#c.mp4"),
    *("{a,b}*[0].mp4", "a\nb.mp4", " .mp4", "file:x.mp4", "n" * 250 + ".mp4"),
    os.fsdecode(b"\xff.mp4"),
]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "in.mp4", colours(3))


def test_files_are_opened_in_one_place() -> None:
    """Apart from the addresses of `live`, and trials that are written to nowhere."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "av.open":
                found.add(path.relative_to(PACKAGE).as_posix())
    live = {"live/sinks.py", "live/sources.py"}
    assert found == {"video/opening.py", "video/muxing.py", *live}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_file_whatever_it_looks_like(name: str, clip: Path) -> None:
    clip.rename(name)
    assert convert(name, "cut.mov").frames == 3
    target = f"o{name}"[:250] + ".mp4"
    convert(name, target, background=name)
    Path("made").mkdir()
    made = Path("made", name)
    convert("cut.mov", made)
    assert [*Path("made").iterdir()] == [made]
    assert len(decode(made.absolute())) == 3


def test_long_names_that_differ_at_the_end_stay_apart(clip: Path) -> None:
    long = "\u9577" * 70
    for name in ("", long):
        convert(clip, f"{name}a.mkv", output_alpha=f"{name}b.mkv")
    for end in ("a.mkv", "b.mkv"):
        pair = zip(decode(Path(end)), decode(Path(f"{long}{end}")), strict=True)
        assert all(np.array_equal(one, other) for one, other in pair)
    names = {"in.mp4", *(f"{name}{end}.mkv" for name in ("", long) for end in "ab")}
    assert {path.name for path in Path().iterdir()} == names


@pytest.mark.parametrize("name", NAMES)
def test_batch_and_segments_take_the_same_names(name: str, clip: Path) -> None:
    Path("in").mkdir()
    clip.rename(Path("in", name))
    jobs = plan(find_inputs(["in"]), {"output": "out"}, ".mov")
    (job,) = run_batch(jobs, Fake, Options(downsample_ratio=1))
    assert (job.error, job.frames) == ("", 3)
    assert convert_in_parts(Path("in", name), name).frames == 3


@pytest.mark.parametrize("name", ["a%03d.png", "100%.png", "*.png", "a[0-9].png"])
def test_an_image_is_that_very_file(name: str) -> None:
    for other in ("a000.png", "a001.png"):
        Image.new("RGB", (16, 16)).save(other)
    Image.new("RGB", (16, 16), (200, 200, 200)).save(name)
    assert read(name)[0].pixels.mean() == pytest.approx(200, abs=1)


def test_names_after_two_dashes(run: Run, fake: Fake, clip: Path) -> None:
    clip.rename("-x.mp4")
    assert run("convert", "-o=-y.mov", "-q", "--", "-x.mp4") == (0, "", "")
    assert len(decode(Path("-y.mov").absolute())) == 3


LISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\npart.ts\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile part.ts\n",
    "dash": '<?xml version="1.0"?>\n<MPD></MPD>\n',
    "sdp": "v=0\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
}


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("name", ["x.mp4", "x.m3u8", "x.mov", "x.ts", "x.bin", "x.png"])
def test_a_list_is_refused_under_any_name(kind: str, name: str, clip: Path) -> None:
    Path(name).write_text(LISTS[kind], "utf-8")
    # Of images, FFmpeg takes the suffix for the format before it looks for a list.
    text = rf"^{name}: .*({kind}|not a readable image)"
    for source, background in ((name, None), (clip, name)):
        with pytest.raises(InputError, match=text):
            convert(source, "y.mp4", background=background)
    with pytest.raises(InputError, match=text):
        convert_in_parts(name, "y.mov", workers=2)
    assert {*Path().iterdir()} == {Path(name), Path(clip.name)}


@pytest.mark.parametrize(("kind", "name"), [("hls", "x.m3u8"), ("concat", "x.txt")])
def test_lists_of_local_files_are_read_where_allowed(kind: str, name: str) -> None:
    make_clip(Path("part.ts"), colours(3))
    Path(name).write_text(LISTS[kind], "utf-8")
    for way in (convert, convert_in_parts):
        assert way(name, "y.mov", allow_lists=True).frames == 3


@pytest.mark.parametrize(
    "entry", ["http://127.0.0.1:9/part.ts", "/etc/passwd", "pipe:0"]
)
@pytest.mark.parametrize(("kind", "name"), [("hls", "x.m3u8"), ("concat", "x.txt")])
def test_lists_of_anything_else_never_are(kind: str, name: str, entry: str) -> None:
    make_clip(Path("part.ts"), colours(3))
    Path(name).write_text(LISTS[kind].replace("part.ts", entry), "utf-8")
    with pytest.raises(InputError, match=f"^{re.escape(name)}: "):
        convert(name, "y.mov", allow_lists=True)


SVG = '<svg xmlns="http://www.w3.org/2000/svg"/>'
OWN_LINES = {
    "x.mp4": r"ends in \.m3u8; rename it",
    "x.svg": "SVG is a drawing; export it as PNG",
    "x.webp": r"an animated WebP, which FFmpeg can decode from 9 on \(PyAV 19\)",
}


@pytest.mark.parametrize("name", OWN_LINES)
def test_what_only_ffmpeg_cannot_read_gets_a_line_of_its_own(name: str) -> None:
    first, second = map(Image.fromarray, colours(2))
    first.save("x.webp", save_all=True, append_images=[second])
    Path("x.svg").write_text(SVG)
    if name == "x.webp" and "webp_anim" in av.formats_available:
        convert(name, "y.mov")
        assert len(decode(Path("y.mov"))) == 2
        return
    Path("x.mp4").write_text(LISTS["hls"])  # which it reads under its own name alone
    with pytest.raises(InputError, match=rf"^{name}: .*{OWN_LINES[name]}"):
        convert(name, "y.mov", allow_lists=True)


def _png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes((1 + 3 * width) * min(height, 64)))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data
        + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )  # fmt: skip


@pytest.mark.parametrize(
    ("width", "height", "limits", "allowed"),
    [
        (16000, 16000, Limits(), "150000000 pixels and 16384 a side"),
        (20000, 100, Limits(), "150000000 pixels and 16384 a side"),
        (64, 64, Limits(4095), "4095 pixels"),
        (1280, 64, Limits(4095), "4095 pixels"),
        (4000, 4000, Limits(4095), "4095 pixels"),
    ],
)
def test_frames_that_are_too_large_are_not_decoded(
    width: int, height: int, limits: Limits, allowed: str
) -> None:
    Path("x.png").write_bytes(_png(width, height))
    text = rf"^x\.png: its frames have {width}x{height} pixels, and at most {allowed} "
    with pytest.raises(InputError, match=text):
        VideoReader("x.png", ReadOptions(limits=limits))


def test_more_pixels_are_allowed_where_asked_for(
    run: Run, refused: Refused, fake: Fake
) -> None:
    Image.new("RGB", (16400, 2)).save("x.png")
    words = ("convert", "x.png", "-o", "y.png", "-q", "--downsample-ratio", "1")
    assert "--max-pixels" in refused(3, *words)
    assert run(*words, "--max-pixels", "40000") == (0, "", "")


@pytest.mark.parametrize(("kind", "what"), [(b"iCCP", "profile"), (b"zTXt", "text")])
def test_what_png_packs_fills_no_memory(kind: bytes, what: str, tmp_path: Path) -> None:
    for megabytes in (3, 5):
        packed = b"x\0\0" + zlib.compress(bytes(megabytes << 20))
        Path("x.png").write_bytes(_png(64, 64, (kind, packed)))
        frames, notes = read_all("x.png")
        assert (len(frames), len(notes)) == (1, megabytes == 5), notes
        notes = []
        with open_input(tmp_path / "x.png", notes=notes) as container:
            assert video_stream(container, Path("x.png")).width == 64
        assert [what in note for note in notes] == [True] * (megabytes == 5)


def test_large_frames_are_decoded_one_at_a_time(monkeypatch: Any) -> None:
    shutil.copy(make_clip(Path("in.mp4"), colours(3)), "x.mp4")
    monkeypatch.setattr("rematte.video.opening._LARGE", 100)
    with open_input(Path("x.mp4")) as container:
        assert video_stream(container, Path("x.mp4")).thread_type.name == "SLICE"
        assert sum(isinstance(f, av.VideoFrame) for f in container.decode(video=0)) == 3
