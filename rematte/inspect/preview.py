"""A contact sheet: what a conversion will give, at a few moments."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from os.path import realpath
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rematte.conversion.model import make_engine
from rematte.conversion.outputs import plan_outputs
from rematte.conversion.person import matte_all
from rematte.conversion.source import no_frame, open_reader
from rematte.engines.choose import describe_engine
from rematte.errors import InputError
from rematte.inspect import moments
from rematte.matting.background import Renderer
from rematte.matting.loop import choose_ratio
from rematte.matting.people import People
from rematte.matting.region import WHOLE, Regions
from rematte.options import OPTIONS, Options
from rematte.video.codecs import IMAGES, is_sequence
from rematte.video.frame import SDR, Frame, Pixels
from rematte.video.output_paths import check_target, write_whole
from rematte.video.pixels import with_depth
from rematte.video.sheet import draw_number, encode_picture, make_sheet, on_squares

_SQUARES = 24  # across a picture
_LINES = 240  # widths of the line around a window, across a picture
_DOTS = 120  # dots of a number, across a picture
_WINDOW = (255, 200, 40)  # its colour


@dataclass
class PreviewReport:
    """The contents of a contact sheet."""

    output: str  # the image
    # When its frames are shown, from left to right [s].
    times: list[float] = field(default_factory=list)
    downsample_ratio: float = 1.0  # the ratio that the network used
    engine: str = ""  # what ran the network, and why
    # Who is there at these times, if they were numbered: for each person "number",
    # "time" [s], and "x" and "y" of a point on them [pixels].
    people: list[dict[str, float]] = field(default_factory=list)
    # What differs from the source or the options.
    notes: list[str] = field(default_factory=list)


def preview(
    model: Any, path: Path, target: Path, options: Options, *, number: int = 4,
    people: bool = False, progress: bool = False,
) -> PreviewReport:  # fmt: skip
    """Write a contact sheet: a column for each moment, a row for each kind of picture.

    The rows are the source with the windows in which the network looks, alpha, the
    cut-out over squares, and the composite over the background, by default green.

    There are `number` moments, fewer where there are too few frames. With `people` the
    people are numbered in the row of the source, as `Options.person` does; the network
    then sees every frame up to the last moment. With `progress` a bar is shown on
    stderr.

    Raises:
        ValueError: If an option is out of its range, or `target` is no image.
        InputError: If the source cannot be read.
        OutputError: If the sheet cannot be written.
    """
    check_sheet(path, target, options.overwrite)
    if number < 1:
        raise ValueError(f"frames (--frames) must be 1 or more, got {number}")
    with open_reader(path, options, *options.span) as reader:
        first = next(iter(reader), None)
        if first is None:
            raise no_frame(reader, options)
        still = replace(reader.info, still=True, colour=SDR, depth=8)
    # Planned as for an image that can be transparent: where the background is, the
    # sheet shows squares.
    wanted = {"composition": target.with_suffix(".png")}
    (sheet,) = plan_outputs(wanted, still, options, first.time)
    timeline = moments.read_timeline(path, options, [sheet])
    info = timeline.info
    ratio = choose_ratio(info.width, info.height, options.ratio)
    regions = moments.find_windows(model, path, options, info, progress)
    draw = [Renderer("alpha"), Renderer("output"), sheet.render]
    firsts = moments.spread(timeline, number, 1)
    notes = [*timeline.notes, *sheet.encoding.notes]
    engine = make_engine(model, options, notes.append)
    used = ratio if regions is None else regions.usual(ratio)
    report = PreviewReport(str(target), [], used, describe_engine(engine), notes=notes)
    if people:
        shown = [timeline.times[index] for index in firsts]
        report.people = _number(model, path, options, regions, shown, progress)
    columns = []
    for index in tqdm(firsts, unit="frame", desc=path.name, disable=not progress):
        moment = moments.read_moment(path, options, timeline, index, 1)
        if moment is None:
            continue
        before, frames = moment.before, moment.frames
        (matted,) = moments.matte_last(engine, ratio, before, frames, regions)
        picture = source_picture(matted.frame, regions)
        report.times.append(round(float(matted.frame.time), 3))
        _draw_numbers(picture, report)
        side = max(1, matted.size[1] // _SQUARES)
        columns.append([picture, *(on_squares(make(matted), side) for make in draw)])
    if not columns:
        raise InputError(f"{path}: none of its frames could be decoded; copy it again")
    rows = list(zip(*columns, strict=True))
    write_whole(target, encode_picture(make_sheet(rows), target.suffix))
    return report


def _number(
    model: Any, path: Path, options: Options, regions: Regions | None,
    times: Sequence[Fraction], progress: bool,
) -> list[dict[str, float]]:  # fmt: skip
    """Number the people as a conversion does; see `PreviewReport.people`."""
    people, found, left = People(), list[dict[str, float]](), [*times]
    options = replace(options, warmup=OPTIONS["warmup"].command_default)
    with open_reader(path, options, *options.span) as reader:
        mattes = matte_all(model, reader, options, regions)
        for matted in tqdm(mattes, "people", unit="frame", disable=not progress):
            labels = people.look(matted, matted.pixels("alpha", True))
            if matted.frame.time < left[0]:
                continue
            time = round(float(matted.frame.time), 3)
            found += [
                {"number": number, "time": time, "x": x, "y": y}
                for number, (x, y) in people.points(labels, matted.size).items()
            ]
            del left[0]
            if not left:
                break
    return found


def _draw_numbers(picture: Pixels, report: PreviewReport) -> None:
    """Draw the numbers of the people into the picture of the newest moment."""
    size = max(2, picture.shape[1] // _DOTS)
    for each in report.people:
        if each["time"] == report.times[-1]:
            at = int(each["x"]), int(each["y"])
            draw_number(picture, int(each["number"]), at, size)


def check_sheet(path: Path, target: Path, overwrite: bool) -> None:
    """Refuse a sheet that cannot be written, before any work.

    Raises:
        ValueError: If it is no single image, or the source itself.
        OutputError: If it cannot be written, or exists and may not be replaced.
    """
    if is_sequence(target) or target.suffix.lower() not in IMAGES:
        raise ValueError(
            f"{target}: a contact sheet is one image; end its name in "
            f"{', '.join(IMAGES)}"
        )
    if realpath(path) == realpath(target):
        raise ValueError(f"{target} is the input itself; write elsewhere")
    check_target(target, overwrite)


def source_picture(frame: Frame, regions: Regions | None) -> Pixels:
    """Draw on a frame the windows in which the network looks."""
    region = WHOLE if regions is None else regions.at(frame)
    pixels = with_depth(frame.pixels, False).copy()
    height, width = pixels.shape[:2]
    line = max(1, width // _LINES)
    for window in region.windows:
        top, bottom = max(0, window.top), min(height, window.top + region.size[0])
        left, right = max(0, window.left), min(width, window.left + region.size[1])
        inside = pixels[top + line : bottom - line, left + line : right - line].copy()
        pixels[top:bottom, left:right] = _WINDOW
        pixels[top + line : bottom - line, left + line : right - line] = inside
    return pixels
