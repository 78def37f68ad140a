"""Chooses how an output is encoded, from the tables of codecs."""

from dataclasses import dataclass, replace
from pathlib import Path

import av

from rematte.video import codecs
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
    """The encoding of one output: a choice from the tables of `codecs`."""

    codec: codecs.Codec
    pixel_format: str  # FFmpeg's name of the format to encode from
    alpha: bool  # whether it has an alpha channel
    sixteen_bit: bool  # whether it takes 16-bit pixels rather than 8-bit ones
    image: bool = False  # whether it makes images rather than a video
    crf: int | None = None  # constant quality, or None
    mbps: float | None = None  # bit rate to aim at [Mbit/s], or None
    premultiplied: bool = False  # whether the file's colours are multiplied by alpha
    # How colour and alpha are packed into one opaque picture: one of
    # `pixels.ARRANGEMENTS`, or empty. The pixels have an alpha channel then.
    packed: str = ""
    compression: str = ""  # FFmpeg's name of an OpenEXR image's compression
    # Meaning of the pixels, which the file states if its format has tags.
    colour: Colour = SDR
    # Sentences on what the output cannot hold of the source's colour.
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
            return options | (quality if self.crf else codecs.WEBP_LOSSLESS)
        nvenc = codecs.is_nvenc(encoder)
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
    path: Path, info: VideoInfo, *, alpha: bool, gray: bool = False,
    codec: str | None = None, crf: int | None = None, mbps: float | None = None,
    tone_map: bool = False, alpha_mode: str | None = None, exr_compression: str = "zip",
    packed: str = "",
) -> Encoding:  # fmt: skip
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
        packed: One of `pixels.ARRANGEMENTS`, to hold alpha in a codec without; or "".

    Raises:
        ValueError: If the suffix is unknown, or cannot hold the codec or alpha.
    """
    suffix = path.suffix.lower()
    packed = packed * alpha
    if packed:
        _check_packable(path, codec)
        alpha = False
    image = codecs.is_sequence(path) or (suffix in codecs.IMAGES and info.still)
    if suffix in codecs.IMAGES and suffix not in codecs.CONTAINERS and not image:
        raise ValueError(
            f"{path} is one image, but the input is a video; give a folder, a "
            f"pattern such as {path.stem}_%04d{suffix}, or a video's suffix"
        )
    able = [_image_codec(path, codec)] if image else _video_codecs(path, codec)
    able = [each for each in able if each.alpha or not alpha]
    if not able:
        raise ValueError(
            f"{path}: {path.suffix} with this codec cannot hold transparency; use one "
            f"of {codecs.with_alpha()}, or give a background"
        )
    if packed:
        able = [each for each in able if each.packable]
    # 8 bits are too few for HDR, even from an 8-bit source.
    wants_more = not packed and (info.depth > 8 or not info.colour.sdr)
    deep = [c for c in able if wants_more and max(c.formats(alpha, gray)) > 8]
    chosen = (deep or able)[0]
    formats = chosen.formats(alpha, gray)
    depth = max(formats) if deep else min(formats)
    encoding = Encoding(
        chosen, formats[depth], alpha, depth > 8, image,
        crf=_choose_crf(chosen, crf, alpha, packed),
        mbps=None if chosen.crf is None or not chosen.rated else mbps,
        packed=packed,
        compression=COMPRESSIONS[exr_compression] if chosen.encoder == "exr" else "",
    )  # fmt: skip
    usual = "premultiplied" if chosen.encoder == "exr" else "straight"
    mode = (alpha_mode if encoding.has_alpha_modes else None) or usual
    clear = alpha or bool(packed)
    encoding = replace(encoding, premultiplied=clear and mode != "straight")
    return _with_colour(encoding, path, info, gray, tone_map)


def _choose_crf(
    codec: codecs.Codec, crf: int | None, alpha: bool, packed: str
) -> int | None:
    default = codec.crf
    if alpha and codec.alpha_crf is not None:
        default = codec.alpha_crf
    if packed and default is not None:
        default //= 4  # errors of alpha show as halos
    return default if crf is None or default is None else crf


def _image_codec(path: Path, codec: str | None) -> codecs.Codec:
    suffix = codecs.suffix_of(path)
    if suffix not in codecs.IMAGES:
        raise ValueError(
            f"{path}: cannot write images as {suffix!r}; use {', '.join(codecs.IMAGES)}"
        )
    if codec is not None:
        raise ValueError(f"codec {codec!r} does not apply to images ({path})")
    return codecs.IMAGES[suffix]


def _video_codecs(path: Path, codec: str | None) -> list[codecs.Codec]:
    """Return the codecs that a container can hold, in the order of preference."""
    codecs.check_suffix(path)
    names = codecs.CONTAINERS[path.suffix.lower()]
    if codec is not None and codec not in names:
        raise ValueError(
            f"codec {codec!r} cannot go into {path.suffix.lower()}; it takes "
            f"{', '.join(names)}"
        )
    return [codecs.CODECS[name] for name in (names if codec is None else (codec,))]


def _check_packable(path: Path, codec: str | None) -> None:
    able = {
        suffix: [name for name in names if codecs.CODECS[name].packable]
        for suffix, names in codecs.CONTAINERS.items()
        if any(codecs.CODECS[name].packable for name in names)
    }
    suffix = path.suffix.lower()
    if suffix not in able or codecs.is_sequence(path):
        raise ValueError(
            f"{path} cannot be packed (--packed): write one of {', '.join(able)}"
        )
    if codec is not None and not codecs.CODECS[codec].packable:
        raise ValueError(
            f"codec {codec!r} cannot be packed (--packed); take one of "
            f"{', '.join(able[suffix])}"
        )


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
    if encoding.packed:  # few players on phones heed full range
        colour = replace(colour, range=RANGE_LIMITED)
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
