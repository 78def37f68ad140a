"""Checks a finished file: a transparent cut-out, or a gray alpha matte."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from tqdm import tqdm

from rematte.errors import InputError
from rematte.inspect import figures, moments
from rematte.inspect.checks import (
    BLACK,
    VISIBLE,
    Check,
    Seen,
    alpha_checks,
    colour_check,
    measure,
    number_checks,
    source_checks,
)
from rematte.inspect.figures import Remark
from rematte.options import Options
from rematte.video.frame import Colour, Frame, Pixels
from rematte.video.opening import Limits
from rematte.video.pixels import resize, with_depth
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader
from rematte.video.sheet import on_squares, shrunk_size
from rematte.video.tone import displayed

_DETAILED = 1.5  # mean difference of hidden neighbours that are a picture [levels]
_ALIKE = 8  # levels up to which a hidden pixel passes for the source's
_LEAKED = 0.3  # share of hidden pixels that pass for the source's in a leak
_SEEN = 0.005  # coverage below which a change is no jump
_HOLED = 0.02  # share of the person that is see-through in a frame to look at
_APART = 0.5  # between frames to look at [s]
_JUMP = 0.3  # relative change of coverage between frames that deserves a look
_COMPARED = 8  # frames whose hidden pixels are compared with the source
_PICTURE_SIDE = 512  # longer side of the pictures of those [pixels]
_LISTED = 8  # frames to look at, at most


@dataclass
class MatteReport:
    """The report on a finished file."""

    path: Path
    kind: str  # "cut-out" or "matte"
    timeline: moments.Timeline  # all of its frames
    checks: list[Check]
    seen: list[Seen]  # the frames that were looked at
    notes: list[str] = field(default_factory=list)  # what else is not as in the source

    @property
    def ok(self) -> bool:
        """Whether all is as it should be."""
        return all(check.ok for check in self.checks)

    @property
    def no_people(self) -> list[dict[str, float]]:
        """Spans of time in which alpha covers nothing."""
        return figures.empty_spans(
            (float(each.time), float(each.end), each.coverage) for each in self.seen
        )

    @property
    def look_at(self) -> list[Remark]:
        """The frames that deserve a look, the first one most."""
        found = [*_jumps(self.seen), *_holed(self.seen)]
        found.sort(key=lambda remark: -remark.score)
        picked: list[Remark] = []
        for each in found:  # those beside one that is listed show the same
            if all(abs(each.seen.time - o.seen.time) >= _APART for o in picked):
                picked.append(each)
        return picked[:_LISTED]

    def lines(self) -> Iterator[str]:
        """Sum the report up in lines of text."""
        yield f"{self.kind} of {self.timeline}; {len(self.seen)} looked at"
        for check in self.checks:
            yield f"{'ok  ' if check.ok else 'LOOK'} {check.name}: {check.text}"
        for span in self.no_people:
            yield f"no people found: {span['start']:g} to {span['end']:g} s"
        yield from map(str, self.look_at)

    def as_json(self) -> dict[str, Any]:
        """Give the report as types that JSON has."""
        return {
            "kind": self.kind,
            "input": str(self.path),
            **self.timeline.as_json(),
            "ok": self.ok,
            "checks": [vars(check) for check in self.checks],
            "mean": {
                "coverage": round(fmean(each.coverage for each in self.seen), 4),
                "holes": round(fmean(each.holes for each in self.seen), 4),
            },
            "moments": [
                {
                    "time": round(float(each.time), 3),
                    "coverage": round(each.coverage, 4),
                    "holes": round(each.holes, 4),
                }
                for each in self.seen
            ],
            "no_people": self.no_people,
            "look_at": [remark.as_json() for remark in self.look_at],
            "notes": self.notes,
        }


def is_transparent(path: Path, options: Options) -> bool:
    """Find whether the first frame of a file has an alpha channel.

    Raises:
        InputError: If it cannot be read.
    """
    with _open(path, options) as reader:
        return bool(next(iter(reader)).pixels.shape[2] == 4)


def inspect_matte(
    path: Path, options: Options, *, gray: bool = False, source: Path | None = None,
    number: int | None = None, every: float | None = None, progress: bool = False,
) -> MatteReport:  # fmt: skip
    """Check a finished file: a transparent one, or with `gray` a gray matte.

    It is compared with the `source` that it was made of, if that is given, as the
    options read it from `start` to `end`. `number` and `every` say how many frames to
    look at, as for `how_many`; by default it is all of them. With `progress` a bar is
    shown on stderr.

    Raises:
        InputError: If a file cannot be read, or has no alpha channel and `gray` is
            not set.
    """
    with _open(path, options) as reader:
        info, notes, labels = reader.info, reader.notes, reader.labels
        shown: Iterable[Frame] = reader
        times = [] if number is None and every is None else reader.times()
        if times:
            timeline = moments.Timeline(info, times, 0, len(times), [])
            count = moments.how_many(timeline, number, every)
            shown = _sampled(path, options, timeline, count)
        shown = tqdm(shown, unit="frame", desc=path.name, disable=not progress)
        seen = [measure(frame, gray) for frame in shown]
    if not gray and not any(each.transparent for each in seen):
        raise InputError(
            f"{path}: no alpha channel in it, so it is no cut-out; if it is a gray "
            "alpha matte, pass --matte"
        )
    times = times or [each.time for each in seen]
    checks = [*alpha_checks(seen, gray), *number_checks(labels)]
    other: Colour | None = None
    if source is not None:
        wanted = moments.read_timeline(source, options)
        other = wanted.info.colour
        checks += source_checks(times, info, wanted, bool(labels))
        lost = set(wanted.info.other_tracks) - set(info.other_tracks)
        if lost and not labels:
            notes.append(f"the source has and the file has not: {', '.join(lost)}")
    checks.append(colour_check(info.colour, other, gray))
    timeline = moments.Timeline(info, times, 0, len(times), [])
    if not gray:
        checks.append(_hidden_check(path, options, timeline, seen, source))
    kind = "matte" if gray else "cut-out"
    return MatteReport(path, kind, timeline, checks, seen, notes)


def _open(path: Path, options: Options, *span: Fraction | None) -> VideoReader:
    """Open a finished file, or the part of it in a span of time [s]."""
    start, end = span or (None, None)
    return VideoReader(
        path,
        ReadOptions(
            alpha=True, deinterlace="off", start=start, end=end,
            ignore_errors=options.ignore_errors,
            limits=Limits(options.max_pixels, options.allow_lists),
        ),
    )  # fmt: skip


def _read_pixels(path: Path, options: Options, *span: Fraction | None) -> Pixels:
    """Read the frame of a finished file at a time, in SDR and 8 bits."""
    with _open(path, options, *span) as reader:
        return with_depth(next(displayed(reader, reader.info.colour)).pixels, False)


def _sampled(
    path: Path, options: Options, timeline: moments.Timeline, number: int
) -> Iterator[Frame]:
    """Give evenly spaced frames of a file."""
    for index in moments.spread(timeline, number, 1):
        with _open(path, options, *timeline.span(index, index + 1)) as reader:
            yield from islice(reader, 1)


def _hidden_check(
    path: Path, options: Options, timeline: moments.Timeline, seen: Sequence[Seen],
    source: Path | None,
) -> Check:  # fmt: skip
    """Check that what alpha hides is not in the file all the same."""
    name, share = "hidden colours", fmean(each.hidden for each in seen)
    if share <= VISIBLE:
        return Check(name, True, "RGB is 0 where alpha is 0")
    text = f"RGB is not 0 in {share:.1%} of the pixels of alpha 0"
    if source is not None:
        if _likeness(path, options, timeline, source) > _LEAKED:
            return Check(name, False, f"{text}: it is the source's there")
        return Check(name, True, f"{text}, and not the source's either")
    detail = fmean(each.detail for each in seen)
    if detail > _DETAILED:
        return Check(name, False, f"{text}: there is a picture; --source compares it")
    return Check(name, True, f"{text}: smooth colours, as lossy codecs get them")


def _likeness(
    path: Path, options: Options, timeline: moments.Timeline, source: Path
) -> float:
    """Give the share of hidden pixels, not black, that are as in the source."""
    original = moments.read_timeline(source, options)
    alike = count = 0
    for index in moments.spread(timeline, _COMPARED, 1):
        behind = min(original.begin + index, original.stop - 1)
        moment = moments.read_moment(source, options, original, behind, 1, lead=0)
        ours = _read_pixels(path, options, *timeline.span(index, index + 1))
        if moment is None or ours.shape[2] != 4:
            continue
        theirs = with_depth(moment.frames[0].pixels, False)
        if ours.shape[:2] != theirs.shape[:2]:
            continue
        hidden = (ours[..., 3] == 0) & (ours[..., :3].max(2) > BLACK)
        difference = np.abs(ours[..., :3].astype(np.int16) - theirs)[hidden]
        alike += int((difference.max(1) <= _ALIKE).sum()) if len(difference) else 0
        count += len(difference)
    return alike / count if count else 0.0


def _jumps(seen: Sequence[Seen]) -> Iterator[Remark]:
    """Yield frames at which the covered share of the picture changes at once."""
    for before, now in pairwise(seen):
        larger = max(before.coverage, now.coverage)
        change = abs(before.coverage - now.coverage) / larger if larger else 0.0
        adjacent = now.time - before.end < (before.end - before.time) / 2
        if adjacent and larger > _SEEN and change >= _JUMP:
            text = f"alpha covers {now.coverage:.1%} of the picture, "
            text += f"{before.coverage:.1%} a frame before"
            yield Remark(float(now.time), change, [text], now)


def _holed(seen: Sequence[Seen]) -> Iterator[Remark]:
    """Yield frames with more holes than the others have."""
    usual = median(each.holes for each in seen)
    for each in seen:
        if each.holes >= max(_HOLED, 2 * usual):
            text = f"{each.holes:.1%} of the person is see-through inside"
            yield Remark(float(each.time), min(1.0, 4 * each.holes), [text], each)


def read_picture(path: Path, options: Options, seen: Seen) -> Pixels:
    """Read one frame of a finished file as a picture, a cut-out over squares."""
    pixels = _read_pixels(path, options, seen.time, seen.end)
    small = shrunk_size(pixels.shape[1], pixels.shape[0], _PICTURE_SIDE)
    return on_squares(resize(pixels, *small))
