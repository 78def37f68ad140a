#!/bin/sh
# Expected: an encoder takes the pixel formats that it lists. Actual: FFmpeg's libx265 in
# PyAV's wheel lists yuva420p (HEVC with an alpha layer), and opening it fails with
# "Operation not supported". So test by opening the encoder, not by its list.
# Source: FFmpeg's documentation of avcodec_get_supported_config (AV_CODEC_CONFIG_PIX_FORMAT).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from fractions import Fraction

import av

listed = [each.name for each in av.Codec("libx265", "w").video_formats]


def opens(pixel_format: str) -> str:
    context = av.CodecContext.create("libx265", "w")
    context.width = context.height = 256
    context.pix_fmt, context.time_base = pixel_format, Fraction(1, 25)
    context.options = {"x265-params": "log-level=none"}
    try:
        context.open()
    except av.error.FFmpegError as error:
        return f"refused: {error.strerror}"
    return "opens"


print("PyAV", av.__version__, "libavcodec", av.library_versions["libavcodec"])
print("yuva420p is listed:", "yuva420p" in listed)
print("yuv420p", opens("yuv420p"), "- yuva420p", opens("yuva420p"))
as_met = "yuva420p" in listed and opens("yuva420p") != "opens" == opens("yuv420p")
print("as met" if as_met else "this has changed")
sys.exit(not as_met)
PYTHON
