"""The base class of writers: an output gets its name only when it is complete."""

from abc import ABC, abstractmethod
from fractions import Fraction
from pathlib import Path

from rematte.video.encoding import Encoding
from rematte.video.frame import Frame
from rematte.video.output_paths import (
    as_output_error,
    real_path,
    shorten,
    temporary_path,
)


class Writer(ABC):
    """An output that is written under a hidden name.

    Attributes:
        path: The output as given.
        temporary: The hidden file, or folder of images, that is written.
        notes: Sentences on what differs from the source.
    """

    def __init__(self, path: Path, encoding: Encoding) -> None:
        self.path, self.temporary = path, temporary_path(path)
        self.notes: list[str] = [*encoding.notes]

    @abstractmethod
    def write(self, frame: Frame) -> None:
        """Append a frame.

        Raises:
            OutputError: If the disk is full or the encoder fails.
        """

    @abstractmethod
    def complete(self, end: Fraction | None = None) -> None:
        """Complete and check the output under its temporary name.

        With this, either all outputs of a conversion get their names or none does. The
        sound is cut at the time `end` in the source [s], if there is one.

        Raises:
            OutputError: If there are no frames, or the output cannot be completed.
        """

    def publish(self) -> None:
        """Rename the complete output to its final name.

        Raises:
            OutputError: If it cannot be renamed.
        """
        with as_output_error(self.path):
            self.temporary.replace(real_path(self.path))

    def finish(self, end: Fraction | None = None) -> None:
        """Complete the output and rename it; the arguments are those of `complete`."""
        self.complete(end)
        self.publish()

    @abstractmethod
    def keep_partial(self) -> Path | None:
        """Complete the frames so far, under a name with ".partial" in it.

        Returns the file or folder, or None if there is no frame.
        """

    def _partial_path(self) -> Path:
        """Return the name of a file that holds only the frames so far."""
        name = f"{shorten(self.path.stem)}.partial{self.path.suffix}"
        return real_path(self.path).with_name(name)

    @abstractmethod
    def discard(self) -> None:
        """Remove everything that was written."""
