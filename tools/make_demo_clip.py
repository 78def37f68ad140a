"""Make `demo/clip.mp4` from two public-domain portraits.

    pip install matplotlib scikit-image pillow
    python tools/make_demo_clip.py

The packages contain the portraits: Grace Hopper (US Navy) in matplotlib and Eileen
Collins (NASA) in scikit-image. The camera moves slowly over the first, then the clip
cuts to the second; a soft tone changes at the cut.
"""

import argparse
import math
from dataclasses import dataclass
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
)
from PIL import Image

WIDTH, HEIGHT = 384, 480
FPS = 25
SHOT_SECONDS = 2.4
SAMPLE_RATE = 48_000
# Middle C, then the E above it.
NOTES_HZ = (261.63, 329.63)


@dataclass(frozen=True)
class Camera:
    """What the camera sees of a portrait, in its pixels."""

    x: float  # centre of the view, from the left
    y: float  # from the top
    height: float
    degrees: float  # clockwise turn of the view

    def toward(self, end: "Camera", part: float) -> "Camera":
        """Return the view `part` (0 to 1) of the way to `end`."""
        return Camera(
            self.x + (end.x - self.x) * part,
            self.y + (end.y - self.y) * part,
            # Geometric, so that the zoom looks even.
            self.height * (end.height / self.height) ** part,
            self.degrees + (end.degrees - self.degrees) * part,
        )


# The portraits in their packages, and the camera's way over each.
SHOTS = (
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg",
     Camera(x=244, y=293, height=574, degrees=-1.2),
     Camera(x=272, y=234, height=458, degrees=1.2)),
    ("skimage", "data/astronaut.png",
     Camera(x=254, y=220, height=430, degrees=1.2),
     Camera(x=210, y=251, height=492, degrees=-1.2)),
)  # fmt: skip


def render(portrait: Image.Image, view: Camera) -> Image.Image:
    """Look at the portrait through the camera: a frame of `WIDTH` by `HEIGHT`."""
    # Twice the frame's size, halved afterwards, or fine detail shimmers as it moves.
    width, height = 2 * WIDTH, 2 * HEIGHT
    scale = view.height / height
    cos = scale * math.cos(math.radians(view.degrees))
    sin = scale * math.sin(math.radians(view.degrees))
    left = view.x - (cos * width - sin * height) / 2
    top = view.y - (sin * width + cos * height) / 2
    corners = [
        (left + cos * x - sin * y, top + sin * x + cos * y)
        for x in (0, width)
        for y in (0, height)
    ]
    if not all(
        0 <= x <= portrait.width and 0 <= y <= portrait.height for x, y in corners
    ):
        raise ValueError(f"{view} reaches outside the portrait")
    return portrait.transform(
        (width, height),
        Image.Transform.AFFINE,
        (cos, -sin, left, sin, cos, top),
        Image.Resampling.BICUBIC,
    ).reduce(2)


def make_tone() -> npt.NDArray[np.float32]:
    """Return the sound: one quiet note for each shot, faded in and out."""
    time = np.arange(int(SHOT_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    fade = np.clip(np.minimum(time, time[::-1]) / 0.2, 0, 1)
    level = 0.08 * np.sin(fade * np.pi / 2) ** 2
    notes = [level * np.sin(2 * np.pi * hertz * time) for hertz in NOTES_HZ]
    return np.concatenate(notes).astype(np.float32)


def to_yuv(image: Image.Image) -> av.VideoFrame:
    """Convert a picture to limited-range BT.709 yuv420p."""
    rgb: npt.NDArray[np.uint8] = np.asarray(image)
    return av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
        format="yuv420p",
        src_colorspace=Colorspace.ITU709,
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        dst_color_trc=ColorTrc.BT709,
        dst_color_primaries=ColorPrimaries.BT709,
        interpolation=Interpolation.BICUBIC
        | Interpolation.ACCURATE_RND
        | Interpolation.FULL_CHR_H_INP,
    )


def write_clip(path: Path) -> None:
    """Render both shots and the sound into an MP4 file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Bit-exact muxing leaves out dates and versions: the same file at every run.
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(str(path), "w", options=options) as container:
        video = container.add_stream(
            "libx264", rate=FPS, options={"crf": "20", "preset": "slow", "threads": "1"}
        )
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.colorspace = Colorspace.ITU709
        video.codec_context.color_primaries = ColorPrimaries.BT709
        video.codec_context.color_trc = ColorTrc.BT709
        video.codec_context.color_range = ColorRange.MPEG
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        audio.bit_rate = 64_000

        count = round(SHOT_SECONDS * FPS)
        index = 0
        for package, name, start, end in SHOTS:
            portrait = Image.open(str(files(package) / name)).convert("RGB")
            for step in range(count):
                part = step / (count - 1)
                view = start.toward(end, part * part * (3 - 2 * part))
                frame = to_yuv(render(portrait, view))
                frame.pts, frame.time_base = index, Fraction(1, FPS)
                container.mux(video.encode(frame))
                index += 1
        container.mux(video.encode(None))

        sound = av.AudioFrame.from_ndarray(
            make_tone()[None], format="fltp", layout="mono"
        )
        sound.sample_rate, sound.pts = SAMPLE_RATE, 0
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))


def main() -> None:
    default = Path(__file__).resolve().parent.parent / "demo" / "clip.mp4"
    parser = argparse.ArgumentParser(description="Make the demo clip.")
    parser.add_argument("output", nargs="?", type=Path, default=default)
    args = parser.parse_args()
    write_clip(args.output)
    print(f"{args.output}: {args.output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
