"""Chooses how an output is encoded, from the tables of codecs."""

from dataclasses import dataclass, replace
from pathlib import Path

import av

from rematte.video.codecs import (
    CODECS,
    CONTAINERS,
    IMAGES,
    WEBP_LOSSLESS,
    Codec,
    can_pack,
    check_suffix,
    is_nvenc,
    is_sequence,
    suffix_of,
    with_alpha,
)
from rematte.video.exr import COMPRESSIONS
from rematte.video.frame import (
    RANGE_FULL,
    RANGE_LIMITED,
    SDR,
    TRANSFER_SRGB,
    TRANSFERS,
    UNSPECIFIED,
    Colour,
    VideoInfo,
)


@dataclass(frozen=True, slots=True)
class Encoding:
    """The encoding of one output: a choice from the tables of `codecs`.

    Attributes:
        codec: The codec.
        pixel_format: FFmpeg's name of the format to encode from.
        alpha: Whether it has an alpha channel.
        sixteen_bit: Whether it takes 16-bit pixels rather than 8-bit ones.
        image: Whether it makes images rather than a video.
        crf: Constant quality, or None.
        mbps: Bit rate to aim at [Mbit/s], or None.
        premultiplied: Whether the file's colours are multiplied by alpha.
        packed: How colour and alpha are packed into one opaque picture: one of
            `packing.ARRANGEMENTS`, or empty. The pixels have an alpha channel then.
        compression: FFmpeg's name of an OpenEXR image's compression.
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
    premultiplied: bool = False
    packed: str = ""
    compression: str = ""
    colour: Colour = SDR
    notes: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, str]:
        """The encoder's options for the colour, constant quality included."""
        encoder, options = self.codec.encoder, dict(self.codec.options)
        if self.packed:
            options |= self.codec.packed
        if self.compression:
            options["compression"] = self.compression
        if self.crf is None or self.mbps is not None:
            return options
        if encoder == "libwebp_anim":
            quality = {"quality": str(100 - self.crf)}
            return options | (quality if self.crf else WEBP_LOSSLESS)
        nvenc = is_nvenc(encoder)
        options["cq" if nvenc else "crf"] = str(self.crf)
        if nvenc or encoder == "libvpx-vp9":
            options["b:v"] = "0"
        return options

    @property
    def alpha_options(self) -> dict[str, str]:
        """The encoder's options for an alpha stream; empty if there is none.

        Alpha is nearly lossless at the default quality, and at any other much finer
        than the colour, since its errors show as halos.
        """
        if not self.alpha or self.codec.encoder != "libvpx-vp9":
            return {}
        crf = self.codec.alpha_crf if self.crf is None else self.crf
        limit = round((self.mbps or 0) * 1e6)  # 0: constant quality alone
        return self.codec.options | {
            "crf": str(max(0, (crf or 0) - 14) // 4),
            "b:v": str(limit),
        }

    @property
    def mixes_edges(self) -> bool:
        """Whether the encoder mixes the colours on both sides of a cut-out's edge."""
        lossy = self.codec.encoder == "libvpx-vp9" or (
            self.codec.encoder == "libwebp_anim" and self.crf != 0
        )
        return self.alpha and lossy

    @property
    def shrinks(self) -> bool:
        """Whether the output can be made smaller by coarser quality or fewer frames."""
        small = self.codec.crf is not None or self.codec.encoder in ("gif", "apng")
        return small and not self.image and self.codec.encoder != "avif"

    @property
    def has_alpha_modes(self) -> bool:
        """Whether the output can hold straight and premultiplied colours."""
        able = self.codec.encoder in ("prores_ks", "tiff", "exr")
        return bool(self.packed) or (self.alpha and able)

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
    alpha_mode: str | None = None,
    exr_compression: str = "zip",
    packed: str = "",
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
        alpha_mode: "straight" or "premultiplied" colours where the format can hold
            both; None: straight, but in OpenEXR premultiplied.
        exr_compression: One of `exr.COMPRESSIONS`.
        packed: One of `packing.ARRANGEMENTS`, for pixels with an alpha channel in a
            codec that has none; or empty.

    Raises:
        ValueError: If the suffix is unknown, or cannot hold the codec or alpha.
    """
    suffix = path.suffix.lower()
    packed = packed * alpha
    if packed:
        _check_packable(path, codec)
        alpha = False
    if is_sequence(path) or (suffix in IMAGES and info.still):
        image = _choose_image(path, info, alpha, gray, codec, tone_map)
        image = _with_alpha_mode(image, alpha_mode)
        light = image.codec.encoder == "exr"
        return replace(image, compression=COMPRESSIONS[exr_compression] * light)
    if suffix in IMAGES and suffix not in CONTAINERS:
        raise ValueError(
            f"{path} is one image, but the input is a video; give a folder, a "
            f"pattern such as {path.stem}_%04d{suffix}, or a video's suffix"
        )
    check_suffix(path)
    names = _codec_names(path, alpha, codec)
    if packed:
        names = tuple(filter(can_pack, names))
    codecs = [CODECS[name] for name in names]
    deep = []
    if _is_deep(info) and not packed:
        deep = [each for each in codecs if max(each.formats(alpha)) > 8]
    chosen = (deep or codecs)[0]
    formats = chosen.formats(alpha)
    default = chosen.crf
    if alpha and chosen.alpha_crf is not None:
        default = chosen.alpha_crf
    if packed and default is not None:
        default //= 4  # errors of alpha show as halos
    encoding = Encoding(
        chosen,
        formats[max(formats)] if deep else formats[8],
        alpha,
        bool(deep),
        crf=default if crf is None or default is None else crf,
        mbps=None if chosen.crf is None or not chosen.rated else mbps,
    )
    encoding = _with_alpha_mode(replace(encoding, packed=packed), alpha_mode)
    encoding = _with_colour(encoding, path, info, gray, tone_map)
    if packed:  # few players on phones heed full range
        limited = replace(encoding.colour, range=RANGE_LIMITED)
        encoding = replace(encoding, colour=limited)
    return encoding


def _codec_names(path: Path, alpha: bool, codec: str | None) -> tuple[str, ...]:
    """Return the codecs that can be taken, in the order of preference."""
    suffix = path.suffix.lower()
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
    return names


def _check_packable(path: Path, codec: str | None) -> None:
    suffix = path.suffix.lower()
    able = [each for each, names in CONTAINERS.items() if any(map(can_pack, names))]
    if suffix not in able or is_sequence(path):
        raise ValueError(
            f"{path} cannot be packed (--packed): write one of {', '.join(able)}"
        )
    if codec is not None and not can_pack(codec):
        raise ValueError(
            f"codec {codec!r} cannot be packed (--packed); take one of "
            f"{', '.join(filter(can_pack, CONTAINERS[suffix]))}"
        )


def _with_alpha_mode(encoding: Encoding, mode: str | None) -> Encoding:
    usual = "premultiplied" if encoding.codec.encoder == "exr" else "straight"
    wanted = (mode if encoding.has_alpha_modes else None) or usual
    clear = encoding.alpha or bool(encoding.packed)
    return replace(encoding, premultiplied=clear and wanted != "straight")


def _is_deep(info: VideoInfo) -> bool:
    """Whether 8 bits are too few, as for HDR, even from an 8-bit source."""
    return info.depth > 8 or not info.colour.sdr


def _choose_image(
    path: Path,
    info: VideoInfo,
    alpha: bool,
    gray: bool,
    codec: str | None,
    tone_map: bool,
) -> Encoding:
    suffix = suffix_of(path)
    if suffix not in IMAGES:
        raise ValueError(
            f"{path}: cannot write images as {suffix!r}; use {', '.join(IMAGES)}"
        )
    if codec is not None:
        raise ValueError(f"codec {codec!r} does not apply to images ({path})")
    image = IMAGES[suffix]
    if alpha and not image.alpha:
        raise ValueError(_no_alpha(path))
    formats = image.formats(alpha)
    sixteen_bit = 8 not in formats or (16 in formats and _is_deep(info))
    key = 16 if sixteen_bit else 8
    if gray and 1 in formats:
        key = 17 if sixteen_bit else 1
    encoding = Encoding(image, formats[key], alpha, sixteen_bit, image=True)
    return _with_colour(encoding, path, info, gray, tone_map)


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
    """Return the colour of an output that is no matte, and notes on what is lost."""
    encoder, colour, notes = encoding.codec.encoder, info.colour, list[str]()
    raw = path.suffix.lower() == ".nut" and encoder == "ffv1"
    untagged = raw or not encoding.codec.tagged  # with the curve and the primaries
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
    if colour.range == RANGE_FULL and colour.matrix and encoding.codec.limited:
        notes.append("full range became limited range, the only one that ProRes has")
    if colour.wide_gamut and colour.sdr and untagged:
        notes.append(
            "the colours look less saturated: the source has other primaries than "
            "BT.709, which this format cannot state; .mp4, .mov, .mkv and .png can"
        )
    return colour, notes


def _no_alpha(path: Path) -> str:
    return (
        f"{path}: {path.suffix} with this codec cannot hold transparency; use one of "
        f"{with_alpha()}, or give a background"
    )
