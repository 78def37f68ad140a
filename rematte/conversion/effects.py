"""Refuses or notes options that were given and have no effect."""

from collections.abc import Iterator, Sequence
from typing import Any

from rematte.conversion.option_types import Conversion
from rematte.conversion.outputs import Output
from rematte.conversion.presets import PRESETS
from rematte.options import OPTIONS, Options
from rematte.video.codecs import is_sequence
from rematte.video.frame import VideoInfo
from rematte.video.mask_spec import parse_masks
from rematte.video.reader import VideoReader


def check_options(
    options: Options, reader: VideoReader, outputs: Sequence[Output], whole: bool
) -> list[str]:
    """Refuse or note the options that were given and have no effect.

    `whole` says whether the model is called as a whole, on several frames at once.

    Returns:
        A note for each option without effect, on all outputs or on some of them.

    Raises:
        ValueError: If an option without effect must not be ignored.
    """
    conversion = _describe(options, reader, outputs, whole)
    notes = [*_describe_preset(options, conversion), *_idle_masks(options, reader.info)]
    filled = _filled(options)
    for name, value in options.given().items():
        option = OPTIONS[name]
        if value in option.idle or (name in filled and not option.applies(conversion)):
            continue
        if option.applies(conversion):
            notes += _exceptions(name, value, conversion)
            continue
        text = f"{_label(name)} {value} has no effect here: it works for {option.works}"
        if not option.noted(conversion):
            raise ValueError(f"{text}; leave it out")
        notes.append(text)
    return notes


def _describe(
    options: Options, reader: VideoReader, outputs: Sequence[Output], whole: bool
) -> Conversion:
    info = reader.info
    timed = options.start, options.end, options.include, options.exclude, options.person
    return Conversion(
        still=info.still,
        images=reader.images,
        encodings={item.kind: item.encoding for item in outputs},
        backdrop=any(item.backdrop for item in outputs),
        chunked=whole and not info.still,
        png_sequence=options.output_type == "png_sequence",
        numbered=any(is_sequence(item.path) for item in outputs),
        tonal=not info.colour.sdr,
        sized=options.downsample_ratio in (None, "auto"),
        timed=not reader.images
        or any(each is not None for each in timed)
        or any(map(_has_times, outputs)),
        resized=options.input_resize is not None,
    )


def _filled(options: Options) -> list[str]:
    """Return the names of the options that a preset has filled in."""
    preset = PRESETS.get(options.preset or "")
    if preset is None:
        return []
    return [*preset.options, *(["end"] if preset.seconds is not None else [])]


def _describe_preset(options: Options, conversion: Conversion) -> list[str]:
    """Make the note on the options that a preset sets, and on those without effect."""
    if options.preset is None:
        return []
    words: dict[bool, list[str]] = {True: [], False: []}
    for name in _filled(options):
        value, option = getattr(options, name), OPTIONS[name]
        text = "x".join(map(str, value)) if isinstance(value, tuple) else value
        words[option.applies(conversion)].append(
            option.flag if option.switch is not None else f"{option.flag} {text}"
        )
    idle = f"; without effect here: {', '.join(words[False])}" if words[False] else ""
    return [f"preset {options.preset}: {', '.join(words[True])}{idle}"]


def _idle_masks(options: Options, info: VideoInfo) -> Iterator[str]:
    """Note masks that lie outside the frame, or whose times are not converted."""
    frame, (since, until) = (info.width, info.height), options.span
    if info.still:
        until = info.time_base
    for name in ("include", "exclude"):
        given = getattr(options, name)
        for spec in parse_masks(name, given) if given else ():
            corners = [corner for _, shape in spec.keys for corner in shape]
            # A mask that is a file has no corners.
            sides = zip(zip(*corners, strict=True), frame, strict=False)
            outside = any(max(each) <= 0 or min(each) >= size for each, size in sides)
            early = spec.until is not None and spec.until <= (since or 0)
            if outside:
                why = f"lies outside the frame, which is {info.width}x{info.height}"
            elif early or (until is not None and spec.since >= until):
                why = "applies at no time that is converted"
            else:
                continue
            yield f"{_label(name)} {spec.text} has no effect: it {why}"


def _has_times(output: Output) -> bool:
    encoding = output.encoding
    return not encoding.image or encoding.codec.encoder == "exr" or output.backdrop


def _label(name: str) -> str:
    """Name an option in an error, with its flag."""
    flag = OPTIONS[name].flag
    return f"{name} ({flag})" if flag else name


def _exceptions(name: str, value: Any, conversion: Conversion) -> Iterator[str]:
    """Note a retired engine, and outputs that a setting of the encoder skips."""
    if name == "engine" and value == "onnxruntime":
        yield (
            f"{_label(name)} {value} is no longer an engine: the fastest other one runs"
        )
    if name not in ("crf", "output_video_mbps"):
        return
    for kind, encoding in conversion.encodings.items():
        if encoding.image or encoding.codec.crf is None:
            yield (
                f"{_label(name)} {value} has no effect on the {kind}: "
                f"{encoding.codec.encoder} has no such setting"
            )
