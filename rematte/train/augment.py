"""Augments clips (frame order, motion, optics, colour, noise) and composites them.

Layers are augmented before they are composited, so that composite = alpha F +
(1 - alpha) B holds exactly. Only JPEG is applied to the composite, because the network
must ignore its artefacts. All random numbers come from the generator that is passed in.

Source:
    Lin, Yang, Saleemi, Sengupta, Robust High-Resolution Video Matting with Temporal
    Guidance, 2021 (arXiv 2108.11515), section 4.1, for what is varied and the ranges
    of motion, speed and grain; those of colour and blur are ours.
"""

import io
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from rematte.engines.tensors import to_pixels, to_tensor
from rematte.train.recipe import Augment

Floats = NDArray[np.float64]


class Layers(NamedTuple):
    """Foreground (straight RGB), alpha and background, (T, C, H, W) in [0, 1]."""

    fgr: Tensor
    pha: Tensor
    bgr: Tensor


def composite(layers: Layers) -> Tensor:
    """Composite the foreground over the background: alpha F + (1 - alpha) B."""
    return layers.pha * layers.fgr + (1 - layers.pha) * layers.bgr


def frame_order(rng: Generator, count: int, length: int, how: Augment) -> list[int]:
    """Draw `length` of a source's `count` frames: start, speed, direction and pauses.

    At its end the source continues backwards.
    """
    if count == 1:
        return [0] * length
    speed = float(rng.uniform(0.5, 5)) if rng.random() < how.time else 1.0
    speed = min(speed, max(1.0, (count - 1) / length))
    start = rng.uniform(0, max(1.0, count - speed * (length - 1)))
    period = 2 * (count - 1)
    places = (int(start + speed * index) % period for index in range(length))
    order = [min(at, period - at) for at in places]
    if rng.random() < how.time / 2:
        order.reverse()
    return pause(rng, order, how)


def pause(rng: Generator, order: list[int], how: Augment) -> list[int]:
    """Repeat one frame for a while, then continue from it."""
    if len(order) < 3 or rng.random() >= how.pause:
        return order
    at = int(rng.integers(len(order) - 1))
    held = int(rng.integers(1, len(order) - at))
    return [*order[:at], *[order[at]] * held, *order[at : len(order) - held]]


def ease(rng: Generator, frames: int) -> Floats:
    """Return progress from 0 to 1 over a clip: linear, or eased at one or both ends."""
    t = np.linspace(0, 1, frames)
    curves = (t, t * t * (3 - 2 * t), t * t, 1 - (1 - t) ** 2)
    return curves[int(rng.integers(len(curves)))]


def drift(rng: Generator, low: float, high: float, progress: Floats) -> Floats:
    """Return values per frame that move between two drawn from [low, high]."""
    begin, end = rng.uniform(low, high, 2)
    return np.asarray(begin + progress * (end - begin))


def motion(
    rng: Generator, frames: int, scale: tuple[float, float], how: Augment
) -> Floats:
    """Draw affine matrices (T, 3, 3) from the output, of height 1, to the source.

    `scale` is the range of the static enlargement. Below 1 the lower edge stays in
    place, so that people cut off there do not float.
    """
    size = rng.uniform(*scale)
    aspect = rng.uniform(0.9, 1.1) if how.motion else 1.0
    matrix = np.diag([size * aspect, size, 1.0])[None]
    if rng.random() < how.flip:
        matrix[:, 0, 0] *= -1
    matrix[:, 0, 2] = rng.uniform(-0.5, 0.5) * abs(1 - size)
    # Distant people stand anywhere.
    lower = rng.uniform(-1, 1) if size < 0.5 else 1.0
    matrix[:, 1, 2] = lower * max(0.0, (1 - size) / 2)
    if rng.random() < how.motion:
        progress = ease(rng, frames)
        angle = np.radians(drift(rng, -10, 10, progress))
        shear = np.radians(drift(rng, -5, 5, progress))
        zoom = drift(rng, 0.9, 1.1, progress)
        moving = np.tile(np.eye(3), (frames, 1, 1))
        moving[:, 0, 0], moving[:, 0, 1] = np.cos(angle), -np.sin(angle + shear)
        moving[:, 1, 0], moving[:, 1, 1] = np.sin(angle), np.cos(angle + shear)
        moving[:, :2, :2] *= zoom[:, None, None]
        for axis in (0, 1):
            moving[:, axis, 2] = drift(rng, -0.1, 0.1, progress)
        matrix = moving @ matrix
    return np.linalg.inv(np.broadcast_to(matrix, (frames, 3, 3)))


def warp(
    x: Tensor, matrices: Floats, size: tuple[int, int], fit: str, padding: str,
    at: float = 0.0,
) -> Tensor:  # fmt: skip
    """Sample a clip (T, C, h, w) through the affine matrices (T, 3, 3) of `motion`.

    With `fit` "height" the source fills the height, with "cover" the whole result;
    `at` positions the crop of "cover", from -0.5 to 0.5. Beyond the borders,
    `padding` is "zeros" or "reflection".
    """
    height, width = size
    step = x.shape[-2] / height  # source pixels per output pixel
    if fit == "cover":
        step = min(step, x.shape[-1] / width)
    if step > 2:  # bilinear sampling alone would skip pixels
        smaller = [max(1, round(side / step)) for side in x.shape[-2:]]
        x = F.interpolate(x, smaller, mode="bilinear", antialias=True)
        step = 1.0
    to_pixels = np.diag([width / 2, height / 2, 1.0])
    matrices = matrices.copy()
    matrices[:, :2, 2] *= height
    from_pixels = np.diag([2 * step / x.shape[-1], 2 * step / x.shape[-2], 1.0])
    if fit == "cover":
        from_pixels[0, 2] = 2 * at * (1 - min(1.0, step * width / x.shape[-1]))
        from_pixels[1, 2] = 2 * at * (1 - min(1.0, step * height / x.shape[-2]))
    theta = torch.from_numpy((from_pixels @ matrices @ to_pixels)[:, :2])
    grid = F.affine_grid(theta.float(), [len(x), 1, *size], align_corners=False)
    return F.grid_sample(x, grid, padding_mode=padding, align_corners=False)


def straight(premultiplied: Tensor, coverage: Tensor) -> Tensor:
    """Divide a colour by its coverage; 0 where nothing is covered."""
    colour = premultiplied / coverage.clamp(min=1e-6)
    return torch.where(coverage > 1e-6, colour, 0.0).clamp(0, 1)


def place(
    fgr: Tensor, pha: Tensor, bgr: Tensor, size: tuple[int, int], how: Augment,
    rng: Generator,
) -> Layers:  # fmt: skip
    """Move foreground and background, separately and together, and crop to a size."""
    frames = len(fgr)
    still = how.motion == 0
    least = 0.25 if how.far and rng.random() < how.far else 0.5
    front = motion(rng, frames, (1, 1) if still else (least, 1), how)
    back = motion(rng, frames, (1, 1) if still else (1, 1.5), how)
    both = motion(rng, frames, (1, 1), how)
    at = 0.0 if still else rng.uniform(-0.5, 0.5)
    # Premultiplied, so that colours beside a person do not bleed into the edge.
    cut = warp(torch.cat([fgr * pha, pha], 1), front @ both, size, "height", "zeros")
    colour, pha = cut.clamp(0, 1).split([3, 1], 1)
    bgr = warp(bgr, back @ both, size, "cover", "reflection", at)
    return Layers(straight(colour, pha), pha, bgr)


def before(front: Layers, behind: Layers) -> Layers:
    """Composite one foreground over another; the background is the first one's."""
    unseen = 1 - front.pha
    pha = front.pha + unseen * behind.pha
    colour = front.fgr * front.pha + unseen * behind.pha * behind.fgr
    return Layers(straight(colour, pha), pha, front.bgr)


def _smooth(x: Tensor, sigmas: Floats) -> Tensor:
    """Gaussian blur with one sigma [pixels] per frame."""
    radius = min(max(1, int(np.ceil(2.5 * sigmas.max()))), min(x.shape[-2:]) - 1)
    offsets = np.arange(-radius, radius + 1)
    rows = np.exp(-0.5 * (offsets / np.maximum(sigmas, 1e-2)[:, None]) ** 2)
    rows /= rows.sum(1, keepdims=True)
    kernels = torch.from_numpy(rows).float().repeat_interleave(x.shape[1], 0)
    flat = F.pad(x, (radius,) * 4, "reflect").flatten(0, 1)[None]
    flat = F.conv2d(flat, kernels[:, None, None, :], groups=len(kernels))
    flat = F.conv2d(flat, kernels[:, None, :, None], groups=len(kernels))
    return flat[0].reshape(x.shape)


def blur(layers: Layers, sigmas: Floats, front: bool, back: bool) -> Layers:
    """Blur the foreground (with its alpha), the background, or the whole picture.

    With both, the composite is exactly that of the sharp layers, blurred. `sigmas` are
    standard deviations of a Gaussian, one a frame [pixels].
    """
    fgr, pha, bgr = layers
    soft = pha
    if front:
        colour, soft = _smooth(torch.cat([pha * fgr, pha], 1), sigmas).split([3, 1], 1)
        fgr = straight(colour, soft)
    if front and back:
        bgr = straight(_smooth((1 - pha) * bgr, sigmas), 1 - soft)
    elif back:
        bgr = _smooth(bgr, sigmas)
    return Layers(fgr, soft, bgr)


def sharpen(x: Tensor, factor: float, weight: Tensor) -> Tensor:
    """Scale the difference of each pixel of (T, 3, H, W) to its neighbours.

    A factor of 0 softens, 1 changes nothing, 8 is harsh. `weight` (T, 1, H, W) is how
    much a neighbour counts: for a foreground its alpha, as 0 has no colour.
    """
    mean = F.avg_pool2d(torch.cat([weight * x, weight], 1), 3, 1, 1)
    soft = straight(mean[:, :3], mean[:, 3:])
    return (soft + factor * (x - soft)).clamp(0, 1)


def stripes(x: Tensor, how: Augment, rng: Generator) -> Tensor:
    """Draw railings, blinds or cloth on a background: a guided filter's worst case."""
    if rng.random() >= how.stripes:
        return x
    angle = rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)])
    period = np.exp(rng.uniform(np.log(3), np.log(0.1 * x.shape[-2] + 4)))
    rows, columns = np.mgrid[: x.shape[-2], : x.shape[-1]]
    along = columns * np.cos(angle) + rows * np.sin(angle)
    wave = np.cos(2 * np.pi * (along / period + rng.random()))
    # Edges about a pixel wide, so that nothing aliases.
    bars = np.clip((wave - rng.uniform(-0.5, 0.7)) * period / 4 + 0.5, 0, 1)
    weight = torch.from_numpy(bars * rng.uniform(0.3, 1)).float()
    colour = torch.from_numpy(rng.random(3)).float().view(3, 1, 1)
    return torch.lerp(x, colour.expand_as(x), weight.expand_as(x))


def crisp(layers: Layers, how: Augment, rng: Generator) -> Layers:
    """Make alpha 2 to 4 times as steep: the edges of small cut-outs are soft."""
    if rng.random() >= how.crisp:
        return layers
    steep = (layers.pha - 0.5) * float(rng.uniform(2, 4)) + 0.5
    return layers._replace(pha=steep.clamp(0, 1))


def colour_matrices(rng: Generator, frames: int) -> Floats:
    """Draw changes of contrast, saturation, tint and brightness, (T, 3, 4)."""
    progress = ease(rng, frames)
    contrast = drift(rng, 0.8, 1.2, progress)[:, None, None]
    saturation = drift(rng, 0.7, 1.3, progress)[:, None, None]
    tint = np.stack([drift(rng, 0.9, 1.1, progress) for _ in range(3)], 1)
    matrix = saturation * np.eye(3) + (1 - saturation) * np.full((3, 3), 1 / 3)
    offset = (1 - contrast) / 2 + drift(rng, -0.15, 0.15, progress)[:, None, None]
    matrix = contrast * matrix * tint[:, None, :]
    return np.concatenate([matrix, np.broadcast_to(offset, (frames, 3, 1))], 2)


def recolour(x: Tensor, matrices: Floats) -> Tensor:
    """Apply (T, 3, 4) matrices to the colours of (T, 3, H, W)."""
    m = torch.from_numpy(matrices).float()
    moved = torch.einsum("tij,tjhw->tihw", m[:, :, :3], x)
    return (moved + m[:, :, 3, None, None]).clamp(0, 1)


def film_noise(rng: Generator, x: Tensor) -> Tensor:
    """Draw grain of 1 to 4 pixels, gray or coloured, new in each frame of `x`."""
    grain = rng.uniform(1, 4)
    strength = rng.uniform(0, 0.2) / grain
    height, width = (max(1, round(side / grain)) for side in x.shape[-2:])
    channels = 1 if rng.random() < 0.5 else 3
    noise = rng.standard_normal((len(x), channels, height, width), np.float32)
    spread = F.interpolate(torch.from_numpy(noise), x.shape[-2:], mode="bicubic")
    return (strength * spread).expand_as(x)


def _photometry(
    pictures: list[Tensor], weights: list[Tensor], how: Augment, rng: Generator
) -> list[Tensor]:
    """Change all pictures of a clip in the same way, with one random draw."""
    if rng.random() < how.sharpness:
        factor = rng.uniform(0, 8)
        pairs = zip(pictures, weights, strict=True)
        pictures = [sharpen(x, factor, weight) for x, weight in pairs]
    if rng.random() < how.colour:
        matrices = colour_matrices(rng, len(pictures[0]))
        pictures = [recolour(x, matrices) for x in pictures]
    if rng.random() < how.grayscale:
        pictures = [x.mean(1, keepdim=True).expand_as(x) for x in pictures]
    if rng.random() < how.noise:
        noise = film_noise(rng, pictures[0])
        pictures = [(x + noise).clamp(0, 1) for x in pictures]
    return pictures


def vary(layers: Layers, how: Augment, rng: Generator) -> Layers:
    """Change optics, colours and noise of each layer, then of both in the same way."""
    frames, height = len(layers.fgr), layers.fgr.shape[-2]
    for front, back in ((True, False), (False, True), (True, True)):
        if rng.random() < how.blur:
            sigmas = drift(rng, 0, 0.01 * height, ease(rng, frames))
            layers = blur(layers, sigmas, front, back)
    fgr, pha, bgr = layers
    everywhere = torch.ones_like(pha)
    (fgr,) = _photometry([fgr], [pha], how, rng)
    (bgr,) = _photometry([bgr], [everywhere], how, rng)
    fgr, bgr = _photometry([fgr, bgr], [pha, everywhere], how, rng)
    order = pause(rng, list(range(frames)), how)
    return Layers(fgr[order], pha[order], bgr[order])


def jpeg(x: Tensor, quality: int) -> Tensor:
    """Compress and decompress every frame of (T, 3, H, W)."""
    pictures = []
    for frame in x:
        file = io.BytesIO()
        Image.fromarray(to_pixels(frame, False)).save(file, "JPEG", quality=quality)
        pictures.append(np.asarray(Image.open(file)))
    return to_tensor(np.stack(pictures), "cpu", torch.float32)


def vary_frames(x: Tensor, how: Augment, rng: Generator) -> Tensor:
    """Change frames (T, 3, H, W) without layers, as `vary` and `finish` do."""
    if rng.random() < how.blur:
        x = _smooth(x, drift(rng, 0, 0.01 * x.shape[-2], ease(rng, len(x))))
    (x,) = _photometry([x], [torch.ones_like(x[:, :1])], how, rng)
    return finish(x, how, rng)


def finish(src: Tensor, how: Augment, rng: Generator) -> Tensor:
    """Add JPEG artefacts to (T, 3, H, W) with the recipe's probability."""
    return jpeg(src, int(rng.integers(20, 95))) if rng.random() < how.jpeg else src
