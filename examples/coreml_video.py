"""Matte a clip with CoreML, on a Mac.

    rematte export coreml --precision int8 --static 1920x1080 --downsample-ratio 0.25
    python examples/coreml_video.py rvm_mobilenetv3_1920x1080_s0.25_int8.mlpackage \
        clip.mp4 out.mp4

The model has a fixed size, to which frames are resized. out.mp4 shows the person over
green. A .mlmodel file is used in the same way.
"""

import platform
import sys

import av
import coremltools as ct
import numpy as np
from PIL import Image

from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader

if platform.system() != "Darwin":
    raise SystemExit("CoreML runs on macOS only; the model can be written anywhere")
name, clip, target = sys.argv[1:]
model = ct.models.model.MLModel(name)
frame_type = model.get_spec().description.input[0].type.imageType
size = frame_type.width, frame_type.height
green = np.array([120, 255, 153])

r1, r2, r3, r4 = None, None, None, None

with (
    VideoReader(clip, ReadOptions(size=size)) as reader,
    av.open(target, "w") as output,
):
    stream = output.add_stream("libx264", rate=reader.info.rate)
    stream.width, stream.height = size
    for frame in reader:
        src = Image.fromarray(frame.pixels)
        if r1 is None:
            # Initial frame, do not provide recurrent states.
            inputs = {"src": src}
        else:
            # Subsequent frames, provide recurrent states.
            inputs = {"src": src, "r1i": r1, "r2i": r2, "r3i": r3, "r4i": r4}

        outputs = model.predict(inputs)
        fgr = np.asarray(outputs["fgr"].convert("RGB"))  # PIL.Image.
        pha = np.asarray(outputs["pha"].convert("L"))[..., None] / 255  # PIL.Image.

        r1 = outputs["r1o"]  # Numpy array.
        r2 = outputs["r2o"]  # Numpy array.
        r3 = outputs["r3o"]  # Numpy array.
        r4 = outputs["r4o"]  # Numpy array.

        pixels = (fgr * pha + green * (1 - pha)).round().astype(np.uint8)
        output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
    output.mux(stream.encode(None))
