"""Matte a clip with ncnn.

    rematte export ncnn --static 1920x1080 --downsample-ratio 0.25
    python examples/ncnn_video.py rvm_mobilenetv3_1920x1080_s0.25_fp32.ncnn.param \
        clip.mp4 out.mp4

The model has a fixed size, to which frames are resized. out.mp4 shows the person over
green.
"""

import sys
from pathlib import Path

import av
import ncnn
import numpy as np

from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader

model, clip, target = sys.argv[1:]
net = ncnn.Net()
net.load_param(model)
net.load_model(str(Path(model).with_suffix(".bin")))

# "Input r1i 0 1 r1i 0=WIDTH 1=HEIGHT 2=CHANNELS"
shapes = {}
for line in Path(model).read_text().splitlines():
    words = line.split()
    if words[0] == "Input":
        shapes[words[1]] = [int(word[2:]) for word in reversed(words[-3:])]
_, height, width = shapes.pop("src")

rec = [np.zeros(shape, np.float32) for shape in shapes.values()]
green = np.array([0.47, 1, 0.6], np.float32).reshape(3, 1, 1)

with (
    VideoReader(clip, ReadOptions(size=(width, height))) as reader,
    av.open(target, "w") as output,
):
    stream = output.add_stream("libx264", rate=reader.info.rate)
    stream.width, stream.height = width, height
    for frame in reader:
        planes = np.moveaxis(frame.pixels, -1, 0).astype(np.float32) / 255
        src = np.ascontiguousarray(planes)
        run = net.create_extractor()
        for name, array in zip(("src", *shapes), (src, *rec), strict=True):
            run.input(name, ncnn.Mat(array).clone())
        fgr, pha, *rec = (
            np.array(run.extract(name)[1])
            for name in ("fgr", "pha", "r1o", "r2o", "r3o", "r4o")
        )
        composite = fgr * pha + green * (1 - pha)
        pixels = (composite * 255).round().astype(np.uint8).transpose(1, 2, 0)
        pixels = np.ascontiguousarray(pixels)
        output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
    output.mux(stream.encode(None))
