"""The table of presets: programs and services that receive cut-outs, and their limits.

Nothing heavy is imported here, since `rematte --help` needs this module.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rematte.video.values import parse_time


@dataclass(frozen=True)
class Preset:
    """The options that a receiver of cut-outs needs."""

    receiver: str
    suffixes: tuple[str, ...]  # suffixes of the outputs that it takes
    why: str  # where its limits come from, and what was tried
    # Options of a conversion by name; options that the user gives win.
    options: Mapping[str, Any] = field(default_factory=dict)
    seconds: int | None = None  # the longest video that it takes [s]; None for any


# The cut-out stops this long before the limit [s]: a frame at 20 frames/s or more that
# begins before that also ends within the limit.
_LAST_FRAME = 0.05

PRESETS = {
    "telegram": Preset(
        "Telegram, video sticker", (".webm",),
        "its documentation: VP9, one side 512, 30 frames/s, 3 s, 256 KB, no sound; "
        "file checked with FFmpeg and Chromium, not sent",
        {"input_resize": (512, 512), "fit": "contain", "codec": "vp9", "crf": 24,
         "max_rate": 30, "max_bytes": 256_000, "audio": False}, 3,
    ),
    "whatsapp": Preset(
        "WhatsApp, animated sticker", (".webp",),
        "its documentation: WebP, 512x512, 500 KB, 10 s; file checked with Pillow, "
        "not sent",
        {"input_resize": (512, 512), "fit": "contain", "max_rate": 15,
         "max_bytes": 500_000, "crf": 30}, 10,
    ),
    "discord": Preset(
        "Discord, sticker", (".gif", ".apng"),
        "its API's documentation: 320x320, 512 KB, 5 s; file checked with Pillow, not "
        "sent",
        {"input_resize": (320, 320), "fit": "contain", "max_rate": 20,
         "max_bytes": 512_000}, 5,
    ),
    "slides": Preset(
        "slides, over white", (".mp4",),
        "H.264 of 8 bits plays everywhere; file checked with FFmpeg",
        {"input_resize": (1920, 1080), "fit": "contain", "codec": "h264",
         "background": "white", "max_rate": 30},
    ),
    "web": Preset(
        "pages in Chrome, Edge and Firefox", (".webm",),
        "VP9 with alpha; shown by Chromium in a test",
        {"codec": "vp9", "crf": 24, "max_rate": 30},
    ),
    "resolve": Preset(
        "DaVinci Resolve, Premiere, Final Cut", (".mov",),
        "ProRes 4444, straight; file checked with FFmpeg, not in these programs",
        {"codec": "prores", "alpha_mode": "straight"},
    ),
    "nuke": Preset(
        "Nuke, Fusion, Blender", (".exr",),
        "premultiplied light, each row compressed by itself; read by the OpenEXR "
        "library, not in these programs",
        {"alpha_mode": "premultiplied", "exr_compression": "zips"},
    ),
    "ios": Preset(
        "apps on iOS that draw alpha themselves", (".mp4", ".mov"),
        "HEVC of colour and alpha side by side, since HEVC with alpha cannot be "
        "encoded here; read by FFmpeg, not on a phone",
        {"packed": "side", "codec": "hevc", "max_rate": 60},
    ),
}  # fmt: skip


def fill_in(values: Mapping[str, Any]) -> dict[str, Any]:
    """Add the options of a preset, if one is named; options that are given win.

    A value of None stands for an option that is not given. `Options` refuses an unknown
    preset.
    """
    preset = PRESETS.get(values.get("preset") or "")
    if preset is None:
        return dict(values)
    given = {name: value for name, value in values.items() if value is not None}
    wanted = dict(preset.options)
    if preset.seconds is not None:
        begin = parse_time("start", given.get("start")) or 0
        wanted["end"] = float(begin) + preset.seconds - _LAST_FRAME
    if "output_video_mbps" in given:
        wanted.pop("crf", None)
    return {**values, **wanted, **given}


def check_preset(name: str | None, path: Path) -> None:
    """Refuse an output that the receiver of a preset, if one is named, cannot take."""
    if name is not None and path.suffix.lower() not in PRESETS[name].suffixes:
        raise ValueError(
            f"{path}: preset {name} (--preset) needs an output that ends in "
            f"{' or '.join(PRESETS[name].suffixes)}"
        )
