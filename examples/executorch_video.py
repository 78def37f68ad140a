"""Matte a clip with ExecuTorch, as on a phone.

    rematte export executorch --static 1920x1080 --downsample-ratio 0.25
    python examples/executorch_video.py rvm_mobilenetv3_1920x1080_s0.25_fp32.pte \
        clip.mp4 out.mp4

The model has a fixed size, to which frames are resized. out.mp4 shows the person over
green.
"""

import sys
from pathlib import Path

import av
import torch
from executorch.runtime import Runtime

from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader

model, clip, target = sys.argv[1:]
method = Runtime.get().load_program(Path(model)).load_method("forward")
_, _, height, width = method.metadata.input_tensor_meta(0).sizes()
shapes = [method.metadata.input_tensor_meta(n).sizes() for n in (1, 2, 3, 4)]

rec = [torch.zeros(shape) for shape in shapes]  # Initial recurrent states.
green = torch.tensor([0.47, 1, 0.6]).view(3, 1, 1)

with (
    VideoReader(clip, ReadOptions(size=(width, height))) as reader,
    av.open(target, "w") as output,
):
    stream = output.add_stream("libx264", rate=reader.info.rate)
    stream.width, stream.height = width, height
    for frame in reader:
        src = torch.from_numpy(frame.pixels).permute(2, 0, 1)[None].contiguous() / 255
        fgr, pha, *rec = method.execute([src, *rec])
        rec = [state.clone() for state in rec]  # The next run writes over them.

        composite = (fgr * pha + green * (1 - pha))[0]
        pixels = (composite * 255).round().byte().permute(1, 2, 0).contiguous()
        output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels.numpy())))
    output.mux(stream.encode(None))
