"""SMPTE timecode: parsing, counting with drop frame, moving, converting; in files."""

import struct
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from clips import encode_image, make_clip
from fakes import convert, convert_in_parts
from hypothesis import given
from hypothesis import strategies as st

from rematte.video import exr
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader
from rematte.video.timecode import Timecode, find_timecode

FILM, NTSC = Fraction(24000, 1001), Fraction(30000, 1001)
Write = Callable[..., Path]
DAY = 24 * 60 * 60
# Rate, and whether frames are dropped.
KINDS = [
    *((Fraction(count), False) for count in (24, 25, 30, 48, 50, 60, 100, 120)),
    *((rate, False) for rate in (FILM, NTSC, 2 * NTSC)),
    *((rate, True) for rate in (NTSC, 2 * NTSC, 4 * NTSC)),
]
kinds = st.sampled_from(KINDS)


def code(number: int, kind: tuple[Fraction, bool]) -> Timecode:
    return Timecode(number, *kind, Fraction(0))


def parsed(text: str, rate: Fraction) -> Timecode | None:
    return Timecode.parse(text, rate, Fraction(0))


@given(kinds, st.integers(0, DAY * 24))
def test_a_label_says_which_frame_it_is(kind: tuple[Fraction, bool], n: int) -> None:
    label = str(code(n, kind))
    again = parsed(label, kind[0])
    assert (str(again), again.drop, again.rate) == (label, kind[1], kind[0])
    count = round(kind[0])
    day = DAY * count - (count // 15 * (24 * 54) if kind[1] else 0)
    assert again.number == n % day
    hours, minutes, seconds, frames = again.fields()
    assert (hours < 24, minutes < 60, seconds < 60, frames < count) == (True,) * 4


@given(kinds, st.integers(0, DAY * 30))
def test_labels_follow_one_another(kind: tuple[Fraction, bool], n: int) -> None:
    """By one, but that drop frame leaves out two of 30 as a minute begins."""
    (*before, a), (*after, b) = (code(m, kind).fields() for m in (n, n + 1))
    count = round(kind[0])
    if before == after:
        assert b == a + 1
    else:
        new_minute = after[2] == 0 and after[1] % 10 != 0
        assert (a, b) == (count - 1, count // 15 if kind[1] and new_minute else 0)


@given(kinds, st.integers(0, 10**6), st.integers(-(10**5), 10**5))
def test_moving_adds_frames(kind: tuple[Fraction, bool], n: int, by: int) -> None:
    moved = code(n, kind).at(by / kind[0])
    assert moved == Timecode(n + by, *kind, by / kind[0])
    assert code(n, kind).at(Fraction(round(1000 * moved.time), 1000)).number == n + by


@given(kinds, kinds, st.integers(0, 10**6))
def test_another_rate_keeps_the_time_of_day(
    kind: tuple[Fraction, bool], other: tuple[Fraction, bool], n: int
) -> None:
    before = code(n, kind)
    after = before.converted(other[0])
    assert after.count == round(other[0])
    assert before.fields()[:3] == after.fields()[:3]
    off = Fraction(before.fields()[3], before.count)
    late = off - Fraction(after.fields()[3], after.count)
    assert late < Fraction(1, after.count)
    assert late >= (0 if not after.drop else -Fraction(1, 15))


@pytest.mark.parametrize(("text", "rate", "frames", "expected"), [
    ("00:59:59;20", NTSC, 10, "01:00:00;00"),
    ("00:00:59;29", NTSC, 1, "00:01:00;02"),
    ("00:09:59;29", NTSC, 1, "00:10:00;00"),
    ("00:00:59;59", 2 * NTSC, 1, "00:01:00;04"),
    ("00:00:59:29", NTSC, 1, "00:01:00:00"),
    ("23:59:59:24", Fraction(25), 1, "00:00:00:00"),
    ("23:59:59;29", NTSC, 1, "00:00:00;00"),
    ("00:01:00;00", NTSC, 0, "00:01:00;02"),  # a label that does not exist
    ("10:00:00.10", NTSC, 0, "10:00:00;10"),
    ("10:00:00,10", NTSC, 0, "10:00:00;10"),
    ("01:00:00;10", Fraction(25), 0, "01:00:00:10"),  # there is no drop frame at 25
    ("01:00:00;10", Fraction(299, 10), 0, "01:00:00;10"),  # a phone's average
])  # fmt: skip
def test_known_ones(text: str, rate: Fraction, frames: int, expected: str) -> None:
    start = parsed(text, rate)
    assert str(start.at(frames / start.rate)) == expected


@pytest.mark.parametrize(("text", "rate"), [
    ("", 25), ("01:00:00", 25), ("24:00:00:00", 25), ("00:60:00:00", 25),
    ("00:00:60:00", 25), ("00:00:00:25", 25), ("aa:00:00:00", 25),
    ("00:00:00:00", Fraction(1, 3)), ("-1:00:00:00", 25),
])  # fmt: skip
def test_what_is_no_timecode(text: str, rate: int | Fraction) -> None:
    assert parsed(text, Fraction(rate)) is None


# In files


def stamp(source: Path, text: str, name: str = "in.mov", file: bool = False) -> Path:
    """Copy a clip into a file that has a timecode: in a track's tags, or in its own."""
    target = source.with_name(name)
    with av.open(str(source)) as a, av.open(str(target), "w") as b:
        copies = {s.index: b.add_stream_from_template(s) for s in a.streams}
        holder = b if file else copies[a.streams.video[0].index]
        holder.metadata["timecode"] = text
        for packet in a.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                b.mux(packet)
    return target


def read(path: Path) -> set[str]:
    """All timecodes that the tags of a file say."""
    with av.open(str(path)) as container:
        holders = [container, *container.streams]
        tags = [tag for holder in holders for tag in holder.metadata.items()]
        return {value for name, value in tags if name.lower() == "timecode"}


@pytest.fixture
def clip(tmp_path: Path) -> Write:
    """Writes a clip of 20 frames with AAC sound, which begins before the picture."""

    def write(rate: Fraction = NTSC, **kwargs: Any) -> Path:
        given = {"sound": True, "time_base": 1 / rate, "size": (32, 24)}
        given |= {"options": {"bf": "0"}, **kwargs}
        return make_clip(tmp_path / "in.mp4", 20, rate=rate, **given)

    return write


@pytest.mark.parametrize(("rate", "text", "start", "expected"), [
    (NTSC, "00:00:59;20", None, "00:00:59;20"),
    (NTSC, "00:00:59;20", "0.4", "00:01:00;03"),  # 11 frames are left out
    (2 * NTSC, "00:00:59;50", "0.2", "00:01:00;05"),
    (FILM, "23:59:59:23", "0.05", "00:00:00:00"),
    (Fraction(25), "10:00:00:00", "0.4", "10:00:00:10"),
])  # fmt: skip
def test_a_file_keeps_its_timecode(
    rate: Fraction, text: str, start: str | None, expected: str, clip: Write,
    tmp_path: Path,
) -> None:  # fmt: skip
    source = stamp(clip(rate), text)
    assert read(source) == {text}
    outputs: dict[str, Any] = {
        "output": "a.mov", "output_alpha": "b.mp4", "output_foreground": "c.m4v",
        "output_composition": "d.mkv", "output_plate": "e.webm",
    }  # fmt: skip
    outputs = {kind: tmp_path / name for kind, name in outputs.items()}
    for way in (convert, partial(convert_in_parts, segment=6)):
        report = way(source, start=start, **outputs)
        for out in outputs.values():
            assert read(out) == {expected}
            out.unlink()
        assert not any("timecode" in note for note in report.notes)


@pytest.mark.parametrize("suffix", [".gif", ".apng", ".png"])
def test_what_has_no_field_is_noted(suffix: str, clip: Write, tmp_path: Path) -> None:
    source = stamp(clip(), "00:00:59;20")
    out = tmp_path / ("a%02d.png" if suffix == ".png" else f"a{suffix}")
    report = convert(source, output_alpha=out)
    assert (
        f"{out.name}: timecode 00:00:59;20 (29.97 frames/s) is left out: {suffix} has "
        "no field for it"
    ) in report.notes


def test_the_tag_of_a_file_is_counted_too(clip: Write, tmp_path: Path) -> None:
    source = stamp(clip(Fraction(25)), "01:00:00:00", "in.mkv", file=True)
    out = tmp_path / "out.mkv"
    convert(source, output_alpha=out, start=0.2)
    assert read(out) == {"01:00:00:05"}


def test_the_timecode_of_pictures(tmp_path: Path) -> None:
    path = make_clip(
        tmp_path / "in.ts", 8, codec="mpeg2video", time_base=Fraction(1, 25),
        options={"gop_timecode": "01:02:03:04"},
    )  # fmt: skip
    with av.open(str(path)) as container:
        said = next(container.decode(video=0)).metadata["timecode"]
    with VideoReader(path) as reader:
        assert str(reader.info.timecode) == said != "00:00:00:00"


def test_zeros_in_a_picture_are_those_of_an_encoder_that_had_none() -> None:
    zeros = {"TimeCode": "00:00:00:00"}
    picture = SimpleNamespace(metadata=zeros, pts=0)
    track = SimpleNamespace(metadata=zeros)
    assert find_timecode([picture]) is None
    assert find_timecode([picture, track]) == "00:00:00:00"


def test_a_timecode_that_cannot_be_counted(clip: Write, tmp_path: Path) -> None:
    source = stamp(clip(Fraction(25)), "01:00:00:24", "in.mkv")
    report = convert(source, output_alpha=tmp_path / "a.mov", frame_rate=300)
    assert report.notes[1:] == [
        "a.mov: timecode 01:00:00:288 (300 frames/s) is left out: .mov cannot count so "
        "many"
    ]
    wrong = stamp(clip(Fraction(25)), "01:00:00:29", "wrong.mkv")
    report = convert(wrong, output_alpha=tmp_path / "b.mov")
    assert report.notes == [
        "timecode 01:00:00:29 is left out: frames cannot be counted like that at 25 "
        "frames/s"
    ]
    assert read(tmp_path / "b.mov") == set()


def test_a_varying_rate_with_drop_frame(clip: Write, tmp_path: Path) -> None:
    """Counted at the nominal rate, so that the muxer does not refuse it."""
    times = [n / NTSC for n in (*range(10), *range(13, 23))]
    source = stamp(clip(times=times), "00:00:59;20", "in.mkv")
    out = tmp_path / "out.mov"
    convert(source, output_alpha=out, start=0.44)
    assert read(out) == {"00:01:00;05"}


@pytest.mark.parametrize(("rate", "text", "labels"), [
    (NTSC, "00:00:59;27", ["00:00:59;29", "00:01:00;02", "00:01:00;03"]),
    (Fraction(50), "01:00:00:46", ["01:00:00:48", "01:00:00:49", "01:00:01:00"]),
])  # fmt: skip
def test_every_openexr_image_has_its_own(
    rate: Fraction, text: str, labels: list[str], clip: Write,
    tmp_path: Path,
) -> None:  # fmt: skip
    source = stamp(clip(rate, sound=False, aspect=Fraction(4, 3)), text)
    span = {"start": 2 / rate, "end": 5 / rate}
    convert(source, tmp_path / "once/a.%04d.exr", **span)
    convert_in_parts(source, tmp_path / "parts/a.%04d.exr", segment=2, **span)
    once, parts = (sorted((tmp_path / n).glob("*.exr")) for n in ("once", "parts"))
    assert [a.read_bytes() for a in once] == [b.read_bytes() for b in parts]
    headers = [exr.read_attributes(file.read_bytes()) for file in once]
    assert [exr.read_timecode(header, rate) for header in headers] == labels
    assert {exr.read_rate(header) for header in headers} == {rate}
    with VideoReader(tmp_path / "once") as reader:
        info = reader.info
        assert (info.rate, str(info.timecode)) == (rate, labels[0])
        assert info.sample_aspect_ratio == Fraction(4, 3)
        assert len(list(reader)) == 3
    out = tmp_path / "again.mov"
    convert(tmp_path / "once", output=out)
    assert read(out) == {labels[0]}


@pytest.mark.parametrize("mark", [">", "<"])
def test_dpx_images_are_read_with_their_timecode(mark: str, tmp_path: Path) -> None:
    """FFmpeg writes a short header without it, so the long one is made here."""
    picture = np.random.default_rng(3).integers(0, 256, (48, 64, 3), np.uint8)
    file = encode_image("dpx", picture)
    order = ">" if file.startswith(b"SDPX") else "<"
    (begin,) = struct.unpack_from(f"{order}I", file, 4)
    header = bytearray(file[:begin] + bytes(2048 - begin))
    for at, value in ((4, 2048), (16, len(file) + 2048 - begin), (1920, 0x01020310)):
        struct.pack_into(f"{order}I", header, at, value)
    if mark != order:  # the other order of bytes, for the fields that are read
        header[:4] = b"XPDS" if mark == "<" else b"SDPX"
        for at in (4, 16, 24, 772, 776, 1920):
            header[at : at + 4] = header[at : at + 4][::-1]
        for at in (768, 770, 804, 806):
            header[at : at + 2] = header[at : at + 2][::-1]
    (tmp_path / "in").mkdir()
    for number in (1001, 1002):
        data = bytes(header) + file[begin:]
        (tmp_path / f"in/a.{number}.dpx").write_bytes(data)
    with VideoReader(tmp_path / "in", ReadOptions(frame_rate=Fraction(24))) as reader:
        assert str(reader.info.timecode) == "01:02:03:10"
        assert reader.info.colour.transfer == 2
        assert [np.array_equal(f.pixels, picture) for f in reader] == [True, True]


@given(st.binary(max_size=300), st.booleans())
def test_a_damaged_header_says_less_or_nothing(data: bytes, exr_like: bool) -> None:
    file = b"\x76\x2f\x31\x01\x02\0\0\0" * exr_like + data
    found = exr.read_attributes(file)
    assert exr.read_rate(found) is None or exr_like
    exr.read_timecode(found, NTSC)
