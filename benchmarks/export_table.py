"""Export in every format and precision, and measure the difference from the network.

    python benchmarks/export_table.py --output table.jsonl
    python benchmarks/export_table.py --formats onnx openvino --sizes 641x361@0.6
    python benchmarks/export_table.py --show table.jsonl [--summary]

Prints the largest and the mean |difference| in foreground, alpha and states over real
recurrent frames, at frames 1, 10 and 100: one JSON line per measurement, and a Markdown
table at the end. The mobilenetv3 variant has the bundled weights; resnet50 has the
formula weights of the tests, since none are bundled. Formats whose packages are missing
are skipped and named.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

from rematte.errors import end
from rematte.export.formats import FORMATS, PRECISIONS, Request
from rematte.export.verify import REPORTED, Truth, difference, real_frames, true_outputs
from rematte.network.matting_network import VARIANTS, MattingNetwork
from rematte.weights.load import load_model

TESTS = Path(__file__).parents[1] / "tests"
Size = tuple[tuple[int, int], float]  # height and width, and ratio
SIZES = ("1280x720@0.375", "1920x1080@0.25", "641x361@0.6")


def network_of(variant: str) -> MattingNetwork:
    """Bundled weights, or those that are a formula of their names."""
    if variant == "mobilenetv3":
        network = load_model()
        assert isinstance(network, MattingNetwork)
        return network.eval()
    sys.path.insert(0, str(TESTS))
    made: MattingNetwork = import_module("fakes").formula_network(
        variant, "deep_guided_filter"
    )
    return made


def runs(
    options: argparse.Namespace, size: Size
) -> Iterator[tuple[str, str, Size | None]]:
    """Give format, precision and, of a model made for one size, that size."""
    for name in options.formats:
        kind = FORMATS[name]
        fixed = kind.fixed == "always" or (options.fixed and kind.fixed != "never")
        for precision in kind.precisions:
            if precision in options.precisions:
                yield name, precision, size if fixed else None


def measure(
    network: MattingNetwork,
    run: tuple[str, str, Size | None],
    truths: list[Truth],
    ratio: float,
) -> dict[str, Any]:
    """Export one model and run it, for a row of the table."""
    name, precision, size = run
    module: Any = import_module(f"rematte.export.{FORMATS[name].module}")
    request = Request(precision, *(size or ()))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{FORMATS[name].suffix}"
        begin = time.perf_counter()
        module.write(network, path, request)
        seconds = time.perf_counter() - begin
        files = [file for file in Path(folder).rglob("*") if file.is_file()]
        megabytes = sum(file.stat().st_size for file in files) / 1e6
        found = difference(module.open_model(path, request, ratio), truths, ratio)
    height, width = found.size
    return {
        "format": name + " fixed" * (size is not None),
        "precision": precision,
        "size": f"{width}x{height}",
        "ratio": ratio,
        "megabytes": round(megabytes, 2),
        "seconds": round(seconds, 1),
        "frames": found.frames,
        "most": found.most,
        "mean": found.mean,
        "reported": found.reported,
    }


def parse_size(text: str) -> Size:
    """Read "1280x720@0.375" as height and width, and ratio."""
    try:
        sides, ratio = text.split("@")
        width, height = sides.split("x")
        return (int(height), int(width)), float(ratio)
    except ValueError:
        raise ValueError(f"--sizes must be like 1280x720@0.375, got {text!r}") from None


def markdown(rows: list[dict[str, Any]]) -> str:
    """Largest and mean difference of each part, at each reported frame and over all."""
    lines = [
        "| network | format | precision | size, ratio | MB | export s | frame "
        "| foreground | alpha | states |",
        "|" + " --- |" * 10,
    ]
    for row in rows:
        about = (
            f"| {row['variant']} | `{row['format']}` | {row['precision']} "
            f"| {row['size']}, {row['ratio']:g} | {row['megabytes']:.1f} "
            f"| {row['seconds']:.0f} "
        )
        whole = {part: (row["most"][part], row["mean"][part]) for part in row["most"]}
        for frame, found in (row["reported"] | {"all": whole}).items():
            parts = [
                "{:.0e} ({:.0e})".format(*found[part]) if part in found else "inside"
                for part in ("fgr", "pha", "states")
            ]
            lines.append(f"{about}| {frame} | {' | '.join(parts)} |")
            about = "| " * 6  # written once
    return "\n".join(lines).replace("e-0", "e-").replace("0e+00", "0")


def summary(rows: list[dict[str, Any]]) -> str:
    """Alpha alone: the largest of frames 1, 10 and 100, and their largest mean."""
    sizes = list(dict.fromkeys(f"{row['size']}, {row['ratio']:g}" for row in rows))
    cells: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in rows:
        kind = row["variant"], row["format"].removesuffix(" fixed"), row["precision"]
        if row["format"] == "onnx fixed":
            kind = row["variant"], "onnx --static", row["precision"]
        alphas = [part["pha"] for part in row["reported"].values()]
        most, mean = map(max, zip(*alphas, strict=True))
        text = f"{most:.1e} ({mean:.0e})" if most else "0"
        cell = cells.setdefault(kind, {"MB": f"{row['megabytes']:.1f}"})
        cell[f"{row['size']}, {row['ratio']:g}"] = text.replace("e-0", "e-")
    lines = [
        f"| network | format | precision | MB | {' | '.join(sizes)} |",
        "|" + " --- |" * (4 + len(sizes)),
    ]
    for (variant, name, precision), cell in cells.items():
        found = " | ".join(cell.get(column, "-") for column in ("MB", *sizes))
        lines.append(f"| {variant} | `{name}` | {precision} | {found} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure every export.")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WxH@RATIO")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument(
        "--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS
    )
    parser.add_argument("--frames", type=int, default=max(REPORTED))
    parser.add_argument(
        "--fixed", action="store_true", help="fix the size where that is a choice"
    )
    parser.add_argument("--output", type=Path, help="append JSON lines to this file")
    parser.add_argument(
        "--show", nargs="+", type=Path, metavar="FILE", help="print these files alone"
    )
    parser.add_argument("--summary", action="store_true", help="print alpha alone")
    options = parser.parse_args()
    if options.show:
        lines = [line for file in options.show for line in file.open()]
        table = summary if options.summary else markdown
        print(table([json.loads(line) for line in lines]))
        return 0
    for name in list(options.formats):
        missing = [module for module in FORMATS[name].needs if not find_spec(module)]
        if missing:
            print(f"{name}: {', '.join(missing)} missing", file=sys.stderr)
            options.formats.remove(name)
    rows = []
    for variant, text in product(options.variants, options.sizes):
        network, size = network_of(variant), parse_size(text)
        frames = real_frames(size[0], options.frames)
        # Kept, since all formats are compared with them: 6 GB at 1920x1080.
        truths = list(true_outputs(network, frames, size[1]))
        for run in runs(options, size):
            rows.append({"variant": variant, **measure(network, run, truths, size[1])})
            if options.output:
                with options.output.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    print(markdown(rows))
    return 0


if __name__ == "__main__":
    end(main)
