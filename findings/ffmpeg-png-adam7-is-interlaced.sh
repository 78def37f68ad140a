#!/bin/sh
# Expected: AV_FRAME_FLAG_INTERLACED marks pictures of two fields, and deinterlacers act on
# it. Actual: FFmpeg's PNG decoder sets it for Adam7, PNG's pixel order for progressive
# display, although the picture has no fields; so yadif and bwdif with deint=interlaced
# change the pictures of a lossless PNG video.
# Source: W3C PNG (third edition), 8.1 (interlace methods).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 numpy==2.3.5
"$folder/venv/bin/python" - "$folder/in.avi" <<'PYTHON'
import sys
from fractions import Fraction

import av
import numpy as np

path = sys.argv[1]
pictures = [np.random.default_rng(n).integers(0, 256, (48, 64, 3), np.uint8) for n in range(4)]
with av.open(path, "w") as container:
    stream = container.add_stream("png", rate=25, options={"flags": "+ildct"})
    stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
    for index, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, "rgb24")
        frame.pts, frame.time_base = index, Fraction(1, 25)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
with av.open(path) as container:
    decoded = list(container.decode(video=0))
exact = [np.array_equal(a.to_ndarray(), b) for a, b in zip(decoded, pictures)]
flags = [frame.interlaced_frame for frame in decoded]
graph = av.filter.Graph()
graph.link_nodes(
    graph.add("buffer", "video_size=64x48:pix_fmt=rgb24:time_base=1/25"),
    graph.add("bwdif", "mode=send_frame:deint=interlaced"),
    graph.add("format", "rgb24"),
    graph.add("buffersink"),
).configure()
for frame in decoded:
    graph.push(frame)
changed = not np.array_equal(graph.vpull().to_ndarray(), pictures[0])
print("PyAV", av.__version__, "libavcodec", av.library_versions["libavcodec"])
print("decoded exactly:", exact)
print("flagged as interlaced:", flags)
print("changed by bwdif=deint=interlaced:", changed)
as_met = all(exact) and all(flags) and changed
print("as met" if as_met else "this has changed")
sys.exit(not as_met)
PYTHON
