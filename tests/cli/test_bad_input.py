"""Bad input through the command line: one line with a remedy, nothing left, no harm."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clips import encode_image, make_clip, make_sound, noise
from conftest import Refused, Run
from fakes import Fake, colours, contents, decode, names, open_image
from PIL import Image

Make = Callable[[Path], Path]

KINDS = {
    "output": ["-o", "cut.mov"],
    "video": ["--composition", "com.mp4"],
    "folder": ["-o", "seq"],
    "all": ["-o", "cut.webm", "--alpha", "pha", "--foreground", "fgr.mkv"],
}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands run in."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def refused(work: Path, refused: Refused) -> Refused:
    """A conversion, which must leave no trace either."""

    def without_trace(code: int, *words: str | Path) -> str:
        before = contents(work)
        line = refused(code, "convert", *words)
        assert "unexpected" not in line
        assert contents(work) == before
        return line

    return without_trace


def folder_of(**files: bytes) -> Make:
    def make(folder: Path) -> Path:
        (folder / "shots").mkdir()
        for name, data in files.items():
            (folder / "shots" / name).write_bytes(data)
        return folder / "shots"

    return make


def file_of(name: str, text: str = "") -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / name

    return make


text_as_image = file_of("in.png", "This is no image.\n" * 50)


def cut_off(suffix: str, **options: Any) -> Make:
    def make(folder: Path) -> Path:
        path = make_clip(folder / f"in{suffix}", noise(), sound=True, **options)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        return path

    return make


PNG = encode_image("png", colours(1)[0])
BROKEN = {"a.png": PNG, "b.png": PNG[:60]}
NO_IMAGES = dict.fromkeys(("notes.txt", ".hidden.png"), b"no image")
INPUTS: dict[str, tuple[Make, str]] = {
    "missing": (lambda folder: folder / "none.mp4", "check the path"),
    "empty_folder": (folder_of(), "must hold files ending in"),
    "folder_without_images": (folder_of(**NO_IMAGES), "must hold files ending in"),
    "a_broken_image": (folder_of(**BROKEN), "b.png: not a readable image"),
    "text_as_video": (file_of("in.mp4", "no video\n" * 99), "under that name"),
    "text_as_image": (text_as_image, "remove or replace it"),
    "zero_bytes": (file_of("in.mp4"), "copy it again"),
    "zero_bytes_image": (file_of("in.jpg"), "copy it again"),
    "cut_off_index_last": (cut_off(".mp4"), "cut off"),
    "cut_off_index_first": (cut_off(".mp4", faststart=True), "copy the file again"),
    "cut_off_mkv": (cut_off(".mkv"), "copy the file again"),
    "sound_only": (lambda folder: make_sound(folder / "in.m4a"), "no video in it"),
}


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", INPUTS)
def test_unreadable_input(work: Path, refused: Refused, given: str, kind: str) -> None:
    make, words = INPUTS[given]
    source = make(work)
    (work / "com.mp4").write_text("precious")
    line = refused(3, source, "-y", *KINDS[kind])
    assert words in line
    assert str(source) in line


@pytest.mark.usefixtures("fake")
def test_background_that_cannot_be_read(work: Path, refused: Refused) -> None:
    clip = make_clip(work / "in.mp4", colours())
    words = clip, "-o", "o.mp4", "--background"
    assert "remove or replace it" in refused(3, *words, text_as_image(work.parent))
    assert "no video in it" in refused(3, *words, make_sound(work.parent / "a.m4a"))


def test_names_that_are_too_long(work: Path, refused: Refused) -> None:
    make_clip(work / "in.mp4", colours())
    long = "x" * 300
    for words in ([long, "-o", "o.mp4"], ["in.mp4", "-o", f"{long}.mp4"]):
        assert "too long; use another path" in refused(1, *words)


# Strange sizes and lengths

SIZES = [(1, 1), (17, 3), (2, 2), (1, 40)]
TARGETS = ["o.mp4", "o.mov", "o.webm", "o.mkv", "o.gif", "o.webp", "o.apng", "seq"]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_tiny_videos_convert_to_everything(
    work: Path, run: Run, request: pytest.FixtureRequest, size: tuple[int, int]
) -> None:
    """The first with the network; the others, which are written alike, without."""
    source = make_clip(
        work / "in.mkv", colours(3, size), codec="ffv1", pix_fmt="bgr0",
        options={"slices": "1"},
    )  # fmt: skip
    for target in TARGETS:
        assert run("convert", source, "-o", target, "-q") == (0, "", ""), target
        request.getfixturevalue("fake")
        if target == "seq":
            assert open_image(work / "seq" / "0002.png").shape == (*size[::-1], 4)
        elif target.endswith((".gif", ".webp", ".apng")):
            with Image.open(work / target) as image:
                # libwebp shows a frame for longer where the next looks the same.
                least = 1 if target == "o.webp" else 3
                assert least <= image.n_frames <= 3  # type: ignore[attr-defined]
                assert image.size == size
        else:
            frames = decode(work / target)
            assert len(frames) == 3
            height, width = frames[0].shape[:2]
            even = target == "o.mp4"
            assert (width, height) == tuple(n + (even and n % 2) for n in size)


def test_a_ratio_that_leaves_nothing_is_explained(work: Path, refused: Refused) -> None:
    clip = make_clip(work / "in.mp4", colours(2, (32, 24)))
    line = refused(2, clip, "-o", "o.mp4", "--downsample-ratio", "0.01")
    assert "use a larger ratio" in line


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    ("target", "said"),
    [("none/o.mp4", "create it first"), ("none/seq/x", "create it first"),
     ("none/%04d.png/o.mov", "create it first"), ("in.mp4/o.mov", "in.mp4")],
)  # fmt: skip
def test_output_folder_that_is_not_there(
    work: Path, refused: Refused, target: str, said: str
) -> None:
    clip = make_clip(work / "in.mp4", colours())
    assert said in refused(1, clip, "-o", target)


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("name", ["o.mp4", "o.mkv", "o.gif", "seq", "%04d.png"])
def test_folder_that_takes_no_files(work: Path, refused: Refused, name: str) -> None:
    closed = Path("/proc/self/fdinfo")  # not even root can write there
    if not closed.is_dir():
        pytest.skip("needs /proc")
    clip = make_clip(work / "in.mp4", colours())
    line = refused(1, clip, "-y", "-o", closed / name)
    assert f"{closed / name}: " in line
    # Others than root are told before anything is tried.
    assert "cannot be written" in line or "no permission" in line
    assert "try another folder" in line


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("name", ["o.mp4", "o.mov", "seq"])
def test_disk_that_cannot_be_written(
    work: Path, closed_disk: Path, refused: Refused, name: str
) -> None:
    clip = make_clip(work / "in.mp4", colours())
    line = refused(1, clip, "-o", closed_disk / name)
    assert "no permission to write" in line


def large(folder: Path) -> Path:
    """A clip whose outputs need more than the small disk has."""
    pictures = noise(30, (128, 96))
    return make_clip(
        folder / "in.mkv", pictures, codec="ffv1", pix_fmt="bgr0", sound=True
    )


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("name", [*TARGETS, "s_%d.tif", "o.avif"])
def test_full_disk(work: Path, disk: Path, refused: Refused, name: str) -> None:
    clip = large(work)
    (disk / "o.mp4").write_text("precious")
    crf = ["--crf", "1"] if name in ("o.mp4", "o.webm") else []
    line = refused(1, clip, "-y", "-o", disk / name, *crf)
    assert "no space left on the disk; free some or write elsewhere" in line
    assert str(disk / name) in line
    assert names(disk) == {"o.mp4"}
    assert (disk / "o.mp4").read_text() == "precious"


@pytest.mark.usefixtures("fake")
def test_full_disk_leaves_no_output(work: Path, disk: Path, refused: Refused) -> None:
    clip = large(work)
    line = refused(
        1, clip, "-o", "cut.mov", "--alpha", disk / "pha.mkv", "--foreground", "fgr"
    )
    assert "no space left" in line
    assert names(disk) == set()


@pytest.mark.usefixtures("fake")
def test_interrupt_on_a_full_disk_still_ends_well(
    work: Path, disk: Path, fake: Fake, run: Run
) -> None:
    clip = large(work)
    fake.fail_at, fake.error = 8, KeyboardInterrupt()
    (disk / "filler").write_bytes(bytes(250_000))
    words = "-y", "--alpha", "pha.mkv", "--warmup", "0"
    code, _, line = run("convert", clip, "-o", disk / "o.mp4", *words)
    assert (code, line.count("\n")) == (130, 1)
    assert "pha.partial.mkv" in line
    assert len(decode(work / "pha.partial.mkv")) == 8
    assert names(work) == {"in.mkv", "pha.partial.mkv"}
    assert names(disk) <= {"filler", "o.partial.mp4"}


def test_a_picture_that_nobody_can_decode(refused: Refused, work: Path) -> None:
    data = make_clip(work / "in.mp4").read_bytes()
    at = data.index(b"avc1", data.index(b"stsd"))
    (work / "in.mp4").write_bytes(data[:at] + b"zzzz" + data[at + 4 :])
    assert "no decoder for its picture" in refused(3, "in.mp4", "-o", "o.mkv")


def test_protocols_that_pyav_lacks_go_through_another_program(
    tmp_path: Path, fake: Fake, run: Run
) -> None:
    clip = make_clip(tmp_path / "in.mp4", colours(2))
    for code, source, output in (
        (3, "none://host", tmp_path / "out.mkv"),
        (1, clip, "none://host"),
    ):
        found, _, line = run("live", source, "-o", output)
        assert (found, line.count("\n")) == (code, 1)
        assert "none://host: PyAV's FFmpeg does not have this protocol" in line
        assert "such as ffmpeg" in line
