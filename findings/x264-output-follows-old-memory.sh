#!/bin/sh
# Expected: x264 is deterministic, so the same frames with the same settings and number
# of threads give the same packets. Actual: with its default macroblock-tree rate control
# and small pictures, the packets depend on what freshly allocated memory held before.
# In a plain loop they are equal, since that memory comes zeroed from the system. In a
# program that has used its memory already, such as one that runs a network, they differ
# from run to run by a few bytes, and decoded pixels by a few levels. Here glibc's
# MALLOC_PERTURB_ stands for such a program. With mbtree=0 the packets are equal.
# Source: packets of PyAV's libx264; glibc's manual on MALLOC_PERTURB_.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 numpy==2.4.6
cat >"$folder/encode.py" <<'PYTHON'
import hashlib
import sys
from fractions import Fraction

import av
import numpy as np

WIDTH, HEIGHT = 320, 240
y, x = np.mgrid[:HEIGHT, :WIDTH]
encoder = av.codec.CodecContext.create("libx264", "w")
encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
encoder.time_base, encoder.framerate = Fraction(1, 25), 25
encoder.thread_count = 2
encoder.options = {"crf": "18", "x264-params": sys.argv[1]}
digest = hashlib.sha256()
for index in range(8):
    picture = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    picture[..., 0] = np.sin((x + 5 * index) / 9) * np.cos(y / 7) * 100 + 128
    picture[..., 1] = (x * 3 + y + 9 * index) % 256
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    frame = frame.reformat(format="yuv420p")
    frame.pts = index
    for packet in encoder.encode(frame):
        digest.update(bytes(packet))
for packet in encoder.encode(None):
    digest.update(bytes(packet))
print(digest.hexdigest()[:16])
PYTHON
encode() {
	for byte in 1 85 127 200; do
		MALLOC_PERTURB_=$byte "$folder/venv/bin/python" "$folder/encode.py" "$1"
	done
}
encode mbtree=1 >"$folder/tree"
encode mbtree=0 >"$folder/plain"
echo "PyAV 18.1.0, 320x240, memory filled with 1, 85, 127 and 200"
echo "mbtree=1: $(tr '\n' ' ' <"$folder/tree")"
echo "mbtree=0: $(tr '\n' ' ' <"$folder/plain")"
test "$(sort -u "$folder/tree" | wc -l)" -gt 1
test "$(sort -u "$folder/plain" | wc -l)" -eq 1
