#!/usr/bin/env bash
# One expects that the option apply_trc of FFmpeg's OpenEXR decoder gives pictures the
# sRGB curve, as it does in FFmpeg 8, or that an option which a decoder does not have is
# an error. FFmpeg 9 no longer has it, and PyAV 19 passes it on without a word: the same
# program gets scene-linear values, so that middle gray, 0.18, stays 0.18, not 0.46, and
# pictures come out dark.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# PyAV 19 needs Python 3.12 or newer.
for python in python3.{14,13,12} "$HOME"/.pyenv/versions/3.1[2-9].*/bin/python3; do
	"$python" -c "" 2>/dev/null && break
done
"$python" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 openexr==3.5.3

cat >"$folder/write.py" <<'EOF'
import sys

import numpy as np
import OpenEXR

gray = np.full((16, 16, 3), 0.18, np.float32)
header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
OpenEXR.File(header, {"RGB": gray}).write(sys.argv[1])
EOF
cat >"$folder/read.py" <<'EOF'
import sys

import av
import numpy as np

path, expected = sys.argv[1], float(sys.argv[2])
with av.open(path) as container:
    context = container.streams.video[0].codec_context
    context.options = {"apply_trc": "iec61966_2_1"}
    frame = next(container.decode(video=0))
value = np.frombuffer(frame.planes[0], np.float32)[0]
print(f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}: 0.18 is read as", end=" ")
print(f"{value:.4f}, transfer characteristic {int(frame.color_trc)}")
assert abs(value - expected) < 1e-3
EOF
"$folder/venv/bin/python" "$folder/write.py" "$folder/gray.exr"
for version_and_value in "18.1.0 0.4613" "19.0.2 0.18"; do
	read -r version value <<<"$version_and_value"
	"$folder/venv/bin/pip" install --quiet "av==$version"
	"$folder/venv/bin/python" "$folder/read.py" "$folder/gray.exr" "$value"
done
