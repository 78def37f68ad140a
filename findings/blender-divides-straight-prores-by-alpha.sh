#!/bin/sh
# Expected: Blender treats the colours of a video as the image's alpha mode says; with
# STRAIGHT they stay unchanged, and the compositor multiplies by alpha. This is true of PNG
# and of 8-bit videos. Actual: videos of more than 8 bits, such as ProRes 4444, become
# floats, which Blender 5.0.1 treats as premultiplied in every mode. It divides display
# values by alpha before it makes them linear, so that straight colours get too bright at
# edges.
# Sources: Blender 5.0 manual, Image > Alpha ("Straight: Store RGB and alpha channels
# separately"); Apple ProRes white paper: files say nothing of premultiplication.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet bpy==5.0.1 av==18.1.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from pathlib import Path

import av
import bpy
import numpy as np

GRAY, ALPHA = 0.5, 0.25
picture = np.full((64, 64, 4), round(GRAY * 65535), np.uint16)
picture[..., 3] = round(ALPHA * 65535)
found = {}
for name, codec, pix_fmt in (
    ("ProRes 4444", "prores_ks", "yuva444p10le"), ("QuickTime RLE", "qtrle", "argb"),
):
    path = f"{codec}.mov"
    with av.open(path, "w") as file:
        stream = file.add_stream(codec, rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = pix_fmt
        frame = av.VideoFrame.from_ndarray(picture, "rgba64le")
        file.mux([*stream.encode(frame.reformat(format=pix_fmt)), *stream.encode(None)])
    for mode in "STRAIGHT", "PREMUL":
        image = bpy.data.images.load(f"{Path.cwd()}/{path}")
        image.source, image.alpha_mode = "MOVIE", mode
        red, _, _, alpha = image.pixels[:4]
        found[name, mode] = red
        print(f"{name}, {mode}: red {red:.3f}, alpha {alpha:.3f}, floats {image.is_float}")
linear = ((GRAY + 0.055) / 1.055) ** 2.4
divided = ALPHA * ((GRAY / ALPHA + 0.055) / 1.055) ** 2.4
print(f"straight: {linear:.3f} linear, {GRAY} display; divided by alpha: {divided:.3f}")
print("bpy", bpy.app.version_string)
as_met = (
    abs(found["ProRes 4444", "STRAIGHT"] - divided) < 0.03
    and abs(found["ProRes 4444", "PREMUL"] - divided) < 0.03
    and abs(found["QuickTime RLE", "STRAIGHT"] - GRAY) < 0.01
)
print("as met" if as_met else "this has changed")
sys.exit(not as_met)
PYTHON
