"""Matte a clip with ONNX Runtime, keeping the recurrent states on the device.

    rematte export onnx --precision float16
    python examples/onnx_io_binding.py rvm_mobilenetv3_fp16.onnx clip.mp4 out.mp4 0.25

The input is a video or an image folder; out.mp4 shows the person over green.
`rematte.export.run_onnx.OnnxMatting` is this loop as a class.
"""

import os
import sys

import av
import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # ONNX Runtime reads it when it is imported
import onnxruntime as ort

from rematte.video.reader import VideoReader

model, clip, target, ratio = sys.argv[1:]
# Load model.
usual = ["CUDAExecutionProvider", "CPUExecutionProvider"]
providers = [name for name in usual if name in ort.get_available_providers()]
sess = ort.InferenceSession(model, providers=providers)
device = "cuda" if "CUDAExecutionProvider" in sess.get_providers() else "cpu"

# Create an io binding.
io = sess.io_binding()

# Create tensors on the device.
dtype = np.float16 if "float16" in sess.get_inputs()[0].type else np.float32
zeros = np.zeros([1, 1, 1, 1], dtype)
rec = [ort.OrtValue.ortvalue_from_numpy(zeros, device)] * 4
downsample_ratio = ort.OrtValue.ortvalue_from_numpy(
    np.asarray([float(ratio)], np.float32), device
)
green = np.array([0.47, 1, 0.6], dtype).reshape(1, 3, 1, 1)

# Set output binding.
for name in ["fgr", "pha", "r1o", "r2o", "r3o", "r4o"]:
    io.bind_output(name, device)

# Inference loop
with VideoReader(clip) as reader, av.open(target, "w") as output:
    stream = output.add_stream("libx264", rate=reader.info.rate)
    stream.width, stream.height = reader.info.width, reader.info.height
    for frame in reader:
        src = np.moveaxis(frame.pixels, -1, 0)[None].astype(dtype) / 255
        io.bind_cpu_input("src", src)
        io.bind_ortvalue_input("r1i", rec[0])
        io.bind_ortvalue_input("r2i", rec[1])
        io.bind_ortvalue_input("r3i", rec[2])
        io.bind_ortvalue_input("r4i", rec[3])
        io.bind_ortvalue_input("downsample_ratio", downsample_ratio)
        sess.run_with_iobinding(io)
        fgr, pha, *rec = io.get_outputs()
        # Only transfer `fgr` and `pha` to CPU.
        fgr = fgr.numpy()  # On the CPU, the next frame is written over them.
        pha = pha.numpy()
        composite = fgr * pha + green * (1 - pha)
        pixels = (composite[0] * 255).round().astype(np.uint8).transpose(1, 2, 0)
        output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
    output.mux(stream.encode(None))
