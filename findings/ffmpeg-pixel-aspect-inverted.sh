#!/bin/sh
# Expected: FFmpeg's encoders state the same pixel aspect ratio in PNG, JPEG and TIFF.
# PNG's pHYs and JFIF's densities are pixels per unit along x and along y, so that
# pixels of 4:3 (wider than high) are 3 and 4. Actual: FFmpeg writes 4 and 3 into PNG and
# JPEG, and reads them in the same way; in TIFF it writes 72 and 96, which is right.
# Sources: W3C PNG (third edition), 11.3.4.3 pHYs; ITU-T T.871, 10.1 (JFIF).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 numpy==2.3.5
"$folder/venv/bin/python" - <<'PYTHON'
import struct
import sys
from fractions import Fraction

import av


def encode(name, pix_fmt):
    context = av.CodecContext.create(name, "w")
    context.width, context.height, context.pix_fmt = 64, 48, pix_fmt
    context.time_base = Fraction(1, 25)
    context.sample_aspect_ratio = Fraction(4, 3)  # width of a pixel to its height
    frame = av.VideoFrame(64, 48, pix_fmt)
    frame.pts = 0
    packets = [*context.encode(frame), *context.encode(None)]
    return b"".join(bytes(packet) for packet in packets)


def tiff_rational(data, tag):
    (directory,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, directory)
    for index in range(count):
        name, _, _, where = struct.unpack_from("<HHII", data, directory + 2 + 12 * index)
        if name == tag:
            return Fraction(*struct.unpack_from("<II", data, where))


png, jpeg, tiff = encode("png", "rgb24"), encode("mjpeg", "yuvj444p"), encode("tiff", "rgb24")
x, y, unit = struct.unpack_from(">IIB", png, png.index(b"pHYs") + 4)
found = {"PNG": (x, y, unit)}
unit, x, y = struct.unpack_from(">BHH", jpeg, jpeg.index(b"JFIF\0") + 7)
found["JPEG"] = (x, y, unit)
found["TIFF"] = (int(tiff_rational(tiff, 282)), int(tiff_rational(tiff, 283)))
print("PyAV", av.__version__, "libavcodec", av.library_versions["libavcodec"])
for name, values in found.items():
    print(f"{name}: pixels per unit along x and y (and unit): {values}")
as_met = found == {"PNG": (4, 3, 0), "JPEG": (4, 3, 0), "TIFF": (72, 96)}
print("as met" if as_met else "this has changed")
sys.exit(not as_met)
PYTHON
