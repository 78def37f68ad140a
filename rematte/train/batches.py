"""Makes the batches of a run, each from the seed, the phase, the step and the process.

No state is carried from batch to batch, so a run can resume at any step with any number
of workers, and gets the batches of an unbroken one.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from rematte.errors import InputError
from rematte.train.augment import (
    crisp,
    finish,
    frame_order,
    motion,
    place,
    stripes,
    vary,
    vary_frames,
    warp,
)
from rematte.train.data import Index, Item, Media, decode
from rematte.train.extras import Sample
from rematte.train.recipe import NO_AUGMENT, Augment, Phase, Validate

Batch = dict[str, Sample]
_GRID = 16  # pixels, the coarsest scale of the network
_COARSE_GRID = 64
_LONG_SIDE = 512  # pixels; a picture at its own scale is made smaller if it is larger
_PAN = 16  # pixels that a photo is panned over at most
_CUT = 0.2  # share of pictures at their own scale that are cut


def stack(samples: Sequence[Sample]) -> Sample:
    """Put samples of one size together, (N, ...) each."""
    return {name: torch.stack([s[name] for s in samples]) for name in samples[0]}


def _pixels(media: Media, order: Sequence[int], mode: str) -> Tensor:
    """Decode to (T, C, H, W) in [0, 1]; a still's frames share memory."""
    once = [order[0]] if media.frames == 1 else list(order)
    pixels = torch.from_numpy(decode(media, once, mode)).movedim(-1, 1).float() / 255
    return pixels.expand(len(order), -1, -1, -1)


def _partner(item: Item, order: Sequence[int], picture: Tensor) -> Tensor:
    """Decode the alpha or mask of an item, which must be as large as its picture."""
    assert item.alpha is not None
    alpha = _pixels(item.alpha, order, "L")
    if alpha.shape[-2:] != picture.shape[-2:]:
        sizes = [f"{x.shape[-1]}x{x.shape[-2]}" for x in (alpha, picture)]
        raise InputError(
            f"{item.alpha.blobs[0].path} is {sizes[0]}, but {item.media.blobs[0].path} "
            f"is {sizes[1]}; make them equal"
        )
    return alpha


def _pick(rng: Generator, items: Sequence[Item]) -> Item:
    return items[int(rng.integers(len(items)))]


def _either(rng: Generator, items: Sequence[Item], share: float) -> Item:
    """Pick a clip with probability `share`, else an image; or what there is."""
    clips = [item for item in items if item.media.frames > 1]
    stills = [item for item in items if item.media.frames == 1]
    want_clip = rng.random() < share
    return _pick(rng, (clips if want_clip else stills) or clips or stills)


def matte_sample(
    index: Index, rng: Generator, frames: int, size: tuple[int, int], how: Augment
) -> Sample:
    """Make a composite of a foreground and a background, half of them moving.

    Returns:
        Composite `src` and the true `fgr` and `pha`, (T, C, H, W) each.
    """
    item = _pick(rng, index.mattes)
    order = frame_order(rng, item.media.frames, frames, how)
    if item.alpha is None:
        cut = _pixels(item.media, order, "RGBA")
        fgr, pha = cut[:, :3], cut[:, 3:]
    else:
        fgr = _pixels(item.media, order, "RGB")
        pha = _partner(item, order, fgr)
    back = _either(rng, index.backgrounds, 0.5)
    order = frame_order(rng, back.media.frames, frames, how)
    bgr = stripes(_pixels(back.media, order, "RGB"), how, rng)
    layers = crisp(vary(place(fgr, pha, bgr, size, how, rng), how, rng), how, rng)
    return {
        "src": finish(layers, how, rng),
        "fgr": layers.fgr.contiguous(),
        "pha": layers.pha.contiguous(),
    }


def plain_sample(
    item: Item, rng: Generator, frames: int, size: tuple[int, int], how: Augment
) -> Sample:
    """Make a sample of moved and varied frames, with their alpha if there is one.

    Returns:
        `src` (T, 3, H, W), `pha` (T, 1, H, W), which is 0 where none is known, and
        `mask`, `pha` rounded.
    """
    order = frame_order(rng, item.media.frames, frames, how)
    src = _pixels(item.media, order, "RGB")
    known = item.alpha is not None
    if item.alpha is not None:
        src = torch.cat([src, _partner(item, order, src)], 1)
    still = how.motion == 0
    matrices = motion(rng, frames, (1, 1) if still else (1, 1.5), how)
    at = 0.0 if still else rng.uniform(-0.5, 0.5)
    src = warp(src, matrices, size, "cover", "reflection", at)
    pha = src[:, 3:].clamp(0, 1) if known else torch.zeros_like(src[:, :1])
    src = vary_frames(src[:, :3], how, rng)
    return {"src": src, "pha": pha, "mask": pha.round()}


def native_sample(item: Item, rng: Generator, frames: int, how: Augment) -> Sample:
    """Make a sample of frames at their own scale, so that edges are as crisp as there.

    Clips run frame by frame, and a camera moves over photos by whole pixels. Some are
    cut, as people are by the edge of a frame.

    Returns:
        `src` (T, 3, h, w); sides are multiples of 16 and at most 512.
    """
    count = item.media.frames
    if count > 1:
        first = int(rng.integers(0, max(1, count - frames + 1)))
        order = range(first, min(first + frames, count))
        x = shrunk(_pixels(item.media, order, "RGB"))
    else:
        x = panned(shrunk(_pixels(item.media, [0], "RGB"))[0], frames, rng)
    if rng.random() < _CUT:
        height, width = x.shape[-2:]
        lower = rng.random() < 0.5
        x = x[..., : height * 3 // 4, :] if lower else x[..., width // 4 :]
    x = vary_frames(on_grid(x), how, rng)
    return {"src": x.flip(-1) if rng.random() < how.flip else x}


def shrunk(x: Tensor) -> Tensor:
    """Make (T, 3, H, W) smaller where its longer side is above 512, never larger."""
    scale = _LONG_SIDE / max(x.shape[-2:])
    if scale >= 1:
        return x
    size = [round(side * scale) for side in x.shape[-2:]]
    return F.interpolate(x, size, mode="bilinear", antialias=True).clamp(0, 1)


def panned(photo: Tensor, frames: int, rng: Generator) -> Tensor:
    """Move a camera over (3, H, W) by whole pixels: (T, 3, h, w)."""
    height, width = photo.shape[-2:]
    room = _PAN if min(height, width) >= 8 * _PAN else 0
    at, step = np.full(2, room / 2), rng.normal(0, 2, 2)
    shown = []
    for _ in range(frames):
        top, left = (int(v) for v in np.clip(np.round(at), 0, room))
        shown.append(photo[:, top : top + height - room, left : left + width - room])
        at = at + step
    return torch.stack(shown)


def on_grid(x: Tensor) -> Tensor:
    """Cut (..., H, W) to whole pixels at the network's coarsest scale."""
    height, width = (side // _GRID * _GRID for side in x.shape[-2:])
    return x[..., :height, :width]


def distill_sample(
    index: Index,
    rng: Generator,
    frames: int,
    size: tuple[int, int],
    how: Augment,
    phase: Phase,
) -> Sample:
    """Make a sample that a teacher labels, or now and then one with true alpha.

    Returns:
        `src`, `fgr`, `pha`, and 1 or 0 in (1, 1, 1, 1): `known` where `pha` is true,
        `coloured` where `fgr` is.
    """
    yes, no = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    kind = rng.random()
    if kind < phase.truth and index.mattes and index.backgrounds:
        sample = matte_sample(index, rng, frames, size, how)
        return sample | {"known": yes, "coloured": yes}
    filmed = phase.truth <= kind < phase.truth + phase.filmed and bool(index.filmed)
    empty = index.backgrounds + index.others
    if filmed:
        item = _pick(rng, index.filmed)
    elif kind > 1 - phase.empty and empty:
        item = _pick(rng, empty)
    else:
        item = _either(rng, index.people + index.masks, phase.clips)
    if phase.native and not filmed:
        src = native_sample(item, rng, frames, how)["src"]
        pha = torch.zeros_like(src[:, :1])
    else:
        plain = plain_sample(item, rng, frames, size, how)
        src, pha = plain["src"], plain["pha"]
    return {
        "src": src,
        "fgr": torch.zeros_like(src),
        "pha": pha if filmed else torch.zeros_like(pha),
        "known": yes if filmed else no,
        "coloured": no,
    }


class Batches(Dataset[Batch | InputError]):
    """The batches of a phase, indexed by step.

    Args:
        index: Pictures and clips to draw from.
        phase: Passes, lengths and sizes.
        how: Probabilities of the augmentations.
        key: Seed of all draws, together with the step.
        rank: Number of this process; each draws other pictures of the same size.
        more: Changes each sample, or None; see `Extras`.
    """

    def __init__(
        self,
        index: Index,
        phase: Phase,
        how: Augment,
        key: Sequence[int],
        rank: int,
        more: Callable[[Sample, Generator], Sample] | None = None,
    ) -> None:
        self.more = more
        self.index, self.phase, self.how = index, phase, phase.augment or how
        self.key, self.rank = tuple(key), rank
        needed = {"backgrounds": index.backgrounds, "mattes": index.mattes}
        if phase.kind == "matting" and phase.segmentation:
            needed["masks"] = index.masks
        if phase.kind == "segmentation":
            needed = {"masks": index.masks}
        elif phase.kind != "matting":
            needed = {"people": index.people + index.masks}
        for kind, items in needed.items():
            if not items:
                raise InputError(
                    f"phase {phase.name} needs {kind}, and there are none: set "
                    f"data.{kind} or data.shards"
                )

    def __getitem__(self, step: int) -> Batch | InputError:
        """Return the batch, or an error: torch would wrap it in a traceback."""
        threads = torch.get_num_threads()
        # Workers have one. With more, sums are rounded otherwise, and a run without
        # workers would see other pictures in their last bits.
        torch.set_num_threads(1)
        try:
            return self.make(step)
        except InputError as error:
            return error
        finally:
            torch.set_num_threads(threads)

    def make(self, step: int) -> Batch:
        """Make the batch of a step: the tensors of each pass."""
        phase = self.phase
        shape = np.random.default_rng((*self.key, step))
        # Examples of few sizes fill batches; see `Examples.draw`.
        grid = _COARSE_GRID if phase.examples else _GRID
        length, size = _draw(shape, phase.frames, phase.size, grid)
        if phase.kind == "segmentation":
            many = (step, 2, phase.batch, _masked, length, size, self.how)
            return {"segmentation": self._stack(*many, self.index.masks)}
        if phase.kind != "matting":
            made = self._stack(
                step, 0, phase.batch, distill_sample, length, size, self.how, phase
            )
            return {phase.kind: made}
        batch = {
            "matting": self._stack(
                step, 0, phase.batch, matte_sample, length, size, self.how
            )
        }
        if phase.high is not None:
            long, large = _draw(shape, phase.high.frames, phase.high.size, _GRID)
            batch["high"] = self._stack(
                step, 1, phase.batch, matte_sample, long, large, self.how
            )
        if phase.segmentation:
            batch["segmentation"] = self._segmentation(step, length, size)
        return batch

    def _segmentation(self, step: int, length: int, size: tuple[int, int]) -> Sample:
        """Alternate between clips and images; T images make T clips of one frame."""
        clips = tuple(item for item in self.index.masks if item.media.frames > 1)
        if step % 2 == 0 and clips:
            return self._stack(
                step, 2, self.phase.batch, _masked, length, size, self.how, clips
            )
        stills = tuple(item for item in self.index.masks if item.media.frames == 1)
        many = self.phase.batch * length
        return self._stack(step, 2, many, _masked, 1, size, self.how, stills or clips)

    def _stack(self, step: int, part: int, count: int, make: Any, *rest: Any) -> Sample:
        """Make samples with a generator each, and stack them."""
        samples = []
        for number in range(count):
            rng = np.random.default_rng((*self.key, step, part, self.rank, number))
            sample = make(self.index, rng, *rest)
            samples.append(self.more(sample, rng) if self.more else sample)
        return stack(samples)


def _masked(
    index: Index,
    rng: Generator,
    frames: int,
    size: tuple[int, int],
    how: Augment,
    items: Sequence[Item],
) -> Sample:
    return plain_sample(_pick(rng, items), rng, frames, size, how)


def _draw(
    rng: Generator, frames: tuple[int, int], size: tuple[int, int], grid: int
) -> tuple[int, tuple[int, int]]:
    """Draw length, height and width of a step's clips."""
    length = int(rng.integers(frames[0], frames[1] + 1))
    least, most = max(1, size[0] // grid), max(1, size[1] // grid)
    height, width = (int(rng.integers(least, most + 1)) * grid for _ in range(2))
    return length, (height, width)


def held_out_samples(
    index: Index, phase: Phase, validate: Validate, key: Sequence[int]
) -> list[Sample]:
    """Return the clips of the validation, without augmentation."""
    kind: Any = phase.kind if phase.kind == "matting" else "distill"
    size = (validate.size, validate.size)
    phase = replace(
        phase, kind=kind, batch=1, frames=(validate.frames, validate.frames), size=size,
        high=None, segmentation=False, truth=0.0, clips=0.5, native=False, augment=None,
    )  # fmt: skip
    batches = Batches(index, phase, NO_AUGMENT, key, 0)
    return [next(iter(batches.make(at).values())) for at in range(validate.samples)]
