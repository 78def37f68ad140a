"""Finds options that were given and have no effect: they are refused or noted."""

from collections.abc import Iterator, Sequence
from typing import Any

from rematte.conversion.option import Conversion
from rematte.conversion.outputs import Output
from rematte.conversion.presets import PRESETS
from rematte.options import OPTIONS, Options
from rematte.video.codecs import is_sequence
from rematte.video.reader import VideoReader


def check_options(
    options: Options, reader: VideoReader, outputs: Sequence[Output], whole: bool
) -> list[str]:
    """Find options that were given and do nothing.

    Args:
        options: Those of the conversion.
        reader: The source.
        outputs: From `plan_outputs`.
        whole: Whether the model is called as a whole, on several frames at once.

    Returns:
        A note for each that does nothing, or nothing for some of the outputs.

    Raises:
        ValueError: If one does nothing for which a note is not enough.
    """
    conversion = _describe(options, reader, outputs, whole)
    notes = [] if options.preset is None else [_describe_preset(options)]
    for name, value in options.given().items():
        option = OPTIONS[name]
        if value in option.idle:
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


def _describe_preset(options: Options) -> str:
    """Note what a preset has filled in."""
    assert options.preset is not None
    preset, words = PRESETS[options.preset], list[str]()
    limits = ["end"] if preset.seconds is not None else []
    for name in (*preset.options, *limits):
        value, option = getattr(options, name), OPTIONS[name]
        text = "x".join(map(str, value)) if isinstance(value, tuple) else value
        words.append(
            option.flag if option.switch is not None else f"{option.flag} {text}"
        )
    return f"preset {options.preset}: {', '.join(words)}"


def _has_times(output: Output) -> bool:
    encoding = output.encoding
    return not encoding.image or encoding.codec.encoder == "exr" or output.backdrop


def _label(name: str) -> str:
    """How an error names an option: by its flag too."""
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
