#!/usr/bin/env bash
# One expects that packets of sound which are copied from an MP4 to Matroska, without
# those that the MP4's edit list hides, are heard from the first one on, as with FFmpeg 8.
# FFmpeg 9 takes all that the edit list hides for the encoder's delay, not only the 1024
# samples that AAC needs, and its Matroska muxer writes that delay. So as much sound is
# hidden once more, of the packets that were copied: here 0.3 s, without any message.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# PyAV 19 needs Python 3.12 or newer.
for python in python3.{14,13,12} "$HOME"/.pyenv/versions/3.1[2-9].*/bin/python3; do
	"$python" -c "" 2>/dev/null && break
done
"$python" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==19.0.2 numpy==2.4.6

cat >"$folder/remux.py" <<'EOF'
import sys
from fractions import Fraction

import av
import numpy as np

RATE = 48000
source, copy = sys.argv[1:]
# A second of noise, which begins 0.3 s before the file's time 0.
with av.open(source, "w") as container:
    sound = container.add_stream("aac", rate=RATE, layout="mono")
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1, RATE)).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(noise, "fltp", "mono")
    frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
    frame.pts = round(-0.3 * RATE)
    for packet in [*sound.encode(frame), *sound.encode(None)]:
        container.mux(packet)

copied = 0
with av.open(source) as given, av.open(copy, "w") as container:
    sound = given.streams.audio[0]
    delay = sound.codec_context.delay
    stream = container.add_stream_from_template(sound)
    for packet in given.demux(sound):
        if packet.size and packet.pts + packet.duration > 0:
            copied += packet.duration
            packet.stream = stream
            container.mux(packet)
with av.open(copy) as container:
    heard = sum(frame.samples for frame in container.decode(audio=0))

print(f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}")
print(f"delay of the MP4's sound: {delay} samples, of which AAC needs 1024")
print(f"copied {copied} samples, heard {heard}")
assert delay == 1024 + round(0.3 * RATE)
assert copied - heard > 0.25 * RATE, "the sound that was copied is heard"
EOF
"$folder/venv/bin/python" "$folder/remux.py" "$folder/in.mp4" "$folder/copy.mkv"
