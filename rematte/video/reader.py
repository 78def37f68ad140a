"""Reads a video file, a folder of images or one image, a frame at a time.

Frames come upright, as RGB, with their exact times. Memory does not grow with the
length. Knows no torch and nothing of mattes.
"""

import itertools
from array import array
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from operator import sub
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from av.codec.hwaccel import HWAccel, HWDeviceType
from av.container import InputContainer
from av.format import Flags
from av.video.stream import VideoStream

from rematte.errors import InputError
from rematte.video import exr
from rematte.video.clock import LONG_STEP, Clock, read_clock
from rematte.video.colour import frame_colour, frame_depth, lost_metadata, to_rgb
from rematte.video.fields import DEINTERLACE, deinterlace
from rematte.video.frame import Frame, Pixels, VideoInfo
from rematte.video.images import (
    Picture,
    decode_image,
    describe_gaps,
    find_images,
    read_header,
)
from rematte.video.opening import (
    DEFAULT_LIMITS,
    Limits,
    check_complete,
    open_input,
    video_stream,
)
from rematte.video.rates import Shown, at_rate
from rematte.video.timecode import Timecode, find_timecode
from rematte.video.transparency import read_alpha, unpremultiply
from rematte.video.upright import Upright

# Those that FFmpeg knows; which of them a build or a machine has is another matter.
HWACCELS = tuple(kind.name for kind in HWDeviceType if kind.name != "none")
# What may be done with a source's own alpha channel.
INPUT_ALPHAS = ("multiply", "ignore")
# FFmpeg's own VP8 and VP9 decoders ignore alpha; libvpx's do not.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
# In `VideoReader.damaged`: the packet was decoded as far as it is there.
_CONCEALED = "concealed"
# What types of streams are called, apart from the picture.
_BESIDE = {
    "audio": "sound",
    "subtitle": "subtitles",
    "video": "other pictures",
    "data": "data",
    "attachment": "attachments",
}


class VideoReader:
    """Frames of a video file, an image folder or an image, in order.

    Use it in a `with` statement and iterate once:
    `with VideoReader("in.mp4") as reader: for frame in reader: ...`

    Args:
        path: A file FFmpeg decodes, a folder of images (sorted as people count), a
            pattern of numbered images such as "plate.%04d.png", or one image.
        size: Width and height [pixels] to resize upright frames to, or None.
        start: Skip what is shown before this time [s].
        end: Stop before this time [s].
        frame_rate: Frames per second of images, by default 30, and of a stream without
            times, by default what its header says. A video that has times is converted
            to this rate: each frame shows what the source shows in the middle of it.
        ignore_errors: Go on past damaged data instead of raising.
        threads: How many threads read an image folder ahead; 0 reads as asked.
        alpha: Whether pictures that have an alpha channel keep it: pixels are then
            (H, W, 4), straight as stored.
        hwaccel: What decodes a video instead of the processor, by FFmpeg's names, such
            as "cuda" (NVDEC) or "videotoolbox". Where it cannot, the processor does.
        hold_gaps: Whether a missing number of a numbered sequence repeats the frame
            before it, so that all others stay in time.
        limits: What the file may ask for.
        deinterlace: "auto" makes whole pictures of interlaced ones; "off" leaves them.
        audio: Whether the sound is taken too. Times count from the first picture or,
            if it is earlier, from the first sound that is taken.
        input_alpha: "multiply" gives a source's own alpha channel as `Frame.alpha`,
            "ignore" leaves it out; both say so in a note. None leaves it out silently.

    Attributes:
        info: What is known before reading.
        average_rate: Frames per second over the whole; `info.rate` is the usual rate.
        limits: What the file may ask for.
        clock: Turns the file's times into those of the frames.
        damaged: Where damage was passed over, by time [s]: the name of an image,
            nothing for a packet that could not be decoded, "concealed" for one that
            was decoded although parts of it are missing.
        notes: What is not as was asked, in words.

    Raises:
        ValueError: If FFmpeg has no such `hwaccel`, or `deinterlace` is unknown.
        InputError: If there is nothing readable there, or the data is damaged.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int] | None = None,
        start: Fraction | None = None,
        end: Fraction | None = None,
        frame_rate: Fraction | None = None,
        ignore_errors: bool = False,
        threads: int = 0,
        alpha: bool = False,
        hwaccel: str | None = None,
        hold_gaps: bool = False,
        limits: Limits = DEFAULT_LIMITS,
        deinterlace: str = "auto",
        audio: bool = True,
        input_alpha: str | None = None,
    ) -> None:
        if input_alpha is not None and input_alpha not in INPUT_ALPHAS:
            raise ValueError(
                f"input_alpha must be one of {', '.join(INPUT_ALPHAS)}, got "
                f"{input_alpha!r}"
            )
        if deinterlace not in DEINTERLACE:
            raise ValueError(
                f"deinterlace must be one of {', '.join(DEINTERLACE)}, got "
                f"{deinterlace!r}"
            )
        if hwaccel is not None and hwaccel not in HWACCELS:
            raise ValueError(
                f"hwaccel must be one of {', '.join(HWACCELS)}, got {hwaccel!r}; leave "
                "it out to decode on the processor"
            )
        self.path = Path(path)
        self._hwaccel, self._deinterlace = hwaccel, deinterlace
        self._frame_rate, self.limits = frame_rate, limits
        self._alpha, self._input_alpha = alpha, input_alpha
        self._threads = threads
        self._size = size
        self._start, self._end = start, end
        self._ignore_errors, self._audio = ignore_errors, audio
        self._container: InputContainer | None = None
        self.clock = Clock()
        self.damaged: dict[float, str] = {}
        self._images: list[Picture]
        self._images, self.notes = find_images(self.path, hold_gaps)
        if self._images:
            self.info = self._image_info(frame_rate)
            self.average_rate = self.info.rate
            self._note_gaps()
        else:
            container, stream = self._open()
            self.clock = read_clock(self.path, container, stream, audio, limits)
            self.info = self._video_info()
            self.notes += self.clock.notes()
            if hwaccel and not self._stream.codec_context.is_hwaccel:
                self.notes.append(
                    f"hwaccel {hwaccel} cannot be used for this video on this machine; "
                    "the processor decoded it"
                )
        self._known = len(self.notes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        if self._container is not None:
            self._container.close()
            # It holds the reader, which would keep the decoder and its threads.
            self._pictures: Iterator[av.VideoFrame] = iter(())

    def __iter__(self) -> Iterator[Frame]:
        frames = self._read_images() if self._images else self._read_video()
        for frame in frames:
            if self._end is not None and frame.time >= self._end:
                return
            if self._start is None or frame.time + frame.duration > self._start:
                yield frame

    @property
    def images(self) -> bool:
        """Whether the source is an image or a folder of them."""
        return bool(self._images)

    @property
    def late_notes(self) -> list[str]:
        """The notes that reading has added to those that opening gave."""
        return self.notes[self._known :]

    @property
    def labels(self) -> list[tuple[str, int | None]]:
        """Name and number of every frame of an image source; none of a video."""
        return [(image.name, image.number) for image in self._images]

    def times(self) -> list[Fraction]:
        """When each frame is shown [s], in order, without decoding any.

        What `start` and `end` leave out is in it. Of a damaged file it is a guess.

        Raises:
            InputError: If the file does not say.
        """
        if self._images:
            return [index * self.info.time_base for index in range(len(self._images))]
        if not self._timed:  # counted in frames, which packets are not always
            with VideoReader(
                self.path, frame_rate=self._frame_rate, deinterlace="off",
                ignore_errors=self._ignore_errors, hwaccel=self._hwaccel,
                limits=self.limits,
            ) as again:  # fmt: skip
                return [time for _, time, _ in again._shown()]
        ticks = array("q")
        with (
            open_input(self.path, limits=self.limits) as container,
            suppress(av.error.FFmpegError),
        ):
            stream = video_stream(container, self.path, self.limits)
            for packet in self.clock.packets(container.demux(stream)):
                if packet.size and not packet.is_discard:
                    shown = packet.dts if self._reordered else packet.pts
                    if shown is None:
                        raise InputError(
                            f"{self.path}: some of its frames have no times; put them "
                            "into a container that has: ffmpeg -i IN -c copy OUT.mkv"
                        )
                    ticks.append(shown)
        shown_at = (tick * self._stream_base for tick in sorted(set(ticks)))
        clock = self.clock
        times = [time - clock.origin for time in shown_at if time >= clock.picture]
        if not self._converts:
            return times
        ends = [*times[1:], *(time + self._usual for time in times[-1:])]
        shown = zip(times, times, map(sub, ends, times), strict=True)
        return [time for _, time, _ in at_rate(shown, self.info.rate)]

    # Images

    def _image_info(self, frame_rate: Fraction | None) -> VideoInfo:
        first, upright = self._first_readable()
        self._note_ignored_alpha(first)
        width, height = self._size or upright.size(first.width, first.height)
        header = read_header(self._images[0].file)
        rate = frame_rate or exr.read_rate(header) or Fraction(30)
        text = exr.read_timecode(header, rate) or find_timecode([first])
        return VideoInfo(
            width,
            height,
            rate=rate,
            time_base=1 / rate,
            colour=frame_colour(first),
            depth=frame_depth(first),
            sample_aspect_ratio=upright.pixel_aspect(self._size),
            timecode=Timecode.parse(text, rate, Fraction(0)) if text else None,
            frames=len(self._images),
            still=self._images[0].file == self.path,
        )

    def _first_readable(self) -> tuple[av.VideoFrame, Upright]:
        for image in self._images:
            try:
                return decode_image(image.file, self.limits)
            except InputError:
                if not self._ignore_errors or image is self._images[-1]:
                    raise
        raise AssertionError  # there is at least one image

    def _note_gaps(self) -> None:
        """Note which of the frames from `start` to `end` are missing."""
        step = self.info.time_base
        begin = int(self._start / step) if self._start else 0
        end = None if self._end is None else -int(-self._end // step)
        gaps = describe_gaps(self._images[begin:end])
        if gaps:
            self.notes.append(gaps)

    def _read_images(self) -> Iterator[Frame]:
        """All images; one that is damaged shows the one before it, if it may."""
        last: Frame | None = None
        for index, frame in enumerate(self._decode_images(), self._first_image()):
            if isinstance(frame, InputError):
                image = self._images[index]
                last = self._nearest(index, frame) if last is None else last
                shown = index * self.info.time_base
                frame = replace(last, time=shown, name=image.name, number=image.number)
                self.damaged[float(shown)] = image.file.name
            last = frame
            yield frame

    def _nearest(self, index: int, error: InputError) -> Frame:
        """The nearest image that can be decoded, one before if there is one."""
        later = range(index + 1, len(self._images))
        for other in itertools.chain(reversed(range(index)), later):
            frame = self._read_image(other, self._images[other])
            if isinstance(frame, Frame):
                return frame
        raise error

    def _first_image(self) -> int:
        return int(self._start / self.info.time_base) if self._start else 0

    def _decode_images(self) -> Iterator[Frame | InputError]:
        images = list(enumerate(self._images))[self._first_image() :]
        if not self._threads:
            yield from itertools.starmap(self._read_image, images)
            return
        with ThreadPoolExecutor(self._threads) as pool:
            ahead: deque[Future[Frame | InputError]] = deque()
            for index, image in images:
                ahead.append(pool.submit(self._read_image, index, image))
                if len(ahead) > 2 * self._threads:  # so that memory is bounded
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _read_image(self, index: int, image: Picture) -> Frame | InputError:
        step = self.info.time_base
        try:
            picture, upright = decode_image(image.file, self.limits, self.notes)
        except InputError as error:
            if self._ignore_errors:
                return error
            raise
        if self._alpha or self._input_alpha == "multiply":
            picture = unpremultiply(picture)
        size = upright.size(*self._size) if self._size else None
        # A folder may mix kinds, so each image is read by its own tags.
        pixels = to_rgb(
            picture, frame_colour(picture), self.info.depth, size, self._alpha
        )
        alpha = self._read_alpha(picture, size, upright)
        pixels, shown = upright.apply(pixels), index * step
        return Frame(pixels, shown, step, image.name, image.number, alpha)

    # Transparency

    def _read_alpha(
        self, picture: av.VideoFrame, size: tuple[int, int] | None, upright: Upright
    ) -> Pixels | None:
        """The source's own alpha of a decoded frame, if it is wanted."""
        if self._input_alpha != "multiply":
            return None
        alpha = read_alpha(picture, self.info.depth > 8, size)
        if alpha is None:
            return None
        self._note("the input's own alpha channel multiplies the matte; --input-alpha "
                   "ignore leaves it out")  # fmt: skip
        return upright.apply(alpha)

    def _note_ignored_alpha(self, first: av.VideoFrame, codec: str = "") -> None:
        """Note that an alpha channel is not read, as far as the first frame shows.

        Args:
            first: The first frame.
            codec: Of a video that has alpha outside its frames; else "".
        """
        note = ""
        if self._input_alpha and codec and codec not in _ALPHA_DECODERS:
            note = f"ignored: no decoder of {codec} here reads it"
        elif self._input_alpha == "ignore":
            if not codec and read_alpha(first, False) is None:
                return
            note = "ignored, as asked (--input-alpha ignore)"
        if note:
            self._note(f"the input's own alpha channel is {note}")

    # Video

    def _open(self) -> tuple[InputContainer, VideoStream]:
        hardware = HWAccel(self._hwaccel) if self._hwaccel else None
        self._container = container = open_input(self.path, hardware, self.limits)
        self._stream = video_stream(container, self.path, self.limits)
        return container, self._stream

    @property
    def _reordered(self) -> bool:
        """Whether pictures are decoded in another order, and the file lacks the times.

        AVI states only when packets come; pictures are shown at these times in turn.
        """
        context = self._stream.codec_context
        return self._stream.container.format.name == "avi" and bool(
            context.has_b_frames
        )

    def _codec_with_alpha(self) -> str:
        """The codec of a video whose alpha channel lies beside its frames, else ""."""
        stream = self._stream
        # A file that was copied to another container has it as a tag in capitals.
        tags = {name.lower(): value for name, value in stream.metadata.items()}
        has = tags.get("alpha_mode") == "1"
        return stream.codec_context.codec.canonical_name if has else ""

    def _video_info(self) -> VideoInfo:
        stream = self._stream
        # The first frame says more than the container: rotation, colour, depth.
        self._pictures = self._decode()
        first = next(self._pictures, None)
        if first is None:
            raise InputError(
                f"{self.path}: the video stream has no frames; the file may be cut "
                "off: copy it again"
            )
        self._pictures = itertools.chain([first], self._pictures)
        base = first.time_base or stream.time_base or Fraction(1)
        self.clock = self.clock.starting((first.pts or 0) * base)
        self.notes += lost_metadata(first)
        self._note_ignored_alpha(first, self._codec_with_alpha())
        self._rotate = Upright(first, aspect=stream.sample_aspect_ratio)
        width, height = self._size or self._rotate.size(first.width, first.height)
        rate, time_base = self._set_times(first)
        return VideoInfo(
            width,
            height,
            rate=rate,
            time_base=time_base,
            colour=frame_colour(first),
            depth=frame_depth(first),
            sample_aspect_ratio=self._rotate.pixel_aspect(self._size),
            frames=self._estimate_frames(),
            timecode=self._timecode(first),
            beside=self._beside(),
        )

    def _beside(self) -> tuple[str, ...]:
        """Name what the file has beside its picture and is wanted."""
        container = self._stream.container
        types = {
            stream.type
            for stream in container.streams
            if stream.index != self._stream.index
            # Chapters and timecode are tracks of MP4.
            and not (stream.type == "data" and stream.name == "bin_data")
            and "timecode" not in stream.metadata
        } - (set() if self._audio else {"audio"})
        chapters = ("chapters",) if container.chapters() else ()
        return *(name for kind, name in _BESIDE.items() if kind in types), *chapters

    def _timecode(self, first: av.VideoFrame) -> Timecode | None:
        """Find it in the tags of the video, the file or a track, or in the picture."""
        streams = self._stream.container.streams
        tags = [self._stream, self._stream.container, *streams.data, first]
        text = find_timecode(tags)
        if text is None:
            return None
        # A video that is converted counts at its own rate up to here.
        rate = 1 / self._usual
        found = Timecode.parse(text, rate, self._time(first) or Fraction(0))
        if found is None:
            self.notes.append(
                f"timecode {text} is left out: frames cannot be counted like that at "
                f"{float(rate):.6g} frames/s"
            )
        elif self._converts and self._frame_rate is not None:
            return found.converted(self._frame_rate)
        return found

    def _time(self, picture: av.VideoFrame) -> Fraction | None:
        """When a picture is shown [s], if the file says so."""
        if picture.pts is None or not self._timed:
            return None
        unit = picture.time_base or self._stream_base
        return picture.pts * unit - self.clock.origin

    def _set_times(self, first: av.VideoFrame) -> tuple[Fraction, Fraction]:
        """Settle where times come from; gives the rate and the unit of all times."""
        stream = self._stream
        base = self._stream_base = stream.time_base or Fraction(1, 90000)
        length = (first.duration or 0) * (first.time_base or base)
        # A header may count fields, and the average is 25 where there are no times.
        said = [rate for rate in (stream.guessed_rate, stream.average_rate) if rate]
        near = [rate for rate in said if abs(rate * length - 1) < Fraction(1, 10)]
        rates = [*near, *said, 1 / length if length else Fraction(30)]
        # Some files claim thousands; encoders refuse frames shorter than a unit.
        rate = min(rates[0], 1 / base)
        kind, wanted = stream.container.format, self._frame_rate
        # What FFmpeg then gives as times is made of the rate of 25 that it assumes.
        flag: Any = Flags.no_timestamps
        untimed = kind.flags & flag.value or kind.name.endswith("_pipe")
        self._timed = not untimed and first.pts is not None
        self._converts = self._timed and wanted is not None
        average = stream.average_rate
        if not (self._timed and average and average < 1 / base):
            average = rate  # raw DV claims a frame a unit
        self._even = wanted if wanted == rate == average else None
        if self._converts and wanted and not self._even:
            self.notes.append(
                f"converted by time from {float(average):.6g} to {float(wanted):.6g} "
                "frames/s: frames are left out or held"
            )
        self._usual, self.average_rate = 1 / rate, average
        if self._timed and wanted is None:
            return rate, base
        rate = self.average_rate = wanted or rate
        if not self._timed:
            self._usual = 1 / rate
        # Half a frame is the length of a field, which some frames are longer by.
        return rate, Fraction(1, 2 * rate.numerator)

    def _estimate_frames(self) -> int | None:
        stream = self._stream
        start = self._start or Fraction(0)
        length: Fraction | None = None
        if self.clock.frames:
            length = self.clock.frames / self.average_rate
        elif stream.duration and stream.time_base:
            length = stream.duration * stream.time_base
        elif self._container is not None and self._container.duration:
            length = Fraction(self._container.duration, av.time_base)
        frames = self.clock.frames or stream.frames
        whole = self._start is None and self._end is None
        if whole and frames and not self._converts:
            return frames
        if length is None:
            return None
        end = min(length, self._end) if self._end is not None else length
        return max(0, round((end - start) * self.average_rate))

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _decode(self) -> Iterator[av.VideoFrame]:
        return deinterlace(
            self._decode_packets(),
            self._stream.codec_context,
            self._deinterlace,
            self._note,
        )

    def _decode_packets(self) -> Iterator[av.VideoFrame]:
        count, expected = 0, self.clock.picture
        usual = 1 / (self._stream.guessed_rate or Fraction(25))
        container = self._container
        if container is None:
            raise InputError(f"{self.path}: the reader is closed")
        places: list[int] = []
        packets = self._packets(container, places)
        decoder: Any = self._stream.codec_context
        if self._alpha or self._input_alpha == "multiply":
            name = _ALPHA_DECODERS.get(self._codec_with_alpha())
            decoder = av.CodecContext.create(name, "r") if name else decoder
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                if packet.is_corrupt:
                    self._note_damage(packet, expected)
                frames = decoder.decode(packet)
            except av.error.FFmpegError as error:
                if self._ignore_errors:
                    # Threads raise late, but in order: the next frame is lost.
                    self.damaged[float(expected - self.clock.origin)] = ""
                    expected += usual
                    del places[:1]
                    continue
                raise InputError(
                    f"{self.path}: damaged after {count} frames ({error.strerror}); "
                    "copy the file again, or pass ignore_errors (--ignore-errors) to "
                    "go on past the damage"
                ) from error
            for frame in frames:
                count += 1
                frame.pts = places.pop(0) if places else frame.pts
                if frame.pts is not None and frame.time_base:
                    expected = frame.pts * frame.time_base + usual
                yield frame

    def _packets(self, container: InputContainer, times: list[int]) -> Iterator[Any]:
        """The picture's packets; of those that are reordered `times` gets the times."""
        for packet in self.clock.packets(container.demux(self._stream)):
            if self._reordered and packet.size and packet.dts is not None:
                times.append(packet.dts)
            yield packet

    def _note_damage(self, packet: Any, expected: Fraction) -> None:
        """Remember a packet of which the file itself shows that parts are missing."""
        at = expected if packet.pts is None else packet.pts * packet.time_base
        if any(abs(at - jump) < 1 for jump in self.clock.jumps):
            return  # where recordings are joined, FFmpeg takes the edit for a loss
        time = at - self.clock.origin
        if (self._start or 0) <= time and (self._end is None or time < self._end):
            self.damaged[float(time)] = _CONCEALED

    def _read_video(self) -> Iterator[Frame]:
        info = self.info
        if not self._ignore_errors:
            check_complete(self._stream, self.path)
        if self._start and self._timed:
            # Earlier by a frame that is converted, and by one that deinterlacing needs.
            back = 1 / info.rate if self._converts else 0
            self._seek(max(Fraction(0), self._start - back - self._usual))
        coded = self._rotate.size(info.width, info.height)
        shown = self._shown()
        if self._converts:
            shown = at_rate(shown, info.rate)
        for picture, time, duration in shown:
            if self._start is not None and time + duration <= self._start:
                continue
            scale = coded if (picture.width, picture.height) != coded else None
            pixels = to_rgb(picture, info.colour, info.depth, scale, self._alpha)
            alpha = self._read_alpha(picture, scale, self._rotate)
            yield Frame(self._rotate.apply(pixels), time, duration, alpha=alpha)

    def _shown(self) -> Iterator[Shown[av.VideoFrame]]:
        """Decoded pictures, with when and for how long they are shown."""
        base, usual = self._stream_base, self._usual
        last: Shown[av.VideoFrame] | None = None
        for picture in self._pictures:
            length = (picture.duration or 0) * (picture.time_base or base)
            if not self._timed and self._frame_rate is not None:
                length = usual
            time = self._time(picture)
            if time is None:
                time = last[1] + last[2] if last is not None else Fraction(0)
            if last is not None:
                # Muxers refuse times that stand still or go back, as broken files have.
                time = max(time, last[1] + base)
                self._note_hole(last[1], time)
                self._note_uneven(time - last[1])
                # A frame is shown until the next; not all containers say how long.
                yield last[0], last[1], time - last[1]
            last = picture, time, length or usual
        if last is not None:
            yield last

    def _note_uneven(self, length: Fraction) -> None:
        """Note a conversion that the rates in the header did not show."""
        rate = self._even
        if self._converts and rate and abs(length * rate - 1) > Fraction(1, 2):
            self._note(
                f"converted by time to {float(rate):.6g} frames/s from uneven times: "
                "frames are left out or held"
            )

    def _note_hole(self, since: Fraction, until: Fraction) -> None:
        if until - since > LONG_STEP:
            self._note(
                f"there is no picture from {float(since):.3f} to {float(until):.3f} s: "
                "the one before is shown until then"
            )

    def _seek(self, time: Fraction) -> None:
        """Go on with a frame that is shown at or before a time.

        Few containers can tell which key frame that is; some land after it.
        """
        # Positions in the file do not follow from times, or times from positions.
        if self.clock.jumps or self._reordered:
            return
        origin, back = self.clock.origin, Fraction(0)
        while time > back and self._container is not None:
            with suppress(av.error.FFmpegError):
                at = int((time - back + origin) / self._stream_base)
                self._container.seek(at, stream=self._stream)
                self._pictures = self._decode()
                first = next(self._pictures, None)
                base = self._stream_base
                if (
                    first
                    and first.pts is not None
                    and first.pts * base <= time + origin
                ):
                    self._pictures = itertools.chain([first], self._pictures)
                    return
            back = 2 * back or Fraction(1)
        self.close()
        self._open()
        self._pictures = self._decode()


def describe_damage(damaged: Mapping[float, str]) -> list[str]:
    """Give the note about damage that was passed over, if there was any.

    Args:
        damaged: From `VideoReader.damaged`.
    """
    concealed = {time: "" for time, name in damaged.items() if name == _CONCEALED}
    replaced = {time: name for time, name in damaged.items() if time not in concealed}
    kind = "image" if any(replaced.values()) else "packet"
    notes = {
        "the nearest frame, mostly the one before, is shown instead": replaced,
        "the decoder filled in what is missing; pictures may be lost there": concealed,
    }
    return [
        f"{len(places)} {kind}{'s' * (len(places) > 1)} damaged "
        f"({_some_of(places)}): {what}"
        for what, places in notes.items()
        if places
    ]


def _some_of(damaged: Mapping[float, str]) -> str:
    places = [name or f"{time:.3f} s" for time, name in sorted(damaged.items())]
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return ", ".join(places[:3]) + more
