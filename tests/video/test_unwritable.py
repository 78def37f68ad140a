"""What cannot be written, and what is there before and after a failure."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clips import noise
from fakes import as_frames, labels, names, read
from writing import info_of, label_frames, open_writer, write

from rematte.errors import OutputError
from rematte.video import codecs as formats
from rematte.video.codecs import is_nvenc, opens
from rematte.video.encoding import choose
from rematte.video.output_paths import check_target
from rematte.video.pixels import with_depth


@pytest.mark.parametrize(("name", "options", "words"), [
    ("a.mp4", {"alpha": True}, [".mov", ".webm", ".png", "background"]),
    ("a.jpg", {"alpha": True}, ["a video"]),
    ("%04d.jpg", {"alpha": True}, [".png", "transparency"]),
    ("a.mov", {"alpha": True, "codec": "h264"}, ["with this codec"]),
    ("a.xyz", {}, ["unknown suffix '.xyz'", ".mp4"]),
    ("%04d.xyz", {}, ["'.xyz'", ".png"]),
    ("a.png", {}, ["folder", "%04d.png"]),
    ("a.mp4", {"codec": "vp9"}, ["'vp9'", "h264"]),
    ("a.mp4", {"codec": "nonsense"}, ["'nonsense'", "h264"]),
    ("%04d.png", {"codec": "h264"}, ["does not apply"]),
])  # fmt: skip
def test_what_cannot_be_is_refused(name: str, options: Any, words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the words are checked)
        choose(Path(name), info_of(), **({"alpha": False} | options))
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == []


# Complete or not there


@pytest.mark.parametrize(
    "name",
    ["a.mp4", "a.mkv", "a.gif", "a.webp", "a.avif", "new/%04d.png", "new", "a.png"],
)
@pytest.mark.parametrize("count", [0, 3])
def test_nothing_has_the_final_name_before_it_is_complete(
    tmp_path: Path, name: str, count: int
) -> None:
    frames = label_frames(1 if name == "a.png" else 3)[:count]
    for finish in (False, True):
        writer, _ = open_writer(tmp_path / name, info_of(still=name == "a.png"))
        for frame in frames:
            writer.write(frame)
            assert all(".partial" in each for each in names(tmp_path))
        if finish and frames:
            writer.finish()
            assert names(tmp_path) == {Path(name).parts[0]}
        else:
            writer.discard()
            assert names(tmp_path) == set()


@pytest.mark.parametrize("suffix", [".gif", ".apng", ".avif"])
def test_an_interrupted_animation_plays(tmp_path: Path, suffix: str) -> None:
    writer, _ = open_writer(tmp_path / f"a{suffix}", info_of())
    for frame in label_frames(5):
        writer.write(frame)
    assert writer.keep_partial() == tmp_path / f"a.partial{suffix}"
    assert labels(read(tmp_path / f"a.partial{suffix}")) == [0, 1, 2, 3, 4]
    assert names(tmp_path) == {f"a.partial{suffix}"}


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_video_without_frames_is_an_error(tmp_path: Path, name: str) -> None:
    writer, _ = open_writer(tmp_path / name, info_of())
    with pytest.raises(OutputError, match="no frames"):
        writer.finish()
    writer.discard()
    assert names(tmp_path) == set()


# Where it cannot go


def test_images_need_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(OutputError, match="is a file; images need a folder"):
        check_target(tmp_path / "out", overwrite=True)
    for name in ("", "frame%04d.png"):
        with pytest.raises(OutputError, match="images need a folder of their own"):
            check_target(Path(tmp_path.anchor) / name, overwrite=False)


@pytest.mark.parametrize(
    "name", ["名" * 85, f"{'é' * 123}%04d.png"], ids=["folder", "pattern"]
)
def test_images_may_have_names_as_long_as_a_disk_allows(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path = path.with_name("new") / name if path.suffix else path
    write(path, label_frames(2))
    assert len(names(tmp_path)) == 1
    assert labels(read(path)) == [0, 1]


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
@pytest.mark.parametrize("free", [0, 4096, 8192])
def test_a_disk_that_is_full_at_the_very_end(disk: Path, name: str, free: int) -> None:
    """What is buffered until the file is closed must not be lost unnoticed."""
    (disk / "ballast").write_bytes(bytes(300 * 1024 - 4096 - free))
    writer, encoding = open_writer(disk / name, info_of())
    with pytest.raises(OutputError, match="no space left"):  # noqa: PT012
        for frame in as_frames(noise(3, (96, 64))):
            pixels = with_depth(frame.pixels, encoding.sixteen_bit)
            writer.write(replace(frame, pixels=pixels))
        writer.finish()
    writer.discard()
    assert names(disk) == {"ballast"}


@pytest.mark.parametrize("codec", [*filter(is_nvenc, formats.CODECS)])
def test_an_encoder_of_a_gpu(tmp_path: Path, codec: str) -> None:
    out, frames = tmp_path / "out.mkv", label_frames(size=(320, 240))
    if opens(codec):
        write(out, frames, codec=codec)
        assert labels(read(out)) == list(range(6))
        return
    other = codec.split("_")[0]
    with pytest.raises(OutputError, match=f"{codec} needs an NVIDIA GPU.*{other}"):
        write(out, frames, codec=codec)
    assert names(tmp_path) == set()
