"""Matte a clip with ONNX Runtime in the simplest way.

    rematte export onnx
    python examples/onnx_naive.py rvm_mobilenetv3_fp32.onnx clip.mp4 out.mp4 0.25

The input is a video or an image folder; out.mp4 shows the person over green.
"""

import os
import sys

import av
import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # ONNX Runtime reads it when it is imported
import onnxruntime as ort

from rematte.video.reader import VideoReader

model, clip, target, ratio = sys.argv[1:]
usual = ["CUDAExecutionProvider", "CPUExecutionProvider"]
providers = [name for name in usual if name in ort.get_available_providers()]
sess = ort.InferenceSession(model, providers=providers)

dtype = np.float16 if "float16" in sess.get_inputs()[0].type else np.float32
rec = [np.zeros([1, 1, 1, 1], dtype)] * 4  # Must match dtype of the model.
downsample_ratio = np.array([float(ratio)], np.float32)  # dtype always FP32
green = np.array([0.47, 1, 0.6], dtype).reshape(1, 3, 1, 1)

with VideoReader(clip) as reader, av.open(target, "w") as output:
    stream = output.add_stream("libx264", rate=reader.info.rate)
    stream.width, stream.height = reader.info.width, reader.info.height
    for frame in reader:
        # src is of [B, C, H, W] with dtype of the model.
        src = np.moveaxis(frame.pixels, -1, 0)[None].astype(dtype) / 255
        fgr, pha, *rec = sess.run([], {
            "src": src,
            "r1i": rec[0],
            "r2i": rec[1],
            "r3i": rec[2],
            "r4i": rec[3],
            "downsample_ratio": downsample_ratio,
        })  # fmt: skip
        composite = fgr * pha + green * (1 - pha)
        pixels = (composite[0] * 255).round().astype(np.uint8).transpose(1, 2, 0)
        output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
    output.mux(stream.encode(None))
