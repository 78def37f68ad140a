"""Matte a clip with TensorFlow.

    rematte export tensorflow --output net
    python examples/tensorflow_video.py net clip.mp4 out.mp4 0.25

Keras 3 loads models that end in .keras (rematte export keras). The input is a video or
an image folder; out.mp4 shows the person over green.
"""

import sys

import av
import keras
import numpy as np
import tensorflow as tf

import rematte.tensorflow  # noqa: F401 - lets Keras know the network
from rematte.video.reader import VideoReader

path, clip, target, ratio = sys.argv[1:]
if path.endswith(".keras"):
    model = tf.function(keras.models.load_model(path))
else:
    model = tf.saved_model.load(path)

rec = [tf.constant(0.0)] * 4  # Initial recurrent states.
downsample_ratio = tf.constant(float(ratio))  # Adjust based on your video.
green = tf.constant([0.47, 1, 0.6])

with VideoReader(clip) as reader, av.open(target, "w") as output:
    stream = output.add_stream("libx264", rate=reader.info.rate)
    stream.width, stream.height = reader.info.width, reader.info.height
    for frame in reader:
        # src is of shape [B, H, W, C], not [B, C, H, W]!
        src = tf.constant(frame.pixels[None], tf.float32) / 255
        out = model([src, *rec, downsample_ratio])
        fgr, pha = out["fgr"], out["pha"]
        rec = [out["r1o"], out["r2o"], out["r3o"], out["r4o"]]
        composite = fgr * pha + green * (1 - pha)
        pixels = (composite[0].numpy() * 255).round().astype(np.uint8)
        output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
    output.mux(stream.encode(None))
