"""Files that live pictures are recorded to."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from rematte.conversion.needs import need
from rematte.conversion.paths import check_paths
from rematte.errors import OutputError
from rematte.options import Options
from rematte.video.codecs import is_sequence
from rematte.video.encoding import Encoding, choose
from rematte.video.frame import Frame, VideoInfo
from rematte.video.writer import FileWriter


class Recording:
    """Records to one file; `close` completes it. `notes` say what it does not hold."""

    def __init__(self, path: Path, info: VideoInfo, encoding: Encoding) -> None:
        self._writer = FileWriter(path, info, encoding)
        self.notes = self._writer.notes
        self._last: Frame | None = None

    def write(self, frame: Frame) -> None:
        """Record a picture."""
        if self._last is not None:  # it was shown until this one arrived
            duration = frame.time - self._last.time
            with self._saved():
                self._writer.write(replace(self._last, duration=duration))
        self._last = frame

    def close(self) -> None:
        """Complete the file; without a picture there is none."""
        if self._last is None:
            self._writer.discard()
            return
        with self._saved():
            self._writer.write(self._last)
            self._writer.finish()

    @contextmanager
    def _saved(self) -> Iterator[None]:
        """Name the file of the pictures so far if no more can be written."""
        try:
            yield
        except OutputError as error:
            self._last, path = None, self._writer.path
            try:
                saved = self._writer.keep_partial()
            except OutputError:  # no room for the end, without which most can be read
                saved = path.with_stem(f"{path.stem}.partial")
                self._writer.temporary.replace(saved)
            if saved is None:
                raise
            raise OutputError(f"{error}; what there was so far is in {saved}") from None


def check_recording(
    path: Path, *, info: VideoInfo, alpha: bool, show: str, mbps: float | None,
    sources: Sequence[str], options: Options,
) -> Encoding:  # fmt: skip
    """Choose how a file is encoded, and refuse one that cannot be written."""
    if is_sequence(path):
        raise OutputError(
            f"{path}: live pictures are recorded to one video; end its name in .mp4, "
            ".mov, .webm or .mkv"
        )
    for source in sources:
        check_paths({"recording": path}, Path(source), options, options.overwrite)
    if path.suffix.lower() == ".avif":
        raise OutputError(
            f"{path}: AVIF is encoded at the end, not as it plays; record .mkv and "
            "convert that"
        )
    encoding = choose(path, info, alpha=alpha, gray=show == "alpha", mbps=mbps)
    need("live --mbps", mbps, encoding.mbps is not None)
    return encoding


class Recorder:
    """Records beside another output, for as long as it is asked to.

    Each recording but the first gets a number: talk.mp4, talk-2.mp4, talk-3.mp4.
    `wanted` says whether the next picture is to be recorded.
    """

    def __init__(
        self, path: Path, info: VideoInfo, encoding: Encoding, overwrite: bool,
        wanted: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._path, self._info, self._encoding = path, info, encoding
        self._overwrite, self._wanted, self._count = overwrite, wanted, 0
        self._now: Recording | None = None
        self._start = Fraction(0)
        self.notes: list[str] = []

    def write(self, frame: Frame) -> None:
        """Record a picture, or end the recording if none is wanted."""
        if not self._wanted():
            self.close()
            return
        if self._now is None:
            self._now = Recording(self._next(), self._info, self._encoding)
            self._start = frame.time
        self._now.write(replace(frame, time=frame.time - self._start))

    def close(self) -> None:
        """Complete the file that is being recorded."""
        if self._now is not None:
            self._now.close()
            self.notes += [n for n in self._now.notes if n not in self.notes]
            self._now = None

    def _next(self) -> Path:
        """Give the name of the next file; a number that is taken is left out."""
        while True:
            self._count += 1
            path = self._path
            if self._count > 1:
                path = path.with_stem(f"{path.stem}-{self._count}")
            if self._overwrite or not path.exists():
                return path
