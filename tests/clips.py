"""Small video files drawn by the tests themselves; no assets, no network."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

SOUND_RATE = 48_000
Image = NDArray[np.uint8]
_MADE: dict[bytes, bytes] = {}  # files that were made already, by what was asked for


@dataclass(frozen=True)
class DiscClip:
    """A disc that moves over a gradient, and where it is."""

    frames: list[Image]  # (H, W, 3) RGB, the disc over the background
    alpha: list[Image]  # (H, W) coverage, 0 to 255, with an antialiased edge
    background: Image  # (H, W, 3) RGB, the same for all frames
    colour: tuple[int, int, int]  # RGB of the disc

    @property
    def rgba(self) -> list[Image]:
        """(H, W, 4) straight alpha: the disc's colour where it is, black elsewhere."""
        colours = [
            np.where(alpha[..., None] > 0, np.uint8(self.colour), np.uint8(0))
            for alpha in self.alpha
        ]
        return list(map(np.dstack, zip(colours, self.alpha, strict=True)))


def draw_disc(count: int = 12, size: tuple[int, int] = (96, 64)) -> DiscClip:
    """Draw a disc that moves to the right by one pixel a frame.

    Args:
        count: How many frames.
        size: Width and height [pixels].
    """
    width, height = size
    y, x = np.mgrid[:height, :width].astype(np.float64)
    background = np.stack(
        [40 + 60 * x / width, 60 + 60 * y / height, np.full_like(x, 90)], 2
    )
    colour = (210, 160, 120)
    radius = min(size) / 4
    frames, alphas = [], []
    for index in range(count):
        distance = np.hypot(x - width / 3 - index, y - height / 2)
        alpha = np.clip(radius - distance + 0.5, 0, 1)
        mixed = alpha[..., None] * colour + (1 - alpha[..., None]) * background
        frames.append(mixed.round().astype(np.uint8))
        alphas.append((alpha * 255).round().astype(np.uint8))
    return DiscClip(frames, alphas, background.round().astype(np.uint8), colour)


def frame_label(index: int, size: tuple[int, int] = (96, 64)) -> Image:
    """Draw a gray frame whose brightness tells its index (0 to 24) in any codec."""
    return np.full((size[1], size[0], 3), 10 + 10 * index, np.uint8)


def read_label(pixels: NDArray[Any]) -> int:
    """Read the index that `frame_label` drew."""
    unit = 257 if pixels.itemsize == 2 else 1
    return round((float(pixels[..., :3].mean(dtype=float)) / unit - 10) / 10)


def noise(count: int = 10, size: tuple[int, int] = (64, 48)) -> list[Any]:
    """Frames that compress badly, so that most of a file is picture."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (size[1], size[0], 3), np.uint8) for _ in range(count)]


def encode_image(
    codec: str, pixels: NDArray[Any], name: str = "rgb24", to: str = "", **options: str
) -> bytes:
    """Encode one picture with FFmpeg alone, not with the code under test.

    Args:
        codec: FFmpeg's name of the encoder.
        pixels: As PyAV takes them.
        name: The pixel format of `pixels`.
        to: The pixel format that is encoded, unless it is `name`.
        options: Options of the encoder.
    """
    picture = av.VideoFrame.from_ndarray(pixels, name)
    picture = picture.reformat(format=to or name)
    context: Any = av.CodecContext.create(codec, "w")
    context.width, context.height = picture.width, picture.height
    context.pix_fmt, context.time_base = to or name, Fraction(1)
    context.options, picture.pts = options, 0
    if codec == "mjpeg":
        context.color_range, context.qmin, context.qmax = 2, 1, 1
    return b"".join(map(bytes, [*context.encode(picture), *context.encode(None)]))


def packets(path: Path, kind: str = "video", index: int = 0) -> list[av.Packet]:
    """The packets of one of a file's streams of a kind, if there is one."""
    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        found = container.demux(streams[index]) if index < len(streams) else ()
        return [packet for packet in found if packet.size]


def damage(path: Path, numbers: slice, kind: str = "video", intact: float = 0) -> Path:
    """Invert all bits of some packets of a stream, but for an intact share of each."""
    data = path.read_bytes()
    for content in map(bytes, packets(path, kind)[numbers]):
        kept = content[: round(intact * len(content))]
        rest = bytes(byte ^ 0xFF for byte in content[len(kept) :])
        data = data.replace(content, kept + rest)
    path.write_bytes(data)
    return path


def yuv_frame(planes: Sequence[NDArray[Any]], pix_fmt: str) -> av.VideoFrame:
    """Make a frame of code values: one (H, W) array per plane, native byte order."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, pix_fmt)
    wide = frame.format.components[0].bits > 8
    for plane, values in zip(frame.planes, planes, strict=True):
        shape = (plane.height, plane.line_size // (1 + wide))
        padded = np.zeros(shape, np.uint16 if wide else np.uint8)
        padded[:, : plane.width] = values
        plane.update(padded.tobytes())
    return frame


@dataclass(frozen=True)
class Tags:
    """Colour tags of a clip, as H.273 code points; 2 is unspecified, range 1 limited.

    Range and matrix also decide how RGB frames are converted, as for BT.601 and
    limited where they are unspecified.
    """

    matrix: int = 2
    range: int = 0
    primaries: int = 2
    transfer: int = 2


def make_clip(
    path: Path,
    frames: Sequence[NDArray[Any] | av.VideoFrame] | int = 10,
    *,
    size: tuple[int, int] = (96, 64),
    rate: Fraction | int = 25,
    times: Sequence[Fraction] | None = None,
    time_base: Fraction | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    tags: Tags | None = None,
    matrix: Sequence[int] | None = None,
    aspect: Fraction = Fraction(1),
    sound: bool | Sequence[str] = False,
    sound_codec: str = "aac",
    sound_seconds: float | None = None,
    subtitles: Sequence[tuple[float, float, str]] = (),
    chapters: Sequence[tuple[float, float, str]] = (),
    title: str = "",
    faststart: bool = False,
) -> Path:
    """Write a small real video file.

    `make_clip(tmp_path / "a.mp4")` is ten frames of 96x64 at 25 per second, whose
    brightness tells their index (`read_label`).

    Args:
        path: Where to; the suffix decides on the container.
        frames: RGB arrays (H, W, 3) of 8 or 16 bits; frames in `pix_fmt` to encode
            as they are; or how many labelled frames to draw.
        size: Width and height of drawn frames.
        rate: Frames per second.
        times: When each frame is shown [s], instead of evenly from 0.
        time_base: The unit of `times`; a thousandth of a frame's length unless given.
        codec: FFmpeg's name of the encoder.
        pix_fmt: FFmpeg's name of the pixel format.
        options: For the encoder; lossless for libx264 unless given.
        tags: Colour tags; none unless given.
        matrix: The nine integers of a display matrix (rotation, mirroring).
        aspect: Width of a pixel over its height.
        sound: One stereo tone if true; or a language for each of several.
        sound_codec: FFmpeg's name of the sound's encoder.
        sound_seconds: Length of the sound; as long as the picture unless given.
        subtitles: Start, end [s] and text of each; mkv and mp4 only.
        chapters: Start, end [s] and title of each.
        title: The title tag.
        faststart: Whether an mp4's index comes first.

    Returns:
        `path`.
    """
    key = _key(dict(locals()))
    if _is_copied(path, key):
        return path
    rate = Fraction(rate)
    time_base = time_base or 1 / rate / 1000
    if isinstance(frames, int):
        frames = [frame_label(index, size) for index in range(frames)]
    tags = tags or Tags()
    pictures = [_picture(frame, pix_fmt, tags) for frame in frames]
    if times is None:
        times = [index / rate for index in range(len(pictures))]
    languages = ["eng"] if sound is True else list(sound or ())
    if sound_seconds is None:
        sound_seconds = float(times[-1] + 1 / rate)
    with av.open(str(path), "w", options=_mux_options(path, time_base, faststart)) as c:
        c.metadata.update({"title": title} if title else {})
        c.set_chapters([_chapter(*chapter) for chapter in chapters])
        if options is None:
            options = _LOSSLESS.get(codec, {})
        video: Any = c.add_stream(codec, rate=rate, options=options)
        video.width, video.height = pictures[0].width, pictures[0].height
        video.pix_fmt = pix_fmt
        video.codec_context.time_base = video.time_base = time_base
        video.sample_aspect_ratio = aspect
        _tag(video.codec_context, tags)
        if matrix is not None:
            video.set_display_matrix(matrix)
        tones: list[Any] = [
            c.add_stream(sound_codec, rate=SOUND_RATE) for _ in languages
        ]
        for tone, language in zip(tones, languages, strict=True):
            tone.metadata["language"] = language
        text = _subtitle_stream(c, path) if subtitles else None
        _encode_sound(c, tones, sound_seconds)
        for subtitle in subtitles:
            c.mux(_subtitle(text, *subtitle))
        _encode(c, video, pictures, times, 1 / rate)
    _keep(path, key)
    return path


def make_sound(path: Path, seconds: float = 0.4) -> Path:
    """Write a file without a picture."""
    with av.open(str(path), "w") as container:
        _encode_sound(container, [container.add_stream("aac", SOUND_RATE)], seconds)
    return path


def _is_copied(path: Path, key: bytes) -> bool:
    """Whether such a clip was made before, and is now at this place too."""
    if key in _MADE:
        path.write_bytes(_MADE[key])
    return key in _MADE


def _keep(path: Path, key: bytes) -> None:
    if key and path.is_file() and path.stat().st_size < 100_000:
        _MADE[key] = path.read_bytes()


def _key(asked: dict[str, Any]) -> bytes:
    """Tell apart what `make_clip` is asked for; empty for frames of code values."""
    path, frames = asked.pop("path"), asked.pop("frames")
    found = hashlib.sha256(repr((path.suffix, sorted(asked.items()))).encode())
    if isinstance(frames, int):
        found.update(str(frames).encode())
        return found.digest()
    for frame in frames:
        if isinstance(frame, av.VideoFrame):
            return b""
        found.update(f"{frame.dtype} {frame.shape}".encode())
        found.update(np.ascontiguousarray(frame))
    return found.digest()


_LOSSLESS = {
    "libx264": {"qp": "0"},
    "libx265": {"x265-params": "log-level=error:lossless=1"},
}


def _mux_options(path: Path, time_base: Fraction, faststart: bool) -> dict[str, str]:
    if path.suffix not in (".mp4", ".mov"):
        return {}
    # Without it, the first frame's time would be rounded to a millisecond.
    options = {"movie_timescale": str(time_base.denominator)}
    return options | ({"movflags": "+faststart"} if faststart else {})


def _encode(
    container: av.container.OutputContainer,
    stream: Any,
    pictures: list[av.VideoFrame],
    times: Sequence[Fraction],
    last: Fraction,
) -> None:
    base = stream.codec_context.time_base
    ticks = [round(time / base) for time in [*times, times[-1] + last]]
    lengths = {now: after - now for now, after in pairwise(ticks)}
    for picture, now in zip([*pictures, None], ticks, strict=True):
        if picture is not None:
            picture.time_base, picture.pts = base, now
            picture.duration = lengths[now]
        for packet in stream.encode(picture):
            if len(pictures) < 3:
                packet.dts = packet.pts  # libx265 leaves it uninitialised
            packet.duration = packet.duration or lengths[packet.pts]
            container.mux(packet)


def _encode_sound(
    container: av.container.OutputContainer, tones: list[Any], seconds: float
) -> None:
    for number, tone in enumerate(tones, 1):
        for piece in _sound(220.0 * number, seconds):
            container.mux(tone.encode(piece))
        container.mux(tone.encode(None))


def _tag(target: Any, tags: Tags) -> None:
    target.colorspace, target.color_range = tags.matrix, tags.range
    target.color_primaries, target.color_trc = tags.primaries, tags.transfer


def _picture(
    frame: NDArray[Any] | av.VideoFrame, pix_fmt: str, tags: Tags
) -> av.VideoFrame:
    if not isinstance(frame, av.VideoFrame):
        name = {(3, 1): "rgb24", (3, 2): "rgb48le", (4, 1): "rgba"}[
            frame.shape[2], frame.itemsize
        ]
        matrix = {1: 1, 9: 9}.get(tags.matrix, 5)  # libswscale's own numbers
        frame = av.VideoFrame.from_ndarray(frame, name).reformat(
            format=pix_fmt,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=2,
            dst_color_range=2 if "yuvj" in pix_fmt else tags.range or 1,
            interpolation="ACCURATE_RND",
        )
    _tag(frame, tags)
    return frame


def _sound(pitch: float, seconds: float) -> list[av.AudioFrame]:
    """A stereo tone in pieces."""
    total = round(seconds * SOUND_RATE)
    wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(total) / SOUND_RATE)
    pieces = []
    for begin in range(0, total, 1024):
        part = np.tile(wave[begin : begin + 1024].astype(np.float32), (2, 1))
        piece = av.AudioFrame.from_ndarray(part, "fltp", "stereo")
        piece.sample_rate, piece.pts = SOUND_RATE, begin
        piece.time_base = Fraction(1, SOUND_RATE)
        pieces.append(piece)
    return pieces


def _subtitle_stream(container: av.container.OutputContainer, path: Path) -> Any:
    kind = "mov_text" if path.suffix in (".mp4", ".mov") else "subrip"
    return container.add_mux_stream(kind, time_base=Fraction(1, 1000))


def _subtitle(stream: Any, begin: float, end: float, words: str) -> Any:
    data = words.encode()
    if stream.container.format.name in ("mp4", "mov"):
        data = len(data).to_bytes(2, "big") + data
    packet: Any = av.Packet(data)
    packet.stream = stream
    packet.time_base = Fraction(1, 1000)
    packet.pts = packet.dts = round(begin * 1000)
    packet.duration = round((end - begin) * 1000)
    return packet


def _chapter(begin: float, end: float, title: str) -> Any:
    return {
        "id": round(begin * 1000),
        "start": round(begin * 1000),
        "end": round(end * 1000),
        "time_base": Fraction(1, 1000),
        "metadata": {"title": title},
    }
