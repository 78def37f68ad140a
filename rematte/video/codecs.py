"""The codecs, which suffixes can hold them, and their encoders' settings."""

from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from rematte.video.frame import (
    RANGE_FULL,
    SDR,
    TRANSFER_SRGB,
    TRANSFERS,
    UNSPECIFIED,
    Colour,
    VideoInfo,
)
from rematte.video.numbering import Numbering, parse_pattern


@dataclass(frozen=True, slots=True)
class Codec:
    """A codec and its settings.

    Attributes:
        encoder: FFmpeg's name of the encoder.
        opaque: Pixel format for 8 bits, and for more where there is one.
        alpha: The same with an alpha channel; empty where the codec has none.
        options: FFmpeg's options of the encoder.
        crf: Default constant quality, or None where the codec has no such scale.
        alpha_crf: The same for a transparent output, where it differs.
        even: Whether width and height must be even.
        least: Smallest width and height that the encoder takes [pixels].
        tagged: Whether a file says which curve and primaries its values have.
        keeps_aspect: Whether a picture says which shape its pixels have; a container
            is asked when it is written.
    """

    encoder: str
    opaque: dict[int, str]
    alpha: dict[int, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    crf: int | None = None
    alpha_crf: int | None = None
    even: bool = False
    least: int = 1
    tagged: bool = True
    keeps_aspect: bool = True

    def coded_size(self, width: int, height: int) -> tuple[int, int]:
        """The nearest size, not smaller, that the encoder takes."""
        step = 2 if self.even else 1
        coded = (max(self.least, side + side % step) for side in (width, height))
        return next(coded), next(coded)


_420 = {8: "yuv420p", 10: "yuv420p10le"}
_P010 = {8: "yuv420p", 10: "p010le"}
# The default effort takes twice the time for 2% less.
_WEBP_LOSSLESS = {"lossless": "1", "quality": "30", "compression_level": "2"}
_NVENC = {"preset": "p5", "tune": "hq", "rc": "vbr"}

CODECS = {
    # Only 8 bits, since hardly any player decodes H.264 with more. The short lookahead
    # costs 0.05 dB and saves half the memory at 4K. The rest halves the time for 0.3 dB
    # at the same bit rate (docs/performance.md).
    "h264": Codec(
        "libx264",
        {8: "yuv420p"},
        options={
            "preset": "faster",
            "subq": "3",
            "chromaoffset": "-1",
            "rc-lookahead": "12",
            # The same frames without the lookahead thread and its 20 MB at HD.
            "x264-params": "sync-lookahead=0",
        },
        crf=18,
        even=True,
    ),
    "hevc": Codec(
        "libx265",
        _420,
        options={"x265-params": "log-level=error"},
        crf=20,
        even=True,
        least=64,  # libx265 4.1 corrupts memory with two narrower frames
    ),
    "av1": Codec(
        "libsvtav1", _420, options={"preset": "8"}, crf=26, even=True, least=4
    ),
    "vp9": Codec(
        "libvpx-vp9",
        {8: "yuv420p"},
        {8: "yuva420p"},
        # Hidden reference frames would have no alpha to go with them.
        {"auto-alt-ref": "0", "row-mt": "1", "deadline": "good", "cpu-used": "4"},
        crf=24,
        alpha_crf=14,  # over any colour off by at most 3 levels (docs/formats.md)
    ),
    "prores": Codec(
        "prores_ks",
        {8: "yuv444p10le", 10: "yuv444p10le"},
        {8: "yuva444p10le", 10: "yuva444p10le"},
        {"profile": "4444", "vendor": "apl0"},
    ),
    "ffv1": Codec(
        "ffv1",
        {8: "bgr0", 16: "gbrp16le"},
        {8: "bgra", 16: "gbrap16le"},
        {"level": "3", "slicecrc": "1"},
    ),
    # NVIDIA's encoders are never chosen by default.
    "h264_nvenc": Codec(
        "h264_nvenc", {8: "yuv420p"}, options=_NVENC, crf=21, even=True, least=192
    ),
    "hevc_nvenc": Codec(
        "hevc_nvenc", _P010, options=_NVENC, crf=23, even=True, least=192
    ),
    "av1_nvenc": Codec(
        "av1_nvenc", _P010, options=_NVENC, crf=28, even=True, least=192
    ),
    "gif": Codec("gif", {8: "pal8"}, {8: "pal8"}, tagged=False),
    "webp": Codec(
        *("libwebp_anim", {8: "bgra"}, {8: "bgra"}), crf=15, alpha_crf=2, tagged=False
    ),
    "apng": Codec("apng", {8: "rgb24", 16: "rgb48be"}, {8: "rgba", 16: "rgba64be"}),
}

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
    ".apng": ("apng",),
}

IMAGES = {
    ".png": Codec(
        "png",
        {1: "gray", 8: "rgb24", 16: "rgb48be", 17: "gray16be"},
        {8: "rgba", 16: "rgba64be"},
    ),
    ".tif": Codec(
        "tiff",
        {1: "gray", 8: "rgb24", 16: "rgb48le", 17: "gray16le"},
        {8: "rgba", 16: "rgba64le"},
        {"compression_algo": "deflate"},
        tagged=False,
    ),
    ".jpg": Codec(
        "mjpeg", {8: "yuvj444p"}, options={"qmin": "2", "qmax": "2"}, tagged=False
    ),
    ".webp": Codec(
        *("libwebp", {8: "bgra"}, {8: "bgra"}, _WEBP_LOSSLESS),
        tagged=False,
        keeps_aspect=False,
    ),
    ".exr": Codec("exr", {16: "gbrpf32le"}, {16: "gbrapf32le"}, {"format": "half"}),
}
IMAGES[".tiff"], IMAGES[".jpeg"] = IMAGES[".tif"], IMAGES[".jpg"]


def is_nvenc(encoder: str) -> bool:
    """Whether an encoder runs on NVIDIA's GPUs."""
    return encoder.endswith("_nvenc")


def opens(encoder: str) -> bool:
    """Whether an encoder opens, which those that need hardware may not."""
    context: Any = av.CodecContext.create(encoder, "w")
    context.width = context.height = 256
    context.pix_fmt, context.time_base = "yuv420p", Fraction(1, 25)
    try:
        context.open()
    except (av.error.FFmpegError, OSError):
        return False
    return True


def can_hold_alpha(suffix: str, codec: str | None = None) -> bool:
    """Whether files of this suffix (with the dot) can have an alpha channel.

    Args:
        suffix: Such as ".mov".
        codec: A name from `CODECS`, or None for the suffix's own.
    """
    if codec in CODECS:
        return bool(CODECS[codec].alpha)
    if suffix in IMAGES:
        return bool(IMAGES[suffix].alpha)
    return any(CODECS[name].alpha for name in CONTAINERS.get(suffix, ()))


def can_join(path: Path) -> bool:
    """Whether segments of an output can be joined without encoding again.

    GIF, WebP and APNG have headers that belong to the file as a whole.
    """
    suffix = path.suffix.lower()
    return is_sequence(path) or suffix not in (".gif", ".webp", ".apng")


def is_pattern(path: Path) -> bool:
    """Whether a name numbers images, as "%04d.png" does and "a%04d.mp4" does not."""
    return pattern_of(path) is not None


def pattern_of(path: Path) -> Numbering | None:
    """The numbering in the name of images, such as "a.%04d.png" or "a.####.png".

    Raises:
        ValueError: If it holds several numbers.
    """
    # For other suffixes it is an ordinary name: "a%03d.mp4" is one video.
    return parse_pattern(path.name) if path.suffix.lower() in IMAGES else None


def is_sequence(path: Path) -> bool:
    """Whether an output is a folder of images: no suffix, or a numbered pattern."""
    return path.is_dir() or not path.suffix or is_pattern(path)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How one output is encoded: a choice from the tables above.

    Attributes:
        codec: How to encode.
        pixel_format: FFmpeg's name of the format to encode from.
        alpha: Whether it has an alpha channel.
        sixteen_bit: Whether it takes 16-bit pixels rather than 8-bit ones.
        image: Whether it makes images rather than a video.
        crf: Constant quality, or None.
        mbps: Bit rate to aim at [Mbit/s], or None.
        colour: Meaning of the pixels, which the file states if its format has tags.
        notes: Sentences on what the output cannot hold of the source's colour.
    """

    codec: Codec
    pixel_format: str
    alpha: bool
    sixteen_bit: bool
    image: bool = False
    crf: int | None = None
    mbps: float | None = None
    colour: Colour = SDR
    notes: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, str]:
        """The encoder's options for the colour, constant quality included."""
        encoder, options = self.codec.encoder, dict(self.codec.options)
        if self.crf is None or self.mbps is not None:
            return options
        if encoder == "libwebp_anim":
            quality = {"quality": str(100 - self.crf)}
            return options | (quality if self.crf else _WEBP_LOSSLESS)
        nvenc = is_nvenc(encoder)
        options["cq" if nvenc else "crf"] = str(self.crf)
        if nvenc or encoder == "libvpx-vp9":
            options["b:v"] = "0"
        return options

    @property
    def alpha_options(self) -> dict[str, str]:
        """The encoder's options for alpha in a stream of its own; empty if it has none.

        A quarter of the colour's quantiser: errors of alpha show as halos.
        """
        if not self.alpha or self.codec.encoder != "libvpx-vp9":
            return {}
        crf = self.codec.alpha_crf if self.crf is None else self.crf
        limit = round((self.mbps or 0) * 1e6)  # 0: constant quality alone
        return self.codec.options | {"crf": str((crf or 0) // 4), "b:v": str(limit)}

    @property
    def mixes_edges(self) -> bool:
        """Whether the encoder mixes the colours on both sides of a cut-out's edge."""
        lossy = self.codec.encoder == "libvpx-vp9" or (
            self.codec.encoder == "libwebp_anim" and self.crf != 0
        )
        return self.alpha and lossy

    @property
    def bits(self) -> int:
        """Bits per channel in the file."""
        return av.VideoFormat(self.pixel_format).components[0].bits


def choose(
    path: Path,
    info: VideoInfo,
    *,
    alpha: bool,
    gray: bool = False,
    codec: str | None = None,
    crf: int | None = None,
    mbps: float | None = None,
    tone_map: bool = False,
) -> Encoding:
    """Choose how to encode an output.

    Args:
        path: The output; its suffix decides.
        info: The source, whose depth is kept if the format can.
        alpha: Whether the pixels have an alpha channel.
        gray: Whether the pixels have only one channel (an alpha matte).
        codec: A name from `CODECS` instead of the suffix's default.
        crf: Constant quality instead of the codec's default, if it has a scale.
        mbps: Bit rate [Mbit/s] instead of constant quality, if the codec has one.
        tone_map: Whether HDR and logarithmic pixels become SDR if the format holds only
            SDR; else they keep the source's code values.

    Raises:
        ValueError: If the suffix is unknown, or cannot hold the codec or alpha.
    """
    suffix = path.suffix.lower()
    if is_sequence(path) or (suffix in IMAGES and info.still):
        return _choose_image(path, info, alpha, gray, codec, tone_map)
    if suffix in IMAGES and suffix not in CONTAINERS:
        raise ValueError(
            f"{path} is one image, but the input has many frames; give a folder, a "
            f"pattern such as {path.stem}_%04d{suffix}, or a video's suffix"
        )
    check_suffix(path)
    names = CONTAINERS[suffix]
    if codec is not None:
        if codec not in names:
            raise ValueError(
                f"codec {codec!r} cannot go into {suffix}; it takes {', '.join(names)}"
            )
        names = (codec,)
    if alpha:
        names = tuple(name for name in names if CODECS[name].alpha)
        if not names:
            raise ValueError(_no_alpha(path))
    deep = []
    if _is_deep(info):
        deep = [name for name in names if max(_formats(name, alpha)) > 8]
    chosen = CODECS[(deep or list(names))[0]]
    formats = chosen.alpha if alpha else chosen.opaque
    default = chosen.crf
    if alpha and chosen.alpha_crf is not None:
        default = chosen.alpha_crf
    encoding = Encoding(
        chosen,
        formats[max(formats)] if deep else formats[8],
        alpha,
        bool(deep),
        crf=default if crf is None or default is None else crf,
        mbps=None if chosen.crf is None or chosen.encoder == "libwebp_anim" else mbps,
    )
    return _with_colour(encoding, path, info, gray, tone_map)


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


def _is_deep(info: VideoInfo) -> bool:
    """Whether 8 bits are too few, as they are for HDR even from an 8-bit source."""
    return info.depth > 8 or not info.colour.sdr


def _formats(name: str, alpha: bool) -> dict[int, str]:
    return CODECS[name].alpha if alpha else CODECS[name].opaque


def _choose_image(
    path: Path,
    info: VideoInfo,
    alpha: bool,
    gray: bool,
    codec: str | None,
    tone_map: bool,
) -> Encoding:
    suffix = path.suffix.lower() or ".png"
    if path.is_dir():
        suffix = ".png"
    if suffix not in IMAGES:
        raise ValueError(
            f"{path}: cannot write images as {suffix!r}; use {', '.join(IMAGES)}"
        )
    if codec is not None:
        raise ValueError(f"codec {codec!r} has no meaning for images ({path})")
    image = IMAGES[suffix]
    if alpha and not image.alpha:
        raise ValueError(_no_alpha(path))
    formats = image.alpha if alpha else image.opaque
    sixteen_bit = 8 not in formats or (16 in formats and _is_deep(info))
    key = 16 if sixteen_bit else 8
    if gray and 1 in formats:
        key = 17 if sixteen_bit else 1
    encoding = Encoding(image, formats[key], alpha, sixteen_bit, image=True)
    return _with_colour(encoding, path, info, gray, tone_map)


def _is_untagged(encoding: Encoding, path: Path) -> bool:
    """Whether a file cannot state the curve and primaries of its values."""
    raw = path.suffix.lower() == ".nut" and encoding.codec.encoder == "ffv1"
    return raw or not encoding.codec.tagged


def _with_colour(
    encoding: Encoding, path: Path, info: VideoInfo, gray: bool, tone_map: bool
) -> Encoding:
    """Add the meaning of the pixels, and notes on lost colour.

    A matte is data and gets no tags of the source. SDR images are written without tags:
    browsers then assume sRGB, while FFmpeg would turn the tags of BT.709 video into a
    gamma that they show too dark.
    """
    colour, notes = SDR, list[str]()
    if not gray:
        colour, notes = _keep_colour(encoding, path, info, tone_map)
    picture = encoding.image or encoding.codec.encoder == "apng"
    if picture and colour.sdr:
        wide = colour.wide_gamut
        primaries = colour.primaries if wide else UNSPECIFIED
        transfer = TRANSFER_SRGB if wide else UNSPECIFIED
        colour = replace(colour, primaries=primaries, transfer=transfer)
    return replace(encoding, colour=colour, notes=tuple(notes))


def _keep_colour(
    encoding: Encoding, path: Path, info: VideoInfo, tone_map: bool
) -> tuple[Colour, list[str]]:
    """The colour of an output that is not a matte, and notes on what is lost."""
    encoder, colour, notes = encoding.codec.encoder, info.colour, list[str]()
    untagged = _is_untagged(encoding, path)
    if not colour.sdr and (untagged or encoding.bits < 10):
        lack = "cannot say what its values mean" if encoding.bits > 8 else "has 8 bits"
        what = f"the {TRANSFERS[colour.transfer]} picture"
        if tone_map:
            colour = SDR
            notes.append(
                f"{what} was tone-mapped to SDR (BT.709), since this format {lack}; "
                "HEVC, AV1, ProRes, FFV1, PNG and EXR hold it"
            )
        else:
            notes.append(
                f"the code values of {what} are kept, although this format {lack}; "
                "programs may show it flat and dark"
            )
    if encoding.bits < info.depth:
        notes.append(f"reduced from {info.depth} to {encoding.bits} bits per channel")
    if colour.range == RANGE_FULL and colour.matrix and encoder == "prores_ks":
        notes.append("full range became limited range, the only one that ProRes has")
    if colour.wide_gamut and colour.sdr and (untagged or encoder == "exr"):
        notes.append(
            "the colours look less saturated: the source has other primaries than "
            "BT.709, which this format cannot state; .mp4, .mov, .mkv and .png can"
        )
    return colour, notes


def with_alpha() -> str:
    """List the suffixes whose files can be transparent, as text."""
    able = [suffix for suffix in (*CONTAINERS, *IMAGES) if can_hold_alpha(suffix)]
    return ", ".join(dict.fromkeys(able))


def _no_alpha(path: Path) -> str:
    return (
        f"{path}: {path.suffix} with this codec cannot hold transparency; use one of "
        f"{with_alpha()}, or give a background"
    )
