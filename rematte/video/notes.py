"""Notes on what an output cannot hold of its source, shared by all writers."""

from pathlib import Path

from rematte.video.frame import VideoInfo


def lost_aspect(info: VideoInfo, path: Path) -> list[str]:
    """Note that pixels that are not square will be shown square."""
    aspect = info.sample_aspect_ratio
    if aspect == 1:
        return []
    return [
        f"the shape of pixels ({aspect.numerator}:{aspect.denominator}) is lost, they "
        f"are shown square: {path.suffix} is written without it"
    ]


def left_out_tracks(info: VideoInfo, path: Path) -> list[str]:
    """Note the tracks that are lost in an output that holds pictures only."""
    listed = ", ".join(info.beside)
    kind = path.suffix or "a folder of images"
    return [f"left out: {listed}; {kind} holds pictures alone"] if listed else []


def lost_timecode(
    info: VideoInfo, path: Path, why: str = "has no field for it"
) -> list[str]:
    """Note that an output lacks the source's timecode."""
    code = info.timecode
    if code is None:
        return []
    return [
        f"timecode {code} ({float(code.rate):.6g} frames/s) is left out: "
        f"{path.suffix or '.png'} {why}"
    ]


def add_note(notes: list[str], note: str) -> None:
    """Add a note that may come again, once."""
    if note not in notes:
        notes.append(note)
