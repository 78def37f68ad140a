"""The options of reading a video, a folder of images or an image."""

from dataclasses import dataclass
from fractions import Fraction

from av.codec.hwaccel import HWDeviceType

from rematte.video.fields import DEINTERLACE
from rematte.video.fitting import FITS
from rematte.video.opening import DEFAULT_LIMITS, Limits

# FFmpeg knows these; a build or a machine may lack some of them.
HWACCELS = tuple(kind.name for kind in HWDeviceType if kind.name != "none")
INPUT_ALPHAS = ("multiply", "ignore")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """Options for reading a source.

    Attributes:
        size: Width and height [pixels] to resize upright frames to, or None.
        fit: How they are brought to that size: one of `fitting.FITS`. With "contain"
            the bars are where `Frame.alpha` is 0.
        start: Skip frames that end before this time [s].
        end: Stop before this time [s].
        frame_rate: Frames per second of images (default: 30) and of a stream without
            times (default: what its header states). A video with times is converted to
            this rate: each frame shows what the source shows in the middle of it.
        ignore_errors: Continue after damaged data instead of raising.
        threads: Number of threads that read images ahead; 0 reads one at a time.
        alpha: Whether frames with an alpha channel keep it: pixels are then (H, W, 4)
            with straight alpha.
        hwaccel: FFmpeg's name of a hardware decoder, such as "cuda" (NVDEC) or
            "videotoolbox"; the processor decodes if it is not available.
        hold_gaps: Whether a missing number of a sequence repeats the frame before, so
            that all others keep their times.
        limits: Limits of frame size and of lists of files.
        deinterlace: "auto" deinterlaces interlaced frames; "off" leaves them.
        audio: Whether the sound is used: time 0 is then the first picture or, if that
            is earlier, the first sound.
        input_alpha: "multiply" gives the source's own alpha channel as `Frame.alpha`,
            "ignore" leaves it out; both add a note. None leaves it out silently.

    Raises:
        ValueError: If `fit`, `hwaccel`, `deinterlace` or `input_alpha` is unknown.
    """

    size: tuple[int, int] | None = None
    fit: str = "stretch"
    start: Fraction | None = None
    end: Fraction | None = None
    frame_rate: Fraction | None = None
    ignore_errors: bool = False
    threads: int = 0
    alpha: bool = False
    hwaccel: str | None = None
    hold_gaps: bool = False
    limits: Limits = DEFAULT_LIMITS
    deinterlace: str = "auto"
    audio: bool = True
    input_alpha: str | None = None

    def __post_init__(self) -> None:
        for name, allowed, hint in (
            ("input_alpha", (None, *INPUT_ALPHAS), ""),
            ("deinterlace", DEINTERLACE, ""),
            ("fit", FITS, ""),
            ("hwaccel", (None, *HWACCELS), "; leave it out to decode on the processor"),
        ):
            value = getattr(self, name)
            if value not in allowed:
                listed = ", ".join(filter(None, allowed))
                raise ValueError(f"{name} must be one of {listed}, got {value!r}{hint}")

    @property
    def needs_alpha(self) -> bool:
        """Whether the source's alpha channel has to be decoded."""
        return self.alpha or self.input_alpha == "multiply"
