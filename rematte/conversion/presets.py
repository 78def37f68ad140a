"""Receivers of cut-outs and what they take: one table.

Nothing heavy is imported here, since `rematte --help` needs this module.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rematte.video.values import parse_time


@dataclass(frozen=True)
class Preset:
    """What a receiver takes.

    Attributes:
        receiver: Its name.
        suffixes: Of the outputs that it takes.
        why: Where its limits come from, and what was tried.
        options: Options of a conversion, by name; those that are given win.
        seconds: The longest file [s], or None.
    """

    receiver: str
    suffixes: tuple[str, ...]
    why: str
    options: Mapping[str, Any] = field(default_factory=dict)
    seconds: int | None = None


# A frame that begins this long before the limit ends within it at 20 frames/s or more.
_LAST_FRAME = 0.05

PRESETS = {
    "telegram": Preset(
        "Telegram, video sticker",
        (".webm",),
        "its documentation: VP9, one side 512, 30 frames/s, 3 s, 256 KB, no sound; "
        "file checked with FFmpeg and Chromium, not sent",
        {
            "input_resize": (512, 512),
            "fit": "contain",
            "codec": "vp9",
            "crf": 24,
            "max_rate": 30,
            "max_bytes": 256_000,
            "audio": False,
        },
        3,
    ),
    "whatsapp": Preset(
        "WhatsApp, animated sticker",
        (".webp",),
        "its documentation: WebP, 512x512, 500 KB, 10 s; file checked with Pillow, "
        "not sent",
        {
            "input_resize": (512, 512),
            "fit": "contain",
            "max_rate": 15,
            "max_bytes": 500_000,
            "crf": 30,
        },
        10,
    ),
    "discord": Preset(
        "Discord, sticker",
        (".gif", ".apng"),
        "its API's documentation: 320x320, 512 KB, 5 s; file checked with Pillow, not "
        "sent",
        {
            "input_resize": (320, 320),
            "fit": "contain",
            "max_rate": 20,
            "max_bytes": 512_000,
        },
        5,
    ),
    "slides": Preset(
        "slides, over white",
        (".mp4",),
        "H.264 of 8 bits plays everywhere; file checked with FFmpeg",
        {
            "input_resize": (1920, 1080),
            "fit": "contain",
            "codec": "h264",
            "background": "white",
            "max_rate": 30,
        },
    ),
    "web": Preset(
        "pages in Chrome, Edge and Firefox",
        (".webm",),
        "VP9 with alpha; shown by Chromium in a test",
        {"codec": "vp9", "crf": 24, "max_rate": 30},
    ),
    "resolve": Preset(
        "DaVinci Resolve, Premiere, Final Cut",
        (".mov",),
        "ProRes 4444, straight; file checked with FFmpeg, not in these programs",
        {"codec": "prores", "alpha_mode": "straight"},
    ),
    "nuke": Preset(
        "Nuke, Fusion, Blender",
        (".exr",),
        "premultiplied light, each row compressed by itself; read by the OpenEXR "
        "library, not in these programs",
        {"alpha_mode": "premultiplied", "exr_compression": "zips"},
    ),
    "ios": Preset(
        "apps on iOS that draw alpha themselves",
        (".mp4", ".mov"),
        "HEVC of colour and alpha side by side, since HEVC with alpha cannot be "
        "encoded here; read by FFmpeg, not on a phone",
        {"packed": "side", "codec": "hevc", "max_rate": 60},
    ),
}


def fill_in(values: Mapping[str, Any]) -> dict[str, Any]:
    """Add the options of a preset to those that are given, which win.

    Args:
        values: Options by name, one of them perhaps "preset"; None stands for one that
            is not given.

    Raises:
        ValueError: If there is no such preset.
    """
    name = values.get("preset")
    if name is None:
        return dict(values)
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    preset = PRESETS[name]
    given = {name: value for name, value in values.items() if value is not None}
    wanted = dict(preset.options)
    if preset.seconds is not None:
        begin = parse_time("start", given.get("start")) or 0
        wanted["end"] = float(begin) + preset.seconds - _LAST_FRAME
    if "output_video_mbps" in given:
        wanted.pop("crf", None)
    return {**values, **wanted, **given}


def check_preset(name: str | None, path: Path) -> None:
    """Check that an output is one that the receiver takes.

    Raises:
        ValueError: If it has another suffix.
    """
    if name is not None and path.suffix.lower() not in PRESETS[name].suffixes:
        raise ValueError(
            f"{path}: preset {name} (--preset) is for files that end in "
            f"{' or '.join(PRESETS[name].suffixes)}; name the output so"
        )
