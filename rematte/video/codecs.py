"""The codecs, which suffixes can hold them, and their encoders' settings."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from rematte.video.numbering import Numbering, parse_pattern


@dataclass(frozen=True, slots=True)
class Codec:
    """A codec and its settings."""

    encoder: str  # FFmpeg's name of the encoder
    opaque: dict[int, str]  # pixel format for 8 bits and, if there is one, for more
    # The same with an alpha channel; empty if the codec has none.
    alpha: dict[int, str] = field(default_factory=dict)
    # FFmpeg's options of the encoder.
    options: dict[str, str] = field(default_factory=dict)
    # Pixel formats with one channel; empty if the codec has none.
    gray: dict[int, str] = field(default_factory=dict)
    # Further options for colour and alpha packed into one picture.
    packed: dict[str, str] = field(default_factory=dict)
    # Default constant quality, or None if the codec has no such scale.
    crf: int | None = None
    alpha_crf: int | None = None  # the same for a transparent output, if it differs
    # How much CRF is raised to halve the bytes, and the coarsest CRF for `max_bytes`;
    # None lets that drop frames alone.
    coarser: tuple[int, int] | None = None
    rated: bool = True  # whether a codec that has CRF takes a bit rate instead
    even: bool = False  # whether width and height must be even
    min_side: int = 1  # smallest width and height that the encoder takes [pixels]
    limited: bool = False  # whether values are always limited range
    # Whether a file states the transfer curve and primaries of its values.
    tagged: bool = True
    # Whether a picture states the shape of its pixels; for a container this is found
    # when it is written.
    keeps_aspect: bool = True

    def formats(self, alpha: bool, gray: bool = False) -> dict[int, str]:
        """Return the pixel formats for transparent, gray or other pictures."""
        return self.alpha if alpha else (gray and self.gray) or self.opaque

    @property
    def packable(self) -> bool:
        """Whether it can hold colour and alpha packed into one picture."""
        return "yuv420p" in self.opaque.values()

    def coded_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the nearest size, not smaller, that the encoder takes."""
        step = 2 if self.even else 1
        coded = (max(self.min_side, side + side % step) for side in (width, height))
        return next(coded), next(coded)


_420 = {8: "yuv420p", 10: "yuv420p10le"}
_P010 = {8: "yuv420p", 10: "p010le"}
# The default effort takes twice the time for 2% less.
WEBP_LOSSLESS = {"lossless": "1", "quality": "30", "compression_level": "2"}
_NVENC = {"preset": "p5", "tune": "hq", "rc": "vbr"}

# The short lookahead costs 0.05 dB and saves half the memory at 4K. Without
# sync-lookahead frames are the same, but no thread takes 20 MB at HD. The rest halves
# the time for 0.3 dB at the same bit rate (docs/performance.md).
_X264 = {
    "preset": "faster", "subq": "3", "chromaoffset": "-1", "rc-lookahead": "12",
    "x264-params": "sync-lookahead=0",
}  # fmt: skip

# Hidden reference frames (auto-alt-ref) would have no alpha to go with them.
_VP9 = {"auto-alt-ref": "0", "row-mt": "1", "deadline": "good", "cpu-used": "4"}

CODECS = {
    # Only 8 bits, since hardly any player decodes H.264 with more. When packed,
    # adaptive quantisation would make alpha's edges coarse (docs/formats.md).
    "h264": Codec("libx264", {8: "yuv420p"}, options=_X264, packed={"aq-mode": "0"},
                  crf=18, coarser=(6, 40), even=True),
    # libx265 4.1 corrupts memory with two narrower frames.
    "hevc": Codec("libx265", _420, options={"x265-params": "log-level=error"}, crf=20,
                  coarser=(6, 40), even=True, min_side=64),
    # When packed, quicker presets leave errors of 60 levels at edges. SVT-AV1 4.2
    # corrupts memory with frames of 8x8 pixels or less.
    "av1": Codec("libsvtav1", _420, options={"preset": "8"}, packed={"preset": "5"},
                 crf=26, coarser=(9, 55), even=True, min_side=16),
    # With this alpha_crf a composite over any colour is off by at most 3 levels
    # (docs/formats.md).
    "vp9": Codec("libvpx-vp9", {8: "yuv420p"}, {8: "yuva420p"}, _VP9, crf=24,
                 alpha_crf=14, coarser=(10, 56)),
    "prores": Codec("prores_ks", {8: "yuv444p10le", 10: "yuv444p10le"},
                    {8: "yuva444p10le", 10: "yuva444p10le"},
                    {"profile": "4444", "vendor": "apl0"},
                    limited=True),  # it has no way to say "full range"
    "ffv1": Codec("ffv1", {8: "bgr0", 16: "gbrp16le"}, {8: "bgra", 16: "gbrap16le"},
                  {"level": "3", "slicecrc": "1"}),
    # NVIDIA's encoders are never chosen by default.
    "h264_nvenc": Codec("h264_nvenc", {8: "yuv420p"}, options=_NVENC, crf=21, even=True,
                        min_side=192),
    "hevc_nvenc": Codec("hevc_nvenc", _P010, options=_NVENC, crf=23, even=True,
                        min_side=192),
    "av1_nvenc": Codec("av1_nvenc", _P010, options=_NVENC, crf=28, even=True,
                       min_side=192),
    "gif": Codec("gif", {8: "pal8"}, {8: "pal8"}, tagged=False),
    "webp": Codec("libwebp_anim", {8: "bgra"}, {8: "bgra"}, crf=15, alpha_crf=2,
                  coarser=(14, 40), rated=False, tagged=False),
    # Encoded by Pillow; see `avif_writer`.
    "avif": Codec("avif", {8: "rgb24"}, {8: "rgba"}, crf=20, alpha_crf=10,
                  rated=False, tagged=False),
    "apng": Codec("apng", {8: "rgb24", 16: "rgb48be"}, {8: "rgba", 16: "rgba64be"}),
}  # fmt: skip

# The first codec is the default; if it cannot hold the source's bits or alpha, the next
# one that can is chosen.
CONTAINERS = {
    ".mp4": ("h264", "hevc", "av1", "h264_nvenc", "hevc_nvenc", "av1_nvenc"),
    ".m4v": ("h264", "hevc", "h264_nvenc", "hevc_nvenc"),
    ".mov": ("prores", "h264", "hevc", "h264_nvenc", "hevc_nvenc"),
    ".webm": ("vp9", "av1", "av1_nvenc"),
    ".mkv": (
        *("ffv1", "h264", "hevc", "av1", "vp9", "prores"),
        *("h264_nvenc", "hevc_nvenc", "av1_nvenc"),
    ),
    ".nut": ("ffv1", "h264"),
    ".gif": ("gif",),
    ".webp": ("webp",),
    ".avif": ("avif",),
    ".apng": ("apng",),
}

IMAGES = {
    ".png": Codec("png", {8: "rgb24", 16: "rgb48be"}, {8: "rgba", 16: "rgba64be"},
                  gray={8: "gray", 16: "gray16be"}),
    ".tif": Codec("tiff", {8: "rgb24", 16: "rgb48le"}, {8: "rgba", 16: "rgba64le"},
                  {"compression_algo": "deflate"}, gray={8: "gray", 16: "gray16le"},
                  tagged=False),
    ".jpg": Codec("mjpeg", {8: "yuvj444p"}, options={"qmin": "2", "qmax": "2"},
                  tagged=False),
    ".webp": Codec("libwebp", {8: "bgra"}, {8: "bgra"}, WEBP_LOSSLESS, tagged=False,
                   keeps_aspect=False),
    ".exr": Codec("exr", {16: "gbrpf32le"}, {16: "gbrapf32le"}, {"format": "half"}),
}  # fmt: skip
IMAGES[".tiff"], IMAGES[".jpeg"] = IMAGES[".tif"], IMAGES[".jpg"]


def is_nvenc(encoder: str) -> bool:
    """Whether an encoder runs on NVIDIA's GPUs."""
    return encoder.endswith("_nvenc")


def opens(encoder: str, pixel_format: str = "yuv420p") -> bool:
    """Whether an encoder can be opened with a pixel format.

    Those that need hardware may fail, and some list formats that they then refuse.
    """
    try:
        context: Any = av.CodecContext.create(encoder, "w")
        context.width = context.height = 256
        context.pix_fmt, context.time_base = pixel_format, Fraction(1, 25)
        context.open()
    except (av.error.FFmpegError, OSError, ValueError):
        return False
    return True


def hevc_with_alpha() -> str:
    """Return a remedy for HEVC with alpha, which rematte does not write, as text."""
    made = "write ProRes (.mov) and convert that"
    if opens("hevc_videotoolbox", "bgra"):
        return f"{made} with avconvert --preset PresetHEVCHighestQualityWithAlpha"
    if opens("libx265", "yuva420p"):
        return f"{made} with FFmpeg (-c:v libx265 -pix_fmt yuva420p -tag:v hvc1)"
    return (
        "no encoder here makes HEVC with alpha: pack it (--packed side), or "
        f"{made} on a Mac (avconvert --preset PresetHEVCHighestQualityWithAlpha)"
    )


def can_hold_alpha(suffix: str, codec: str | None = None) -> bool:
    """Whether files of this suffix, or of this codec, can have an alpha channel."""
    if codec in CODECS:
        return bool(CODECS[codec].alpha)
    if suffix in IMAGES:
        return bool(IMAGES[suffix].alpha)
    return any(CODECS[name].alpha for name in CONTAINERS.get(suffix, ()))


# They hold the picture alone, and have headers that belong to the file as a whole.
PICTURE_ONLY = (".gif", ".webp", ".avif", ".apng")


def can_join(path: Path) -> bool:
    """Whether segments of an output can be joined without encoding again."""
    return is_sequence(path) or path.suffix.lower() not in PICTURE_ONLY


def pattern_of(path: Path) -> Numbering | None:
    """Return the numbering in the name of images, such as "a.%04d.png".

    "a%03d.mp4" has none: it is the name of one video.

    Raises:
        ValueError: If it holds several numbers.
    """
    return parse_pattern(path.name) if path.suffix.lower() in IMAGES else None


def is_sequence(path: Path) -> bool:
    """Whether an output is a folder of images: no suffix, or a numbered pattern."""
    return path.is_dir() or not path.suffix or pattern_of(path) is not None


def suffix_of(path: Path) -> str:
    """Return the suffix of an output's files: a folder without a pattern holds PNG."""
    return ".png" if path.is_dir() else path.suffix.lower() or ".png"


def check_suffix(path: Path) -> None:
    """Check that files of this suffix can be written.

    Raises:
        ValueError: If the suffix is unknown.
    """
    suffix = path.suffix.lower()
    if suffix not in CONTAINERS and suffix not in IMAGES:
        raise ValueError(
            f"{path}: unknown suffix {suffix!r}; videos can be written as "
            f"{', '.join(CONTAINERS)}, images as {', '.join(IMAGES)} or to a folder"
        )


def with_alpha() -> str:
    """List the suffixes whose files can be transparent, as text."""
    able = [suffix for suffix in (*CONTAINERS, *IMAGES) if can_hold_alpha(suffix)]
    return ", ".join(dict.fromkeys(able))
