"""Draws clips of small people with exact alpha, which `far_people.py` measures."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from rematte.evaluate.testset import fit_tensor
from rematte.train.augment import Floats, straight, warp
from rematte.train.data import Index, Item, decode
from rematte.video.encoding import choose
from rematte.video.frame import SDR, Frame, VideoInfo
from rematte.video.writer import FileWriter

KINDS = ("standing", "crossing", "entering", "leaving", "apart")
HEIGHTS = (0.08, 0.25)  # of the frame's
UPRIGHT = 1.6  # height over width from which a cut-out stands
# Wallpapers of places in which people could stand.
LANDSCAPES = frozenset({
    *("164", "94", "A Moment to Breathe", "Horseshoe Bend Sunset", "Jonas Nilsson Lee"),
    *("Lake McDonald", "Lake Tahoe Colors", "Mountains and forest", "Rob Bye"),
    *("Ryan Schroeder", "Snow Forest", "Temple", "The Coast", "Tj Holowaychuk"),
    *("Vale_Nevado_verao_2", "elegantairbyvikas", "morning"),
})  # fmt: skip

Bytes = NDArray[np.uint8]


class Person(NamedTuple):
    """A cut-out, premultiplied, with its centre, feet and scale by frame.

    It is one picture (4, h, w), or one for each frame (T, 4, h, w).
    """

    cut: Tensor
    path: Floats


class Scene(NamedTuple):
    """A background (3, H, W), 0 to 1, and who is before it, from back to front."""

    back: Tensor
    people: list[Person]


class Clip(NamedTuple):
    """One or two scenes; `noise` is the sensor's, as a standard deviation in levels."""

    name: str
    rate: int
    noise: float
    scenes: list[Scene]


def place(number: int) -> tuple[str, int, tuple[int, int], int]:
    """Kind, people, width and height, and scenes of a clip, by its number."""
    kind = KINDS[number % 5]
    people = max(1 + (number % 5 + number // 5) % 3, 2 if kind == "apart" else 1)
    size = (3840, 2160) if number % 6 == 0 else (1920, 1080)
    return kind, people, size, 2 if number % 8 == 7 else 1


def name_of(number: int) -> str:
    kind, people, size, scenes = place(number)
    words = [f"{number:02}", kind, str(people), f"{size[1]}p"]
    return "-".join(words + ["cut"] * (scenes - 1))


def cut_out(item: Item, height: int) -> Tensor:
    """A person brought to a height, with room around, premultiplied."""
    rgba = torch.from_numpy(decode(item.media, [0], "RGBA")[0]).movedim(-1, 0) / 255
    inside = (rgba[3] > 0.05).nonzero()
    (top, left), (low, right) = inside.amin(0), inside.amax(0) + 1
    rgba = rgba[:, top:low, left:right]
    factor = height / rgba.shape[1]
    # Nothing lies around: else a person who touches the border would end in a line.
    both = F.pad(torch.cat([rgba[:3] * rgba[3:], rgba[3:]]), [2] * 4)[None]
    size = [round(side * factor) for side in both.shape[2:]]
    both = F.interpolate(both, size, mode="bicubic", antialias=True)[0]
    # An enlarged edge is made as sharp as it was.
    steep = max(1.0, factor)
    alpha = ((both[3:] - 0.5) * steep + 0.5).clamp(0, 1)
    colour = straight(both[:3], both[3:])
    return F.pad(torch.cat([colour * alpha, alpha]), [4 + height // 50] * 4)


def upright(items: Iterable[Item]) -> list[Item]:
    """Cut-outs of people who stand."""
    shapes = ((item, decode(item.media, [0], "RGBA").shape) for item in items)
    return [item for item, (_, h, w, _) in shapes if h >= UPRIGHT * w]


def rooms_of(items: Iterable[Item]) -> list[Item]:
    """Backgrounds that are rooms."""
    return [item for item in items if not item.name.startswith("wallpapers/")]


def paths(
    kind: str, cuts: list[Tensor], feet: Floats, size: tuple[int, int], frames: int,
    rate: int, rng: Generator,
) -> list[Floats]:  # fmt: skip
    """Where the people of a scene are, (frames, 3) each: centre, feet, scale."""
    wide, seconds = size[0], np.arange(frames) / rate
    tall = np.array([cut.shape[1] for cut in cuts])
    if kind == "apart":
        middles = np.linspace(0.1, 0.9, len(cuts)) * wide
    else:
        middles = np.cumsum(rng.uniform(0.4, 1, len(cuts)) * tall)
        edge = tall.max() / 2
        middles += rng.uniform(edge, max(edge, wide - edge - middles[-1])) - middles[0]
    found = []
    for at, (high, middle) in enumerate(zip(tall, middles, strict=True)):
        swing = np.sin(2 * np.pi * (rng.uniform(0.2, 0.6) * seconds + rng.random()))
        x = middle + rng.uniform(0.005, 0.02) * high * swing
        scale, y = 1 + rng.uniform(0, 0.01) * swing, np.full(frames, feet[at])
        speed = rng.uniform(0.8, 2.5) * high  # pixels a second
        if kind == "crossing":
            way = min(speed * seconds[-1], 0.8 * wide)
            begin = 0.1 * wide + rng.random() * (0.8 * wide - way)
            x = begin + way * seconds / seconds[-1]
        elif kind in ("entering", "leaving") and at == len(cuts) - 1:
            late = rng.uniform(0.2, 0.5) * seconds[-1]
            half = cuts[at].shape[2] / 2
            speed = max(speed, 3 * half / (seconds[-1] - late))  # whole at the end
            x = speed * (seconds - late).clip(0) - half
            x = x[::-1] if kind == "leaving" else x
        else:
            found.append(np.stack([x, y, scale], 1))
            continue
        x = wide - x if rng.random() < 0.5 else x
        y = y - 0.01 * high * np.abs(np.sin(2 * np.pi * seconds))  # steps
        found.append(np.stack([x, y, scale], 1))
    return found


def draw(
    found: Index, seed: int, number: int, size: tuple[int, int] | None = None
) -> Clip:
    """Draw a clip of the number's kind; the same seed and number give the same one."""
    rng = default_rng([seed, number])
    kind, people, usual, count = place(number)
    wide, high = size or usual
    standing = upright(found.mattes)
    rooms = rooms_of(found.backgrounds)
    landscapes = [b for b in found.backgrounds if Path(b.name).stem in LANDSCAPES]
    order = iter(rng.permutation(len(standing)))
    rate = int(rng.choice([25, 30]))
    still = count == 1 and kind in ("standing", "apart")
    frames = int(rng.integers(24 if still else 48, 91)) // count
    scenes = []
    for _ in range(count):
        inside = rng.random() < 0.7
        backs = rooms if inside or not landscapes else landscapes
        item = backs[int(rng.integers(len(backs)))]
        pixels = torch.from_numpy(decode(item.media, [0], "RGB")[0]).movedim(-1, 0)
        shares = np.sort(rng.uniform(*HEIGHTS, people))
        chosen = [standing[next(order)] for _ in shares]
        cuts = [
            cut_out(i, round(s * high)) for i, s in zip(chosen, shares, strict=True)
        ]
        feet = high * (0.55 + rng.uniform(1, 1.6) * shares)  # who is near is lower
        ways = paths(kind, cuts, feet, (wide, high), frames, rate, rng)
        cast = [Person(*pair) for pair in zip(cuts, ways, strict=True)]
        scenes.append(Scene(fit_tensor(pixels / 255, high, wide, "cover"), cast))
    return Clip(name_of(number), rate, rng.uniform(0.5, 2), scenes)


def put(person: Person, at: int, canvas: Tensor, labels: Tensor, label: int) -> None:
    """Lay a person over a canvas (4, H, W), and their label where they hide others."""
    x, y, scale = person.path[at]
    picture = person.cut if person.cut.dim() == 3 else person.cut[at]
    h, w = picture.shape[1:]
    # The scale leaves the feet where they are.
    corner = np.array([x - w / 2, y - scale * h / 2 - h / 2])
    left, top = np.floor(corner).astype(int)
    dx, dy = corner % 1
    back = np.array([[1, 0, -dx / h], [0, 1, -dy / h], [0, 0, scale]]) / scale
    cut = warp(picture[None], back[None], (h, w), "height", "zeros")[0].clamp(0, 1)
    up, before = max(0, -top), max(0, -left)
    low, right = min(h, canvas.shape[1] - top), min(w, canvas.shape[2] - left)
    if low > up and right > before:
        cut = cut[:, up:low, before:right]
        rows, columns = slice(top + up, top + low), slice(left + before, left + right)
        seen = canvas[:, rows, columns]
        seen.mul_(1 - cut[3]).add_(cut)
        labels[rows, columns][cut[3] > 0.5] = label


def pictures(clip: Clip, rng: Generator) -> Iterator[tuple[Bytes, Bytes, Bytes]]:
    """Yield composite (H, W, 3), alpha and labels of people (H, W, 1)."""
    before = 0
    for back, people in clip.scenes:
        for at in range(len(people[0].path)):
            canvas = torch.zeros(4, *back.shape[1:])
            labels = torch.zeros(back.shape[1:], dtype=torch.uint8)
            for label, person in enumerate(people, before + 1):
                put(person, at, canvas, labels, label)
            alpha = canvas[3].mul(255).round()  # as written, so that it is exact
            com, rows = back.clone(), alpha.any(1)
            colour = straight(canvas[:3, rows], canvas[3:, rows])
            com[:, rows] = com[:, rows].lerp(colour, alpha[rows] / 255)
            grain = rng.standard_normal(alpha.shape, np.float32) * clip.noise
            com.mul_(255).add_(torch.from_numpy(grain)).round_().clamp_(0, 255)
            truth = (alpha.byte()[..., None].numpy(), labels[..., None].numpy())
            yield com.byte().movedim(0, -1).contiguous().numpy(), *truth
        before += len(people)


def save(clip: Clip, folder: Path, seed: int) -> None:
    """Write com.mp4, which hardly loses anything, and pha.mkv and people.mkv, exact."""
    folder.mkdir(parents=True, exist_ok=True)
    height, width = clip.scenes[0].back.shape[1:]
    step = Fraction(1, clip.rate)
    info = VideoInfo(width, height, Fraction(clip.rate), step, SDR)
    targets = [folder / name for name in ("com.mp4", "pha.mkv", "people.mkv")]
    writers = [
        FileWriter(path, info, choose(path, info, alpha=False, gray=gray, crf=crf))
        for path, gray, crf in zip(
            targets, (False, True, True), (12, None, None), strict=True
        )
    ]
    for count, parts in enumerate(pictures(clip, default_rng(seed))):
        for writer, pixels in zip(writers, parts, strict=True):
            writer.write(Frame(pixels, count * step, step))
    for writer in reversed(writers):  # with the composite, all of them are there
        writer.finish()
