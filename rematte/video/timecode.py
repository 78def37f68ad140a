"""SMPTE timecode: the address of a frame as hours, minutes, seconds and frames.

This module opens no files and decodes no pictures.

Source:
    SMPTE ST 12-1:2014, section 5 (drop frame) and section 12 (more than 30 frames/s).
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Self

# The timecode that MPEG-2 encoders write into pictures if they have none.
_EMPTY = "00:00:00:00"
_FORM = re.compile(r"(\d\d)[:;.](\d\d)[:;.](\d\d)([:;.,])(\d{1,3})")
_NTSC = Fraction(1000, 1001)


@dataclass(frozen=True, slots=True)
class Timecode:
    """The timecode of one frame, from which those of all others follow.

    Attributes:
        number: The number of frames since midnight, without the labels that drop frame
            skips.
        rate: Frames per second, for example 30000/1001.
        drop: Whether some labels are skipped, so that timecode stays in step with time.
        time: When the frame is shown [s].
    """

    number: int
    rate: Fraction
    drop: bool
    time: Fraction

    @classmethod
    def parse(cls, text: str, rate: Fraction, time: Fraction) -> Self | None:
        """Parse "HH:MM:SS:FF"; with drop frame the last mark is ";", "." or ",".

        The frame is shown at a time [s], and the nearest rate of timecode to `rate` is
        taken. The result is None if the text is no timecode at this rate.
        """
        found = _FORM.fullmatch(text.strip())
        count = round(rate)
        if found is None or not count:
            return None
        hours, minutes, seconds, frames = (int(found[n]) for n in (1, 2, 3, 5))
        if hours > 23 or minutes > 59 or seconds > 59 or frames >= count:
            return None
        exact = count * _NTSC
        drop = found[4] != ":" and count % 30 == 0
        if not drop and abs(rate - count) <= abs(rate - exact):
            exact = Fraction(count)
        dropped = count // 15 * drop  # labels skipped per minute, except each tenth
        if drop and minutes % 10 and not seconds:
            frames = max(frames, dropped)  # skipped labels
        minutes += 60 * hours
        number = (60 * minutes + seconds) * count + frames
        number -= dropped * (minutes - minutes // 10)
        return cls(number, exact, drop, time)

    @property
    def count(self) -> int:
        """The number of labels per second, for example 30 for 30000/1001."""
        return round(self.rate)

    def at(self, time: Fraction) -> Self:
        """Return the timecode of the frame that is shown at another time [s]."""
        passed = round((time - self.time) * self.rate)
        return replace(self, number=self.number + passed, time=time)

    def converted(self, rate: Fraction) -> Self | None:
        """Return the same time of day at another rate; None if there is none."""
        hours, minutes, seconds, frames = self.fields()
        frames = frames * round(rate) // self.count
        text = label(hours, minutes, seconds, frames, self.drop)
        return self.parse(text, rate, self.time)

    def fields(self) -> tuple[int, int, int, int]:
        """Return hours, minutes, seconds and frames, which start from 0 at midnight."""
        count, dropped = self.count, self.count // 15 * self.drop
        minute = 60 * count - dropped
        ten = 10 * minute + dropped
        tens, rest = divmod(self.number % (144 * ten), ten)
        # The first of ten minutes skips no labels; the others skip them at their start.
        one = max(0, rest - dropped) // minute
        seconds, frames = divmod(rest + one * dropped - 60 * count * one, count)
        hours, minutes = divmod(10 * tens + one, 60)
        return hours, minutes, seconds, frames

    def __str__(self) -> str:
        return label(*self.fields(), self.drop)


def label(hours: int, minutes: int, seconds: int, frames: int, drop: bool) -> str:
    """Return the timecode as text."""
    return f"{hours:02}:{minutes:02}:{seconds:02}{';' if drop else ':'}{frames:02}"


def find_timecode(holders: Iterable[Any]) -> str | None:
    """Find the first timecode in the tags of files, streams and frames, as text.

    Frames are searched last. All-zero timecodes in frames are ignored, since MPEG-2
    encoders write them if they have no timecode.
    """
    for holder in holders:
        with suppress(UnicodeDecodeError):  # a damaged tag
            for name, value in holder.metadata.items():
                from_frame = hasattr(holder, "pts")
                if name.lower() == "timecode" and not (from_frame and value == _EMPTY):
                    return str(value)
    return None
