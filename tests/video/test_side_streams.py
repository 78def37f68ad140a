"""Sound, subtitles, chapters and attachments, as the writers copy them."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import make_clip, packets
from fakes import sound
from writing import write

from rematte.video.reader import VideoReader

MILLISECOND = Fraction(1, 1000)


def copy(source: Path, target: Path) -> list[str]:
    """Write the source's frames to the target, with all that goes with them."""
    with VideoReader(source) as reader:
        return write(target, list(reader), reader.info, source=source)


@pytest.mark.parametrize("target", [".mp4", ".mov", ".mkv", ".m4v"])
@pytest.mark.parametrize("source", [".mp4", ".mkv", ".mov"])
def test_sound_packets_are_identical(tmp_path: Path, source: str, target: str) -> None:
    # QuickTime knows few languages, and German by "ger" alone, not by "deu".
    for languages, seconds in ((["eng", "ger"], None), (["eng"], 0.1), (["eng"], 2.0)):
        origin = make_clip(
            tmp_path / f"in{source}", sound=languages, sound_seconds=seconds
        )
        out = tmp_path / f"out{target}"
        assert copy(origin, out) == []
        for index, language in enumerate(languages):
            before, after = sound(origin, index), sound(out, index)
            most = MILLISECOND if ".mkv" in (source, target) else 0
            for (now, mine), (then, true) in zip(after, before, strict=True):
                assert mine == true
                assert abs(now - then) <= most
            with av.open(str(out)) as container:
                assert container.streams.audio[index].language == language


def sound_length(path: Path) -> float:
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
        return sum(frame.samples for frame in frames) / frames[0].sample_rate


@pytest.mark.parametrize(("codec", "source", "target", "becomes"), [
    *(("aac", ".mp4", ".webm", "opus"), ("flac", ".mkv", ".mov", "aac")),
    *(("libopus", ".mkv", ".mov", "aac"), ("libopus", ".webm", ".mp4", "opus")),
    *(("pcm_s24le", ".mkv", ".mp4", "aac"), ("flac", ".mkv", ".mp4", "flac")),
    ("pcm_s16le", ".mkv", ".mov", "pcm_s16le"),
    ("pcm_s16le", ".mov", ".mkv", "pcm_s16le"),
    *(("pcm_s16le", ".mov", ".webm", "opus"), ("ac3", ".mkv", ".mp4", "ac3")),
    *(("alac", ".mkv", ".mov", "alac"), ("libmp3lame", ".mkv", ".mp4", "mp3float")),
])  # fmt: skip
def test_sound_is_encoded_anew_only_where_it_must(
    tmp_path: Path, codec: str, source: str, target: str, becomes: str
) -> None:
    picture = {".webm": "libvpx-vp9"}.get(source, "libx264")
    origin, out = tmp_path / f"in{source}", tmp_path / f"out{target}"
    make_clip(origin, 25, sound=True, sound_codec=codec, codec=picture)
    notes = copy(origin, out)
    with av.open(str(out)) as container:
        assert container.streams.audio[0].codec_context.name == becomes
    assert abs(sound_length(out) - sound_length(origin)) < 0.03
    same = becomes in codec or becomes == "mp3float"
    assert bool(notes) is not same
    assert all("encoded again" in note for note in notes)


@pytest.mark.parametrize("layout", ["mono", "5.1", "5.1(side)", "2.1", "7.1"])
@pytest.mark.parametrize("suffix", [".webm", ".mov"])
def test_any_arrangement_of_speakers(tmp_path: Path, layout: str, suffix: str) -> None:
    origin, out = tmp_path / "in.mkv", tmp_path / f"out{suffix}"
    with av.open(str(origin), "w") as container:
        video: Any = container.add_stream("mpeg4", rate=5, width=16, height=16)
        sound: Any = container.add_stream("flac", rate=44100, layout=layout)
        channels = av.AudioLayout(layout).nb_channels
        silence = np.zeros((1, channels * 44100), np.int16)
        piece = av.AudioFrame.from_ndarray(silence, "s16", layout)
        piece.sample_rate, piece.pts = 44100, 0
        for _ in range(5):
            container.mux(video.encode(av.VideoFrame(16, 16, "yuv420p")))
        container.mux([*video.encode(None), *sound.encode(piece), *sound.encode(None)])
    copy(origin, out)
    with av.open(str(out)) as container:
        left = container.streams.audio[0].codec_context.layout.nb_channels
    assert left == channels
    assert abs(sound_length(out) - 1) < 0.03


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_title_and_chapters_are_kept(tmp_path: Path, suffix: str) -> None:
    chapters = [(0, 0.2, "one"), (0.2, 0.4, "two")]
    origin = make_clip(
        tmp_path / "in.mp4", title="Träume", chapters=chapters, sound=True
    )
    out = tmp_path / f"out{suffix}"
    copy(origin, out)
    with av.open(str(out)) as container:
        assert container.metadata["title"] == "Träume"
        assert [
            (c["metadata"]["title"], c["start"] * c["time_base"])
            for c in container.chapters()
        ] == [("one", 0), ("two", Fraction(1, 5))]
        kinds = [stream.type for stream in container.streams]
    assert [kind for kind in kinds if kind != "data"] == ["video", "audio"]


def texts(path: Path) -> list[tuple[Any, ...]]:
    """Time, duration and bytes of each subtitle that is not empty."""
    found = [packet for packet in packets(path, "subtitle") if packet.size > 2]
    return [(p.pts * p.time_base, p.duration * p.time_base, bytes(p)) for p in found]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_subtitles_are_copied(tmp_path: Path, suffix: str) -> None:
    origin, out = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    make_clip(origin, subtitles=[(0.1, 0.2, "Hello"), (0.2, 0.4, "world")])
    assert copy(origin, out) == []
    assert texts(out) == texts(origin)
    assert [time for time, *_ in texts(out)] == [Fraction(1, 10), Fraction(1, 5)]


def test_subtitles_that_do_not_fit_are_named(tmp_path: Path) -> None:
    origin = make_clip(tmp_path / "in.mkv", subtitles=[(0.1, 0.2, "Hello")])
    (note,) = copy(origin, tmp_path / "out.mp4")
    assert "left out" in note
    assert "srt" in note
    assert packets(tmp_path / "out.mp4", "subtitle") == []


def test_attachments_are_kept_in_mkv(tmp_path: Path) -> None:
    origin = tmp_path / "in.mkv"
    with av.open(str(origin), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=25, width=16, height=16)
        container.add_attachment("font.ttf", "font/ttf", b"glyphs")
        container.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
        container.mux(stream.encode(None))
    assert copy(origin, tmp_path / "out.mkv") == []
    with av.open(str(tmp_path / "out.mkv")) as container:
        (attached,) = container.streams.attachments
        assert (attached.name, bytes(attached.data)) == ("font.ttf", b"glyphs")
    (note,) = copy(origin, tmp_path / "out.mp4")
    assert "font.ttf" in note
