"""The window that shows live pictures, and its keys."""

import os
from collections.abc import Callable
from typing import Any

from rematte.errors import OutputError
from rematte.live.controls import KEYS, Controls
from rematte.live.sinks import as_rgb
from rematte.video.fitting import fitted_size
from rematte.video.frame import Frame, VideoInfo

# SDL's drivers where there is no display.
_INVISIBLE = ("dummy", "offscreen")
# At first the window takes at most this share of the desktop, and small pictures are
# enlarged to this width [pixels], so that the words have room.
_SHOWN, _WIDTH = 0.8, 640
_TEXT, _PAPER, _RED = (240, 240, 240), (0, 0, 0, 150), (255, 70, 60)


class Window:
    """A window; its keys are those of `KEYS`, and Escape or closing it ends it too.

    Pictures are scaled smoothly to its size, with bars where its shape is another.
    `switch` is called where the next source is asked for.
    """

    def __init__(
        self, info: VideoInfo, controls: Controls, switch: Callable[[], object]
    ) -> None:
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        try:
            import pygame
        except ModuleNotFoundError as error:
            raise OutputError(
                "a window needs pygame-ce: pip install 'rematte[live]'"
            ) from error
        self._pygame, self._controls, self._switch = pygame, controls, switch
        self._picture: Any = None
        try:
            pygame.display.init()
            pygame.font.init()
            driver = pygame.display.get_driver()
            wanted = os.environ.get("SDL_VIDEODRIVER", "")
            if driver in _INVISIBLE and driver not in wanted.split(","):
                pygame.display.quit()
                raise OutputError(
                    "no window can be opened: this session has no display; start it "
                    "from a desktop (DISPLAY or WAYLAND_DISPLAY is set there), or give "
                    "-o a file, an address, virtual-camera or -"
                )
            size = _first_size(info, pygame.display.get_desktop_sizes())
            self._screen = pygame.display.set_mode(size, pygame.RESIZABLE)
        except pygame.error as error:
            raise OutputError(f"no window can be opened here ({error})") from error
        pygame.display.set_caption("rematte")

    def write(self, frame: Frame) -> None:
        """Show a picture and do what keys ask for; KeyboardInterrupt is the end."""
        pixels = as_rgb(frame.pixels[..., :3])
        size = pixels.shape[1], pixels.shape[0]
        self._picture = self._pygame.image.frombuffer(pixels.tobytes(), size, "RGB")
        self.refresh()

    def refresh(self) -> None:
        """Draw the last picture again, and do what keys ask for."""
        pygame = self._pygame
        self._screen = pygame.display.get_surface()
        self._screen.fill((0, 0, 0))
        width, height = self._screen.get_size()
        shown = self._picture
        high, wide = fitted_size(shown.get_size()[::-1], (height, width), "contain")
        if (wide, high) != shown.get_size():
            shown = pygame.transform.smoothscale(shown, (wide, high))
        self._screen.blit(shown, ((width - wide) // 2, (height - high) // 2))
        self._draw_words()
        pygame.display.flip()
        for event in pygame.event.get():
            key = pygame.key.name(event.key) if event.type == pygame.KEYDOWN else ""
            if event.type == pygame.QUIT or key in ("escape", "q"):
                raise KeyboardInterrupt
            if key == "space":
                self._switch()
            elif key in KEYS:
                self._controls.press(key)

    def _draw_words(self) -> None:
        """Draw the keys at the bottom and the messages at the top."""
        pygame, controls = self._pygame, self._controls
        width, height = self._screen.get_size()
        font = pygame.font.Font(None, max(18, min(28, width // 40)))
        keys = "   ".join(f"{key} {what}" for key, what in KEYS.items())
        top = 0
        for text, colour, shown in (
            ("recording", _RED, controls.recording),
            (controls.message, _TEXT, controls.message),
            (keys, _TEXT, controls.help),
        ):
            if not shown:
                continue
            words = font.render(text, True, colour, None, width - 16)
            high = words.get_height() + 8
            strip = pygame.Surface((width, high), pygame.SRCALPHA)
            strip.fill(_PAPER)
            strip.blit(words, (8, 4))
            self._screen.blit(strip, (0, height - high if text == keys else top))
            top += high

    def close(self) -> None:
        """Close the window."""
        self._pygame.display.quit()


def _first_size(info: VideoInfo, desktops: list[tuple[int, int]]) -> tuple[int, int]:
    """Give the size of the window [pixels]: the picture's, as far as that is usable."""
    limits = [_SHOWN * side for side in desktops[0]] if desktops else [1280, 720]
    scale = max(1.0, _WIDTH / info.width)
    scale = min(scale, limits[0] / info.width, limits[1] / info.height)
    return max(1, round(info.width * scale)), max(1, round(info.height * scale))
