"""Settings of a conversion: what the page may ask for, and the files that it makes."""

import re
from collections.abc import Mapping
from typing import Any

from rematte.matting.background import COLOURS
from rematte.options import QUALITIES
from rematte.serve.choice import read_choice, read_object
from rematte.serve.store import is_id

# The file that each output makes, of videos and of photos. A file's stem says what it
# is: the cut-out, the composition or the alpha matte.
VIDEO_FILES = {
    "mov": "cutout.mov",
    "webm": "cutout.webm",
    "webp": "cutout.webp",
    "mp4": "composition.mp4",
    "alpha": "alpha.mp4",
}
PHOTO_FILES = {
    "png": "cutout.png",
    "webp": "cutout.webp",
    "jpg": "composition.jpg",
    "mask": "alpha.png",
}
FILES = VIDEO_FILES | PHOTO_FILES
# The output that each preset makes here.
PRESET_OUTPUTS = {
    "resolve": "mov",
    "web": "webm",
    "slides": "mp4",
    "whatsapp": "webp",
    "telegram": "webm",
}
SHORT_PRESETS = ("whatsapp", "telegram")  # small and short, so that they take no time
# What the network takes for a frame, as the pixels that take as long [million].
NETWORK_SHARE = 0.5
# Pictures in the folder of the page's own files, drawn by tools/draw_backgrounds.py.
READY = ("studio", "dusk", "lights", "window")


def kind_of(output: str) -> str:
    """Give the kind of output, as `convert` calls it, that a key of `FILES` makes."""
    stem = FILES[output].partition(".")[0]
    return "output" if stem == "cutout" else stem


def is_over_background(outputs: list[str]) -> bool:
    """Whether one of the outputs needs a background."""
    return any(kind_of(output) == "composition" for output in outputs)


def check_settings(settings: Any) -> dict[str, Any]:
    """Check settings that came as JSON, and fill in defaults."""
    names = ("outputs", "background", "quality", "preset", "choice")
    settings = read_object("settings", settings, names)
    outputs = check_outputs(settings)
    preset = settings.get("preset")
    if preset is not None and (
        not isinstance(preset, str) or [PRESET_OUTPUTS.get(preset)] != outputs
    ):
        raise ValueError(
            f"preset must be one of {', '.join(PRESET_OUTPUTS)}, with the output that "
            f"belongs to it, got {preset!r:.60} with {', '.join(outputs)}"
        )
    background = settings.get("background", "green")
    if not isinstance(background, str) or not _is_background(background):
        raise ValueError(
            f"background must be {', '.join(COLOURS)}, #rrggbb, blur, an uploaded file "
            f"(file:ID) or one of ready:{', ready:'.join(READY)}, got "
            f"{background!r:.60}"
        )
    quality = check_quality(settings)
    choice = settings.get("choice") or {}
    read_choice(choice)
    return {
        "outputs": outputs,
        "background": background,
        "quality": quality,
        "preset": preset,
        "choice": choice,
    }


def check_quality(settings: Mapping[str, Any]) -> str:
    """Check "quality" of settings."""
    quality = settings.get("quality", "balanced")
    if not isinstance(quality, str) or quality not in QUALITIES:
        raise ValueError(
            f"quality must be one of {', '.join(QUALITIES)}, got {quality!r:.60}"
        )
    return quality


def check_outputs(settings: Mapping[str, Any]) -> list[str]:
    """Check "outputs" of settings, and give each output once."""
    outputs = settings.get("outputs")
    if (
        not isinstance(outputs, list)
        or not outputs
        or not all(isinstance(kind, str) and kind in FILES for kind in outputs)
    ):
        raise ValueError(
            f"outputs must be a list of {', '.join(FILES)}, got {outputs!r:.60}"
        )
    outputs = list(dict.fromkeys(outputs))
    kinds = [kind_of(output) for output in outputs]
    if len(set(kinds)) < len(kinds):
        raise ValueError(
            "outputs: choose one transparent file, one over a background and one alpha "
            f"matte, got {', '.join(outputs)}"
        )
    return outputs


def check_fits(outputs: list[str], photo: bool) -> None:
    """Check that a photo becomes photos, and a video becomes videos."""
    allowed = PHOTO_FILES if photo else VIDEO_FILES
    if wrong := [output for output in outputs if output not in allowed]:
        raise ValueError(
            f"outputs of a {'photo' if photo else 'video'} must be among "
            f"{', '.join(allowed)}, got {', '.join(wrong)}"
        )


def _is_background(text: str) -> bool:
    kind, _, name = text.partition(":")
    if kind == "file":
        return is_id(name)
    if kind == "ready":
        return name in READY
    hexadecimal = re.fullmatch("#[0-9a-fA-F]{6}", text)
    return text in (*COLOURS, "blur") or hexadecimal is not None
