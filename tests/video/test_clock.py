"""Files whose clock begins anywhere or jumps; tracks that must not stop the picture."""

from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import damage, make_clip, packets
from fakes import colours, convert, convert_in_parts, read
from hypothesis import example, given
from hypothesis import strategies as st

from rematte.video.clock import Run, undo_jumps
from rematte.video.opening import read_packets

STEP = Fraction(1, 25)


def times(path: Path, **settings: Any) -> list[Fraction]:
    return [frame.time for frame in read(path, **settings)]


def sound(path: Path) -> list[tuple[Fraction, Fraction]]:
    """Beginning and end of each packet of the sound [s]."""
    return [
        (p.pts * p.time_base, (p.pts + (p.duration or 0)) * p.time_base)
        for p in packets(path, "audio")
    ]


def samples(path: Path) -> int:
    """How much of a file's sound can be decoded."""
    with av.open(str(path)) as container:
        return sum(frame.samples for frame in container.decode(audio=0))


# The law, without files

seconds = st.fractions(0, 100, max_denominator=100)
part = st.tuples(
    st.fractions(1, 50, max_denominator=25),  # length
    st.one_of(st.fractions(11, 9000, max_denominator=9), st.none()),  # step forward
    st.fractions(-1, 1, max_denominator=90),  # how much later the sound begins
    st.booleans(),  # whether it has sound
)


@example(
    Fraction(1),
    [
        (Fraction(13), None, Fraction(0), True),
        (Fraction(1), None, Fraction(0), False),
        (Fraction(2), Fraction(11), Fraction(0), True),
    ],
)  # the sound of the first part covers the times between the others
@given(seconds, st.lists(part, min_size=1, max_size=6))
def test_a_clock_that_jumps_runs_on(
    start: Fraction, parts: list[tuple[Fraction, Fraction | None, Fraction, bool]]
) -> None:
    """The picture has no gap, and the sound of every part stays where it was."""
    picture: list[Run] = []
    sounds: list[Run] = []
    owners: list[int] = []
    for index, (length, forward, later, heard) in enumerate(parts):
        if index:  # back to the beginning, or forward
            start = picture[-1].end + forward + 2 if forward else picture[-1].start - 1
        back = bool(index) and not forward
        first = sum(run.count for run in picture)
        places = 2 * index, 2 * index + 1
        picture.append(Run(first, 10, start, start + length, back, *places))
        if heard:
            begin = start + later
            behind = bool(sounds) and begin < sounds[-1].end
            end = start + length
            sounds.append(Run(len(owners), 1, begin, end, behind, *places))
            owners.append(index)
    clock = undo_jumps({0: picture, 1: sounds}, 0, {1: Fraction(0)})
    assert len(clock.jumps) == len(parts) - 1
    if len(parts) == 1:
        assert not clock.shifts
        return
    shifts = [shift for _, shift in clock.shifts[0]]
    shown = [run.start + by for run, by in zip(picture, shifts, strict=True)]
    lengths = [run.end - run.start for run in picture]
    assert shown == [shown[0] + n for n in accumulate([Fraction(0), *lengths[:-1]])]
    if all(heard for *_, heard in parts):
        assert [shift for _, shift in clock.shifts[1]] == shifts


def test_a_hole_in_the_picture_alone_is_no_jump() -> None:
    picture = [
        Run(0, 10, STEP, 1 + STEP, opens=1, closes=20),
        Run(10, 10, Fraction(20), Fraction(21), opens=800, closes=900),
    ]
    heard = [Run(0, 900, Fraction(0), Fraction(21), opens=0, closes=901)]
    assert not undo_jumps({0: picture, 1: heard}, 0, {}).jumps


# Files


@pytest.mark.parametrize("suffix", [".ts", ".flv", ".mkv"])
def test_times_begin_at_the_first_picture_or_sound(tmp_path: Path, suffix: str) -> None:
    late = [7 + n * STEP for n in range(10)]
    path = make_clip(tmp_path / f"in{suffix}", times=late, time_base=Fraction(1, 25000))
    assert times(path) == [time - 7 for time in late]
    cut = times(path, start=3 * STEP, end=6 * STEP)
    assert cut == [3 * STEP, 4 * STEP, 5 * STEP]
    # A sound from the beginning on keeps its distance, unless it is not taken.
    both = make_clip(
        tmp_path / f"both{suffix}", times=late, time_base=Fraction(1, 25000),
        sound=True, sound_seconds=7.4,
    )  # fmt: skip
    assert float(times(both)[0]) == pytest.approx(7, abs=0.03)
    assert times(both, audio=False)[0] == 0


def test_what_a_file_states_of_opus_is_counted_once(tmp_path: Path) -> None:
    """FFmpeg writes the length of what is not heard; other programs leave it out."""
    late = [(5 + n) * STEP for n in range(5)]
    path = make_clip(
        tmp_path / "in.webm", 5, codec="libvpx-vp9", options={}, times=late,
        time_base=Fraction(1, 1000), sound=True, sound_codec="libopus",
    )  # fmt: skip
    assert times(path) == late
    data = bytearray(path.read_bytes())
    at = data.index(b"\x56\xaa\x83")  # CodecDelay, of three bytes
    data[at : at + 6] = b"\xec\x84" + bytes(4)
    other = tmp_path / "other.webm"
    other.write_bytes(data)
    assert times(other) == [time - Fraction(7, 1000) for time in late]


@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv", ".webm"])
def test_nothing_is_lost_before_zero(tmp_path: Path, suffix: str) -> None:
    origin = make_clip(tmp_path / "in.mkv", 20, codec="mpeg4", options={}, sound=True)
    early = tmp_path / "early.mkv"
    options = {"avoid_negative_ts": "disabled"}
    with av.open(str(origin)) as a, av.open(str(early), "w", options=options) as b:
        new = {each.index: b.add_stream_from_template(each) for each in a.streams}
        for packet in a.demux():
            if packet.pts is not None and packet.dts is not None:
                packet.pts -= 500
                packet.dts -= 500
                packet.stream = new[packet.stream.index]
                b.mux(packet)
    out = tmp_path / f"out{suffix}"
    convert(early, out)
    assert [float(time) for time in times(out)] == pytest.approx(
        [n / 25 for n in range(20)], abs=2e-3
    )
    assert abs(sound(out)[-1][1] - sound(origin)[-1][1]) < Fraction(1, 25)


@pytest.mark.parametrize("way", [convert, partial(convert_in_parts, segment=25)])
def test_joined_recordings_run_on_in_sync(tmp_path: Path, way: Any) -> None:
    one = make_clip(tmp_path / "one.ts", 20, sound=True)
    joined, out = tmp_path / "joined.ts", tmp_path / "out.mov"
    joined.write_bytes(3 * one.read_bytes())
    (note,) = way(joined, out).notes
    assert "clock jumps at 0.800 s, 1.600 s" in note
    assert times(joined) == times(out) == [n * STEP for n in range(60)]
    # The sound of each part lies at its picture to within half a packet.
    heard = sound(out)
    assert heard[-1][1] == pytest.approx(2.4, abs=0.015)
    assert all(abs(b[0] - a[1]) < Fraction(1, 50) for a, b in pairwise(heard))


def test_what_cannot_be_read_of_a_file_is_noted(tmp_path: Path) -> None:
    """FFmpeg ends at the second header of an FLV file without an error."""
    one = make_clip(tmp_path / "one.flv", 20)
    two = tmp_path / "two.flv"
    two.write_bytes(2 * one.read_bytes())
    assert not convert(one, tmp_path / "one.mov").notes
    (note,) = convert(two, tmp_path / "two.mov").notes
    assert "bytes of the file hold no picture" in note


def test_a_hole_in_another_format_is_kept_and_noted(tmp_path: Path) -> None:
    shown = [n * STEP for n in range(5)] + [20 + n * STEP for n in range(5)]
    path = make_clip(tmp_path / "in.mp4", times=shown)
    out = tmp_path / "out.mov"
    (note,) = convert(path, out).notes
    assert "from 0.160 to 20.000 s" in note
    assert times(out) == shown
    (again,) = convert_in_parts(path, tmp_path / "long.mov", segment=4).notes
    assert again == note


# Side tracks


@pytest.mark.parametrize("suffix", [".mov", ".mkv"])
def test_long_packets_of_pcm_are_cut_at_the_start(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as container:
        picture: Any = container.add_stream("mpeg4", rate=25, width=32, height=32)
        heard: Any = container.add_stream("pcm_s16le", rate=48000)
        ramp = np.repeat(np.arange(48000), 2).astype(np.uint16).view(np.int16)
        piece = av.AudioFrame.from_ndarray(ramp[None], "s16", "stereo")
        piece.sample_rate, piece.pts = 48000, 0
        container.mux([*heard.encode(piece), *heard.encode(None)])
        for _ in range(25):
            container.mux(picture.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(picture.encode(None))
    convert(path, tmp_path / f"out{suffix}", start="0.4")
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        first = next(container.decode(audio=0))
        assert (first.pts, first.to_ndarray()[0, 0]) == (0, 19200)


def test_a_sound_of_an_unknown_codec_is_left_out(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "in.mov", sound=["eng", "ger"])
    data = bytearray(path.read_bytes())
    at = data.rindex(b"stsd")
    data[at + 16 : at + 20] = b"zzzz"
    for name in (b"wave", b"esds", b"chan"):
        where = data.find(name, at)
        while 0 <= where < at + 400:
            data[where : where + 1] = b"x"
            where = data.find(name, where)
    path.write_bytes(data)
    (note,) = convert(path, tmp_path / "out.mov").notes
    assert "audio stream 2 (unknown) left out" in note
    assert len(sound(tmp_path / "out.mov")) > 5


@pytest.mark.parametrize("suffix", [".mov", ".mkv", ".webm"])
def test_damaged_sound_of_a_broadcast_is_left_out(tmp_path: Path, suffix: str) -> None:
    path = make_clip(tmp_path / "in.ts", 20, sound=True, sound_seconds=2)
    data = bytearray(path.read_bytes())
    # The sound has the second identifier after that of the programme.
    heard = [
        at
        for at in range(0, len(data), 188)
        if int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF == 0x101
    ]
    for at in heard[len(heard) // 2 :][:3]:
        data[at + 1] |= 0x80  # the receiver's mark for errors that it could not mend
    path.write_bytes(data)
    notes = convert(path, tmp_path / f"out{suffix}").notes
    assert any("damaged in places: left out" in note for note in notes)
    assert len(times(tmp_path / f"out{suffix}")) == 20
    assert len(sound(tmp_path / f"out{suffix}")) > 40


@pytest.mark.parametrize("codec", ["aac", "ac3", "mp2"])
def test_damaged_sound_of_any_file_is_left_out(tmp_path: Path, codec: str) -> None:
    path = tmp_path / ("in.mp4" if codec == "aac" else "in.mkv")
    make_clip(path, 20, sound=True, sound_codec=codec, sound_seconds=0.8)
    damage(path, slice(10, 13), "audio")
    (note,) = convert(path, tmp_path / "out.mov").notes
    assert "damaged in places: left out 3 packets" in note
    assert samples(tmp_path / "out.mov") > 28000


@pytest.mark.parametrize("codec", ["aac", "flac"])  # copied, and encoded again
def test_a_sound_of_which_nothing_can_be_decoded(tmp_path: Path, codec: str) -> None:
    """MOV and MP4 hold no track for it, so the second sound moves up."""
    path = tmp_path / "in.mkv"
    make_clip(path, sound=["eng", "ger"], sound_codec=codec)
    damage(path, slice(None), "audio")
    for suffix in (".mov", ".mp4"):
        notes = convert(path, tmp_path / f"out{suffix}", background="white").notes
        assert any("audio stream 1" in note and "none of its" in note for note in notes)
        assert not any("language" in note for note in notes)
        with av.open(str(tmp_path / f"out{suffix}")) as container:
            (stream,) = container.streams.audio
            assert stream.metadata["language"] == "ger"


@pytest.mark.parametrize(("given", "cut", "target", "said"), [
    ({"subtitles": [(0.7, 0.9, "words")]}, {"end": 0.4}, "out.mkv",
     "subtitle stream 1 (srt) left out: it has nothing between start and end"),
    ({"sound": True, "sound_seconds": 0}, {}, "out.mkv",
     "audio stream 1 (aac) left out: it has nothing"),
    # AC-3 without packets makes the muxer of MOV fail when it closes the file.
    ({"sound": True, "sound_seconds": 0.1, "sound_codec": "ac3"}, {"start": 0.4},
     "out.mov", "audio stream 1 (ac3) left out: it has nothing between start and end"),
])  # fmt: skip
def test_a_track_without_anything_is_noted(
    tmp_path: Path, given: dict[str, Any], cut: dict[str, Any], target: str, said: str
) -> None:
    source = make_clip(tmp_path / "in.mkv", 24, **given)
    assert convert(source, tmp_path / target, **cut).notes == [f"{target}: {said}"]


@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv"])
def test_speakers_in_an_unusual_order_are_no_harm(tmp_path: Path, suffix: str) -> None:
    """PyAV frees such an order twice; this would end the process."""
    path = tmp_path / "in.mov"
    make_clip(path, sound=True, sound_codec="pcm_s16le")
    data = bytearray(path.read_bytes())
    at = data.index(b"chan", data.rindex(b"stsd"))
    count = data.rindex(b"sowt") + 20
    data[count : count + 2] = (8).to_bytes(2, "big")
    # MPEG_7_1_C with sides before backs: kAudioChannelLayoutTag 128, 8 channels.
    data[at + 8 : at + 12] = bytes([0, 128, 0, 8])
    path.write_bytes(data)
    notes = convert(path, tmp_path / f"out{suffix}").notes
    order = "FL+FR+FC+LFE+SL+SR+BL+BR"
    said = {
        ".mov": [],
        ".mp4": [f"its speakers {order} are taken for 7.1"],
        ".mkv": [f"the order of its speakers, {order}, is lost"],
    }[suffix]
    found = [note for note in notes if "speakers" in note or order in note]
    assert len(found) == len(said)
    assert all(words in note for words, note in zip(said, found, strict=True))


def test_languages_reach_quicktime_or_are_noted(tmp_path: Path) -> None:
    languages = ["deu", "fra", "nld", "ces", "fil"]
    path = make_clip(tmp_path / "in.mkv", sound=languages)
    (note,) = convert(path, tmp_path / "out.mov").notes
    assert note == ("out.mov: audio stream 5: its language, fil, is lost: mov has no "
                    "number for it")  # fmt: skip
    with av.open(str(tmp_path / "out.mov")) as container:
        said = [stream.metadata.get("language") for stream in container.streams.audio]
    assert said[:4] == ["ger", "fra", "dut", "ces"]
    assert not any("language" in n for n in convert(path, tmp_path / "out.mp4").notes)


def test_a_rate_that_the_header_states_is_converted_with_a_note(tmp_path: Path) -> None:
    shown = [n * STEP for n in range(20) if n % 7 == 0 or n < 9]
    path = make_clip(tmp_path / "in.mkv", len(shown), times=shown)
    report = convert(path, tmp_path / "out.mov", frame_rate=25)
    assert [note for note in report.notes if "converted by time" in note]
    even = make_clip(tmp_path / "even.mkv", 20)
    assert convert(even, tmp_path / "out.mov", frame_rate=25).notes == []


def test_sound_in_nut_can_be_played(tmp_path: Path) -> None:
    """NUT does not say how long blocks of ADPCM are; FFmpeg writes it all the same."""
    path = make_clip(tmp_path / "in.avi", sound=True, sound_codec="adpcm_ms")
    (note,) = convert(path, tmp_path / "out.nut").notes
    assert "sound encoded again as pcm_s24le: nut cannot hold adpcm_ms" in note
    assert samples(tmp_path / "out.nut") > 19000


def test_sensor_data_of_a_camera_is_noted(tmp_path: Path) -> None:
    """FFmpeg calls it "bin_data" in MP4, as it calls the track of chapters."""
    path = make_clip(
        tmp_path / "in.mp4",
        subtitles=[(0.1, 0.2, "a")],
        chapters=[(0, 0.2, "one"), (0.2, 0.4, "two")],
    )
    path.write_bytes(path.read_bytes().replace(b"tx3g", b"gpmd"))
    (note,) = convert(path, tmp_path / "out.mov").notes
    assert "data stream 1 (bin_data) left out: data is not carried over" in note
    with av.open(str(tmp_path / "out.mov")) as container:
        assert len(container.chapters()) == 2


def test_padding_is_not_noted(tmp_path: Path) -> None:
    path = make_clip(
        tmp_path / "in.mpg", 5, codec="mpeg2video", options={}, time_base=STEP
    )
    assert path.stat().st_size < 10_000
    assert convert(path, tmp_path / "out.mov").notes == []


@pytest.mark.parametrize("target", ["out.gif", "out.webp", "out.apng", "out"])
def test_what_a_picture_alone_cannot_hold_is_noted(tmp_path: Path, target: str) -> None:
    path = make_clip(
        tmp_path / "in.mkv", 3, sound=True,
        subtitles=[(0, 0.1, "words")], chapters=[(0, 0.1, "one")],
    )  # fmt: skip
    (note,) = convert(path, tmp_path / target).notes
    assert f"{target}: left out: sound, subtitles, chapters" in note
    assert "sound" not in convert(path, tmp_path / f"b{target}", audio=False).notes[0]


def test_a_second_picture_is_noted(tmp_path: Path) -> None:
    origin, two = make_clip(tmp_path / "in.mkv"), tmp_path / "two.mkv"
    with av.open(str(origin)) as a, av.open(str(two), "w") as b:
        (stream,) = a.streams
        new = [b.add_stream_from_template(stream) for _ in range(2)]
        for packet in a.demux():
            if packet.dts is None:
                continue
            for each in new:
                packet.stream = each
                b.mux(packet)
    (note,) = convert(two, tmp_path / "out.mov").notes
    assert "video stream 1 (h264, 96x64) left out" in note


def test_chapters_are_moved_by_a_start(tmp_path: Path) -> None:
    chapters = [(0, 0.2, "a"), (0.2, 0.6, "b"), (0.6, 1, "c")]
    path = make_clip(tmp_path / "in.mp4", 25, chapters=chapters)
    out = tmp_path / "out.mkv"
    convert(path, out, start="0.4", end="0.8")
    with av.open(str(out)) as container:
        found = [
            (c["metadata"]["title"], *(c[k] * c["time_base"] for k in ("start", "end")))
            for c in container.chapters()
        ]
    assert found == [("b", 0, Fraction(1, 5)), ("c", Fraction(1, 5), Fraction(2, 5))]


def test_tags_that_are_not_utf_8_are_no_error(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "in.mkv", title="Gruesse")
    path.write_bytes(path.read_bytes().replace(b"Gruesse", b"Gr\xfc\xdfe x"))
    assert convert(path, tmp_path / "out.mp4").frames == 10


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_pictures_in_avi_follow_each_other(tmp_path: Path, codec: str) -> None:
    """AVI has no times of presentation, which B pictures need."""
    path = make_clip(tmp_path / "in.avi", 24, codec=codec, options={"bf": "2"})
    assert times(path) == [n * STEP for n in range(24)]
    cut = times(path, start=Fraction(1, 5))
    assert cut == [n * STEP for n in range(5, 24)]
    assert convert_in_parts(path, tmp_path / "out.mov", segment=8).notes == []
    assert times(tmp_path / "out.mov") == [n * STEP for n in range(24)]


def test_a_subtitle_across_the_start_is_shown_from_0_to_its_end(tmp_path: Path) -> None:
    words = [(0.2, 0.9, "words")]
    source = make_clip(tmp_path / "in.mp4", 24, subtitles=words)
    for suffix in (".mp4", ".mov"):
        convert(source, tmp_path / f"out{suffix}", start=Fraction(3, 5))
        shown = [
            (float(p.pts * p.time_base), float(p.duration * p.time_base))
            for p in packets(tmp_path / f"out{suffix}", "subtitle")
            if p.size > 2
        ]
        assert shown == [pytest.approx((0, 0.3), abs=0.01)]


def test_a_track_that_begins_in_the_middle_is_left_out(tmp_path: Path) -> None:
    """PyAV fails at the end of such a file, but for luck: it looks beyond a list."""
    path = make_clip(
        tmp_path / "in.flv", colours(4) * 50, rate=10, codec="flv", sound=True
    )
    data = path.read_bytes()
    kept, at = bytearray(data[:13]), 13
    kept[4] = 1  # its header says that there is no sound
    while at < len(data):
        kind, length = data[at], int.from_bytes(data[at + 1 : at + 4])
        time, end = int.from_bytes(data[at + 4 : at + 7]), at + 15 + length
        if kind == 9 or (kind == 8 and time > 12_000):
            kept += data[at:end]
        at = end
    path.write_bytes(kept)
    for _ in range(3):
        assert len(times(path)) == 200
        assert convert(path, tmp_path / "out.mkv").frames == 200


def test_a_note_names_such_a_track() -> None:
    class Container:
        def demux(self, *streams: Any) -> Iterator[str]:
            yield "packet"
            raise IndexError

    notes: list[str] = []
    container: Any = Container()
    assert [*read_packets(container, notes=notes)] == ["packet"]
    assert notes == ["a track that begins later than the others is left out"]
