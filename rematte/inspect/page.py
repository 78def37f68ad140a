"""Writes a report into a folder: a page, its figures as JSON, and pictures.

The page fetches nothing: its style and its pictures are in it.
"""

import json
import os
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np

from rematte.errors import OutputError
from rematte.inspect import figures
from rematte.inspect.clip import WAYS, ClipReport, Look
from rematte.inspect.figures import Array, Remark
from rematte.inspect.finished import MatteReport, read_picture
from rematte.options import Options
from rematte.video.frame import Pixels
from rematte.video.output_paths import as_output_error, write_whole
from rematte.video.sheet import encode_picture, make_sheet

PAGE_NAME, FIGURES_NAME = "index.html", "inspect.json"
MAP_NAME, SHEET_NAME = "map.png", "moments.png"
_FULL = 0.25  # difference of alpha that is drawn in full colour
_HEAT = np.array([255, 72, 32], np.float32)
_WIDTH, _HEIGHT, _MARGIN = 920, 180, 50  # of a chart
_POINTS = 600  # of a line, at most
_LABELS = {"mirror": "mirror image", "direction": "backwards", "ratio": "other ratio"}


Points = Sequence[tuple[float, float]]  # times [s] in order, and values


def check_folder(folder: Path, overwrite: bool) -> None:
    """Check before any work that a report can be written.

    Raises:
        OutputError: If the folder cannot be made or written to, or holds a report that
            may not be replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; give a folder")
    parent = folder.resolve().parent
    if not folder.exists() and not parent.is_dir():
        raise OutputError(f"{folder}: folder {parent} does not exist; create it first")
    place = folder if folder.exists() else parent
    if not os.access(place, os.W_OK):
        raise OutputError(
            f"{folder}: no permission to write to {place}; try another folder"
        )
    page = folder / PAGE_NAME
    if page.exists() and not overwrite:
        raise OutputError(f"{page} exists; pass overwrite (-y) to replace it")


def write_report(
    report: ClipReport | MatteReport, folder: Path, options: Options
) -> list[Path]:
    """Write a report into a folder, which is made if it is missing; give the files.

    Raises:
        OutputError: If one cannot be written.
    """
    text = json.dumps(report.as_json(), indent=1, ensure_ascii=False) + "\n"
    files = {FIGURES_NAME: text.encode()}
    if isinstance(report, ClipReport):
        mean = np.mean([look.picture for look in report.looks], 0)
        heat = draw_doubt(mean.astype(np.uint8), report.doubt)
        files[MAP_NAME] = encode_picture(heat, ".png")
        rows = list(zip(*map(_pictures, report.looks), strict=True))
        files[SHEET_NAME] = encode_picture(make_sheet(rows, 2400), ".png")
        parts = *_clip_page(report, heat), _read("about_clip.html")
    else:
        parts = *_matte_page(report, options), _read("about_matte.html")
    page = Template(_read("page.html"))
    text = page.substitute(title=escape(report.path.name), body="\n".join(parts))
    files[PAGE_NAME] = text.encode("utf-8", "backslashreplace")
    with as_output_error(folder):
        folder.mkdir(exist_ok=True)
    for name, content in files.items():
        write_whole(folder / name, content)
    return [folder / name for name in reversed(files)]


def _read(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")


def draw_doubt(picture: Pixels, doubt: Array) -> Pixels:
    """Draw in red over a darkened picture, 8 bits, how far alpha differs, in [0, 1]."""
    gray = picture.mean(2, keepdims=True, dtype=np.float32) * 0.55
    share = np.minimum(doubt / _FULL, 1)[..., None] ** 0.7
    drawn: Pixels = np.rint(gray * (1 - share) + _HEAT * share).astype(np.uint8)
    return drawn


def _pictures(look: Look) -> list[Pixels]:
    """The pictures of a moment: the frame, its alpha, and where mattes differ."""
    alpha = np.rint(look.alpha * 255).astype(np.uint8)[..., None]
    return [look.picture, alpha, draw_doubt(look.picture, look.doubt)]


def _clip_page(report: ClipReport, heat: Pixels) -> Iterator[str]:
    yield _heading(
        report.path,
        f"{report.timeline}; {len(report.looks)} moments looked at; downsample ratio "
        f"{report.ratios[0]:.3g} and {report.ratios[1]:.3g}{report.within}; "
        f"engine {report.engine}",
    )
    yield f'<p class="verdict">{_clip_verdict(report)}</p>'
    yield '<div class="tiles">'
    for way, share in report.agreement.items():
        worst = min(look.agreement[way] for look in report.looks)
        yield _tile(_LABELS[way], f"{share:.1%}", f"agreement; at worst {worst:.1%}")
    flicker = report.flicker
    text = "-" if flicker is None else f"{flicker:.1%}"
    yield _tile("flicker", text, "change a frame at still edges")
    yield _tile("holes", f"{max(e.holes for e in report.looks):.1%}", "at worst")
    yield "</div>"
    times = [look.time for look in report.looks]
    lines = {
        _LABELS[way]: [(look.time, look.agreement[way]) for look in report.looks]
        for way in WAYS
    }
    low = min(value for points in lines.values() for _, value in points)
    yield "<h2>Agreement over time</h2>"
    yield draw_chart(lines, max(0.0, np.floor(low * 20 - 0.5) / 20), 1.0, times)
    yield "<h2>Coverage over time</h2>"
    covered = [(look.time, look.coverage) for look in report.looks]
    yield _coverage_chart(covered, report.no_people)
    yield "<h2>Where the mattes differ</h2>"
    caption = "mean over all moments; full colour where alpha differs by 0.25"
    yield f"<figure>{_image(heat)}<figcaption>{caption}</figcaption></figure>"
    yield from _remarks(report, lambda remark: _pictures(remark.seen))


def _clip_verdict(report: ClipReport) -> str:
    """Sum a report up in a sentence or two."""
    count = len(report.look_at)
    words = ["All ways of matting this clip agree, and nothing stands out."]
    if count:
        plural = "moments deserve" if count > 1 else "moment deserves"
        words = [f"{count} {plural} a look."]
    if all(look.coverage < figures.NO_ONE for look in report.looks):
        words = ["No people found."]
    elif report.no_people:
        where = ", ".join(f"{s['start']:g} to {s['end']:g} s" for s in report.no_people)
        words.append(f"No people found: {where}.")
    return escape(" ".join(words))


def _matte_page(report: MatteReport, options: Options) -> Iterator[str]:
    yield _heading(
        report.path,
        f"{report.kind}, {report.timeline}; {len(report.seen)} frames looked at",
    )
    wrong = sum(not check.ok for check in report.checks)
    text = f"{wrong} of {len(report.checks)} checks failed." if wrong else (
        f"All {len(report.checks)} checks passed.")  # fmt: skip
    yield f'<p class="verdict">{text}</p><table>'
    for check in report.checks:
        mark = '<td class="ok">ok' if check.ok else '<td class="bad">look'
        yield f"<tr>{mark}</td><th>{check.name}</th><td>{escape(check.text)}</td></tr>"
    yield "</table><h2>Coverage over time</h2>"
    covered = [(float(each.time), each.coverage) for each in report.seen]
    yield _coverage_chart(covered, report.no_people)
    yield from _remarks(
        report, lambda remark: [read_picture(report.path, options, remark.seen)]
    )


def _heading(path: Path, text: str) -> str:
    return f'<h1>{escape(path.name)}</h1><p class="about">{escape(text)}</p>'


def _tile(name: str, value: str, text: str) -> str:
    return f"<div><span>{name}</span><b>{value}</b><small>{text}</small></div>"


def _image(pixels: Pixels) -> str:
    """Embed a picture, so that the page is one file."""
    data = b64encode(encode_picture(pixels, ".jpg")).decode()
    height, width = pixels.shape[:2]
    return (
        f'<img alt="" width="{width}" height="{height}" '
        f'src="data:image/jpeg;base64,{data}">'
    )


def _remarks(
    report: ClipReport | MatteReport, draw: Callable[[Remark], list[Pixels]]
) -> Iterator[str]:
    """Yield the end of a page: frames to look at, with their pictures, and notes."""
    yield "<h2>Frames to look at</h2>"
    remarks = report.look_at
    for remark in remarks:
        drawn = "".join(map(_image, draw(remark)))
        yield (
            f"<section><h3>{remark.time:.3f} s <small>score {remark.score:.2f}</small>"
            f'</h3>{_items(remark.reasons)}<div class="strip">{drawn}</div></section>'
        )
    if not remarks:
        yield "<p>None stands out.</p>"
    if report.notes:
        yield f"<h2>Notes</h2>{_items(report.notes)}"


def _items(texts: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def _coverage_chart(covered: Points, empty: Sequence[dict[str, float]]) -> str:
    most = max(value for _, value in covered)
    high = max(0.05, float(np.ceil(most * 20)) / 20)
    times = [time for time, _ in covered] if len(covered) <= 40 else []
    lines = {"share of the picture that alpha covers": covered}
    return draw_chart(lines, 0.0, high, times, empty)


def draw_chart(
    lines: Mapping[str, Points], low: float, high: float, marks: Sequence[float],
    shaded: Sequence[dict[str, float]] = (),
) -> str:  # fmt: skip
    """Draw lines, by name, over time as SVG, from value `low` to `high`.

    Points at times in `marks` [s] get a dot, and spans of time in `shaded` [s] a
    background.
    """
    first = min(points[0][0] for points in lines.values())
    last = max(max(points[-1][0] for points in lines.values()), first + 1e-3)

    def across(time: float) -> float:
        share = (min(max(time, first), last) - first) / (last - first)
        return _MARGIN + 8 + share * (_WIDTH - _MARGIN - 16)

    def down(value: float) -> float:
        return 10 + (1 - (value - low) / (high - low)) * (_HEIGHT - 40)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">']
    for span in shaded:
        left, right = across(span["start"]), across(span["end"])
        parts.append(
            f'<rect x="{left:.1f}" y="10" width="{max(2.0, right - left):.1f}" '
            f'height="{_HEIGHT - 40}"><title>no people found</title></rect>'
        )
    for value in np.linspace(low, high, 3):
        y = down(value)
        parts.append(
            f'<path class="grid" d="M{_MARGIN} {y:.1f}H{_WIDTH}"/>'
            f'<text x="{_MARGIN - 6}" y="{y + 4:.1f}" class="left">'
            f"{100 * value:.3g}%</text>"
        )
    for time in np.linspace(first, last, 6):
        side = ' class="left"' if time == last else ""
        parts.append(
            f'<text x="{across(time):.1f}" y="{_HEIGHT - 10}"{side}>{time:.1f} s</text>'
        )
    names = []
    for number, (name, points) in enumerate(lines.items(), 1):
        drawn = [(across(t), down(v), t, v) for t, v in thin(points, _POINTS)]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y, *_ in drawn)
        parts.append(f'<path class="c{number}" d="M{path}"/>')
        parts += [
            f'<circle class="c{number}" cx="{x:.1f}" cy="{y:.1f}" r="3">'
            f"<title>{name}: {v:.1%} at {t:.2f} s</title></circle>"
            for x, y, t, v in drawn
            if t in marks
        ]
        names.append(f'<span class="c{number}">{name}</span>')
    picture, caption = "".join([*parts, "</svg>"]), " ".join(names)
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def thin(points: Points, most: int) -> Points:
    """Reduce points to the lowest of each few, since what drops is what matters."""
    step = -(-len(points) // most)
    groups = (points[i : i + step] for i in range(0, len(points), step))
    return [min(group, key=lambda point: point[1]) for group in groups]
