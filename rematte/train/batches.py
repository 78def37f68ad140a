"""Makes the batches of a run, each from the seed, the phase, the step and the process.

Batches share no state, so that a run can resume at any step with any number of workers
and still gets the batches of an uninterrupted run.
"""

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from rematte.engines.tensors import to_tensor
from rematte.errors import InputError
from rematte.train import augment
from rematte.train.data import Index, Item, Media, decode
from rematte.train.extras import Sample
from rematte.train.hair import add_hair
from rematte.train.recipe import Augment, High, Phase

Batch = dict[str, Sample]
Size = tuple[int, int]
_GRID, _COARSE_GRID = 16, 64  # pixels; the first is the network's coarsest scale
_LONG_SIDE = 512  # pixels; larger pictures at their own scale are shrunk
_PAN = 16  # pixels that a photo is panned over at most
_BEHIND = 2  # further people of a composite at most
_CUT = 0.2  # share of pictures at their own scale that are cropped


def stack(samples: Sequence[Sample]) -> Sample:
    """Stack samples of one size, (N, ...) each."""
    return {name: torch.stack([s[name] for s in samples]) for name in samples[0]}


def _pixels(media: Media, order: Sequence[int], mode: str) -> Tensor:
    """Decode to (T, C, H, W) in [0, 1]; a still's frames share memory."""
    once = [order[0]] if media.frames == 1 else list(order)
    pixels = to_tensor(decode(media, once, mode), "cpu", torch.float32)
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


def _clips_and_stills(items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    clips = [item for item in items if item.media.frames > 1]
    return clips, [item for item in items if item.media.frames == 1]


def _either(rng: Generator, items: Sequence[Item], share: float) -> Item:
    """Pick a clip with probability `share`, else an image, if there are both kinds."""
    clips, stills = _clips_and_stills(items)
    return _pick(rng, (clips if rng.random() < share else stills) or clips or stills)


def _matte(
    index: Index, rng: Generator, how: Augment, frames: int
) -> tuple[Tensor, Tensor]:
    """Pick a foreground and its alpha, (T, C, h, w) each."""
    item = _pick(rng, index.mattes)
    order = augment.frame_order(rng, item.media.frames, frames, how)
    if item.alpha is None:
        fgr, pha = _pixels(item.media, order, "RGBA").split([3, 1], 1)
    else:
        fgr = _pixels(item.media, order, "RGB")
        pha = _partner(item, order, fgr)
    if item.media.frames == 1 and how.hair and rng.random() < how.hair:
        hairy = add_hair(fgr[0], pha[0], rng)
        fgr, pha = (x.expand(frames, -1, -1, -1) for x in hairy)
    return fgr, pha


def matte_sample(
    index: Index, rng: Generator, how: Augment, frames: int, size: Size
) -> Sample:
    """Composite a foreground over a background; half of the backgrounds are clips.

    It is `src` and the true `fgr` and `pha`, (T, C, H, W) each.
    """
    fgr, pha = _matte(index, rng, how, frames)
    back = _either(rng, index.backgrounds, 0.5)
    order = augment.frame_order(rng, back.media.frames, frames, how)
    bgr = augment.stripes(_pixels(back.media, order, "RGB"), how, rng)
    layers = augment.place(fgr, pha, bgr, size, how, rng)
    for _ in range(_BEHIND):
        if not how.group or rng.random() >= how.group:
            break
        other = augment.place(*_matte(index, rng, how, frames), bgr, size, how, rng)
        layers = augment.before(layers, other)
    layers = augment.crisp(augment.vary(layers, how, rng), how, rng)
    return {
        "src": augment.finish(augment.composite(layers), how, rng),
        "fgr": layers.fgr.contiguous(),
        "pha": layers.pha.contiguous(),
    }


def plain_sample(
    item: Item, rng: Generator, how: Augment, frames: int, size: Size
) -> Sample:
    """Make a sample of augmented frames, with their alpha if there is one.

    It is `src` (T, 3, H, W), `pha` (T, 1, H, W), 0 where unknown, and `mask`, rounded.
    """
    order = augment.frame_order(rng, item.media.frames, frames, how)
    x = _pixels(item.media, order, "RGB")
    if item.alpha is not None:
        x = torch.cat([x, _partner(item, order, x)], 1)
    still = how.motion == 0
    matrices = augment.motion(rng, frames, (1, 1) if still else (1, 1.5), how)
    at = 0.0 if still else rng.uniform(-0.5, 0.5)
    x = augment.warp(x, matrices, size, "cover", "reflection", at)
    pha = torch.zeros_like(x[:, :1]) if item.alpha is None else x[:, 3:].clamp(0, 1)
    src = augment.vary_frames(x[:, :3], how, rng)
    return {"src": src, "pha": pha, "mask": pha.round()}


def native_sample(item: Item, rng: Generator, how: Augment, frames: int) -> Tensor:
    """Return frames at their own scale, so that edges stay as crisp as in the footage.

    Clips run frame by frame, and a camera moves over photos by whole pixels. Some are
    cropped, as the edge of a frame crops people. The result is (T, 3, h, w), with sides
    that are multiples of 16 and at most 512.
    """
    count = item.media.frames
    first = int(rng.integers(0, max(1, count - frames + 1))) if count > 1 else 0
    order = range(first, min(first + frames, count))
    x = shrunk(_pixels(item.media, order, "RGB"))
    if count == 1:
        x = panned(x[0], frames, rng)
    if rng.random() < _CUT:
        height, width = x.shape[-2:]
        lower = rng.random() < 0.5
        x = x[..., : height * 3 // 4, :] if lower else x[..., width // 4 :]
    x = augment.vary_frames(on_grid(x), how, rng)
    return x.flip(-1) if rng.random() < how.flip else x


def shrunk(x: Tensor) -> Tensor:
    """Shrink (T, 3, H, W) if its longer side is above 512."""
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
    index: Index, rng: Generator, how: Augment, frames: int, size: Size, phase: Phase
) -> Sample:
    """Make a sample for a teacher to label, or sometimes one with true alpha.

    It is `src`, `fgr`, `pha`, and 1 or 0 in (1, 1, 1, 1): `known` where `pha` is true,
    `coloured` where `fgr` is.
    """
    yes, no = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    kind = rng.random()
    if kind < phase.truth and index.mattes and index.backgrounds:
        sample = matte_sample(index, rng, how, frames, size)
        return sample | {"known": yes, "coloured": yes}
    if phase.truth <= kind < phase.truth + phase.filmed and index.filmed:
        sample = plain_sample(_pick(rng, index.filmed), rng, how, frames, size)
        src, pha, known = sample["src"], sample["pha"], yes
    else:
        empty = index.backgrounds + index.others if kind > 1 - phase.empty else ()
        people = index.people + index.masks
        item = _pick(rng, empty) if empty else _either(rng, people, phase.clips)
        if phase.native:
            src = native_sample(item, rng, how, frames)
        else:
            src = plain_sample(item, rng, how, frames, size)["src"]
        pha, known = torch.zeros_like(src[:, :1]), no
    fgr = torch.zeros_like(src)
    return {"src": src, "fgr": fgr, "pha": pha, "known": known, "coloured": no}


def missing(index: Index, phase: Phase) -> list[str]:
    """Return the kinds of data that a phase needs but the index lacks."""
    needed = {"matting": ["backgrounds", "mattes"], "segmentation": ["masks"]}
    kinds = needed.get(phase.kind, ["people"])
    if phase.kind == "matting" and phase.segmentation:
        kinds = [*kinds, "masks"]
    there = dict(index.kinds()) | {"people": index.people + index.masks}
    return [kind for kind in kinds if not there[kind]]


class Batches(Dataset[Batch | InputError]):
    """The batches of a phase, indexed by step.

    `key` and the step seed all draws. Each `rank`, the number of a process, draws other
    pictures of the same size. `more` changes samples; see `Extras`.
    """

    def __init__(
        self, index: Index, phase: Phase, how: Augment, key: Sequence[int], rank: int,
        more: Callable[[Sample, Generator], Sample] | None = None,
    ) -> None:  # fmt: skip
        self.index, self.phase, self.how = index, phase, phase.augment or how
        self.key, self.rank, self.more = tuple(key), rank, more
        for kind in missing(index, phase):
            raise InputError(
                f"phase {phase.name} needs {kind}, and there are none: set data.{kind} "
                "or data.shards"
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
        """Make the batch of a step, with the tensors of each pass."""
        phase, index = self.phase, self.index
        masks: Sequence[Item] = index.masks
        rng = np.random.default_rng((*self.key, step))
        # Examples are made one by one; those of few sizes fill the batches that are
        # drawn of them, see `Examples.draw`.
        count, grid = (1, _COARSE_GRID) if phase.examples else (phase.batch, _GRID)
        shape = _draw(rng, phase, grid)

        def masked(rng: Generator, *rest: Any) -> Sample:
            return plain_sample(_pick(rng, masks), rng, *rest)

        if phase.kind == "segmentation":
            return {phase.kind: self._stack(step, 2, count, masked, shape)}
        if phase.kind != "matting":
            make = partial(distill_sample, index, phase=phase)
            return {phase.kind: self._stack(step, 0, count, make, shape)}
        composite = partial(matte_sample, index)
        batch = {"matting": self._stack(step, 0, count, composite, shape)}
        if phase.high is not None:
            large = _draw(rng, phase.high, _GRID)
            batch["high"] = self._stack(step, 1, count, composite, large)
        if phase.segmentation:
            # Clips and images in turn; T images make T clips of one frame.
            masks, stills = _clips_and_stills(masks)
            if step % 2 or not masks:
                count, shape, masks = count * shape[0], (1, shape[1]), stills or masks
            batch["segmentation"] = self._stack(step, 2, count, masked, shape)
        return batch

    def _stack(
        self, step: int, part: int, count: int, make: Any, shape: tuple[int, Size]
    ) -> Sample:
        samples = []
        for number in range(count):
            # Each sample has a generator of its own.
            rng = np.random.default_rng((*self.key, step, part, self.rank, number))
            sample = make(rng, self.how, *shape)
            samples.append(self.more(sample, rng) if self.more else sample)
        return stack(samples)


def _draw(rng: Generator, limits: Phase | High, grid: int) -> tuple[int, Size]:
    """Draw length, height and width of a step's clips."""
    length = int(rng.integers(limits.frames[0], limits.frames[1] + 1))
    least, most = (max(1, side // grid) for side in limits.size)
    height, width = (int(rng.integers(least, most + 1)) * grid for _ in range(2))
    return length, (height, width)


def _ignore_sigterm(worker: int) -> None:
    """Leave SIGTERM to the main process, which still needs batches to stop cleanly.

    `timeout` and cluster schedulers send it to every process of a run.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def load(
    batches: Batches, steps: range, workers: int, pinned: bool = False
) -> Iterator[Batch]:
    """Yield the batches of some steps; an `InputError` if a picture is damaged."""
    loader = DataLoader(
        batches, batch_size=None, sampler=steps, num_workers=workers, pin_memory=pinned,
        generator=torch.Generator(),  # of its own: the global one stays as it is
        worker_init_fn=_ignore_sigterm,
    )  # fmt: skip
    for batch in loader:
        if isinstance(batch, InputError):
            raise batch
        yield batch


class Examples:
    """Samples in half precision that are computed once, those of one size together.

    The inputs and outputs of a teacher's block do not change while a student's block
    learns, and many small steps of that block alone are cheap: ten minutes on one core
    cover more steps than a day of training the whole network. `samples` have a batch
    dimension; None is skipped.
    """

    def __init__(self, samples: Iterable[Sample | None]) -> None:
        self._groups: dict[Any, list[Sample]] = {}
        for sample in filter(None, samples):
            # The output of one block is the input of the next, and is stored once.
            maps = {id(value): value.cpu().half() for value in sample.values()}
            for at in range(len(next(iter(maps.values())))):
                rows = {key: value[at].clone() for key, value in maps.items()}
                one = {name: rows[id(value)] for name, value in sample.items()}
                shapes = tuple((key, value.shape) for key, value in one.items())
                self._groups.setdefault(shapes, []).append(one)

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def draw(self, rng: Generator, count: int) -> Sample:
        """Draw examples of one size, (count, ...) each, in single precision."""
        groups = list(self._groups.values())
        sizes = np.array([len(group) for group in groups], float)
        group = groups[int(rng.choice(len(groups), p=sizes / sizes.sum()))]
        return _single([group[int(at)] for at in rng.integers(0, len(group), count)])

    def every(self) -> Iterator[Sample]:
        """Yield all examples, those of one size at once."""
        yield from map(_single, self._groups.values())


def _single(group: list[Sample]) -> Sample:
    return {key: value.float() for key, value in stack(group).items()}
