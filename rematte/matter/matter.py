"""Mattes frames that are in memory, with the engine and the loop of a conversion."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING, Any, Unpack, cast, overload

import numpy as np

from rematte.conversion.look import fixed_regions, is_found
from rematte.conversion.model import make_engine, ready_model
from rematte.conversion.option_types import Backdrop, MatterOptions
from rematte.conversion.outputs import make_finish
from rematte.engines.choose import describe_engine, runs_whole
from rematte.engines.engine import Engine
from rematte.engines.kernels.guided_filter import Kind
from rematte.matter.photo import PhotoSource, encode, read_photo
from rematte.matter.pictures import STEP, Picture, to_frame
from rematte.matting.background import Renderer
from rematte.matting.follow import Follower
from rematte.matting.loop import Guide, Matting, choose_ratio, matte_still, run
from rematte.matting.matte import Form, Matted, Plate
from rematte.options import make_options
from rematte.prefetch import Prefetch
from rematte.video.frame import Frame, Pixels
from rematte.video.pixels import Order

if TYPE_CHECKING:
    from rematte.engines.module import ModuleEngine
    from rematte.matter.streams import Streams

# How many sizes stay compiled: an application uses a few, and each takes tens of MB.
_KEPT = 8


class Matter:
    """Mattes frames that are in memory, as fast as `convert_video` and as well.

    Threads may share it. Each size of frames is compiled once, by the first frame of
    that size or by `warm_up`.

    Args:
        model: The name or file of weights, or a loaded network; None is the bundled
            weights, which need no torch on a CPU.
        **options: These options of `convert_video`, with its defaults: `engine`,
            `device`, `dtype`, `downsample_ratio`, `quality`, `region` (with "auto" a
            window follows the people in videos; a photo is seen whole), `warmup` (used
            by `frames` alone), `edge_colour`, `black_point`, `white_point`, `grow`,
            `feather`, `despill`, `include` and `exclude` (masks without times: boxes,
            polygons and pictures), `input_alpha` and `max_pixels`.

    Attributes:
        options: All options; those that are not arguments have their defaults.

    Raises:
        TypeError: If there is no such option, or it is for files alone.
        ValueError: If an option is out of its range or does not fit the model.
        WeightsError: If there are no such weights.
        InputError: If a mask cannot be read.
    """

    def __init__(self, model: Any = None, **options: Unpack[MatterOptions]) -> None:
        allowed = MatterOptions.__annotations__.keys()
        if unknown := options.keys() - allowed:
            make_options(**options)  # a name that does not exist at all has its error
            raise TypeError(
                f"Matter has no option {', '.join(sorted(unknown))}, which is for "
                f"convert_video alone; it has {', '.join(sorted(allowed))}"
            )
        how = make_options(**options)
        choose_ratio(1, 1, how.ratio)  # refuses one that is out of range
        self._source = model
        self._model, self.options = ready_model(model, how, _KEPT)
        self._given = options
        self._finish = make_finish(how)
        if self._finish.timed:
            raise ValueError(
                "include and exclude of a Matter must be the same for all frames: "
                "boxes, polygons or pictures without times; convert_video takes others"
            )
        # Engines that nobody uses; the one that was used last comes last.
        self._idle: list[Engine] = []

    def __reduce__(self) -> Any:
        """Pickle the arguments, so that another process makes its own `Matter`."""
        return partial(Matter, self._source, **self._given), ()

    @property
    def engine(self) -> str:
        """The engine's name, and the reason for it in brackets where there is one."""
        with self._lent_engine() as engine:
            return describe_engine(engine)

    def warm_up(self, width: int, height: int) -> None:
        """Compile the network for frames of a size, and run it once.

        An image file is written and read once, too. The eight sizes that were used
        last stay compiled.

        Args:
            width: Width of the frames [pixels].
            height: Height of the frames [pixels].

        Raises:
            ValueError: If a side is not above 0, or too small for the ratio.
        """
        if min(width, height) < 1:
            raise ValueError(f"width and height must be above 0, got {width}x{height}")
        black, how = np.zeros((height, width, 3), np.uint8), self.options
        frame, info, dtype = read_photo(black, "rgb", how)
        with self._lent_engine() as engine, self._lent_eye(frame) as eye:
            for matted in self._bind(engine, frame, eye)([frame]):
                png = encode(formed(matted, self._form(dtype)), info, "png", None, how)
                read_photo(png, "rgb", how)

    def stream(self, order: Order = "rgb") -> "Stream":
        """Start a video whose frames come one by one.

        Args:
            order: The order of the channels of frames and results that are arrays.
        """
        return Stream(self, order)

    def streams(self, order: Order = "rgb") -> "Streams":
        """Start several videos whose frames are matted in one call; see `Streams`.

        Args:
            order: The order of the channels of frames and results that are arrays.
        """
        from rematte.matter.streams import Streams

        return Streams(self, order=order)

    def frames(
        self, frames: Iterable[Picture], order: Order = "rgb"
    ) -> Iterator[Matted]:
        """Matte a video; reading, network and caller work at the same time.

        The state is reset at cuts if `warmup` is not 0, as in a conversion.

        Args:
            frames: Frames in order of time, as `Stream` takes them. They are iterated
                in another thread, up to three frames ahead, and more with `warmup`. An
                array may be overwritten with the next frame.
            order: The order of the channels of frames and results that are arrays.

        Yields:
            Every frame with its matte.

        Raises:
            TypeError: If a frame is not a picture.
            ValueError: If a frame's shape or numbers do not fit, or the region does
                not lie within the frames.
        """
        forms: deque[Form] = deque()

        def shown() -> Iterator[Frame]:
            for index, picture in enumerate(frames):
                frame, form = self._take(picture, order, index, copy=True)
                forms.append(form)
                yield frame

        warmup = self.options.warmup
        with ExitStack() as stack:
            decoded = stack.enter_context(Prefetch(shown()))
            first = next(decoded, None)
            if first is None:
                return
            engine = stack.enter_context(self._lent_engine())
            eye = stack.enter_context(self._lent_eye(first))
            matting = self._bind(engine, first, eye)
            made = matting(chain([first], decoded), warmup=warmup)
            del first
            for matted in stack.enter_context(Prefetch(made)):
                yield formed(matted, forms.popleft())

    @overload
    def photo(self, source: PhotoSource, *, order: Order = "rgb") -> Matted: ...
    @overload
    def photo(
        self, source: PhotoSource, format: str, *,
        background: Backdrop | None = None, order: Order = "rgb",
    ) -> bytes: ...  # fmt: skip
    def photo(
        self,
        source: PhotoSource,
        format: str | None = None,
        *,
        background: Backdrop | None = None,
        order: Order = "rgb",
    ) -> Matted | bytes:
        """Matte one picture, which is shown to the network until its alpha settles.

        Args:
            source: An image file as bytes, a path or an open file; or a picture as
                `Stream` takes it. It is turned upright by its EXIF data.
            format: "png", "webp", "tiff" or another suffix of images; None for arrays.
            background: What lies behind the person, as in `convert_video`; needed for
                formats without alpha.
            order: The order of the channels of pictures and results that are arrays.

        Returns:
            The picture with its matte; with `format` the cut-out as an image file, as
            `convert_video` writes it.

        Raises:
            InputError: If the image cannot be read.
            TypeError: If the source is not a picture.
            ValueError: If there is no such format, it needs a background, or a
                background is given without a format.
        """
        if format is None and background is not None:
            raise ValueError(
                "background needs a format; without one use photo(...).over(colour)"
            )
        frame, info, dtype = read_photo(source, order, self.options)
        with self._lent_engine() as engine:
            matted = matte_still(self._bind(engine, frame), frame)
        if format is None:
            return formed(matted, self._form(dtype, order))
        return encode(matted, info, format, background, self.options)

    def for_conversion(self, given: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Give the model and the options for a conversion with this `Matter`.

        The options of the conversion's call win over those here.
        """
        own = {name: getattr(self.options, name) for name in self._given}
        for name in ("engine", "device", "dtype"):
            if given.get(name) is not None:
                raise ValueError(
                    f"{name} was chosen when the Matter was made: leave it out, or "
                    "give it to Matter"
                )
            own[name] = getattr(self.options, name)
        return self._model, {**own, **given}

    # Streams use these, too.

    @contextmanager
    def _lent_engine(self) -> Iterator[Engine]:
        """Lend an unused engine, or a new one."""
        engine = self._take_engine()
        yield engine
        if len(self._idle) < _KEPT:
            self._idle.append(engine)

    def _take_engine(self) -> Engine:
        try:
            return self._idle.pop()
        except IndexError:
            return make_engine(self._model, self.options)

    def _batch_engine(self) -> "ModuleEngine | None":
        """Give an engine that takes frames of several videos in one batch, or None."""
        how = self.options
        whole = runs_whole(self._model, how.engine, how.device, how.dtype)
        if how.region != "full" or not whole:
            return None
        return cast("ModuleEngine", self._take_engine())

    @contextmanager
    def _lent_eye(self, first: Frame) -> Iterator[Engine | None]:
        """Lend an engine that looks for people; None if they are not to be found."""
        height, width = first.pixels.shape[:2]
        if not is_found(self.options, width, height):
            yield None
            return
        with self._lent_engine() as eye:
            yield eye

    def _bind(self, engine: Engine, first: Frame, eye: Engine | None = None) -> Matting:
        """Bind the loop to an engine, and to the region for frames of a size."""
        height, width = first.pixels.shape[:2]
        ratio = self.options.ratio
        regions: Guide | None = fixed_regions(width, height, self.options)
        if eye is not None:
            regions = Follower(eye, ratio)
        return partial(run, engine, downsample_ratio=ratio, regions=regions)

    def _take(
        self, picture: Picture, order: Order, index: int = 0, copy: bool = False
    ) -> tuple[Frame, Form]:
        """Make a frame of a picture, and the form of its results."""
        own = self.options.input_alpha == "multiply"
        frame, dtype = to_frame(picture, order, index * STEP, own, copy)
        return frame, self._form(dtype, order)

    def _form(self, dtype: "np.dtype[Any]", order: Order = "rgb") -> Form:
        return Form(dtype, order, self._draw)

    def _draw(
        self, matted: Matted, kind: Kind, sixteen_bit: bool, plate: Plate | None
    ) -> Pixels:
        background = None if plate is None else lambda matted: plate
        return Renderer(kind, sixteen_bit, background, finish=self._finish)(matted)


def formed(matted: Matted, form: Form) -> Matted:
    """Set the form of a matte's arrays, and give the matte back."""
    matted.form = form
    return matted


class Stream:
    """A video whose frames come one by one, with the network's recurrent state.

    `Matter.stream` makes one. A stream may be used by one thread at a time; the streams
    of several threads share what is compiled.

    Args:
        matter: The `Matter` whose network and options are used.
        order: The order of the channels of frames and results that are arrays.
    """

    def __init__(self, matter: Matter, order: Order = "rgb") -> None:
        self._matter, self._order = matter, order
        self._engine: Engine | None = None
        self._eye = ExitStack()  # holds the engine that looks for people, if any
        self._lock = Lock()
        self.reset()

    def reset(self) -> None:
        """Forget all earlier frames, as at a cut or where another video begins."""
        self._mattes: Iterator[Matted] | None = None
        self._next: Frame | None = None
        self._shape: tuple[int, ...] = ()

    def __call__(self, frame: Picture) -> Matted:
        """Matte the next frame.

        Args:
            frame: An array (H, W, 3), or (H, W, 4) with straight alpha, in uint8,
                uint16 or floating in [0, 1]; a torch tensor like that or (3, H, W); a
                frame of PyAV or torchcodec; an image of Pillow, which is turned by its
                EXIF data; or a `Frame`. Where the size changes, the stream is reset.

        Returns:
            The frame with its matte.

        Raises:
            TypeError: If it is not a picture.
            ValueError: If its shape is another, its numbers are out of range, or the
                region or ratio does not fit it.
            RuntimeError: If another thread uses the stream, or the process was forked
                after OpenVINO had compiled the network.
        """
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                "a stream belongs to one thread at a time; make one for each thread "
                "with matter.stream()"
            )
        try:
            self._next, form = self._matter._take(frame, self._order)
            return formed(next(self._running(self._next)), form)
        except BaseException:
            self.reset()
            raise
        finally:
            self._lock.release()

    def _running(self, frame: Frame) -> Iterator[Matted]:
        """Give the loop over the stream's frames, which takes them one at a time."""
        if self._mattes is None or frame.pixels.shape != self._shape:
            if self._engine is None:
                self._engine = self._matter._take_engine()
            self._shape = frame.pixels.shape
            self._eye.close()
            eye = self._eye.enter_context(self._matter._lent_eye(frame))
            matting = self._matter._bind(self._engine, frame, eye)
            self._mattes = matting(self._coming())
        return self._mattes

    def _coming(self) -> Iterator[Frame]:
        while self._next is not None:
            frame, self._next = self._next, None
            yield frame
            del frame
