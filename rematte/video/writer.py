"""Writes frames to a video file, with exact times, sound and tags.

A file appears under its final name only when it is complete.
"""

import math
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import OutputContainer

from rematte.errors import OutputError
from rematte.video import matroska
from rematte.video.base_writer import Writer
from rematte.video.clock import Clock
from rematte.video.codecs import PICTURE_ONLY, is_nvenc, opens
from rematte.video.colour import Palette, from_rgb, yuv_colour
from rematte.video.concat import Timing
from rematte.video.encoding import Encoding
from rematte.video.frame import RANGE_LIMITED, Frame, Pixels, VideoInfo
from rematte.video.notes import add_note, left_out_tracks, lost_aspect, lost_timecode
from rematte.video.opening import DEFAULT_LIMITS, Limits, open_input, open_output
from rematte.video.output_paths import as_output_error
from rematte.video.parallel_rows import CORES, run_beside
from rematte.video.passthrough import SideStreams
from rematte.video.pixels import (
    extend_colours,
    half_size,
    pack,
    packed_size,
    premultiply,
    with_depth,
)
from rematte.video.vp9_alpha import AlphaEncoder, check_alpha

# Frames of more pixels, about from 4K on, spare the memory of x264.
_LARGE = 6_000_000

# The index comes first, so that players start before they have the whole file.
_FAST_START = {"movflags": "+faststart"}
_CONTAINER_OPTIONS = {
    ".mp4": _FAST_START,
    ".m4v": _FAST_START,
    ".mov": _FAST_START,
    # Else the priming of copied sound would delay the picture.
    ".mkv": {"avoid_negative_ts": "disabled"},
    ".gif": {"loop": "0"},
    ".webp": {"loop": "0"},
    ".apng": {"plays": "0"},
}


class FileWriter(Writer):
    """Encodes frames into a container, together with the source's other tracks.

    Sound, subtitles, chapters and tags are copied from the file `source`, if there is
    one. Its time `start` [s] is 0 in the output, and its sound is cut at `end` [s].
    `clock` is the reader's, if the frames have other times than that file states.
    `like` is the first of several segments that are joined with `append`; then nothing
    is encoded.

    Raises:
        OutputError: If the file cannot be created or written.
    """

    def __init__(
        self, path: Path, info: VideoInfo, encoding: Encoding,
        source: Path | None = None, start: Fraction = Fraction(0),
        end: Fraction | None = None, sound: bool = True, like: Path | None = None,
        limits: Limits = DEFAULT_LIMITS, clock: Clock | None = None,
    ) -> None:  # fmt: skip
        super().__init__(path, encoding)
        self._info, self._encoding, self._start = info, encoding, start
        self._joins, self._completed, self._frames = like is not None, False, 0
        self._joining: Timing | None = None
        self._first: Pixels | None = None
        self._durations: dict[int, int] = {}
        self._last: int | None = None
        self._palette: Palette | None = None
        self._alpha: AlphaEncoder | None = None
        self._tracks: SideStreams | None = None
        with as_output_error(path):
            self._container: OutputContainer = open_output(
                self.temporary,
                # FFmpeg's own format for .m4v takes fewer codecs.
                "mp4" if path.suffix.lower() == ".m4v" else None,
                _CONTAINER_OPTIONS.get(path.suffix.lower()),
            )
        try:
            self._stream = self._add_stream()
            self._keep_aspect()
            if like is not None:
                context = self._stream.codec_context  # which stays idle
                with as_output_error(path), open_input(like) as segment:
                    context.open()
                    encoded = segment.streams.video[0].codec_context
                    context.extradata = encoded.extradata
            if path.suffix.lower() in PICTURE_ONLY:
                self.notes += left_out_tracks(info, path)
            elif source is not None:
                self._tracks = SideStreams(
                    source, self._container, self.notes, start, end, sound, limits,
                    clock or Clock(),
                )  # fmt: skip
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
        # The muxer of MOV and MP4 counts timecode at this rate.
        counts = self._container.format.name in ("mov", "mp4") and info.timecode
        rate = (counts.rate if counts else info.rate).limit_denominator(100_000)
        stream: Any = self._container.add_stream(
            codec.encoder, rate=rate, options=self._encoder_options()
        )
        stream.width, stream.height = self._coded_size()
        stream.pix_fmt = encoding.pixel_format
        if encoding.alpha_options:
            stream.pix_fmt = "yuv420p"
            stream.metadata["alpha_mode"] = "1"
        if encoding.pixel_format == "pal8":
            self._palette = Palette(info.width, info.height, encoding.alpha)
        self._base = info.time_base if self._palette is None else Fraction(1, 100)
        stream.time_base = stream.codec_context.time_base = self._base
        stream.sample_aspect_ratio = info.sample_aspect_ratio
        if encoding.alpha_options:
            size = stream.width, stream.height
            self._alpha = AlphaEncoder(size, self._base, encoding.alpha_options)
        context = stream.codec_context
        if encoding.mbps is not None:
            context.bit_rate = round(encoding.mbps * 1e6)
        context.thread_type = "AUTO"
        self._colour = encoding.colour
        if not av.VideoFormat(encoding.pixel_format).is_rgb:
            self._colour = yuv_colour(encoding.colour, info.height)
            if codec.limited:
                self._colour = replace(self._colour, range=RANGE_LIMITED)
            context.colorspace = self._colour.matrix
            context.color_range = self._colour.range
        context.color_primaries = self._colour.primaries
        context.color_trc = self._colour.transfer
        if (
            codec.encoder in ("libx265", "hevc_nvenc")
            and self.path.suffix.lower() != ".mkv"
        ):
            context.codec_tag = "hvc1"  # the only tag that Apple's players take
        return stream

    def _coded_size(self) -> tuple[int, int]:
        """Return the size of the encoder's pictures; note it if it is another one."""
        encoding, width, height = self._encoding, self._info.width, self._info.height
        codec = encoding.codec
        if encoding.packed:
            self._half = half_size(codec.min_side, width, height)
            self.notes.append(
                f"packed, {encoding.packed}: halves of {self._half[0]}x{self._half[1]}"
                f", the picture is the upper left {width}x{height} of each"
            )
            return packed_size(self._half, encoding.packed)
        coded = codec.coded_size(width, height)
        if coded != (width, height):
            needs = f", at least {codec.min_side}" if codec.min_side > 1 else ""
            self.notes.append(
                f"padded from {width}x{height} to {coded[0]}x{coded[1]} by repeating "
                f"the edge: {codec.encoder} needs even sizes{needs}"
            )
        return coded

    def _encoder_options(self) -> dict[str, str]:
        encoder, options = self._encoding.codec.encoder, self._encoding.options
        if encoder == "libsvtav1":  # else it writes to stderr
            os.environ.setdefault("SVT_LOG", "1")
        if encoder == "ffv1" and self._info.width == 1:
            options["slices"] = "1"  # it cannot slice a single column
        if encoder == "libx264":
            # x264's own choice is one and a half for each core. Each takes 23 MB at HD,
            # and other stages keep the cores busy.
            options["threads"] = str(CORES)
            if self._info.width * self._info.height > _LARGE:
                options["rc-lookahead"] = "5"  # 170 MB less at 4K, for another 0.15 dB
        return options

    def _set_timecode(self, first: Fraction) -> None:
        """Write the timecode of the first frame, which is shown at `first` [s]."""
        timecode, kind = self._info.timecode, self._container.format.name
        if timecode is None or self._frames:
            return
        # FFmpeg would fail to complete a MOV or MP4 that counts more.
        if kind in ("mov", "mp4") and timecode.count > 255:
            self.notes += lost_timecode(self._info, self.path, "cannot count so many")
        elif kind in ("mov", "mp4", "matroska", "webm", "nut"):
            self._stream.metadata["timecode"] = str(timecode.at(first))
        else:
            self.notes += lost_timecode(self._info, self.path)

    def _keep_aspect(self) -> None:
        """Reserve room for the shape of pixels, or note that it is lost."""
        aspect = self._info.sample_aspect_ratio
        kind = self._container.format.name
        if aspect != 1 and kind in ("matroska", "webm"):
            self._stream.metadata["title"] = matroska.PLACEHOLDER
        elif aspect != 1 and kind in ("webp", "nut"):
            self.notes += lost_aspect(self._info, self.path)

    def _set_aspect(self) -> None:
        """Write the shape of pixels into a complete Matroska or WebM file."""
        stream, aspect = self._stream, self._info.sample_aspect_ratio
        if stream.metadata.get("title") == matroska.PLACEHOLDER:
            width = max(1, round(stream.width * aspect))
            if not matroska.set_display_size(self.temporary, width, stream.height):
                self.notes += lost_aspect(self._info, self.path)

    def _timescale(self) -> str:
        """Return the unit of all start times, which are else rounded to 1/1000 s.

        Source:
            ISO/IEC 14496-12: an edit list counts in the movie's units, of 31 bits here.
        """
        bases = [stream.time_base for stream in self._container.streams]
        common = math.lcm(*(base.denominator for base in bases if base))
        fits = common < 1 << 31
        return str(common if fits else self._stream.time_base.denominator)

    def write(self, frame: Frame) -> None:
        """Append a frame, as large as `info` says.

        Raises:
            ValueError: If the size differs.
            OutputError: If the disk is full or the encoder fails.
        """
        height, width = frame.pixels.shape[:2]
        if (width, height) != (self._info.width, self._info.height):
            raise ValueError(
                f"frame {frame.name or self._frames} is {width}x{height}, but "
                f"{self.path} is {self._info.width}x{self._info.height}; all frames of "
                "a video have one size: pass resize (--resize), or write images"
            )
        self._set_timecode(frame.time)  # before the first packet of sound
        with as_output_error(self.path):
            if self._tracks is not None:
                self._tracks.forward(frame.time)
            picture = self._picture(frame.pixels)
            picture.time_base, picture.pts = self._base, self._ticks(frame)
            picture.duration = round(frame.duration / self._base)
            self._durations[picture.pts] = picture.duration
            if self._first is None:
                self._first = frame.pixels
            self._mux(self._encode(picture, frame.pixels))
            self._frames += 1

    def _ticks(self, frame: Frame) -> int:
        """Round the time of a frame so that every frame has a time of its own."""
        ticks = round((frame.time - self._start) / self._base)
        if self._last is not None and ticks <= self._last:
            ticks = self._last + 1
            add_note(
                self.notes,
                f"slower than the source: no more than {1 / self._base} frames a "
                "second",
            )
        self._last = ticks
        return ticks

    def append(self, segment: Path, frames: Sequence[Frame], depth: int = 0) -> None:
        """Append a segment that is encoded already, by copying its packets.

        It was written with the same settings as `like`, and starts with a key frame.
        Its frames come in order of display, for their exact times; their pixels are not
        used. `depth` is the largest `concat.reorder_depth` of all segments.

        Raises:
            OutputError: If the segment has another number of frames, or the disk is
                full.
        """
        if self._joining is None:
            self._joining = Timing(self._base, depth)
        self._set_timecode(frames[0].time)
        with as_output_error(self.path):
            ticks = [self._ticks(frame) for frame in frames]
            durations = [frame.duration for frame in frames]
            for packet, index in self._joining.retime(segment, ticks, durations):
                if self._tracks is not None:
                    self._tracks.forward(frames[index].time)
                packet.stream = self._stream
                self._container.mux_one(packet)
            self._frames += len(ticks)

    def _picture(self, pixels: Pixels) -> av.VideoFrame:
        if self._palette is not None:
            return self._palette.map(pixels)
        encoding = self._encoding
        if encoding.packed:
            packed = pack(pixels, self._half, encoding.packed, encoding.premultiplied)
            return from_rgb(packed, encoding.pixel_format, self._colour)
        height, width = pixels.shape[:2]
        down, right = self._stream.height - height, self._stream.width - width
        if down or right:
            pixels = np.pad(pixels, ((0, down), (0, right), (0, 0)), "edge")
        if encoding.premultiplied:
            pixels = premultiply(with_depth(pixels, True))
        if encoding.mixes_edges:
            colours = extend_colours(pixels)
            if self._alpha is not None:
                return from_rgb(colours, "yuv420p", self._colour)
            pixels = np.concatenate([colours, pixels[..., 3:]], 2)
        return from_rgb(pixels, encoding.pixel_format, self._colour)

    def _encode(self, picture: av.VideoFrame, pixels: Pixels) -> Iterable[Any]:
        """Encode a picture and, in a thread, its alpha; gives the complete packets."""
        if self._alpha is None:
            return self._stream.encode(picture)  # type: ignore[no-any-return]
        alpha = run_beside(self._alpha.encode, pixels[..., 3], picture.pts)
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
        if self._completed:  # but interrupted before it was published
            return
        if not self._joins:
            packets = self._stream.encode(None)
            if self._alpha is not None:
                self._alpha.finish()
                packets = [*self._alpha.attach(packets)]
            if self._frames < 3:
                for packet in packets:
                    packet.dts = packet.pts  # libx265 leaves it uninitialised
            self._mux(packets)
        if self._tracks is not None:
            self._tracks.finish(end)
        self._container.close()
        if self._tracks is not None:
            self._tracks.note_lost_languages(self.temporary)
        self._set_aspect()
        self._completed = True

    def complete(self, end: Fraction | None = None) -> None:
        """Complete the file, and check that it is still transparent."""
        with as_output_error(self.path):
            if not self._frames:
                raise OutputError(f"{self.path}: no frames were given to write")
            self._complete(end)
            if self._alpha is not None and self._first is not None:
                check_alpha(self.temporary, self.path, self._first)

    def keep_partial(self) -> Path | None:
        """Complete the frames so far."""
        if not self._frames or not self.temporary.exists():  # no frame, or published
            self.discard()
            return None
        target = self._partial_path()
        with as_output_error(target):
            last = max(self._durations, default=None)
            end = Fraction(0) if last is None else self._start + last * self._base
            self._complete(end)
            return self.temporary.replace(target)

    def discard(self) -> None:
        """Remove everything that was written."""
        if self._tracks is not None:
            self._tracks.close()
        # Closing writes the trailer, which fails again if writing has failed.
        with suppress(av.error.FFmpegError, OSError):
            self._container.close()
        self.temporary.unlink(missing_ok=True)
