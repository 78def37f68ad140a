"""What is heard stays at what is seen, although decoders need samples before it."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import packets
from fakes import Fake, convert, sound

RATE = 48000
AT = 0.4  # of the flash in the picture, and of the click in the sound [s]


def write(path: Path, codec: str, picture: float, heard: float) -> Path:
    """Write a flash and a click, with a start [s] of the picture and of the sound."""
    options = {"avoid_negative_ts": "disabled"} if min(picture, heard) < 0 else {}
    pulse = np.zeros((1, RATE), np.int16)
    pulse[0, 2 * round(AT * RATE) :][:48] = 30000
    with av.open(str(path), "w", options=options) as container:
        kind = "libvpx" if path.suffix == ".webm" else "libx264"
        video: Any = container.add_stream(kind, rate=25, width=32, height=32)
        video.codec_context.time_base = Fraction(1, 1000)
        video.options = {} if path.suffix == ".webm" else {"bf": "0"}
        sound: Any = container.add_stream(codec, rate=RATE, layout="stereo")
        sound.bit_rate = 192000
        resampler = av.AudioResampler(sound.codec_context.format, "stereo", RATE)
        piece: Any = av.AudioFrame.from_ndarray(pulse, "s16", "stereo")
        piece.sample_rate, piece.time_base = RATE, Fraction(1, RATE)
        piece.pts = round(heard * RATE)
        pieces = [*resampler.resample(piece), *resampler.resample(None), None]
        packets = [packet for each in pieces for packet in sound.encode(each)]
        for index in range(13):
            level = 235 if index == 25 * AT else 60
            pixels = np.full((48, 32), level, np.uint8)
            pixels[32:] = 128
            frame: Any = av.VideoFrame.from_ndarray(pixels, "yuv420p")
            frame.time_base, frame.pts = Fraction(1, 1000), 40 * index
            frame.pts += round(1000 * picture)
            packets += video.encode(frame)
        packets += video.encode(None)
        for packet in sorted(packets, key=lambda each: each.dts * each.time_base):
            container.mux(packet)
    return path


def positions(path: Path) -> tuple[float, float]:
    """When the flash is seen and the click is heard [s]."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    light = np.array([frame.to_ndarray(format="gray").mean() for frame in frames])
    flash = frames[int(np.abs(light - np.median(light)).argmax())].time
    heard: list[tuple[int, float]] = []
    resampler = av.AudioResampler("s16p", "mono", RATE)
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            for piece in resampler.resample(frame):
                samples = np.abs(piece.to_ndarray()[0].astype(int))
                loudest = int(samples.argmax())
                begin = float(piece.time or 0)
                heard.append((samples[loudest], begin + loudest / RATE))
    return float(flash), max(heard)[1]


STATED = [
    *(("aac", ".mkv"), ("aac", ".mp4"), ("libopus", ".webm"), ("libopus", ".mp4")),
    *(("libmp3lame", ".mkv"), ("ac3", ".mkv")),
]
UNSTATED = [("aac", ".ts"), ("libmp3lame", ".ts")]
BEFORE_0 = [each for each in STATED if each[1] != ".mp4"]


@pytest.mark.parametrize(("codec", "suffix", "picture", "heard"), [
    *((*each, 0.5, 0) for each in STATED + UNSTATED),
    *((*each, 0, 0.5) for each in STATED + UNSTATED),
    *((*each, -0.3, -0.3) for each in BEFORE_0),
])  # fmt: skip
def test_sound_stays_at_its_picture_and_the_first_of_them_is_at_0(
    tmp_path: Path, codec: str, suffix: str, picture: float, heard: float
) -> None:
    source = write(tmp_path / f"in{suffix}", codec, picture, heard)
    kinds = {".mov": "output", ".mkv": "output_alpha", ".webm": "output_foreground"}
    outs = {kind: tmp_path / f"out{target}" for target, kind in kinds.items()}
    convert(source, model=Fake(memory=0), **outs)
    for target, kind in kinds.items():
        seen, found = positions(outs[kind])
        # The units of source and output are a thousandth of a second.
        assert found - seen == pytest.approx(heard - picture, abs=1.1e-3), target
        # Matroska is moved up where samples lie before 0.
        if target == ".mov" and (codec, suffix) != ("libmp3lame", ".ts"):
            assert min(seen, found) == pytest.approx(AT, abs=1.1e-3)


@pytest.mark.parametrize("target", [".mkv", ".nut", ".mov"])
def test_sound_that_an_edit_list_hides_is_hidden(tmp_path: Path, target: str) -> None:
    """As an editor writes that cuts a recording without encoding it again."""
    source = write(tmp_path / "in.mp4", "aac", 0, -0.3)
    out = tmp_path / f"out{target}"
    convert(source, out, Fake(memory=0))
    seen, found = positions(out)
    assert found - seen == pytest.approx(-0.3, abs=1.1e-3)
    assert seen == pytest.approx(AT, abs=1.1 * 1024 / RATE)


def test_sound_of_unstated_lengths_is_kept_from_its_beginning(tmp_path: Path) -> None:
    """Matroska does not state the lengths of ALAC's packets; FFmpeg 9 guesses them."""
    source, out = write(tmp_path / "in.mkv", "alac", 0, 0), tmp_path / "out.mkv"
    first = packets(source, "audio")[0]
    assert first.pts == 0
    assert (first.duration or 0) in (0, 85)
    convert(source, out)
    assert sound(out) == sound(source)


def test_a_time_is_rounded_like_the_delay_of_the_encoder(tmp_path: Path) -> None:
    """Both are 6.5 ms, in a format of whole milliseconds."""
    source = write(tmp_path / "in.mp4", "libopus", 0, 0)
    out = tmp_path / "out.webm"
    convert(source, out)
    assert packets(out, "audio")[0].pts == -7  # 0 to players
