"""What the writers promise, for every kind of output."""

import errno
import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import (
    DiscClip,
    Tags,
    draw_disc,
    frame_label,
    make_clip,
    read_label,
    yuv_frame,
)
from numpy.typing import NDArray

from rematte.errors import OutputError
from rematte.video import codecs as formats
from rematte.video import matroska
from rematte.video.avif_writer import AvifWriter
from rematte.video.base_writer import Writer
from rematte.video.codecs import is_nvenc, opens
from rematte.video.encoding import Encoding, choose
from rematte.video.frame import Colour, Frame, VideoInfo
from rematte.video.image_writer import ImageWriter
from rematte.video.output_paths import check_target, replaced_images
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader
from rematte.video.writer import FileWriter

NTSC_FILM = Fraction(24000, 1001)
MILLISECOND = Fraction(1, 1000)
# Every codec of every container, but for those that need a GPU.
VIDEOS = [
    (suffix, codec)
    for suffix, names in formats.CONTAINERS.items()
    for codec in names
    if not is_nvenc(codec) and codec != "avif"  # see test_avif
]
# Those that hold alpha.
CLEAR_VIDEOS = [pair for pair in VIDEOS if formats.CODECS[pair[1]].alpha]


def info_of(size: tuple[int, int] = (96, 64), **changes: Any) -> VideoInfo:
    """What a reader would say of an ordinary 25 frames per second source."""
    info = VideoInfo(*size, Fraction(25), Fraction(1, 25000), Colour(6, 1))
    return replace(info, **changes)


def label_frames(
    count: int = 6,
    size: tuple[int, int] = (96, 64),
    times: Sequence[Fraction] | None = None,
    rate: Fraction = Fraction(25),
) -> list[Frame]:
    if times is None:
        times = [index / rate for index in range(count)]
    ends = [*times[1:], times[-1] + 1 / rate]
    return [
        Frame(frame_label(index, size), time, end - time)
        for index, (time, end) in enumerate(zip(times, ends, strict=True))
    ]


def picture_frames(pictures: Sequence[NDArray[Any]]) -> list[Frame]:
    return [
        Frame(picture, Fraction(index, 25), Fraction(1, 25))
        for index, picture in enumerate(pictures)
    ]


def open_writer(
    path: Path,
    info: VideoInfo,
    *,
    alpha: bool = False,
    gray: bool = False,
    codec: str | None = None,
    crf: int | None = None,
    mbps: float | None = None,
    **side: Any,
) -> tuple[Writer, Encoding]:
    encoding = choose(
        path, info, alpha=alpha, gray=gray, codec=codec, crf=crf, mbps=mbps
    )
    if formats.is_sequence(path) or info.still:
        return ImageWriter(path, info, encoding), encoding
    if encoding.codec.encoder == "avif":
        pytest.importorskip("PIL")
        return AvifWriter(path, info, encoding), encoding
    return FileWriter(path, info, encoding, **side), encoding


def write(
    path: Path, frames: Sequence[Frame], info: VideoInfo | None = None, **kwargs: Any
) -> list[str]:
    """Write frames, widened if the output takes 16 bits; gives the notes."""
    height, width = frames[0].pixels.shape[:2]
    info = info or info_of((width, height))
    writer, encoding = open_writer(path, info, **kwargs)
    for frame in frames:
        pixels = frame.pixels
        if encoding.sixteen_bit and pixels.dtype == np.uint8:
            pixels = pixels.astype(np.uint16) * 257
        writer.write(replace(frame, pixels=pixels))
    writer.finish()
    return writer.notes


def read(path: Path) -> list[Frame]:
    with VideoReader(path) as reader:
        return list(reader)


def decode(path: Path, decoder: str | None = None) -> list[av.VideoFrame]:
    """Decode with PyAV alone, with alpha if there is any."""
    with av.open(str(path)) as container:
        if decoder is None:
            return list(container.decode(video=0))
        context: Any = av.CodecContext.create(decoder, "r")
        packets = list(container.demux(video=0))
        return [picture for packet in packets for picture in context.decode(packet)]


def straight(picture: av.VideoFrame) -> NDArray[Any]:
    """(H, W, 4) RGBA of a decoded frame, as 0 to 1."""
    wide = max(component.bits for component in picture.format.components) > 8
    array = picture.to_ndarray(format="rgba64le" if wide else "rgba")
    return np.asarray(array, np.float64) / (65535 if wide else 255)


# Frames in = frames out


@pytest.mark.parametrize(("suffix", "codec"), VIDEOS)
@pytest.mark.parametrize("count", [1, 6])
def test_frames_in_are_frames_out(
    tmp_path: Path, suffix: str, codec: str, count: int
) -> None:
    path = tmp_path / f"a{suffix}"
    assert write(path, label_frames(count), codec=codec) == []
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    if suffix == ".webp":
        images = pytest.importorskip("PIL.Image")
        with images.open(path) as image:
            assert image.n_frames == count
        return
    frames = read(path)
    assert [read_label(frame.pixels) for frame in frames] == list(range(count))
    assert {frame.pixels.shape for frame in frames} == {(64, 96, 3)}


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp", ".exr"])
def test_images_in_are_images_out(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "out" / f"%04d{suffix}"
    assert write(path, label_frames(3)) == []
    written = sorted(path.parent.iterdir())
    assert [file.name for file in written] == [f"{n:04}{suffix}" for n in range(3)]
    assert [read_label(frame.pixels) for frame in read(path.parent)] == [0, 1, 2]


@pytest.mark.parametrize("suffix", [*formats.IMAGES])
def test_a_still(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write(path, label_frames(1), info_of(still=True))
    (frame,) = read(path)
    assert read_label(frame.pixels) == 0
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_images_are_exact(
    tmp_path: Path, suffix: str, channels: int, dtype: type
) -> None:
    top = np.iinfo(dtype).max
    pixels = np.random.default_rng(0).integers(
        0, top, (9, 7, channels), dtype, endpoint=True
    )
    path = tmp_path / f"a{suffix}"
    info = info_of((7, 9), still=True, depth=8 * pixels.itemsize)
    write(path, picture_frames([pixels]), info, alpha=channels == 4, gray=channels == 1)
    (picture,) = decode(path)
    name = {1: "gray", 3: "rgb24", 4: "rgba"}[channels]
    if dtype is np.uint16:
        name = {1: "gray16le", 3: "rgb48le", 4: "rgba64le"}[channels]
    assert len(picture.format.components) == channels
    array = picture.to_ndarray(format=name).reshape(pixels.shape)
    np.testing.assert_array_equal(array, pixels)


def test_exr_is_linear_and_premultiplied(tmp_path: Path) -> None:
    pixels = np.empty((4, 4, 4), np.uint16)
    pixels[...] = round(0.5 * 65535)
    info = info_of((4, 4), still=True, depth=16)
    write(tmp_path / "a.exr", picture_frames([pixels]), info, alpha=True)
    (picture,) = decode(tmp_path / "a.exr")
    values = picture.reformat(format="gbrapf32le").to_ndarray()[0, 0]
    light = ((0.5 + 0.055) / 1.055) ** 2.4
    np.testing.assert_allclose(values, [light / 2] * 3 + [0.5], rtol=1e-3)


# Times


UNEVEN = [Fraction(index**2, 144) for index in range(1, 9)]
SIXTEEN = Fraction(16)


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "prores"])
@pytest.mark.parametrize("kind", ["23.976", "uneven"])
def test_mp4_and_mov_times_are_exact(tmp_path: Path, codec: str, kind: str) -> None:
    path = tmp_path / ("a.mov" if codec == "prores" else "a.mp4")
    if kind == "uneven":
        frames = label_frames(times=UNEVEN, rate=SIXTEEN)
        info = info_of(time_base=Fraction(1, 144), rate=SIXTEEN)
    else:
        frames = label_frames(8, rate=NTSC_FILM)
        info = info_of(time_base=Fraction(1, 24000), rate=NTSC_FILM)
    write(path, frames, info, codec=codec)
    back = read(path)
    first = frames[0].time  # the reader counts from the first picture or sound
    assert [frame.time for frame in back] == [frame.time - first for frame in frames]
    # The last one is that of the last packet, which need not be the last frame.
    known = len(frames) - (kind == "uneven" and codec in ("h264", "hevc"))
    expected = [frame.duration for frame in frames]
    assert [frame.duration for frame in back][:known] == expected[:known]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if kind == "23.976":
            assert stream.average_rate == NTSC_FILM
        assert stream.frames == len(frames)


ANIMATED = (".webp", ".avif", ".apng")
# The unit of times [s] where they are not exact.
ROUNDED = {".webm": MILLISECOND, ".mkv": MILLISECOND, ".gif": Fraction(1, 100)}


@pytest.mark.parametrize("suffix", [s for s in formats.CONTAINERS if s not in ANIMATED])
@pytest.mark.parametrize("kind", ["23.976", "uneven"])
def test_times_are_exact_or_rounded_once(
    tmp_path: Path, suffix: str, kind: str
) -> None:
    if kind == "uneven":
        frames = label_frames(times=[time - UNEVEN[0] for time in UNEVEN], rate=SIXTEEN)
        info = info_of(time_base=Fraction(1, 144), rate=SIXTEEN)
    else:
        frames = label_frames(24, rate=NTSC_FILM)
        info = info_of(time_base=Fraction(1, 24000), rate=NTSC_FILM)
    write(tmp_path / f"a{suffix}", frames, info)
    back = read(tmp_path / f"a{suffix}")
    assert len(back) == len(frames)
    unit = ROUNDED.get(suffix, Fraction(0))
    for frame, expected in zip(back, frames, strict=True):
        assert abs(frame.time - expected.time) <= unit * Fraction(3, 5)
    if unit:  # else the last length is that of the last packet, perhaps another frame's
        last = back[-1].time + back[-1].duration
        assert abs(last - frames[-1].time - frames[-1].duration) <= 2 * unit


@pytest.mark.parametrize("suffix", ANIMATED)
def test_animated_images_show_each_frame_as_long(tmp_path: Path, suffix: str) -> None:
    images = pytest.importorskip("PIL.Image")
    frames = label_frames(times=[time - UNEVEN[0] for time in UNEVEN], rate=SIXTEEN)
    write(tmp_path / f"a{suffix}", frames, info_of(time_base=Fraction(1, 144)))
    with images.open(tmp_path / f"a{suffix}") as image:
        assert image.n_frames == len(frames)
        # FFmpeg shows the last frame of an APNG for as long as the one before.
        for index, frame in enumerate(frames[:-1] if suffix == ".apng" else frames):
            image.seek(index)
            image.load()
            assert abs(image.info["duration"] / 1000 - frame.duration) <= 0.001, index
        assert image.info.get("loop", 0) == 0  # AVIF has no such field


def test_a_gif_of_many_frames_a_second_keeps_them_all(tmp_path: Path) -> None:
    frames = label_frames(20, rate=Fraction(240))
    (note,) = write(
        tmp_path / "a.gif",
        frames,
        info_of(rate=Fraction(240), time_base=Fraction(1, 240)),
    )
    assert "100 frames a second" in note
    assert [read_label(f.pixels) for f in read(tmp_path / "a.gif")] == list(range(20))


# Sound and all else


def packets(path: Path, kind: str, index: int = 0) -> list[tuple[Any, Any, bytes]]:
    """Time, duration and bytes of the packets of a stream."""
    with av.open(str(path)) as container:
        stream = [s for s in container.streams if s.type == kind][index]
        return [
            (
                packet.pts * packet.time_base,
                (packet.duration or 0) * packet.time_base,
                bytes(packet),
            )
            for packet in container.demux(stream)
            if packet.pts is not None
        ]


def copy(source: Path, target: Path, **kwargs: Any) -> list[str]:
    """Write the source's frames to the target, with all that goes with them."""
    with VideoReader(source) as reader:
        frames, info = list(reader), reader.info
    return write(target, frames, info, source=source, **kwargs)


@pytest.mark.parametrize("target", [".mp4", ".mov", ".mkv", ".m4v"])
@pytest.mark.parametrize("source", [".mp4", ".mkv", ".mov"])
def test_sound_packets_are_identical(tmp_path: Path, source: str, target: str) -> None:
    # QuickTime knows few languages, and German by "ger" alone, not by "deu".
    origin = make_clip(tmp_path / f"in{source}", sound=["eng", "ger"])
    assert copy(origin, tmp_path / f"out{target}") == []
    for index, language in enumerate(["eng", "ger"]):
        before = packets(origin, "audio", index)
        after = packets(tmp_path / f"out{target}", "audio", index)
        assert [packet[2] for packet in after] == [packet[2] for packet in before]
        rounded = ".mkv" in (source, target)
        for (now, _, _), (then, _, _) in zip(after, before, strict=True):
            assert abs(now - then) <= (MILLISECOND if rounded else 0)
        with av.open(str(tmp_path / f"out{target}")) as container:
            assert container.streams.audio[index].language == language


def sound_length(path: Path) -> float:
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
        return sum(frame.samples for frame in frames) / frames[0].sample_rate


@pytest.mark.parametrize(
    ("codec", "source", "target", "becomes"),
    [
        ("aac", ".mp4", ".webm", "opus"),
        ("flac", ".mkv", ".mov", "aac"),
        ("libopus", ".mkv", ".mov", "aac"),
        ("libopus", ".webm", ".mp4", "opus"),
        ("pcm_s16le", ".mkv", ".mov", "pcm_s16le"),
        ("pcm_s24le", ".mkv", ".mp4", "aac"),
        ("alac", ".mkv", ".mov", "alac"),
        ("flac", ".mkv", ".mp4", "flac"),
        ("ac3", ".mkv", ".mp4", "ac3"),
        ("pcm_s16le", ".mov", ".mkv", "pcm_s16le"),
        ("pcm_s16le", ".mov", ".webm", "opus"),
        ("libmp3lame", ".mkv", ".mp4", "mp3float"),
    ],
)
def test_sound_is_encoded_anew_only_where_it_must(
    tmp_path: Path, codec: str, source: str, target: str, becomes: str
) -> None:
    picture = {".webm": "libvpx-vp9"}.get(source, "libx264")
    origin = make_clip(
        tmp_path / f"in{source}", 25, sound=True, sound_codec=codec, codec=picture
    )
    notes = copy(origin, tmp_path / f"out{target}")
    with av.open(str(tmp_path / f"out{target}")) as container:
        assert container.streams.audio[0].codec_context.name == becomes
    before, after = (
        sound_length(tmp_path / name) for name in (origin.name, f"out{target}")
    )
    assert abs(after - before) < 0.03
    same = becomes in codec or becomes == "mp3float"
    assert bool(notes) is not same
    assert all("encoded again" in note for note in notes)


def test_sound_encoded_anew_stays_in_time(tmp_path: Path) -> None:
    """A click at 0.5 s stays there."""
    origin = make_clip(tmp_path / "in.mkv", 25)
    clicking = tmp_path / "click.mkv"
    with av.open(str(origin)) as source, av.open(str(clicking), "w") as container:
        video = container.add_stream_from_template(source.streams.video[0])
        sound: Any = container.add_stream("pcm_s16le", rate=48000)
        wave = np.zeros((1, 2 * 48000), np.int16)
        wave[0, 48000 : 48000 + 200] = 20000
        piece = av.AudioFrame.from_ndarray(wave, "s16", "stereo")
        piece.sample_rate, piece.pts = 48000, 0
        container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                container.mux(packet)
    copy(clicking, tmp_path / "out.webm")
    with av.open(str(tmp_path / "out.webm")) as container:
        samples, first = [], None
        for frame in container.decode(audio=0):
            first = frame.time if first is None else first
            samples.append(frame.to_ndarray()[0])
    wave = np.abs(np.concatenate(samples))
    assert first is not None
    assert abs(first + wave.argmax() / 48000 - 0.5) < 0.01


@pytest.mark.parametrize("layout", ["mono", "5.1", "5.1(side)", "2.1", "7.1"])
@pytest.mark.parametrize("suffix", [".webm", ".mov"])
def test_any_arrangement_of_speakers(tmp_path: Path, layout: str, suffix: str) -> None:
    origin = tmp_path / "in.mkv"
    with av.open(str(origin), "w") as container:
        video: Any = container.add_stream("ffv1", rate=5, width=16, height=16)
        video.pix_fmt = "bgr0"
        sound: Any = container.add_stream("flac", rate=44100, layout=layout)
        channels = av.AudioLayout(layout).nb_channels
        silence = np.zeros((1, channels * 44100), np.int16)
        piece = av.AudioFrame.from_ndarray(silence, "s16", layout)
        piece.sample_rate, piece.pts = 44100, 0
        for index in range(5):
            picture = av.VideoFrame.from_ndarray(frame_label(index, (16, 16)))
            container.mux(video.encode(picture.reformat(format="bgr0")))
        for stream in (video, sound):
            container.mux(stream.encode(piece if stream is sound else None))
        container.mux(sound.encode(None))
    copy(origin, tmp_path / f"out{suffix}")
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        left = container.streams.audio[0].codec_context.layout.nb_channels
    assert left == channels
    assert abs(sound_length(tmp_path / f"out{suffix}") - 1) < 0.03


def test_damaged_sound_costs_only_itself(tmp_path: Path) -> None:
    origin = make_clip(tmp_path / "in.mp4", 25, sound=True)
    damaged = packets(origin, "audio")[15][2]
    data = origin.read_bytes()
    origin.write_bytes(data.replace(damaged, b"\xff" * len(damaged)))
    anew, harm = copy(origin, tmp_path / "out.webm")
    assert "encoded again" in anew
    assert "damaged" in harm
    assert len(read(tmp_path / "out.webm")) == 25
    assert copy(origin, tmp_path / "out.mp4") == []
    assert packets(origin, "audio") == packets(tmp_path / "out.mp4", "audio")


def test_sound_longer_and_shorter_than_the_picture(tmp_path: Path) -> None:
    for seconds in (0.1, 2.0):
        origin = make_clip(tmp_path / "in.mp4", sound=True, sound_seconds=seconds)
        copy(origin, tmp_path / "out.mp4")
        assert packets(origin, "audio") == packets(tmp_path / "out.mp4", "audio")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_is_cut_where_the_picture_is(tmp_path: Path, suffix: str) -> None:
    origin = make_clip(tmp_path / f"in{suffix}", 20, sound=True, sound_seconds=3)
    start, end = Fraction(6, 25), Fraction(16, 25)
    with VideoReader(origin, ReadOptions(start=start, end=end)) as reader:
        frames, info = list(reader), reader.info
    assert len(frames) == 10
    out = tmp_path / f"out{suffix}"
    write(out, frames, info, source=origin, start=start, end=end)
    # The packet that spans the start is kept: it is heard in part.
    before = [p for p in packets(origin, "audio") if p[0] + p[1] > start and p[0] < end]
    after = packets(out, "audio")
    assert [packet[2] for packet in after] == [packet[2] for packet in before]
    for (now, _, _), (then, _, _) in zip(after, before, strict=True):
        assert abs(now - (then - start)) <= (MILLISECOND if suffix == ".mkv" else 0)
    assert read(out)[0].time == 0


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_title_and_chapters_are_kept(tmp_path: Path, suffix: str) -> None:
    origin = make_clip(
        tmp_path / "in.mp4",
        title="Träume",
        chapters=[(0, 0.2, "one"), (0.2, 0.4, "two")],
        sound=True,
    )
    out = tmp_path / f"out{suffix}"
    copy(origin, out)
    with av.open(str(out)) as container:
        assert container.metadata["title"] == "Träume"
        assert [
            (c["metadata"]["title"], c["start"] * (c["time_base"] or 0))
            for c in container.chapters()
        ] == [("one", 0), ("two", Fraction(1, 5))]
        kinds = [stream.type for stream in container.streams]
    assert [kind for kind in kinds if kind != "data"] == ["video", "audio"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_subtitles_are_copied(tmp_path: Path, suffix: str) -> None:
    origin = make_clip(
        tmp_path / f"in{suffix}", subtitles=[(0.1, 0.2, "Hello"), (0.2, 0.4, "world")]
    )
    out = tmp_path / f"out{suffix}"
    assert copy(origin, out) == []
    text = [packet for packet in packets(out, "subtitle") if len(packet[2]) > 2]
    before = [packet for packet in packets(origin, "subtitle") if len(packet[2]) > 2]
    assert text == before
    assert [packet[0] for packet in text] == [Fraction(1, 10), Fraction(1, 5)]


def test_subtitles_that_do_not_fit_are_named(tmp_path: Path) -> None:
    origin = make_clip(tmp_path / "in.mkv", subtitles=[(0.1, 0.2, "Hello")])
    (note,) = copy(origin, tmp_path / "out.mp4")
    assert "left out" in note
    assert "srt" in note
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert not container.streams.subtitles


def test_attachments_are_kept_in_mkv(tmp_path: Path) -> None:
    origin = tmp_path / "in.mkv"
    with av.open(str(origin), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25, width=16, height=16)
        stream.pix_fmt = "bgr0"
        container.add_attachment("font.ttf", "font/ttf", b"glyphs")
        picture = av.VideoFrame.from_ndarray(frame_label(0, (16, 16)))
        container.mux(stream.encode(picture.reformat(format="bgr0")))
        container.mux(stream.encode(None))
    assert copy(origin, tmp_path / "out.mkv") == []
    with av.open(str(tmp_path / "out.mkv")) as container:
        (attached,) = container.streams.attachments
        assert (attached.name, bytes(attached.data)) == ("font.ttf", b"glyphs")
    (note,) = copy(origin, tmp_path / "out.mp4")
    assert "font.ttf" in note


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".apng"])
def test_animated_images_have_no_sound(tmp_path: Path, suffix: str) -> None:
    origin = make_clip(tmp_path / "in.mp4", sound=True)
    copy(origin, tmp_path / f"out{suffix}")
    assert (tmp_path / f"out{suffix}").stat().st_size > 0


# Alpha


def clear_frames(disc: DiscClip) -> list[Frame]:
    """The disc on its own colour everywhere, so that only alpha has an edge."""
    return picture_frames(
        [
            np.dstack([np.full_like(alpha, value) for value in disc.colour] + [alpha])
            for alpha in disc.alpha
        ]
    )


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("a.mkv", 0), ("a.apng", 0), ("a.mov", 2), ("%04d.png", 0), ("%04d.tif", 0)],
)
def test_alpha_survives(
    tmp_path: Path, disc: DiscClip, name: str, tolerance: int
) -> None:
    frames = clear_frames(disc)
    path = tmp_path / "out" / name
    path.parent.mkdir()
    write(path, frames, alpha=True)
    files = sorted(path.parent.iterdir())
    back = [straight(picture) for file in files for picture in decode(file)]
    assert len(back) == len(frames)
    for picture, frame in zip(back, frames, strict=True):
        error = np.abs(picture * 255 - frame.pixels)
        assert error[..., 3].max() <= tolerance + 1e-6
        assert error[frame.pixels[..., 3] > 0].max() <= 2 + tolerance


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".webm", "vp9"), (".mkv", "vp9"), (".mkv", "prores")]
)
def test_alpha_of_lossy_codecs(
    tmp_path: Path, disc: DiscClip, suffix: str, codec: str
) -> None:
    frames = clear_frames(disc)
    path = tmp_path / f"a{suffix}"
    write(path, frames, alpha=True, codec=codec)
    back = decode(path, "libvpx-vp9" if codec == "vp9" else None)
    assert len(back) == len(frames)
    for picture, frame in zip(back, frames, strict=True):
        error = np.abs(straight(picture)[..., 3] * 255 - frame.pixels[..., 3])
        assert error.mean() < 0.3
        assert error.max() <= 3


def test_alpha_of_webm_has_the_key_frames_of_the_colour(
    tmp_path: Path, disc: DiscClip
) -> None:
    """Else a browser could not begin in the middle."""
    frames = clear_frames(disc)
    many = [replace(frames[i % len(frames)], time=Fraction(i, 25)) for i in range(140)]
    write(tmp_path / "a.webm", many, alpha=True)
    keys = []
    with av.open(str(tmp_path / "a.webm")) as container:
        for packet in container.demux(video=0):
            if packet.size:
                data = bytes(packet.get_sidedata("matroska_block_additional"))
                assert data[:8] == (1).to_bytes(8, "big")
                # VP9's frame header: marker, profile, no repeat, then "not a key".
                assert data[8] & 0b11111000 == 0b10000000
                assert packet.is_keyframe == (not data[8] & 0b100)
                keys.append(packet.is_keyframe)
    assert len(keys) == 140
    assert sum(keys) == 2


def test_alpha_of_gif_is_all_or_nothing(tmp_path: Path, disc: DiscClip) -> None:
    frames = clear_frames(disc)
    write(tmp_path / "a.gif", frames, alpha=True)
    back = decode(tmp_path / "a.gif")
    assert len(back) == len(frames)
    for picture, frame in zip(back, frames, strict=True):
        alpha = straight(picture)[..., 3]
        np.testing.assert_array_equal(alpha, frame.pixels[..., 3] >= 128)


def test_alpha_of_animated_webp(tmp_path: Path, disc: DiscClip) -> None:
    images = pytest.importorskip("PIL.Image")
    frames = clear_frames(disc)
    write(tmp_path / "a.webp", frames, alpha=True)
    with images.open(tmp_path / "a.webp") as image:
        for index, frame in enumerate(frames):
            image.seek(index)
            alpha = np.asarray(image.convert("RGBA"))[..., 3].astype(int)
            assert np.abs(alpha - frame.pixels[..., 3]).max() <= 1


# Depth and colour tags


def ten_bit_clip(path: Path, tags: Tags) -> Path:
    luma = np.tile(np.linspace(64, 940, 96).round(), (64, 1))
    chroma = np.full((32, 48), 512)
    picture = yuv_frame([luma, chroma, chroma], "yuv420p10le")
    return make_clip(path, [picture], codec="libx265", pix_fmt="yuv420p10le", tags=tags)


PQ = Tags(matrix=9, range=1, primaries=9, transfer=16)
HLG = Tags(matrix=9, range=1, primaries=9, transfer=18)


@pytest.mark.parametrize("tags", [PQ, HLG], ids=["PQ", "HLG"])
@pytest.mark.parametrize(
    ("name", "alpha", "pix_fmt"),
    [
        ("a.mp4", False, "yuv420p10le"),
        ("a.mov", True, "yuva444p12le"),
        ("a.mkv", False, "gbrp16le"),
        ("a.webm", False, "yuv420p10le"),
        ("%04d.png", True, "rgba64be"),
        ("%04d.png", False, "rgb48be"),
    ],
)
def test_ten_bits_and_hdr_tags_are_kept(
    tmp_path: Path, name: str, alpha: bool, pix_fmt: str, tags: Tags
) -> None:
    origin = ten_bit_clip(tmp_path / "in.mp4", tags)
    with VideoReader(origin) as reader:
        (frame,), info = list(reader), reader.info
    if alpha:
        opaque = np.full((64, 96, 1), 65535, np.uint16)
        frame = replace(frame, pixels=np.concatenate([frame.pixels, opaque], 2))
    path = tmp_path / "out" / name
    path.parent.mkdir()
    write(path, [frame], info, alpha=alpha)
    (file,) = path.parent.iterdir()
    (picture,) = decode(file)
    assert picture.format.name == pix_fmt
    with VideoReader(file) as again:
        (back,), colour = list(again), again.info.colour
    error = np.abs(back.pixels.astype(int) - frame.pixels[..., :3])
    assert error.max() <= (0 if "16" in pix_fmt or "png" in name else 514)
    assert (colour.primaries, colour.transfer) == (tags.primaries, tags.transfer)


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [pair for pair in VIDEOS if pair[1] in ("h264", "hevc", "av1", "vp9")],
)
@pytest.mark.parametrize(
    "tags", [Tags(1, 1, 1, 1), Tags(6, 2, 6, 6), Tags(5, 1, 5, 4), Tags(9, 2, 9, 14)]
)
def test_colour_tags_are_kept(
    tmp_path: Path, suffix: str, codec: str, tags: Tags
) -> None:
    colour = Colour(tags.matrix, tags.range, tags.primaries, tags.transfer)
    path = tmp_path / f"a{suffix}"
    write(path, label_frames(2), info_of(colour=colour), codec=codec)
    with VideoReader(path) as reader:
        back = reader.info.colour
        frames = list(reader)
    if codec == "vp9" and tags.matrix == 6:
        back = replace(back, matrix=6)  # VP9 does not tell 5 from 6, which are equal
    assert back == colour
    assert [read_label(frame.pixels) for frame in frames] == [0, 1]
    assert np.abs(frames[1].pixels.astype(int) - 20).max() <= 2


@pytest.mark.parametrize("suffix", [".mov", ".mkv"])
def test_prores_is_limited_range_and_says_so(tmp_path: Path, suffix: str) -> None:
    colour = Colour(1, 2, 1, 1)
    write(
        tmp_path / f"a{suffix}",
        label_frames(2),
        info_of(colour=colour),
        codec="prores",
    )
    with VideoReader(tmp_path / f"a{suffix}") as reader:
        assert reader.info.colour == replace(colour, range=1)
        assert np.abs(list(reader)[1].pixels / 257 - 20).max() <= 1


SHAPED = [*formats.CONTAINERS, *(f"/%d{suffix}" for suffix in formats.IMAGES)]


@pytest.mark.parametrize("suffix", SHAPED)
@pytest.mark.parametrize("aspect", [Fraction(16, 11), Fraction(3, 4)])
def test_the_shape_of_pixels_is_kept_or_its_loss_is_noted(
    tmp_path: Path, suffix: str, aspect: Fraction
) -> None:
    info = info_of(sample_aspect_ratio=aspect)
    path = tmp_path / f"a{suffix}"
    notes = write(path, label_frames(2), info)
    if suffix in (".webp", ".avif", ".nut", "/%d.webp"):
        (note,) = notes
        shape = f"{aspect.numerator}:{aspect.denominator}"
        assert note.startswith(f"the shape of pixels ({shape}) is lost")
        return
    assert notes == []
    with VideoReader(path.parent if suffix[0] == "/" else path) as reader:
        kept = reader.info.sample_aspect_ratio
        assert len(list(reader)) == 2
    # Matroska counts in whole pixels on the screen, GIF in 64ths.
    error = Fraction(1, {".mkv": 192, ".webm": 192, ".gif": 64}.get(suffix, 10**6))
    assert abs(kept - aspect) <= error


def test_an_absurd_shape_of_an_image_is_ignored(tmp_path: Path) -> None:
    info = info_of(sample_aspect_ratio=Fraction(1, 1080))
    write(tmp_path / "a/%d.png", label_frames(1), info)
    with VideoReader(tmp_path / "a") as reader:
        assert reader.info.sample_aspect_ratio == 1


@pytest.mark.parametrize("codec", ["ffv1", "h264", "prores"])
@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_matroska_stays_whole_when_the_shape_is_set(
    tmp_path: Path, suffix: str, codec: str
) -> None:
    codec = "vp9" if suffix == ".webm" else codec
    files = []
    for aspect in (Fraction(4, 3), Fraction(1)):
        path = tmp_path / f"{aspect.numerator}{suffix}"
        info = info_of(sample_aspect_ratio=aspect)
        write(path, label_frames(3), info, codec=codec)
        files.append(path)
    shaped, plain = (decode(path) for path in files)
    for a, b in zip(shaped, plain, strict=True):
        assert a.pts == b.pts
        assert [bytes(p) for p in a.planes] == [bytes(p) for p in b.planes]
    data = files[0].read_bytes()
    assert matroska.PLACEHOLDER.encode() not in data
    mark = b"\x16\x54\xae\x6b"  # once in the table of contents, then Tracks itself
    at = data.index(mark, data.index(mark) + 4) + 4
    length = 9 - data[at].bit_length()
    size = int.from_bytes(data[at : at + length], "big") ^ (1 << 7 * length)
    tracks = data[at + length :][:size]
    if suffix == ".mkv":
        assert tracks[0] == 0xBF  # the checksum, which FFmpeg leaves out in WebM
        assert zlib.crc32(tracks[6:]) == int.from_bytes(tracks[2:6], "little")
    assert b"\x54\xb0\x81\x80\x54\xba\x81\x40" in tracks  # 128 by 64
    with av.open(str(files[0])) as container:
        assert "title" not in container.streams.video[0].metadata


def test_a_file_without_the_placeholder_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    write(path, label_frames(2))
    before = path.read_bytes()
    assert not matroska.set_display_size(path, 128, 64)
    assert path.read_bytes() == before
    path.write_bytes(before[:30])
    assert not matroska.set_display_size(path, 128, 64)


@pytest.mark.parametrize("aspect", [Fraction(1), Fraction(4, 3)])
@pytest.mark.parametrize("suffix", ["/%d.png", ".apng"])
def test_png_says_the_true_shape(tmp_path: Path, suffix: str, aspect: Fraction) -> None:
    path = tmp_path / f"a{suffix}"
    write(path, label_frames(1), info_of(sample_aspect_ratio=aspect))
    data = next(tmp_path.rglob("*.*png")).read_bytes()
    at = data.index(b"pHYs") + 4
    x, y = struct.unpack(">II", data[at : at + 8])
    # As FFmpeg reads it, though the standard's pixels per unit are the inverse.
    assert Fraction(x, y) == aspect


# Any size


SIZES = [(97, 65), (1, 1), (17, 3), (2, 2), (1, 40)]
# A size is a matter of the codec, so each is tried in one container.
EACH_CODEC = {codec: suffix for suffix, codec in VIDEOS}.items()
EACH_CLEAR_CODEC = {codec: suffix for suffix, codec in CLEAR_VIDEOS}.items()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("codec", "suffix"), EACH_CODEC)
def test_any_size_is_written(
    tmp_path: Path, suffix: str, codec: str, size: tuple[int, int]
) -> None:
    path = tmp_path / f"a{suffix}"
    notes = write(path, label_frames(2, size), codec=codec)
    width, height = formats.CODECS[codec].coded_size(*size)
    assert bool(notes) is ((width, height) != size)
    assert all("padded from" in note for note in notes)
    if suffix != ".webp":
        frames = read(path)
        assert [read_label(frame.pixels) for frame in frames] == [0, 1]
        assert frames[0].pixels.shape == (height, width, 3)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("codec", "suffix"), EACH_CLEAR_CODEC)
def test_any_size_is_written_with_alpha(
    tmp_path: Path, suffix: str, codec: str, size: tuple[int, int]
) -> None:
    pixels = np.full((size[1], size[0], 4), 200, np.uint8)
    frames = picture_frames([pixels] * 2)
    assert write(tmp_path / f"a{suffix}", frames, alpha=True, codec=codec) == []


@pytest.mark.parametrize(
    ("size", "depth"), [*zip(SIZES, (8, 16, 8, 16, 16), strict=True)]
)
@pytest.mark.parametrize("suffix", [*formats.IMAGES])
def test_any_size_of_image(
    tmp_path: Path, suffix: str, size: tuple[int, int], depth: int
) -> None:
    info = info_of(size, depth=depth)
    write(tmp_path / f"%d{suffix}", label_frames(1, size), info)
    (frame,) = read(tmp_path / f"0{suffix}")
    assert frame.pixels.shape == (size[1], size[0], 3)
    assert read_label(frame.pixels) == 0


def test_padding_repeats_the_edge(tmp_path: Path) -> None:
    disc = draw_disc(1, (97, 65))
    write(tmp_path / "a.mp4", picture_frames(disc.frames), crf=0)
    (frame,) = read(tmp_path / "a.mp4")
    assert frame.pixels.shape == (66, 98, 3)
    padded = np.pad(disc.frames[0], ((0, 1), (0, 1), (0, 0)), "edge")
    assert np.abs(frame.pixels.astype(int) - padded)[-3:].max() <= 4


# What is refused before any work


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
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
    ],
)
def test_what_cannot_be_is_a_value_error(
    name: str, options: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the words are checked)
        choose(Path(name), info_of(), **({"alpha": False} | options))
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("suffix", [*formats.CONTAINERS, *formats.IMAGES])
def test_suffixes_may_be_upper_case(tmp_path: Path, suffix: str) -> None:
    info = info_of(still=suffix in formats.IMAGES)
    write(tmp_path / f"A{suffix.upper()}", label_frames(1), info)
    assert [file.name for file in tmp_path.iterdir()] == [f"A{suffix.upper()}"]


def test_quality_and_bit_rate_have_an_effect(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = picture_frames(list(rng.integers(0, 256, (25, 64, 96, 3), np.uint8)))
    sizes = {}
    settings: dict[str, dict[str, Any]] = {
        "fine": {"crf": 5},
        "coarse": {"crf": 45},
        "much": {"mbps": 2},
        "little": {"mbps": 0.1},
    }
    for name, options in settings.items():
        path = tmp_path / f"{name}.mp4"
        write(path, noise, **options)
        sizes[name] = path.stat().st_size
    assert sizes["fine"] > 3 * sizes["coarse"]
    assert sizes["much"] > 2 * sizes["little"]


# Complete or not there


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.gif", "new/%04d.png", "new"])
def test_nothing_has_the_final_name_before_it_is_complete(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    writer, _ = open_writer(path, info_of())
    for frame in label_frames():
        writer.write(frame)
        assert all(".partial" in entry.name for entry in tmp_path.iterdir())
    writer.finish()
    final = tmp_path / Path(name).parts[0]
    assert [*tmp_path.iterdir()] == [final]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webp", "new/%04d.png", "a.png"])
@pytest.mark.parametrize("count", [0, 3])
def test_discard_leaves_nothing(tmp_path: Path, name: str, count: int) -> None:
    info = info_of(still=name == "a.png")
    writer, _ = open_writer(tmp_path / name, info)
    for frame in label_frames(3)[:count]:
        writer.write(frame)
    writer.discard()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".webm", ".mkv", ".gif", ".apng"])
def test_an_interrupted_file_plays(tmp_path: Path, suffix: str) -> None:
    origin = make_clip(tmp_path / "in.mp4", 20, sound=True)
    writer, _ = open_writer(tmp_path / f"a{suffix}", info_of(), source=origin)
    for frame in label_frames(5):
        writer.write(frame)
    kept = writer.keep_partial()
    assert kept == tmp_path / f"a.partial{suffix}"
    assert [read_label(frame.pixels) for frame in read(kept)] == [0, 1, 2, 3, 4]
    assert {*tmp_path.iterdir()} == {origin, kept}
    if suffix in (".mp4", ".mov", ".mkv"):
        sound = packets(kept, "audio")
        assert 0.1 < sound[-1][0] <= 0.24


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_video_without_frames_is_an_error(tmp_path: Path, name: str) -> None:
    writer, _ = open_writer(tmp_path / name, info_of())
    with pytest.raises(OutputError, match="no frames"):
        writer.finish()
    writer.discard()
    assert not list(tmp_path.iterdir())


# Where it cannot go


def test_images_that_would_be_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert replaced_images(folder, 2, None) == []
    folder.mkdir()
    for name in ("0000.png", "0001.png", "x.0001.png", "1.png", ".0000.png"):
        (folder / name).write_text("precious")
    for path in (folder, folder / "%04d.png"):
        check_target(path, overwrite=False)
        assert replaced_images(path, 1, None) == ["0000.png"]
        assert replaced_images(path, None, None) == ["0000.png", "0001.png"]
        assert replaced_images(path, 9, 1) == ["0001.png"]
    frames = [("x.0001", 1), ("x.0002", 2)]
    assert replaced_images(folder, frames, None) == ["x.0001.png"]
    assert replaced_images(folder / "x.####.png", frames, None) == ["x.0001.png"]
    assert replaced_images(folder / "x.####.png", frames, 2) == []


def test_images_need_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(OutputError, match="is a file; images need a folder"):
        check_target(tmp_path / "out", overwrite=True)


@pytest.mark.parametrize("name", ["", "frame%04d.png"])
def test_images_do_not_go_straight_into_the_root(name: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="images need a folder of their own"):
        check_target(Path(tmp_path.anchor) / name, overwrite=False)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.gif", "%04d.png"])
def test_a_folder_that_takes_no_files(name: str) -> None:
    """/proc lets not even root create files; the writer must not rely on the check."""
    path = Path("/proc") / name
    if not path.parent.is_dir():
        pytest.skip("no /proc here")
    with pytest.raises(OutputError, match=r"/proc/.*cannot be written"):
        write(path, label_frames(2))


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
@pytest.mark.parametrize("free", [0, 4096, 8192])
def test_a_disk_that_is_full_at_the_very_end(disk: Path, name: str, free: int) -> None:
    """What is buffered until the file is closed must not be lost unnoticed."""
    with (disk / "ballast").open("wb") as ballast:
        ballast.write(bytes(300 * 1024 - 4096 - free))
    rng = np.random.default_rng(0)
    noise = picture_frames(list(rng.integers(0, 256, (3, 64, 96, 3), np.uint8)))
    writer, encoding = open_writer(disk / name, info_of())
    with pytest.raises(OutputError, match="no space left"):  # noqa: PT012
        for frame in noise:
            pixels = frame.pixels
            if encoding.sixteen_bit:
                pixels = pixels.astype(np.uint16) * 257
            writer.write(replace(frame, pixels=pixels))
        writer.finish()
    writer.discard()
    assert [file.name for file in disk.iterdir()] == ["ballast"]


def test_an_error_names_its_errno_in_words(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").mkdir()
    writer, _ = open_writer(tmp_path / "b.mp4", info_of())
    writer.path = tmp_path / "a.mp4"  # a folder cannot be replaced by a file
    writer.write(label_frames(1)[0])
    with pytest.raises(OutputError) as caught:
        writer.finish()
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EISDIR
    writer.discard()


@pytest.mark.parametrize("codec", [*filter(is_nvenc, formats.CODECS)])
def test_an_encoder_of_a_gpu(tmp_path: Path, codec: str) -> None:
    out, frames = tmp_path / "out.mkv", label_frames(size=(320, 240))
    if opens(codec):
        write(out, frames, codec=codec)
        with VideoReader(out) as reader:
            assert [read_label(frame.pixels) for frame in reader] == list(range(6))
        return
    other = codec.split("_")[0]
    with pytest.raises(OutputError, match=f"{codec} needs an NVIDIA GPU.*{other}"):
        write(out, frames, codec=codec)
    assert not list(tmp_path.iterdir())
