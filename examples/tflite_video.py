"""Matte a clip with TensorFlow Lite, now LiteRT. It needs no TensorFlow.

    rematte export tflite --static 1280x720 --downsample-ratio 0.375 --output net.tflite
    python examples/tflite_video.py net.tflite clip.mp4 out.mp4

The model has a fixed size, to which frames are resized. out.mp4 shows the person over
green.
"""

import sys

import av
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader

path, clip, target = sys.argv[1:]
model = Interpreter(model_path=path).get_signature_runner()
shapes = {name: entry["shape"] for name, entry in model.get_input_details().items()}
_, height, width, _ = map(int, shapes["src"])
rec = [np.zeros(shapes[f"r{n}i"], np.float32) for n in range(1, 5)]
green = np.array([0.47, 1, 0.6], np.float32)

with (
    VideoReader(clip, ReadOptions(size=(width, height))) as reader,
    av.open(target, "w") as output,
):
    stream = output.add_stream("libx264", rate=reader.info.rate)
    stream.width, stream.height = width, height
    for frame in reader:
        # src is of shape [B, H, W, C], as are the states.
        src = frame.pixels[None].astype(np.float32) / 255
        out = model(src=src, r1i=rec[0], r2i=rec[1], r3i=rec[2], r4i=rec[3])
        fgr, pha = out["fgr"], out["pha"]
        rec = [out["r1o"], out["r2o"], out["r3o"], out["r4o"]]
        composite = fgr * pha + green * (1 - pha)
        pixels = (composite[0] * 255).round().astype(np.uint8)
        output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
    output.mux(stream.encode(None))
