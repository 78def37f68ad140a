"""Reads the alpha channel of a source exactly."""

from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from numpy.typing import NDArray

from rematte.video.fitting import Upright
from rematte.video.frame import Frame, Pixels
from rematte.video.notes import add_note
from rematte.video.pixels import plane_values, resize

# FFmpeg's own VP8 and VP9 decoders ignore alpha; libvpx's do not.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


def _codec_with_alpha(stream: VideoStream) -> str:
    """Return the codec of a video whose alpha lies outside its frames, else ""."""
    # A file that was copied to another container has the tag in capitals.
    tags = {name.lower(): value for name, value in stream.metadata.items()}
    has_alpha = tags.get("alpha_mode") == "1"
    container = stream.container
    if container.metadata.get("major_brand") in ("avif", "avis"):
        # Where every picture is gray, the photo itself is.
        gray = {
            str(each.codec_context.pix_fmt).startswith("gray")
            for each in container.streams.video
        }
        has_alpha = gray == {True, False}
    return stream.codec_context.codec.canonical_name if has_alpha else ""


def alpha_decoder(stream: VideoStream) -> str | None:
    """Return the decoder that a video needs for its alpha, if not its usual one."""
    return _ALPHA_DECODERS.get(_codec_with_alpha(stream))


def read_alpha(
    frame: av.VideoFrame, sixteen_bit: bool, size: tuple[int, int] | None = None
) -> Pixels | None:
    """Read a decoded frame's alpha from its own plane.

    libswscale would move levels: half of those of ProRes by 1, and 255 of 8 bits to
    65280 of 16. It is resized to `size`, width and height [pixels], if there is one.

    Returns:
        (H, W, 1), 16 or 8 bits; 0 stays 0 and opaque stays opaque, even if 8 bits were
        widened inexactly before. None if there is no alpha channel or the frame is
        opaque.
    """
    found = _stored(frame)
    if found is None:
        return None
    values, most = found
    if most > 255:
        # Programs that widen 8 bits leave 8 of 4095 for 0, and 255 * 256 for opaque.
        level = (int(most) + 1) >> 8
        values = np.where(values <= level // 2, 0, values)
        values = np.where(values >= 255 * level, most, values)
    if values.min() >= most:
        return None
    full, kind = (65535, np.uint16) if sixteen_bit else (255, np.uint8)
    if most != full:
        part = np.nan_to_num(values.astype(np.float32) / np.float32(most))
        values = np.rint(np.clip(part, 0, 1) * full)
    alpha: NDArray[Any] = values.astype(kind)[..., None]
    return alpha if size is None else resize(alpha, *size, Interpolation.BICUBIC)


def _stored(frame: av.VideoFrame) -> tuple[NDArray[Any], float] | None:
    """Return the stored alpha values of a frame, (H, W), and the value for opaque."""
    layout = frame.format
    if layout.has_palette:
        return frame.to_ndarray(format="rgba")[..., 3], 255
    alpha = next((part for part in layout.components if part.is_alpha), None)
    if alpha is None:
        return None
    packed = sum(part.plane == alpha.plane for part in layout.components)
    if packed > 2:
        # Interleaved with the colours: only the order of channels changes.
        if alpha.bits > 8:
            return frame.to_ndarray(format="rgba64le")[..., 3], 65535
        return frame.to_ndarray(format="rgba")[..., 3], 255
    values = plane_values(frame, alpha.plane)
    # Gray and alpha may be interleaved (ya8, ya16).
    values = values[:, packed - 1 : packed * frame.width : packed]
    return values, 1 if values.dtype.kind == "f" else (1 << alpha.bits) - 1


def source_alpha(
    frame: av.VideoFrame, depth: int, size: tuple[int, int] | None, upright: Upright,
    notes: list[str],
) -> Pixels | None:  # fmt: skip
    """Return the upright alpha of a decoded frame, with a note; None if it is opaque.

    Above a depth of 8 bits it has 16. It is resized to `size` before the turn.
    """
    alpha = read_alpha(frame, depth > 8, size)
    if alpha is None:
        return None
    add_note(
        notes,
        "the input's own alpha channel multiplies the matte; --input-alpha ignore "
        "leaves it out",
    )
    return upright.apply(alpha)


def note_ignored_alpha(
    first: av.VideoFrame, input_alpha: str | None, notes: list[str],
    stream: VideoStream | None = None,
) -> None:  # fmt: skip
    """Note that the source's alpha is not used, as far as its first frame shows.

    `input_alpha` is that of `ReadOptions`. A `stream` may hold alpha beside its frames.
    """
    codec = _codec_with_alpha(stream) if stream else ""
    why = ""
    if input_alpha and codec and codec not in _ALPHA_DECODERS:
        why = f": no decoder of {codec} here reads it"
    elif input_alpha == "ignore" and (codec or read_alpha(first, False) is not None):
        why = ", as asked (--input-alpha ignore)"
    if why:
        add_note(notes, f"the input's own alpha channel is ignored{why}")


def over_black(frame: Frame) -> Pixels:
    """Lay a frame's pixels over black by its own alpha."""
    if frame.alpha is None:
        return frame.pixels
    most = np.iinfo(frame.alpha.dtype).max
    share = frame.alpha.astype(np.float32) / np.float32(most)
    pixels: Pixels = np.rint(frame.pixels * share).astype(frame.pixels.dtype)
    return pixels
