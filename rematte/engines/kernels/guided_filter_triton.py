"""Applies the guided filter to full-size frames on a CUDA GPU in one Triton kernel.

The frame is read once, foreground and alpha are written once, and nothing else of full
size exists.

Source:
    He and Sun, Fast Guided Filter, 2015, for the local linear model.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 256  # pixels


@triton.jit
def _mixed(channel, y0, x0, y1, x1, down, right, width, inside):
    """Interpolate a map between its four nearest values."""
    a = tl.load(channel + y0 * width + x0, inside, 0)
    b = tl.load(channel + y0 * width + x1, inside, 0)
    upper = a + right * (b - a)
    a = tl.load(channel + y1 * width + x0, inside, 0)
    b = tl.load(channel + y1 * width + x1, inside, 0)
    lower = a + right * (b - a)
    return upper + down * (lower - upper)


@triton.jit
def _finish(
    frame, maps, fgr, pha, height, width, small_height, small_width, step_y, step_x,
    block: tl.constexpr,
):  # fmt: skip
    """Apply the filter to `block` pixels of one frame, and clamp."""
    of, full, small = tl.program_id(1), height * width, small_height * small_width
    at = tl.program_id(0) * block + tl.arange(0, block)
    inside = at < full
    frame += of.to(tl.int64) * 3 * full + at
    fgr += of.to(tl.int64) * 3 * full + at
    pha += of.to(tl.int64) * full + at
    maps += of.to(tl.int64) * 8 * small
    # As torch's bilinear interpolation places them.
    down = tl.maximum((at // width + 0.5) * step_y - 0.5, 0.0)
    right = tl.maximum((at % width + 0.5) * step_x - 0.5, 0.0)
    y0 = tl.minimum(down.to(tl.int32), small_height - 1)
    x0 = tl.minimum(right.to(tl.int32), small_width - 1)
    y1, x1 = tl.minimum(y0 + 1, small_height - 1), tl.minimum(x0 + 1, small_width - 1)
    down, right = down - y0, right - x0
    r = tl.load(frame, inside, 0).to(tl.float32)
    g = tl.load(frame + full, inside, 0).to(tl.float32)
    b = tl.load(frame + 2 * full, inside, 0).to(tl.float32)
    gray = (r + g + b) / 3
    for c in tl.static_range(4):
        slope = _mixed(
            maps + c * small, y0, x0, y1, x1, down, right, small_width, inside
        )
        offset = _mixed(
            maps + (c + 4) * small, y0, x0, y1, x1, down, right, small_width, inside
        )
        if c == 3:
            value = offset + slope * gray
            out = pha
        else:
            own = r if c == 0 else (g if c == 1 else b)
            value = offset + slope * own + own
            out = fgr + c * full
        value = tl.minimum(tl.maximum(value, 0.0), 1.0)
        tl.store(out, value.to(out.dtype.element_ty), inside)


def finish(frame: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Apply the guided filter and clamp, as `cuda_graph.finish` does."""
    count, _, height, width = frame.shape
    small_height, small_width = maps.shape[-2:]
    frame = frame.contiguous()
    fgr = torch.empty_like(frame)
    pha = frame.new_empty(count, 1, height, width)
    grid = triton.cdiv(height * width, _BLOCK), count
    _finish[grid](
        frame, maps, fgr, pha, height, width, small_height, small_width,
        small_height / height, small_width / width, _BLOCK,
    )  # fmt: skip
    return fgr, pha
