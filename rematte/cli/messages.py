"""The messages that commands print about a finished conversion."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rematte.convert import Report


def summarise(report: "Report", device: str) -> str:
    """Summarise a conversion in a few lines."""
    rate = report.frames / report.seconds
    shares = ", ".join(f"{name} {share:.0%}" for name, share in report.shares.items())
    why = "; ".join(dict.fromkeys(region["why"] for region in report.regions))
    region = [f"region: {why} ({report.looking:.1f} s of searching)"] if why else []
    return "\n".join(
        [
            f"{report.frames} frame{'s' * (report.frames != 1)} of "
            f"{report.width}x{report.height} in {report.seconds:.1f} s "
            f"({rate:.1f} frames/s: {shares})",
            f"downsample ratio {report.downsample_ratio:.3g}, device {device}, engine "
            f"{report.engine}",
            *region,
            *_summarise_segments(report),
            *(f"{kind}: {path}" for kind, path in report.outputs.items()),
        ]
    )


def _summarise_segments(report: "Report") -> list[str]:
    from rematte.resume.join import LongReport

    if not isinstance(report, LongReport):
        return []
    lines = [f"segments: {report.segments}, {report.reused} of them finished before"]
    if report.seams:
        mean = sum(seam[1] for seam in report.seams) / len(report.seams)
        worst = max(report.seams, key=lambda seam: seam[1])
        lines.append(
            f"seams: {len(report.seams)}, each after {report.lead_in} frames of lead-in"
            f"; alpha differs by {mean:.2f} of 255 on average, at the worst seam "
            f"({worst[0]:.2f} s) by {worst[1]:.2f}, and there by {worst[2]} at most"
        )
    return lines


def print_notes(notes: Sequence[str], source: Path | None = None) -> None:
    """Print notes on the standard error, with the file that they are about."""
    about = f"{source}: " if source is not None else ""
    for note in notes:
        print(f"note: {about}{note}", file=sys.stderr)
