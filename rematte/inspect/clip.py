"""Looks at a source clip: how far the network agrees with itself, and where not.

Each moment is matted several times: as it is, as its mirror image, backwards in time,
and with another size of the coarse pass. All four should find the same people.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

import numpy as np
from tqdm import tqdm

from rematte.conversion.model import make_engine
from rematte.engines.choose import describe_engine
from rematte.engines.engine import Engine
from rematte.errors import InputError
from rematte.inspect import figures, moments
from rematte.inspect.figures import Array, Remark
from rematte.matting.background import Renderer
from rematte.matting.loop import choose_ratio
from rematte.matting.region import Regions, Window
from rematte.options import Options
from rematte.video.frame import Frame, Pixels, VideoInfo
from rematte.video.pixels import resize, with_depth
from rematte.video.sheet import shrunk_size

# How each moment is matted beside the plain way, and how a reason names that.
WAYS = {
    "mirror": "its mirror image",
    "direction": "the clip played backwards",
    "ratio": "another downsample ratio",
}
_LENGTH = 3  # frames that count at each moment
_LEAD = 6  # frames before them: less than for a preview, since all ways begin alike
_READ_SIDE = 1024  # longer side of the frames that are matted, at least [pixels]
_SIDE = 512  # longer side of the maps that are compared [pixels]
_LARGER = 1.25  # the other ratio, times the first: half as much work again
# From here on a moment is worth a look, as from `figures.DISAGREES`.
_HOLED, _FLICKERS = 0.03, 0.06
_LISTED = 8  # moments to look at, at most


@dataclass
class Look:
    """One moment of a clip."""

    time: float  # when the frame is shown on which the ways agree least [s]
    end: float  # when the frames of the moment end [s]
    coverage: float  # share of the picture that alpha covers
    # How far each of `WAYS` agrees with the plain way, in [0, 1].
    agreement: dict[str, float]
    holes: float  # share of the person that is see-through and enclosed
    # Change of alpha at still edges, or None where there are none.
    flicker: float | None
    picture: Pixels  # the frame, (H, W, 3), 8 bits
    alpha: Array  # its alpha, (H, W)
    doubt: Array  # mean difference of the other ways from the plain one, (H, W)

    def as_json(self) -> dict[str, Any]:
        """Give the figures as types that JSON has."""
        return {
            "time": round(self.time, 3),
            **_rounded(self, self.coverage, self.holes),
        }


@dataclass
class ClipReport:
    """The report on a clip."""

    path: Path
    timeline: moments.Timeline
    engine: str  # what ran the network, and why
    ratios: tuple[float, float]  # size of the coarse pass, and of the other one
    looks: list[Look]  # the moments in order of time
    notes: list[str]  # what differs from the source
    regions: Regions | None = None  # where the network looked; None for whole frames
    ok: ClassVar[bool] = True  # a doubt is no error

    @property
    def within(self) -> str:
        """The part of the frame for which the ratio holds, in words."""
        return "" if self.regions is None else " in windows around the people"

    @property
    def agreement(self) -> dict[str, float]:
        """Mean agreement of each of `WAYS`."""
        return {way: fmean(look.agreement[way] for look in self.looks) for way in WAYS}

    @property
    def flicker(self) -> float | None:
        """Mean flicker of the moments where an edge stands still."""
        found = [look.flicker for look in self.looks if look.flicker is not None]
        return fmean(found) if found else None

    @property
    def no_people(self) -> list[dict[str, float]]:
        """Spans of time at whose moments no one was found."""
        return figures.empty_spans((e.time, e.end, e.coverage) for e in self.looks)

    @property
    def look_at(self) -> list[Remark]:
        """The moments that deserve a look, the first one most."""
        found = [_judge(look, self.ratios[1]) for look in self.looks]
        found.sort(key=lambda remark: -remark.score)
        return [remark for remark in found if remark.reasons][:_LISTED]

    @property
    def doubt(self) -> Array:
        """Mean difference of the ways over all moments, (H, W)."""
        mean: Array = np.mean([look.doubt for look in self.looks], 0)
        return mean

    def lines(self) -> Iterator[str]:
        """Sum the report up in lines of text."""
        yield (
            f"{len(self.looks)} moments of {self.timeline.count} frames, "
            f"{self.timeline.seconds:.1f} s; "
            f"downsample ratio {self.ratios[0]:.3g}{self.within}, engine {self.engine}"
        )
        for way, share in self.agreement.items():
            worst = min(self.looks, key=lambda look: look.agreement[way])
            yield (
                f"agrees with {WAYS[way]}: {share:.1%}, at worst "
                f"{worst.agreement[way]:.1%} (at {worst.time:.2f} s)"
            )
        for span in self.no_people:
            yield f"no people found: {span['start']:g} to {span['end']:g} s"
        yield from map(str, self.look_at)

    def as_json(self) -> dict[str, Any]:
        """Give the report as types that JSON has."""
        coverage = fmean(each.coverage for each in self.looks)
        holes = fmean(each.holes for each in self.looks)
        return {
            "kind": "clip",
            "input": str(self.path),
            **self.timeline.as_json(),
            "engine": self.engine,
            "downsample_ratio": round(self.ratios[0], 4),
            "other_ratio": round(self.ratios[1], 4),
            "regions": [] if self.regions is None else self.regions.as_json(),
            "mean": _rounded(self, coverage, holes),
            "moments": [look.as_json() for look in self.looks],
            "no_people": self.no_people,
            "look_at": [remark.as_json() for remark in self.look_at],
            "notes": self.notes,
        }


def _rounded(
    of: Look | ClipReport, coverage: float, holes: float
) -> dict[str, float | dict[str, float] | None]:
    return {
        "coverage": round(coverage, 4),
        "agreement": {way: round(share, 4) for way, share in of.agreement.items()},
        "holes": round(holes, 4),
        "flicker": None if of.flicker is None else round(of.flicker, 4),
    }


def inspect_clip(
    model: Any, path: Path, options: Options, *, number: int | None = None,
    every: float | None = None, progress: bool = False,
) -> ClipReport:  # fmt: skip
    """Matte a clip at some moments in several ways, and compare these.

    `number` and `every` say how many moments, as for `how_many`. With `progress` a bar
    is shown on stderr.

    Raises:
        InputError: If the clip cannot be read.
        ValueError: If an option is out of its range.
    """
    timeline = moments.read_timeline(path, options)
    count = moments.how_many(timeline, number, every)
    regions = moments.find_windows(model, path, options, timeline.info, progress)
    notes = list(timeline.notes)
    passes = Passes(model, options, timeline.info, regions, notes.append)
    looks = []
    firsts = moments.spread(timeline, count, _LENGTH)
    for first in tqdm(firsts, unit="moment", desc=path.name, disable=not progress):
        moment = moments.read_moment(
            path, options, timeline, first, _LENGTH,
            lead=_LEAD, trail=_LEAD, size=passes.size,
        )  # fmt: skip
        if moment is not None:
            looks.append(passes.look(moment))
    if not looks:
        raise InputError(f"{path}: none of its frames could be decoded; copy it again")
    notes = list(dict.fromkeys(notes))
    return ClipReport(
        path, timeline, passes.engine, passes.ratios, looks, notes, regions
    )


def other_ratio(ratio: float) -> float:
    """Choose the ratio to compare one with: a quarter larger, or smaller."""
    return ratio * _LARGER if ratio * _LARGER <= 1 else ratio / _LARGER


class Passes:
    """Mattes moments in several ways.

    Attributes:
        size: Width and height at which frames are to be read, or None.
        ratios: Size of the coarse pass, and of the other one; in windows, if there are
            some.
        engine: What runs the network, and why.
    """

    def __init__(
        self, model: Any, options: Options, info: VideoInfo, regions: Regions | None,
        report: Callable[[str], object],
    ) -> None:  # fmt: skip
        ratio = choose_ratio(info.width, info.height, options.ratio)
        # As large as the coarse pass needs; windows are laid in whole frames.
        side = max(info.width, info.height)
        most = max(_READ_SIDE, round(side * ratio * _LARGER))
        shrinks = regions is None and side > most
        self.size = shrunk_size(info.width, info.height, most) if shrinks else None
        width, height = self.size or (info.width, info.height)
        self._size = shrunk_size(width, height, _SIDE)
        self._regions = regions
        self._flipped = None if regions is None else mirrored(regions)
        self._changed = None if regions is None else at_other_ratio(regions)
        # A smaller frame has the same coarse pass at a larger ratio.
        scale = info.width / width
        self._ratio = min(1.0, ratio * scale)
        self._second = min(1.0, other_ratio(ratio) * scale)
        used = ratio if regions is None else regions.usual(ratio)
        self.ratios = used, other_ratio(used)
        # One for each ratio: an engine is built again for another size.
        self._plain, self._other = (
            make_engine(model, options, report) for _ in self.ratios
        )
        self.engine = describe_engine(self._plain)
        self._alpha = Renderer("alpha")

    def look(self, moment: moments.Moment) -> Look:
        """Matte a moment in all ways, and measure what comes out."""
        frames, before = moment.frames, moment.before
        regions, plain = self._regions, partial(self._matte, self._plain, self._ratio)
        alphas = plain(before, frames, regions)
        lead, shown = ([each.mirrored() for each in some] for some in (before, frames))
        mirror = plain(lead, shown, self._flipped)
        found = {
            "mirror": [alpha[:, ::-1] for alpha in mirror],
            "direction": plain(moment.after, frames[::-1], regions)[::-1],
            "ratio": self._matte(
                self._other, self._second, before, frames, self._changed
            ),
        }
        agreements = {
            way: [figures.agreement(*pair) for pair in zip(alphas, others, strict=True)]
            for way, others in found.items()
        }
        pictures = [resize(with_depth(f.pixels, False), *self._size) for f in frames]
        doubts = [
            np.mean([np.abs(found[way][i] - alpha) for way in found], 0)
            for i, alpha in enumerate(alphas)
        ]
        shares = [min(agreements[way][i] for way in WAYS) for i in range(len(frames))]
        worst = int(np.argmin(shares))
        return Look(
            float(frames[worst].time), float(frames[-1].time + frames[-1].duration),
            fmean(map(figures.coverage, alphas)),
            {way: fmean(each) for way, each in agreements.items()},
            fmean(map(figures.holes, alphas)),
            figures.flicker(alphas, [each.mean(2) / 255 for each in pictures]),
            pictures[worst], alphas[worst], doubts[worst],
        )  # fmt: skip

    def _matte(
        self, engine: Engine, ratio: float, lead: Sequence[Frame],
        frames: Sequence[Frame], regions: Regions | None,
    ) -> list[Array]:  # fmt: skip
        """Give the alpha of frames at the size at which maps are compared."""
        mattes = moments.matte_last(engine, ratio, lead, frames, regions)
        small = (resize(self._alpha(matted), *self._size) for matted in mattes)
        return [alpha[..., 0] / np.float32(255) for alpha in small]


def mirrored(regions: Regions) -> Regions:
    """Give the regions of the mirror images of frames."""
    width = regions.shape[1]

    def flip(window: Window, across: int) -> Window:
        left, top, right, bottom = window.keep
        keep = width - right, top, width - left, bottom
        return Window(width - window.left - across, window.top, keep)

    return replace(
        regions,
        regions=tuple(
            replace(r, windows=tuple(flip(each, r.size[1]) for each in r.windows))
            for r in regions.regions
        ),
    )


def at_other_ratio(regions: Regions) -> Regions:
    """Give the same regions with the other size of the coarse pass."""
    return replace(
        regions,
        regions=tuple(replace(r, ratio=other_ratio(r.ratio)) for r in regions.regions),
    )


def _judge(look: Look, ratio: float) -> Remark:
    """Give a moment its score, and the reasons why it deserves a look, if any.

    `ratio` is the other downsample ratio.
    """
    found: list[tuple[float, str]] = []
    for way, name in WAYS.items():
        doubt = 1 - look.agreement[way]
        if doubt >= figures.DISAGREES:
            other = f"{name} ({ratio:.3g})" if way == "ratio" else name
            text = f"{other} gives a matte that agrees by {1 - doubt:.0%}"
            found.append((doubt, text))
    if look.holes >= _HOLED:
        text = (
            f"{look.holes:.1%} of the person is see-through inside (a gap between "
            "arm and body looks the same)"
        )
        found.append((min(1.0, 4 * look.holes), text))
    if look.flicker is not None and look.flicker >= _FLICKERS:
        text = (
            f"edges flicker: alpha changes by {look.flicker:.1%} a frame where the "
            "picture stands still"
        )
        found.append((min(1.0, 4 * look.flicker), text))
    if look.coverage < figures.NO_ONE:
        found.append((figures.DISAGREES, "no people found"))
    found.sort(key=lambda pair: -pair[0])
    score = found[0][0] if found else 0.0
    return Remark(look.time, score, [reason for _, reason in found], look)
