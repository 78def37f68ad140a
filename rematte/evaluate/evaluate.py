"""Measures mattes against true ones, clip by clip and frame by frame."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from rematte.errors import InputError
from rematte.evaluate import METRICS, metrics
from rematte.evaluate.dataset import Matte, find_clips, labelled_frames, read_mattes
from rematte.matting.loop import matte
from rematte.video.output_paths import check_target, write_whole
from rematte.video.reader import VideoReader

Figures = dict[str, float]


@dataclass(frozen=True)
class ClipScores:
    """The scores of a clip."""

    name: str
    # Scores of each frame by names of `METRICS`; a metric that is not defined for a
    # frame is left out.
    frames: list[Figures] = field(default_factory=list)

    @property
    def mean(self) -> Figures:
        """Average every metric over the frames that have it."""
        return _mean(self.frames)


def _mean(figures: Sequence[Figures]) -> Figures:
    found = {name: [f[name] for f in figures if name in f] for name in METRICS}
    return {name: fmean(values) for name, values in found.items() if values}


class Clip(NamedTuple):
    """A clip to measure."""

    name: str
    pred: Iterable[Matte]
    true: Iterable[Matte]
    whole: bool = True  # whether frames follow one another without gaps


def pair_files(pred: Path, true: Path) -> list[Clip]:
    """Pair predicted clips with true ones, by name unless there is one of each.

    Both are a clip or a folder of clips, in a layout that `find_clips` knows.

    Raises:
        InputError: If a clip has no partner.
    """
    left, right = find_clips(pred), find_clips(true)
    if len(left) == len(right) == 1:
        (found,), ((name, truth),) = left.values(), right.items()
        return [Clip(name or true.stem, read_mattes(found), read_mattes(truth))]
    for names, others, folder in ((right, left, pred), (left, right, true)):
        for name in names:
            if name not in others:
                raise InputError(
                    f"{folder}: no clip {name or '.'!r} there, only "
                    f"{', '.join(others)[:200] or '.'}; give them equal names"
                )
    return [Clip(n, read_mattes(left[n]), read_mattes(right[n])) for n in right]


def run_network(model: Any, testset: Path, **options: Any) -> Iterator[Clip]:
    """Run a network over the clips of a test set, without rounding its output.

    The model is anything called like `MattingNetwork`, and the set a folder as
    `make_testset` writes it, or in another layout that `find_clips` knows. For the
    options see `matting.matte`.

    Raises:
        InputError: If a clip has no composite, or its parts have other names.
    """
    for name, source in find_clips(testset).items():
        if source.composite is None:
            raise InputError(
                f"{testset}: clip {name or '.'!r} has no com beside its pha; "
                "rematte make-testset writes such a set"
            )
        labelled = labelled_frames(source)
        pred = _matte(model, source.composite, labelled, **options)
        truth = read_mattes(source)
        yield Clip(name or testset.stem, pred, truth, labelled is None)


def _matte(
    model: Any, path: Path, wanted: set[int] | None, **options: Any
) -> Iterator[Matte]:
    """Matte all frames of a composite, and yield those that are wanted."""
    with VideoReader(path) as reader:
        for number, matted in enumerate(matte(model, reader, **options)):
            if wanted is None or number in wanted:
                foreground = matted.fgr.movedim(0, -1).double().cpu().numpy()
                yield Matte(matted.pha[0].double().cpu().numpy(), foreground)


def score(
    name: str,
    pred: Iterable[Matte],
    true: Iterable[Matte],
    wanted: Sequence[str] = tuple(METRICS),
    normalise: bool = False,
    published: bool = False,
) -> ClipScores:
    """Measure a clip frame by frame; its name is for messages.

    `wanted` are names of `METRICS`. `normalise` stretches both maps to the range 0 to 1
    for the gradient metric. `published` counts dtSSD of the first frame as 0, as the
    published script of RobustVideoMatting does.

    Raises:
        InputError: If number or sizes differ.
    """
    scores = ClipScores(name)
    before: tuple[Matte, Matte] | None = None
    for index, (found, truth) in enumerate(zip_longest(pred, true)):
        if found is None or truth is None:
            which, other = "prediction", "truth"
            if found is not None:
                which, other = other, which
            raise InputError(
                f"{name}: the {which} ends after {index} frames, but not the {other}; "
                "give the same frames of both"
            )
        if found.alpha.shape != truth.alpha.shape:
            (h, w), (height, width) = found.alpha.shape, truth.alpha.shape
            raise InputError(
                f"{name}: frame {index} is {w}x{h} in the prediction and "
                f"{width}x{height} in the truth; no metric holds across sizes: "
                "predict at the truth's size"
            )
        known = _defined(found, truth, before, normalise)
        if published and before is None:
            known["dtssd"] = lambda: 0.0
        values = {key: known[key]() for key in wanted if key in known}
        scores.frames.append({k: v for k, v in values.items() if v is not None})
        before = found, truth
    return scores


def _defined(
    found: Matte, truth: Matte, before: tuple[Matte, Matte] | None, normalise: bool
) -> dict[str, Callable[[], float | None]]:
    """Return a function for each metric that is defined for a frame."""
    pred, true = found.alpha, truth.alpha
    known: dict[str, Callable[[], float | None]] = {
        "mad": lambda: metrics.mad(pred, true),
        "mse": lambda: metrics.mse(pred, true),
        "grad": lambda: metrics.gradient(pred, true, normalise),
        "conn": lambda: metrics.connectivity(pred, true),
        "iou": lambda: metrics.iou(pred, true),
        "sad": lambda: metrics.sad(pred, true),
    }
    if truth.unknown is not None and truth.unknown.any():
        inside = pred[truth.unknown], true[truth.unknown]
        known["mad_t"] = lambda: metrics.mad(*inside)
        known["mse_t"] = lambda: metrics.mse(*inside)
        known["sad_t"] = lambda: metrics.sad(*inside)
    if before is not None and before[1].alpha.shape == true.shape:
        pairs = zip(before, (pred, true), strict=True)
        last, now = (np.stack([old.alpha, new]) for old, new in pairs)
        known["dtssd"] = lambda: metrics.dtssd(last, now)
    if found.foreground is not None and truth.foreground is not None:
        colours = found.foreground, truth.foreground
        known["fgr_mse"] = lambda: metrics.foreground_mse(*colours, true)
        known["fgr_mad"] = lambda: metrics.foreground_mad(*colours, true)
    return known


def evaluate(
    clips: Iterable[Clip],
    wanted: Sequence[str] = tuple(METRICS),
    normalise: bool = False,
    published: bool = False,
    progress: bool = False,
) -> list[ClipScores]:
    """Measure the clips of `pair_files` or `run_network`; see `score`.

    `progress` shows a bar on stderr.

    Raises:
        InputError: If a clip cannot be read, or its parts differ in size or length.
    """
    scores = []
    with tqdm(unit="frame", disable=not progress) as bar:
        for name, pred, true, whole in clips:
            known = [each for each in wanted if whole or each != "dtssd"]
            true = _count(true, bar)
            scores.append(score(name, pred, true, known, normalise, published))
    return scores


def _count(mattes: Iterable[Matte], bar: Any) -> Iterator[Matte]:
    for item in mattes:
        yield item
        bar.update()


def as_rows(scores: Sequence[ClipScores]) -> list[list[str]]:
    """Return the rows of a table: heading, clips, and the mean of several clips."""
    figures = [(clip.name, len(clip.frames), clip.mean) for clip in scores]
    if len(scores) > 1:
        total = sum(count for _, count, _ in figures)
        figures.append(("mean", total, _mean([f for _, _, f in figures])))
    shown = [name for name in METRICS if any(name in row[2] for row in figures)]
    rows = [["clip", "frames", *(METRICS[name] for name in shown)]]
    for clip, count, row in figures:
        cells = [f"{row[name]:.4f}" if name in row else "-" for name in shown]
        rows.append([clip, str(count), *cells])
    return rows


def as_table(scores: Sequence[ClipScores]) -> str:
    """Return the table as text in aligned columns."""
    rows = as_rows(scores)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *rest in rows:
        cells = [f"{cell:>{w}}" for cell, w in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([f"{first:<{widths[0]}}", *cells]))
    return "\n".join(lines)


def as_json(scores: Sequence[ClipScores]) -> dict[str, Any]:
    """Return all scores, including those of each frame, as JSON types."""
    clips = {clip.name: {"mean": clip.mean, "frames": clip.frames} for clip in scores}
    return {"clips": clips, "mean": _mean([clip.mean for clip in scores])}


def check_outputs(table: Path | None, plot: Path | None) -> None:
    """Refuse before any work what cannot be written or drawn."""
    for path in filter(None, (table, plot)):
        check_target(path, overwrite=True)
    if plot is not None:
        _figure_class()


def write_csv(scores: Sequence[ClipScores], path: Path) -> None:
    """Write the table as a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(as_rows(scores))
    write_whole(path, text.getvalue().encode())


def write_plot(scores: Sequence[ClipScores], path: Path) -> None:
    """Plot each metric over time as a PNG, with a line for each clip."""
    names = [name for name in METRICS if any(name in clip.mean for clip in scores)]
    if not names:
        raise ValueError("nothing to plot: no chosen metric is defined on these clips")
    figure = _figure_class()(figsize=(8, 2 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for name, axis in zip(names, axes, strict=True):
        axis.set_ylabel(METRICS[name])
        for clip in scores:
            points = [(i, f[name]) for i, f in enumerate(clip.frames) if name in f]
            axis.plot(*zip(*points, strict=True) if points else ((), ()),
                      label=clip.name)  # fmt: skip
    axes[-1].set_xlabel("frame")
    if len(scores) <= 10:
        axes[0].legend(fontsize="small")
    image = io.BytesIO()
    figure.savefig(image, format="png")
    write_whole(path, image.getvalue())


def _figure_class() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "a plot needs matplotlib; pip install rematte[evaluate], or leave out "
            "--plot"
        ) from error
    return Figure
