"""The network in TensorFlow: a Keras 3 model, channels last, for inference.

This is `rematte.network.matting_network` in another framework, with the same names, and
it takes the weights of any checkpoint of that one. Batch norms are folded into the
convolutions before them. It needs nothing of rematte but this folder, which
may be copied.

As documented, states begin as scalar zeros and the ratio is a scalar tensor:

    model = keras.models.load_model("rvm_mobilenetv3_fp32.keras")
    model = tf.function(model)
    rec = [tf.constant(0.)] * 4
    downsample_ratio = tf.constant(0.25)
    for src in YOUR_VIDEO:  # (B, H, W, 3), RGB in [0, 1]
        out = model([src, *rec, downsample_ratio])
        fgr, pha = out["fgr"], out["pha"]
        rec = [out["r1o"], out["r2o"], out["r3o"], out["r4o"]]

`keras.models.load_model` needs `import rematte.tensorflow` before it. A SavedModel
needs nothing: `tf.saved_model.load(folder)` gives what is called in the same way.

Source:
    Lin, Yang, Saleemi, Sengupta, Robust High-Resolution Video Matting with Temporal
    Guidance, 2021 (arXiv 2108.11515).
"""

from .matting_network import INPUTS, OUTPUTS, MattingNetwork

__all__ = ["INPUTS", "OUTPUTS", "MattingNetwork"]
