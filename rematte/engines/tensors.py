"""Pixels as tensors, and the mattes of engines that run a whole network with torch."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rematte.engines.kernels.guided_filter import Kind
from rematte.matting.matte import Matted, Plate, hide
from rematte.video.frame import Frame, Pixels


def to_tensor(pixels: Pixels, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    """Turn (..., H, W, C) 8- or 16-bit pixels into (..., C, H, W) in [0, 1]."""
    tensor = upload(torch.from_numpy(pixels), device).movedim(-1, -3)
    if pixels.dtype == np.uint16:  # white is beyond what half precision holds
        return tensor.float().div_(65535).to(dtype)
    return tensor.to(dtype).div_(255)


def to_pixels(image: Tensor, sixteen_bit: bool) -> Pixels:
    """Turn (C, H, W) in [0, 1] into (H, W, C) with 8 or 16 bits, rounded."""
    most = 65535 if sixteen_bit else 255
    # 16 bits need more than half precision has.
    image = image.float() if sixteen_bit else image
    codes = image.clamp(0, 1).mul_(most).round_().movedim(0, -1)
    codes = codes.to(torch.int32 if sixteen_bit else torch.uint8)
    array: Pixels = download(codes).numpy()
    return array.astype(np.uint16) if sixteen_bit else array


def upload(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Copy a tensor from the CPU to a device.

    A CUDA GPU gets it through pinned memory, which is four times as fast, and on a
    stream of its own, so that the GPU computes meanwhile.

    Source:
        https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-streams
    """
    device = torch.device(device)
    if device.type != "cuda":
        return tensor.to(device)
    index = torch.cuda.current_device() if device.index is None else device.index
    used, own = torch.cuda.current_stream(index), _stream(index, "up")
    with torch.cuda.stream(own):
        there = tensor.pin_memory().to(f"cuda:{index}", non_blocking=True)
    used.wait_stream(own)
    there.record_stream(used)  # its memory belongs to the other stream
    return there


def download(tensor: Tensor) -> Tensor:
    """Copy a tensor to the CPU, contiguous; from a CUDA GPU as `upload` does."""
    tensor = tensor.contiguous()  # permuted on its device, which is faster on a GPU
    if not tensor.is_cuda:
        return tensor.cpu()
    index = tensor.get_device()
    used, own = torch.cuda.current_stream(index), _stream(index, "down")
    own.wait_stream(used)
    with torch.cuda.stream(own):
        here = tensor.to("cpu", non_blocking=True)
    tensor.record_stream(own)
    own.synchronize()
    return here


@lru_cache
def _stream(index: int, direction: str) -> torch.cuda.Stream:
    """Make one stream for each GPU and direction."""
    return torch.cuda.Stream(index)


def composite(fgr: Tensor, pha: Tensor, background: Tensor) -> Tensor:
    """Lay a foreground over a background: alpha * F + (1 - alpha) * B.

    All are display-encoded and in [0, 1]: straight RGB, (..., 3, H, W), alpha, (..., 1,
    H, W), and anything that broadcasts to RGB.

    Source:
        Porter & Duff, Compositing Digital Images, 1984, operator "over".
    """
    return torch.lerp(background.to(fgr.dtype).expand_as(fgr), fgr, pha)


class TensorMatted(Matted):
    """A frame with its matte, as a network gives them.

    Attributes:
        src: The frame, (3, H, W) in [0, 1].
        fgr: Foreground, straight RGB, (3, H, W) in [0, 1]; 0 where the source's own
            alpha is 0.
        pha: Alpha, (1, H, W) in [0, 1], multiplied by the source's own.
    """

    def __init__(self, frame: Frame, src: Tensor, fgr: Tensor, pha: Tensor) -> None:
        super().__init__(frame)
        if frame.alpha is not None:
            own = to_tensor(frame.alpha, pha.device, pha.dtype)
            fgr, pha = fgr * (own > 0), pha * own
        self.src, self.fgr, self.pha = src, fgr, pha

    def pixels(
        self, kind: Kind, sixteen_bit: bool, plate: Plate | None = None
    ) -> Pixels:
        """Make the pixels of one kind of output; see `Matted.pixels`."""
        if kind == "alpha":
            return to_pixels(self.pha, sixteen_bit)
        if kind == "foreground":
            return to_pixels(self.fgr, sixteen_bit)
        if plate is not None:
            image = self._uploaded(plate, sixteen_bit)
            return to_pixels(composite(self.fgr, self.pha, image), sixteen_bit)
        return hide(to_pixels(torch.cat([self.fgr, self.pha]), sixteen_bit))

    def glimpse(self, every: int) -> list[Pixels]:
        """Sample alpha coarsely; see `Matted.glimpse`."""
        return [to_pixels(self.pha[:, ::every, ::every], False)]

    def _uploaded(self, plate: Plate, sixteen_bit: bool) -> Tensor:
        """Return a background as a tensor beside the matte; each is made once."""
        key: Any = sixteen_bit, self.fgr.device, self.fgr.dtype
        if key not in plate.cache:
            pixels = plate.pixels(sixteen_bit)
            plate.cache[key] = to_tensor(pixels, self.fgr.device, self.fgr.dtype)
        image: Tensor = plate.cache[key]
        return image
