"""Notes on what an output cannot hold of its source, shared by all writers."""

from fractions import Fraction
from pathlib import Path

from rematte.video.frame import VideoInfo
from rematte.video.timecode import Timecode


def lost_aspect(aspect: Fraction, suffix: str) -> str:
    """Note that pixels that are not square will be shown square."""
    return (
        f"the shape of pixels ({aspect.numerator}:{aspect.denominator}) is lost, they "
        f"are shown square: {suffix} is written without it"
    )


def left_out_tracks(info: VideoInfo, path: Path) -> list[str]:
    """Note the tracks that are lost in an output that holds pictures only."""
    listed = ", ".join(info.beside)
    kind = path.suffix or "a folder of images"
    return [f"left out: {listed}; {kind} holds pictures alone"] if listed else []


def lost_timecode(timecode: Timecode, suffix: str, why: str) -> str:
    """Note that an output has no timecode."""
    return (
        f"timecode {timecode} ({float(timecode.rate):.6g} frames/s) is left out: "
        f"{suffix} {why}"
    )


def add_note(notes: list[str], note: str) -> None:
    """Add a note that may come again, once."""
    if note not in notes:
        notes.append(note)
