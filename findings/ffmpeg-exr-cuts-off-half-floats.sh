#!/bin/sh
# Expected: FFmpeg's OpenEXR encoder rounds to the nearest half float, which is the default
# of IEEE 754 and what NumPy does. Actual: it truncates the bits that half floats lack, so
# that values are too small by up to one unit in the last place, and by half of one on
# average. In a composite over white in linear light, dark pixels of nearly full alpha are
# wrong by more than 1 of 255 levels of sRGB.
# Sources: IEEE 754-2019, 4.3.3 (the default is the nearest); FFmpeg's documentation of the
# encoder exr, which says nothing of rounding.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 numpy==2.4.6 openexr==3.5.3
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from fractions import Fraction

import av
import numpy as np
import OpenEXR

values = np.linspace(0.5, 1, 64 * 64, endpoint=False, dtype=np.float32).reshape(64, 64)
with av.open("ramp.exr", "w", format="image2", options={"update": "1"}) as file:
    stream = file.add_stream("exr", rate=Fraction(25), options={"format": "half"})
    stream.width = stream.height = 64
    stream.pix_fmt = "gbrpf32le"
    picture = av.VideoFrame.from_ndarray(values[..., None].repeat(3, 2), "gbrpf32le")
    file.mux([*stream.encode(picture), *stream.encode(None)])
with OpenEXR.File("ramp.exr", separate_channels=True) as file:
    written = file.channels()["R"].pixels
nearest = values.astype(np.float16)
lower = (values.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)

step = 2.0**-11  # of half floats between 0.5 and 1
error = (written.astype(np.float64) - values) / step
print("PyAV", av.__version__, "libavcodec", av.library_versions["libavcodec"])
print(f"the encoder's error: {error.min():.3f} to {error.max():.3f} of a step")
print(f"the nearest's error: {((nearest - values) / step).min():.3f} to "
      f"{((nearest - values) / step).max():.3f}")  # fmt: skip
as_met = (written == lower).all() and not (written == nearest).all()
print("as met" if as_met else "this has changed")
sys.exit(not as_met)
PYTHON
