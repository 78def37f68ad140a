"""Writes frames to a video file or to images, with exact times, sound and tags.

A file appears under its final name only when it is complete. Knows no torch and
nothing of mattes.
"""

import errno
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
from av.container import OutputContainer

from rematte.errors import OutputError
from rematte.video import exr, matroska
from rematte.video.clock import Clock
from rematte.video.codecs import Encoding, is_sequence, pattern_of
from rematte.video.colour import from_rgb, yuv_colour
from rematte.video.edge_colours import extend_colours
from rematte.video.frame import (
    MATRIX_BT601,
    RANGE_FULL,
    RANGE_LIMITED,
    Colour,
    Frame,
    Pixels,
    VideoInfo,
)
from rematte.video.images import natural_key
from rematte.video.numbering import Numbering
from rematte.video.opening import DEFAULT_LIMITS, Limits, open_input, open_output
from rematte.video.parallel_rows import start
from rematte.video.passthrough import SideStreams
from rematte.video.timecode import Timecode
from rematte.video.tone import to_light
from rematte.video.vp9_alpha import AlphaEncoder


class Writer(Protocol):
    """What `FileWriter` and `ImageWriter` have in common."""

    path: Path
    temporary: Path
    notes: list[str]

    def write(self, frame: Frame) -> None:
        """Append a frame."""

    def complete(self, end: Fraction | None = None) -> None:
        """Complete the file under its temporary name."""

    def publish(self) -> None:
        """Give the complete file its name."""

    def finish(self, end: Fraction | None = None) -> None:
        """Complete the file and give it its name."""

    def keep_partial(self) -> Path | None:
        """Complete what there is, under a name that says that it is partial."""

    def discard(self) -> None:
        """Leave nothing behind."""


def check_target(path: Path, overwrite: bool) -> None:
    """Find out before any work whether a path can be written.

    Raises:
        OutputError: If it exists and may not be replaced, or its folder is missing
            or not writable. Of a folder of images, `replaced_images` says what exists.
    """
    if str(path) == "-":
        raise OutputError(
            "- is the standard output, which only `rematte convert` takes; give a name"
        )
    target = real_path(_image_folder(path) if is_sequence(path) else path)
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise OutputError(
            f"{path}: a pipe or a device, which only `rematte convert` takes; give a "
            "file"
        )
    folder = target if target.is_dir() else target.parent
    if not folder.is_dir():
        raise OutputError(f"{path}: folder {folder} does not exist; create it first")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{path}: no permission to write to {folder}")
    if is_sequence(path):
        if target.is_file():
            raise OutputError(f"{target} is a file; images need a folder: add a suffix")
    elif target.exists() and not overwrite:
        raise OutputError(f"{target} exists; pass overwrite (-y) to replace it")


def _image_folder(path: Path) -> Path:
    return path.parent if pattern_of(path) else path


def _numbering(path: Path) -> Numbering:
    """How the images of a pattern are numbered, or those of a folder without names."""
    return pattern_of(path) or Numbering("", 4, ".png")


def image_name(
    path: Path, index: int, name: str, number: int | None, start: int | None
) -> str:
    """The file name of an image in a folder or a pattern.

    Args:
        path: The folder or pattern.
        index: How many images were written before.
        name: The frame's name; a folder uses it unless `start` is given.
        number: The frame's number in the source, or None.
        start: The number of the first image; None keeps the source's numbers, or
            begins with 0 where it has none.
    """
    if start is None and name and not pattern_of(path):
        return f"{name}.png"
    if start is None and number is not None:
        return _numbering(path).name(number)
    return _numbering(path).name((start or 0) + index)


def replaced_images(
    path: Path, frames: Sequence[tuple[str, int | None]] | int | None, start: int | None
) -> list[str]:
    """The images in a folder that an output would replace.

    Args:
        path: A folder or a pattern.
        frames: Names and numbers of the frames, or how many there are if they have
            none; None if that is unknown.
        start: See `image_name`.
    """
    folder = _image_folder(path)
    there = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    if isinstance(frames, Sequence):
        planned = (image_name(path, i, *each, start) for i, each in enumerate(frames))
        return sorted(there.intersection(planned), key=natural_key)
    numbering, first = _numbering(path), start or 0
    found = []
    for name in sorted(there, key=natural_key):
        number = numbering.number(name)
        if number is None or name != numbering.name(number) or number < first:
            continue
        if frames is None or number < first + frames:
            found.append(name)
    return found


def real_path(path: Path) -> Path:
    """Where an output goes: a link is left as it is, and what it leads to is written.

    Raises:
        OutputError: If links lead in a circle.
    """
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OutputError(f"{path}: a link that leads to itself; remove it")
    return target


def shorten(name: str) -> str:
    """The beginning of a name, so that a hidden name made from it is not too long."""
    return os.fsencode(name)[:200].decode(errors="ignore")


def _temporary(path: Path) -> Path:
    """A hidden name beside the final file, so that renaming stays on one disk."""
    name = f".{shorten(path.stem)}.{os.getpid()}.partial{path.suffix}"
    return real_path(path).with_name(name)


def sweep(path: Path) -> None:
    """Remove what writers of this path have left whose process was killed."""
    folder = real_path(
        _image_folder(path) if is_sequence(path) else real_path(path).parent
    )
    names = (path, Path(f"{folder.name}-{path.name}"))  # the second is of images
    ours = re.compile(
        "|".join(
            rf"\.{re.escape(shorten(name.stem))}\.\d+\.partial{re.escape(name.suffix)}"
            for name in names
        )
    )
    for place in {folder, folder.parent}:
        for entry in place.iterdir() if place.is_dir() else ():
            if not ours.fullmatch(entry.name):
                continue
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)


def is_nvenc(encoder: str) -> bool:
    """Whether an encoder is one of NVIDIA's GPUs."""
    return encoder.endswith("_nvenc")


def opens(encoder: str) -> bool:
    """Whether an encoder that needs hardware finds it.

    Args:
        encoder: FFmpeg's name of it.
    """
    context: Any = av.CodecContext.create(encoder, "w")
    context.width = context.height = 256
    context.pix_fmt, context.time_base = "yuv420p", Fraction(1, 25)
    try:
        context.open()
    except (av.error.FFmpegError, OSError):
        return False
    return True


@contextmanager
def as_output_error(path: Path) -> Iterator[None]:
    """Turn what FFmpeg or the system raises into a line about an output."""
    try:
        yield
    except OutputError:
        raise  # says already what is wrong
    except (av.error.FFmpegError, OSError) as error:
        code = getattr(error, "errno", None)
        if code == errno.ENOSPC:
            text = "no space left on the disk; free some or write elsewhere"
        elif code == errno.EPIPE:
            text = "the program that reads it has ended (broken pipe)"
        else:
            why = getattr(error, "strerror", None) or error
            text = f"cannot be written ({why}); try another folder, suffix or codec"
        raise OutputError(f"{path}: {text}") from error


class FileWriter:
    """Encodes frames into a container, beside what else the source has.

    Args:
        path: Where to.
        info: Size, rate, time base and colour of the frames.
        encoding: From `formats.choose`.
        source: A file to take sound, subtitles, chapters and tags from, or None.
        start: The source's time [s] that becomes 0; see `SideStreams`.
        end: Where in the source [s] to stop taking sound, or None.
        sound: Whether to take the sound.
        like: A file of the same kind, such as the first of several that are joined
            with `append`; then nothing is encoded.
        limits: What `source` may ask for.
        clock: The reader's, if the source's own times are not those of the frames.

    Attributes:
        path: Where the file will be.
        temporary: Where it is until it is complete.
        notes: What is not as in the source, in words.

    Raises:
        OutputError: If the file cannot be created or written.
    """

    def __init__(
        self,
        path: Path,
        info: VideoInfo,
        encoding: Encoding,
        source: Path | None = None,
        start: Fraction = Fraction(0),
        end: Fraction | None = None,
        sound: bool = True,
        like: Path | None = None,
        limits: Limits = DEFAULT_LIMITS,
        clock: Clock | None = None,
    ) -> None:
        self.path = path
        self.notes: list[str] = [*encoding.notes]
        self._info, self._encoding = info, encoding
        self._start = start
        self._joins = like is not None
        self._decoded: list[int] = []
        self._first: Pixels | None = None
        self._durations: dict[int, int] = {}
        self._frames = 0
        self._last: int | None = None
        self._completed = False
        self._palette: _Palette | None = None
        self._alpha: AlphaEncoder | None = None
        self._side: SideStreams | None = None
        self.temporary = _temporary(path)
        with as_output_error(path):
            self._container: OutputContainer = open_output(
                self.temporary,
                # FFmpeg's own choice for .m4v takes less than .mp4 does.
                "mp4" if path.suffix.lower() == ".m4v" else None,
                _container_options(path),
            )
        try:
            self._stream = self._add_stream()
            self._keep_aspect()
            if like is not None:
                self._take_header(like)
            if path.suffix.lower() in _PICTURE_ONLY:
                self.notes += _left_beside(info, path)
            elif source is not None:
                self._side = SideStreams(
                    source, self._container, start, end, sound, limits, clock
                )
                self.notes += self._side.notes
                self._side.notes = self.notes  # more may come
            if self._container.format.name in ("mp4", "mov"):
                self._container.options["movie_timescale"] = self._timescale()
        except BaseException:
            self.discard()
            raise

    def _add_stream(self) -> Any:
        info, encoding = self._info, self._encoding
        codec = encoding.codec
        if is_nvenc(codec.encoder) and not opens(codec.encoder):
            raise OutputError(
                f"{self.path}: codec {codec.encoder} needs an NVIDIA GPU that has such "
                "an encoder, and its driver, which cannot be used here; take "
                f"{codec.encoder.split('_')[0]} instead (--codec)"
            )
        stream: Any = self._container.add_stream(
            codec.encoder,
            rate=self._rate().limit_denominator(100_000),
            options=self._encoder_options(),
        )
        stream.width, stream.height = codec.coded_size(info.width, info.height)
        if (stream.width, stream.height) != (info.width, info.height):
            needs = f", at least {codec.least}" if codec.least > 1 else ""
            self.notes.append(
                f"padded from {info.width}x{info.height} to {stream.width}x"
                f"{stream.height} by repeating the edge: {codec.encoder} needs even "
                f"sizes{needs}"
            )
        stream.pix_fmt = encoding.pixel_format
        if encoding.alpha_options:
            stream.pix_fmt = "yuv420p"
            stream.metadata["alpha_mode"] = "1"
        if encoding.pixel_format == "pal8":
            self._palette = _Palette(info, encoding.alpha)
        time_base = info.time_base if self._palette is None else Fraction(1, 100)
        stream.time_base = stream.codec_context.time_base = time_base
        stream.sample_aspect_ratio = info.sample_aspect_ratio
        if encoding.alpha_options:
            size = stream.width, stream.height
            self._alpha = AlphaEncoder(size, time_base, encoding.alpha_options)
        context = stream.codec_context
        if encoding.mbps is not None:
            context.bit_rate = round(encoding.mbps * 1e6)
        context.thread_type = "AUTO"
        self._colour = encoding.colour
        if not av.VideoFormat(encoding.pixel_format).is_rgb:
            self._colour = yuv_colour(encoding.colour, info.height)
            if codec.encoder == "prores_ks":  # has no way to say "full range"
                self._colour = replace(self._colour, range=RANGE_LIMITED)
            context.colorspace = self._colour.matrix
            context.color_range = self._colour.range
        context.color_primaries = self._colour.primaries
        context.color_trc = self._colour.transfer
        if (
            codec.encoder in ("libx265", "hevc_nvenc")
            and self.path.suffix.lower() != ".mkv"
        ):
            context.codec_tag = "hvc1"  # Apple's players take no other
        return stream

    def _take_header(self, like: Path) -> None:
        """Have the stream described as in a part, by an encoder that stays idle."""
        context = self._stream.codec_context
        with as_output_error(self.path), open_input(like) as part:
            context.open()
            # The form in which the container keeps it, as the packets are.
            context.extradata = part.streams.video[0].codec_context.extradata

    def _encoder_options(self) -> dict[str, str]:
        encoder, options = self._encoding.codec.encoder, self._encoding.options
        if encoder == "libsvtav1":  # talks on stderr unless told not to
            os.environ.setdefault("SVT_LOG", "1")
        if encoder == "ffv1" and self._info.width == 1:
            options["slices"] = "1"  # it fails to cut one column into more
        return options

    def _rate(self) -> Fraction:
        """Frames per second, by which the muxer of MOV and MP4 counts a timecode."""
        timecode = self._info.timecode
        if timecode is not None and self._container.format.name in ("mov", "mp4"):
            return timecode.rate
        return self._info.rate

    def _set_timecode(self, first: Fraction) -> None:
        """Give the timecode of the first frame, which is shown at `first` [s]."""
        timecode, kind = self._info.timecode, self._container.format.name
        if timecode is None or self._frames:
            return
        why = "has no field for it"
        if kind in ("mov", "mp4"):
            # FFmpeg fails as late as it completes the file where it cannot write it.
            why = "cannot count so many" if timecode.count > 255 else ""
        if kind in ("matroska", "webm", "nut"):
            why = ""
        if why:
            self.notes.append(_no_timecode(timecode, self.path.suffix, why))
        else:
            self._stream.metadata["timecode"] = str(timecode.at(first))

    def _keep_aspect(self) -> None:
        """Keep room for the shape of pixels, or note that it is lost."""
        aspect = self._info.sample_aspect_ratio
        kind = self._container.format.name
        if aspect != 1 and kind in ("matroska", "webm"):
            self._stream.metadata["title"] = matroska.PLACEHOLDER
        elif aspect != 1 and kind in ("webp", "nut"):
            self.notes.append(_lost_aspect(aspect, self.path.suffix))

    def _set_aspect(self) -> None:
        """Write the shape of pixels into a complete Matroska or WebM file."""
        stream, aspect = self._stream, self._info.sample_aspect_ratio
        if stream.metadata.get("title") == matroska.PLACEHOLDER:
            width = max(1, round(stream.width * aspect))
            if not matroska.set_display_size(self.temporary, width, stream.height):
                self.notes.append(_lost_aspect(aspect, self.path.suffix))

    def _timescale(self) -> str:
        """A unit for the start times of all streams, else they are rounded to 1/1000 s.

        Source:
            ISO/IEC 14496-12: an edit list counts in the movie's units, of 31 bits here.
        """
        bases = [stream.time_base for stream in self._container.streams]
        common = math.lcm(*(base.denominator for base in bases if base))
        fits = common < 1 << 31
        return str(common if fits else self._stream.time_base.denominator)

    def write(self, frame: Frame) -> None:
        """Append a frame.

        Args:
            frame: Its size must be that of `info`; its time must grow.

        Raises:
            ValueError: If the size differs.
            OutputError: If the disk is full or the encoder fails.
        """
        height, width = frame.pixels.shape[:2]
        if (width, height) != (self._info.width, self._info.height):
            raise ValueError(
                f"frame {frame.name or self._frames} is {width}x{height}, but "
                f"{self.path} is {self._info.width}x{self._info.height}; a video has "
                "one size: pass resize (--resize), or write images"
            )
        self._set_timecode(frame.time)  # before the sound that begins the file
        with as_output_error(self.path):
            if self._side is not None:
                self._side.forward(frame.time)
            picture = self._picture(frame.pixels)
            base = self._stream.codec_context.time_base
            picture.time_base = base
            picture.pts = self._ticks((frame.time - self._start) / base)
            self._durations[picture.pts] = round(frame.duration / base)
            picture.duration = self._durations[picture.pts]
            if self._first is None:
                self._first = frame.pixels
            self._mux(self._encode(picture, frame.pixels))
            self._frames += 1

    def _ticks(self, units: Fraction) -> int:
        """Round a time, so that no two frames come at once."""
        ticks = round(units)
        if self._last is not None and ticks <= self._last:
            ticks = self._last + 1
            unit = self._stream.codec_context.time_base
            note = f"slower than the source: no more than {1 / unit} frames a second"
            if note not in self.notes:
                self.notes.append(note)
        self._last = ticks
        return ticks

    def append(self, part: Path, frames: Sequence[Frame], depth: int = 0) -> None:
        """Append a part that is encoded already, by copying its packets.

        Args:
            part: A file that was written with the same settings as `like`. It begins
                with a key frame.
            frames: Its frames as they are shown, with any pixels; the container may
                have rounded its own times.
            depth: By how many frames decoding runs ahead, at most, in all parts; see
                `reorder_depth`.

        Raises:
            OutputError: If the part has another number of frames, or the disk is full.
        """
        base = self._stream.codec_context.time_base
        self._set_timecode(frames[0].time)
        with as_output_error(self.path):
            order = sorted(pts for _, pts in _packets(part))
            if len(order) != len(frames):
                raise OutputError(
                    f"{part} has {len(order)} frames instead of {len(frames)}; delete "
                    "it to have it made again"
                )
            ticks = [self._ticks((f.time - self._start) / base) for f in frames]
            if not self._frames:  # decoding begins before the first is shown
                self._decoded = _run_up(ticks, depth)
            places = {pts: place for place, pts in enumerate(order)}
            self._decoded += ticks
            for packet, pts in _packets(part):
                place = places[pts]
                if self._side is not None:
                    self._side.forward(frames[place].time)
                packet.time_base, packet.pts = base, ticks[place]
                packet.dts = self._decoded.pop(0)
                packet.duration = round(frames[place].duration / base)
                packet.stream = self._stream
                self._container.mux_one(packet)
            self._frames += len(ticks)

    def _picture(self, pixels: Pixels) -> av.VideoFrame:
        if self._palette is not None:
            return self._palette.map(pixels)
        height, width = pixels.shape[:2]
        down, right = self._stream.height - height, self._stream.width - width
        if down or right:
            pixels = np.pad(pixels, ((0, down), (0, right), (0, 0)), "edge")
        if self._encoding.mixes_edges:
            colours = extend_colours(pixels)
            if self._alpha is not None:
                return from_rgb(colours, "yuv420p", self._colour)
            pixels = np.concatenate([colours, pixels[..., 3:]], 2)
        return from_rgb(pixels, self._encoding.pixel_format, self._colour)

    def _encode(self, picture: av.VideoFrame, pixels: Pixels) -> Iterable[Any]:
        """Give the packets that are ready; alpha is encoded at the same time."""
        if self._alpha is None:
            return self._stream.encode(picture)  # type: ignore[no-any-return]
        alpha = start(self._alpha.encode, pixels[..., 3], picture.pts)
        packets = self._stream.encode(picture)
        alpha.result()
        return self._alpha.attach(packets)

    def _mux(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            duration = self._durations.pop(packet.pts, None)
            if duration is not None and not packet.duration:
                packet.duration = duration
            self._container.mux_one(packet)

    def _complete(self, end: Fraction | None) -> None:
        if self._completed:  # and interrupted before it was published
            return
        flush = self._frames and not self._joins
        packets = self._stream.encode(None) if flush else []
        if flush and self._alpha is not None:
            self._alpha.finish()
            packets = [*self._alpha.attach(packets)]
        if self._frames < 3:
            for packet in packets:
                packet.dts = packet.pts  # libx265 leaves it uninitialised
        self._mux(packets)
        if self._side is not None:
            self._side.finish(end)
        self._container.close()
        self._set_aspect()
        self._completed = True

    def finish(self, end: Fraction | None = None) -> None:
        """Complete the file, check it and give it its name; see `complete`."""
        self.complete(end)
        self.publish()

    def publish(self) -> None:
        """Give the complete file its name.

        Raises:
            OutputError: If it cannot be renamed.
        """
        with as_output_error(self.path):
            self.temporary.replace(real_path(self.path))

    def complete(self, end: Fraction | None = None) -> None:
        """Complete the file and check it, under its temporary name.

        So that of several files either all appear or none.

        Args:
            end: Where in the source [s] to stop taking sound; None takes all of it.

        Raises:
            OutputError: If it cannot be completed, or has lost its transparency.
        """
        with as_output_error(self.path):
            if not self._frames:
                raise OutputError(f"{self.path}: no frames were given to write")
            self._complete(end)
            if self._encoding.alpha and self._encoding.codec.encoder == "libvpx-vp9":
                self._check_webm_alpha()

    def _check_webm_alpha(self) -> None:
        """Decode a frame: some FFmpeg builds drop VP9's alpha without a word."""
        if self._first is None:
            return
        with open_input(self.temporary) as container:
            # FFmpeg's own VP9 decoder ignores alpha; libvpx's does not.
            decoder: Any = av.CodecContext.create("libvpx-vp9", "r")
            for packet in container.demux(container.streams.video[0]):
                for frame in decoder.decode(packet):
                    planes = len(frame.format.components)
                    written = self._first[..., 3].mean() / 255
                    if planes < 4:
                        raise OutputError(
                            f"{self.path}: this FFmpeg dropped the transparency of "
                            "WebM; write .mov instead"
                        )
                    alpha = frame.to_ndarray(format="rgba")[..., 3].mean() / 255
                    if abs(alpha - written) > 0.05:
                        raise OutputError(
                            f"{self.path}: the transparency read back differs "
                            f"({alpha:.2f} for {written:.2f}); write .mov instead"
                        )
                    return

    def keep_partial(self) -> Path | None:
        """Complete what there is under a name with ".partial" in it.

        Returns:
            The file, or None if there was no frame to keep.
        """
        if not self._frames or not self.temporary.exists():  # none yet, or published
            self.discard()
            return None
        name = f"{self.path.stem}.partial{self.path.suffix}"
        target = real_path(self.path).with_name(name)
        with as_output_error(target):
            last = max(self._durations, default=None)
            base = self._stream.codec_context.time_base
            self._complete(Fraction(0) if last is None else self._start + last * base)
            return self.temporary.replace(target)

    def discard(self) -> None:
        """Leave nothing behind."""
        if self._side is not None:
            self._side.close()
        # Closing writes the trailer, which fails again if writing has failed.
        with suppress(av.error.FFmpegError, OSError):
            self._container.close()
        self.temporary.unlink(missing_ok=True)


def _lost_aspect(aspect: Fraction, suffix: str) -> str:
    return (
        f"the shape of pixels ({aspect.numerator}:{aspect.denominator}) is lost, they "
        f"are shown square: {suffix} is written without it"
    )


def _left_beside(info: VideoInfo, path: Path) -> list[str]:
    """A note on what is lost where the output holds pictures alone."""
    listed = ", ".join(info.beside)
    kind = path.suffix or "a folder of images"
    return [f"left out: {listed}; {kind} holds pictures alone"] if listed else []


def _no_timecode(timecode: Timecode, suffix: str, why: str) -> str:
    return (
        f"timecode {timecode} ({float(timecode.rate):.6g} frames/s) is left out: "
        f"{suffix} {why}"
    )


def _packets(part: Path) -> Iterator[tuple[Any, int]]:
    """The packets of a file's picture as they are decoded, and their times."""
    with open_input(part) as container:
        for packet in container.demux(container.streams.video[0]):
            if packet.pts is not None:  # else it is the end
                yield packet, packet.pts


def _run_up(ticks: list[int], depth: int) -> list[int]:
    """Decoding times before the first frame is shown, as encoders choose them."""
    if len(ticks) <= depth:
        return [ticks[0] - n for n in range(depth, 0, -1)]
    return [tick - (ticks[depth] - ticks[0]) for tick in ticks[:depth]]


def reorder_depth(part: Path) -> int:
    """By how many frames decoding runs ahead of what is shown, at most."""
    times = [pts for _, pts in _packets(part)]
    places = {pts: place for place, pts in enumerate(sorted(times))}
    return max(index - places[pts] for index, pts in enumerate(times))


class _Palette:
    """Maps frames to 256 colours each, as GIF needs, through FFmpeg's filters."""

    def __init__(self, info: VideoInfo, alpha: bool) -> None:
        graph = av.filter.Graph()
        source = graph.add(
            "buffer",
            f"video_size={info.width}x{info.height}:pix_fmt=rgba:time_base=1/100:"
            "pixel_aspect=1/1",
        )
        split = graph.add("split")
        generate = graph.add(
            "palettegen", f"stats_mode=single:reserve_transparent={int(alpha)}"
        )
        use = graph.add("paletteuse", "new=1:alpha_threshold=128")
        sink = graph.add("buffersink")
        source.link_to(split)
        split.link_to(generate, 0, 0)
        split.link_to(use, 1, 0)
        generate.link_to(use, 0, 1)
        use.link_to(sink)
        graph.configure()
        self._graph = graph
        self._count = 0

    def map(self, pixels: Pixels) -> av.VideoFrame:
        if pixels.shape[2] == 1:
            pixels = pixels.repeat(3, 2)
        if pixels.shape[2] == 3:
            opaque = np.full((*pixels.shape[:2], 1), 255, np.uint8)
            pixels = np.concatenate([pixels, opaque], 2)
        array: Any = np.ascontiguousarray(pixels)
        frame = av.VideoFrame.from_ndarray(array, "rgba")
        frame.pts, frame.time_base = self._count, Fraction(1, 100)
        self._count += 1
        self._graph.push(frame)
        mapped: Any = self._graph.pull()
        return mapped  # type: ignore[no-any-return]


class ImageWriter:
    """Writes each frame as an image: one file, or numbered files in a folder.

    Args:
        path: A file for a still, a folder, or a pattern such as "out/%04d.png". In a
            folder, images keep the stems of the images they came from, or are
            numbered from 0000.
        info: The frames' colour.
        encoding: From `formats.choose`.
        start: The number of the first image; see `image_name`.

    Attributes:
        path: Where the images will be.
        temporary: Where they are until all are complete.
        notes: What is not as in the source, in words.

    Raises:
        OutputError: If nothing can be created there.
    """

    def __init__(
        self,
        path: Path,
        info: VideoInfo,
        encoding: Encoding,
        start: int | None = None,
    ) -> None:
        self.path = path
        self._start = start
        self.notes: list[str] = [*encoding.notes]
        self._info, self._encoding = info, encoding
        self._exr = encoding.codec.encoder == "exr"
        code = info.timecode
        if code is not None and not (self._exr and exr.can_hold(code)):
            why = "cannot count so many" if self._exr else "has no field for it"
            self.notes.append(_no_timecode(code, path.suffix or ".png", why))
        if info.sample_aspect_ratio != 1 and encoding.codec.encoder == "libwebp":
            self.notes.append(_lost_aspect(info.sample_aspect_ratio, path.suffix))
        self.notes += _left_beside(info, path)
        self._single = not is_sequence(path)
        folder = real_path(path).parent if self._single else _image_folder(path)
        self._folder = real_path(folder)
        self._suffix = path.suffix if pattern_of(path) else ".png"
        self._count = 0
        self._moves: list[tuple[Path, str]] = []
        # Images gather on the same disk as the final folder, which may not exist yet.
        inside = self._single or self._folder.is_dir()
        place = self._folder if inside else self._folder.parent
        # Both names, since several outputs may share either.
        self.temporary = _temporary(place / f"{self._folder.name}-{path.name}")
        with as_output_error(path):
            self.temporary.mkdir()

    def _name(self, frame: Frame) -> str:
        if self._single:
            return real_path(self.path).name
        return image_name(self.path, self._count, frame.name, frame.number, self._start)

    def append(self, folder: Path, frames: Sequence[Frame]) -> None:
        """Take over images that are written already, as numbered files of a folder.

        They are moved only when they are published; one that is not there any more
        has been moved by a run that was stopped in between.

        Args:
            folder: Where they are, named as by the pattern "%06d" with their suffix.
            frames: What `write` would have been given, with any pixels.
        """
        for index, frame in enumerate(frames):
            source = folder / f"{index:06d}{self._suffix}"
            self._moves.append((source, self._name(frame)))
            self._count += 1

    def write(self, frame: Frame) -> None:
        """Write one image; sizes may differ from frame to frame.

        Raises:
            OutputError: If the disk is full or the encoder fails.
        """
        target = self.temporary / self._name(frame)
        with as_output_error(self.path):
            image = _encode_image(frame.pixels, self._info, self._encoding)
            if self._exr:
                image = exr.with_attributes(image, self._attributes(frame.time))
            target.write_bytes(image)
        self._count += 1

    def _attributes(self, time: Fraction) -> dict[str, tuple[str, bytes]]:
        """What an OpenEXR image says beside its pixels."""
        code = self._info.timecode
        if self._info.still and code is None:
            return {}
        rate = exr.pack_rational(code.rate if code else self._info.rate)
        found = {"framesPerSecond": ("rational", rate)}
        if code is not None and exr.can_hold(code):
            found["timeCode"] = ("timecode", exr.pack_timecode(code.at(time)))
        return found

    def complete(self, end: Fraction | None = None) -> None:
        """Nothing is left to do: every image is complete."""

    def publish(self) -> None:
        """Give the images their place.

        Raises:
            OutputError: If they cannot be moved there.
        """
        with as_output_error(self.path):
            self._note_others()
        self._move(self._folder)

    def _note_others(self) -> None:
        """Note what an earlier run left in the folder under names like these."""
        if self._single or not self._folder.is_dir():
            return
        ours = {name for _, name in self._moves}
        ours.update(file.name for file in self.temporary.iterdir())
        pattern = pattern_of(self.path)
        others = [
            file.name
            for file in self._folder.iterdir()
            if file.name not in ours
            and not file.name.startswith(".")
            and (pattern.digits_in(file.name) if pattern else file.suffix == ".png")
        ]
        if others:
            others.sort(key=natural_key)
            span = f"{others[0]} to {others[-1]}" if len(others) > 1 else others[0]
            self.notes.append(
                f"{self._folder} still holds {len(others)} of its earlier images "
                f"({span}), which are not of this run"
            )

    def finish(self, end: Fraction | None = None) -> None:
        """Give the images their place; see `publish`."""
        self.publish()

    def _move(self, folder: Path) -> None:
        with as_output_error(self.path):
            folder.mkdir(exist_ok=True)
            for source, name in self._moves:
                if source.exists():
                    shutil.move(source, real_path(folder / name))
            for file in sorted(self.temporary.iterdir()):
                shutil.move(file, real_path(folder / file.name))
            self.temporary.rmdir()

    def keep_partial(self) -> Path | None:
        """Keep the images there are in a folder with ".partial" in its name."""
        if not self._count or not self.temporary.exists():  # none yet, or published
            self.discard()
            return None
        target = self._folder.with_name(f"{self._folder.name}.partial")
        if self.temporary.parent == self._folder:
            target = self._folder / "partial"
        self._move(target)  # beside those of other outputs in the same folder
        return target

    def discard(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.temporary, ignore_errors=True)


def _encode_image(pixels: Pixels, info: VideoInfo, encoding: Encoding) -> bytes:
    """Encode one image; every packet of these encoders is a whole file."""
    height, width = pixels.shape[:2]
    if encoding.pixel_format.endswith("f32le"):
        picture = _linear(pixels, encoding.pixel_format, encoding.colour)
    else:
        # Of the image formats JPEG alone is YUV; JFIF says that it is BT.601.
        colour = replace(encoding.colour, matrix=MATRIX_BT601, range=RANGE_FULL)
        picture = from_rgb(pixels, encoding.pixel_format, colour)
    context: Any = av.CodecContext.create(encoding.codec.encoder, "w")
    context.width, context.height = width, height
    context.pix_fmt = encoding.pixel_format
    context.sample_aspect_ratio = info.sample_aspect_ratio
    context.time_base = Fraction(1, 25)
    context.options = dict(encoding.codec.options)
    if encoding.codec.encoder == "mjpeg":
        context.color_range = RANGE_FULL
        context.qmin = context.qmax = 2
    picture.pts = 0
    packets = [*context.encode(picture), *context.encode(None)]
    return b"".join(bytes(packet) for packet in packets)


def _linear(pixels: Pixels, pixel_format: str, colour: Colour) -> av.VideoFrame:
    """Scene-linear floats, premultiplied, as compositors expect OpenEXR to hold.

    Those of HDR are of BT.709 primaries, which OpenEXR has unless it says otherwise; 1
    is reference white, and colours outside of that gamut have negative values.

    Source:
        IEC 61966-2-1 (the sRGB curve); OpenEXR, Technical Introduction, on alpha.
    """
    value = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
    if value.shape[2] == 1:
        value = value.repeat(3, 2)  # a matte is coverage already, not light
    else:
        rgb = value[..., :3]
        if colour.sdr:
            toe, curve = rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4
            value[..., :3] = np.where(rgb <= 0.04045, toe, curve)
        else:
            value[..., :3] = to_light(pixels[..., :3], colour)
        if value.shape[2] == 4:
            value[..., :3] *= value[..., 3:]
    array: Any = np.ascontiguousarray(value)
    return av.VideoFrame.from_ndarray(array, pixel_format)


_PICTURE_ONLY = (".gif", ".webp", ".apng")


def _container_options(path: Path) -> dict[str, str]:
    if path.suffix.lower() in (".mp4", ".m4v", ".mov"):
        # The index first, so that the file plays while it is still being fetched.
        return {"movflags": "+faststart"}
    if path.suffix.lower() == ".mkv":
        # Else the run-up of copied sound would move the picture away from its times.
        return {"avoid_negative_ts": "disabled"}
    if path.suffix.lower() in (".gif", ".webp"):
        return {"loop": "0"}
    return {"plays": "0"} if path.suffix.lower() == ".apng" else {}
