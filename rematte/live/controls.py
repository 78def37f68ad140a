"""The choices that the window's keys change, and its messages."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rematte.matting.matte import Matted

# Each key with what it does, as the window shows it.
KEYS = {
    "b": "background",
    "m": "mirror",
    "p": "pause",
    "r": "record",
    "space": "next source",
    "h": "hide this",
    "q": "quit",
}

# A person is in the picture while alpha is above a half in this share of it; they are
# lost, or found, when that has changed for so long.
_SHARE, _SETTLED = 0.002, 0.5  # [s]
_EVERY = 8  # step between the samples of alpha [pixels]
_SAID = 3.0  # how long a message of a key is shown [s]


@dataclass
class Controls:
    """The choices that can change while pictures are shown."""

    backgrounds: Sequence[str] = ("green",)  # names, of which one is shown
    background: int = 0  # the index of that one
    mirror: bool = False
    paused: bool = False
    recording: bool | None = None  # None where no file was named
    help: bool = True  # whether the keys are shown
    nobody: bool = False  # whether nobody is in the picture
    said: str = ""  # what the last key has changed
    pressed: float = float("-inf")  # when that was, by `time.monotonic` [s]

    @property
    def message(self) -> str:
        """The message to show now, or ""."""
        if self.said and time.monotonic() - self.pressed < _SAID:
            return self.said
        if self.paused:
            return "paused: p resumes"
        return "nobody is in the picture" if self.nobody else ""

    def press(self, key: str) -> None:
        """Do what a key of `KEYS` stands for; the window does the rest itself."""
        self.said, self.pressed = "", time.monotonic()
        if key == "b":
            self.background = (self.background + 1) % len(self.backgrounds)
            self.said = f"background: {self.backgrounds[self.background]}"
        elif key == "m":
            self.mirror = not self.mirror
            self.said = "mirrored" if self.mirror else "not mirrored"
        elif key == "p":
            self.paused = not self.paused
        elif key == "r" and self.recording is None:
            self.said = "no recording: start again with --record FILE"
        elif key == "r":
            self.recording = not self.recording
            self.said = "" if self.recording else "recording saved"
        elif key == "h":
            self.help = not self.help


@dataclass
class Presence:
    """Says when nobody is in the picture any more, and when somebody is again."""

    # When this changed [s], and whether somebody is there since.
    changes: list[tuple[float, bool]] = field(default_factory=list)
    _since: float | None = None

    def look(self, matted: Matted, time: float) -> bool:
        """Take the matte of a time [s] into account; returns whether that changed."""
        samples = matted.glimpse(_EVERY)
        area = sum(float((each > 127).sum()) for each in samples) * _EVERY**2
        there = area >= _SHARE * matted.size[0] * matted.size[1]
        known = self.changes[-1][1] if self.changes else True
        if there == known:
            self._since = None
            return False
        self._since = time if self._since is None else self._since
        if time - self._since < _SETTLED:
            return False
        self.changes.append((round(self._since, 2), there))
        self._since = None
        return True
