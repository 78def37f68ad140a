"""Notes on damaged data, and on what an output cannot hold of its source."""

from collections.abc import Mapping
from pathlib import Path

from rematte.video.frame import VideoInfo

# In `VideoReader.damaged`: the decoder filled in the missing parts of a packet.
CONCEALED = "concealed"
_PACKETS = ("", CONCEALED)


def describe_damage(damaged: Mapping[float, str]) -> list[str]:
    """Return the notes on `VideoReader.damaged`, none if there was no damage."""
    images = {time: name for time, name in damaged.items() if name not in _PACKETS}
    kind, notes = "image" if images else "packet", []
    for what, concealed in (
        ("the nearest frame, usually the one before, is shown instead", False),
        ("the decoder filled in what is missing; pictures may be lost there", True),
    ):
        found = [t for t, n in sorted(damaged.items()) if (n == CONCEALED) is concealed]
        if found:
            names = ", ".join(images.get(time, f"{time:.3f} s") for time in found[:3])
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            kinds = kind + "s" * (len(found) > 1)
            notes.append(f"{len(found)} {kinds} damaged ({names}{more}): {what}")
    return notes


def lost_aspect(info: VideoInfo, path: Path) -> list[str]:
    """Note that pixels that are not square will be shown square."""
    aspect = info.sample_aspect_ratio
    if aspect == 1:
        return []
    return [
        f"the shape of pixels ({aspect.numerator}:{aspect.denominator}) is lost, so "
        f"they are shown square: {path.suffix} is written without it"
    ]


def left_out_tracks(info: VideoInfo, path: Path) -> list[str]:
    """Note the tracks that are lost in an output that holds pictures only."""
    listed = ", ".join(info.other_tracks)
    kind = path.suffix or "a folder of images"
    return [f"left out: {listed}; {kind} holds only pictures"] if listed else []


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
