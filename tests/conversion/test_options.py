"""No option without effect: it works, or it is refused, or a note says so."""

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Refused, Run, make_clip
from fakes import Fake, colours, convert, convert_in_parts, save_images
from PIL import Image

from rematte.conversion.needs import NEEDS
from rematte.conversion.option_types import ConvertOptions, MatterOptions
from rematte.conversion.presets import PRESETS
from rematte.convert import convert_video
from rematte.engines.choose import ENGINES
from rematte.matter.matter import Matter
from rematte.network.matting_network import MattingNetwork
from rematte.options import OPTIONS, Options
from rematte.video.codecs import CODECS
from rematte.video.exr import COMPRESSIONS
from rematte.video.fields import DEINTERLACE
from rematte.video.fitting import FITS
from rematte.video.pixels import ARRANGEMENTS
from rematte.video.read_options import INPUT_ALPHAS

CHOICES = {
    "background_fit": FITS, "codec": CODECS, "deinterlace": DEINTERLACE,
    "engine": ENGINES, "exr_compression": COMPRESSIONS, "fit": FITS,
    "input_alpha": INPUT_ALPHAS, "packed": ARRANGEMENTS, "preset": PRESETS,
}  # fmt: skip

# For each option a value, outputs for which it does nothing, and the input.
IDLE: dict[str, tuple[Any, dict[str, str], str]] = {
    "background": ("red", {"output_alpha": "a.mp4"}, "in.mp4"),
    "background_fit": ("contain", {"output": "o.mp4"}, "in.mp4"),
    "black_point": (0.1, {"output_foreground": "f.mp4"}, "in.mp4"),
    "white_point": (0.9, {"output_foreground": "f.mp4"}, "in.mp4"),
    "grow": (-0.5, {"output_foreground": "f.mp4"}, "in.mp4"),
    "feather": (1, {"output_foreground": "f.mp4"}, "in.mp4"),
    "despill": ("green", {"output_alpha": "a.mp4"}, "in.mp4"),
    "include": ("0,0,9,9", {"output_foreground": "f.mp4"}, "in.mp4"),
    "exclude": ("0,0,9,9", {"output_foreground": "f.mp4"}, "in.mp4"),
    "person": ("left", {"output_foreground": "f.mp4"}, "in.mp4"),
    "outline": (4, {"output_foreground": "f.mp4"}, "in.mp4"),
    "light_wrap": (0.5, {"output": "o.mov"}, "in.mp4"),
    "quality": ("best", {"output": "o.mp4"}, "in.mp4"),
    "start": (0, {"output": "o.png"}, "in.png"),
    "end": (9, {"output": "o.png"}, "in.png"),
    "limit": (1, {"output": "o.png"}, "in.png"),
    "fit": ("cover", {"output": "o.mp4"}, "in.mp4"),
    "frame_rate": (25, {"output": "o.png"}, "in.png"),
    "ignore_errors": (True, {"output": "o.png"}, "in.png"),
    "hwaccel": ("cuda", {"output": "o.png"}, "in.png"),
    "deinterlace": ("off", {"output": "o.png"}, "in.png"),
    "max_rate": (5, {"output": "o.png"}, "in.png"),
    "max_bytes": (9, {"output": "o.mov"}, "in.mp4"),
    "alpha_mode": ("premultiplied", {"output": "o.webm"}, "in.mp4"),
    "packed": ("side", {"output": "o.mp4", "background": "red"}, "in.mp4"),
    "exr_compression": ("zips", {"output": "o"}, "in.mp4"),
    "start_number": (1, {"output": "o.mp4"}, "in.mp4"),
    "codec": ("h264", {"output_alpha": "a.mp4"}, "in.mp4"),
    "warmup": (3, {"output": "o.png"}, "in.png"),
    "cuts": ("cuts.csv", {"output": "o.png"}, "in.png"),
    "output_video_mbps": (4, {"output": "o.webp"}, "in.mp4"),
    "crf": (20, {"output": "o.gif", "output_alpha": "a"}, "in.mp4"),
}
NOTED: dict[str, tuple[Any, dict[str, str], str]] = {
    "seq_chunk": (4, {"output": "o.png"}, "in.png"),
    "num_workers": (1, {"output": "o.mp4"}, "in.mp4"),
    "tone_map": ("off", {"output": "o.mp4"}, "in.mp4"),
    "frame_rate": (12, {"output": "o", "output_alpha": "a"}, "pictures"),
    "output_video_mbps": (
        *(4, {"output_composition": "c", "output_type": "png_sequence"}, "in.mp4"),
    ),
}


@pytest.fixture(autouse=True)
def _inputs(here: Path) -> None:
    make_clip(here / "in.mp4", colours(2))
    save_images(here / "pictures", colours(1))
    Image.fromarray(colours(1)[0]).save("in.png")


def test_types_of_arguments_name_every_option() -> None:
    """Each of `convert_video` is in its signature or among those given by name.

    The docstrings describe each.
    """
    stated = inspect.signature(convert_video).parameters.keys()
    assert {*ConvertOptions.__annotations__, *stated} >= {*OPTIONS}
    assert {*ConvertOptions.__annotations__} <= {*OPTIONS} - stated
    assert {*MatterOptions.__annotations__} <= {*OPTIONS}
    described = re.findall(r"^    (\w+): ", inspect.getdoc(Options) or "", re.M)
    assert {*described} - {"ValueError"} == {*OPTIONS}
    described = re.findall(r"`(\w+)`", inspect.getdoc(Matter) or "")
    assert {*described} >= {*MatterOptions.__annotations__}


def test_every_option_of_the_table_is_tried() -> None:
    assert {name for name, option in OPTIONS.items() if option.works} == {*IDLE, *NOTED}


def test_choices_are_what_the_modules_take() -> None:
    """They are written out in `Options`, since these modules are slow to import."""
    assert {name: {*OPTIONS[name].choices} for name in CHOICES} == {
        name: {*choices} for name, choices in CHOICES.items()
    }


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(TypeError, match=r"no option 'ingore_errors'; .* ignore_errors"):
        convert_video(Fake(), "in.mp4", output="o.mp4", ingore_errors=True)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"background": np.zeros((4, 4, 3))}, TypeError, "background .*ndarray.*over"),
        ({"background": [1, 2, 3]}, TypeError, "background .*in a tuple, got list"),
        ({"limit": 2.5}, ValueError, "limit must be a whole number, got 2.5"),
        ({"grow": "2"}, TypeError, "grow must be a number, got '2'"),
        ({"crf": [20]}, TypeError, r"crf must be a number, got \[20\]"),
        ({"white_point": None}, TypeError, "white_point must be a number, got None"),
        ({"input_resize": 64}, ValueError, "input_resize must be a width .* got 64"),
        ({"input_resize": (64.5, 64)}, ValueError, r"input_resize must .*\(64.5, 64\)"),
        ({"model": 5}, TypeError, "model must be a network, .* got .*int"),
        ({"model": Matter}, TypeError, "model must be a network, a Matter, .*class"),
    ],
)
def test_an_argument_of_another_type_is_named(
    given: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=f"^{said}"):
        convert_video(
            **{"model": Fake(), "input_source": "in.mp4", "output": "o.mp4", **given}
        )


@pytest.mark.parametrize("name", IDLE)
def test_an_option_without_effect_is_refused(name: str, tmp_path: Path) -> None:
    value, outputs, source = IDLE[name]
    before = {*tmp_path.iterdir()}
    with pytest.raises(ValueError, match=f"^{name} .*has no effect.*leave it out"):
        convert(source, **outputs, **{name: value})
    assert {*tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", NOTED)
def test_what_old_programs_pass_is_noted(name: str) -> None:
    value, outputs, source = NOTED[name]
    for given, count in (({name: value}, 1), ({}, 0)):
        notes = convert(source, **outputs, **given).notes
        assert sum("has no effect" in note for note in notes) == count


def test_a_setting_for_one_of_two_outputs_is_noted_for_the_other() -> None:
    report = convert("in.mp4", "o.mov", output_alpha="a.mp4", crf=30)
    (note,) = [note for note in report.notes if "has no effect" in note]
    assert note.startswith("crf (--crf) 30 has no effect on the output")


def test_engines_that_take_one_frame_say_so(bundled: MattingNetwork) -> None:
    given = {"model": bundled, "output_alpha": "a.mp4", "seq_chunk": 2}
    for engine, count in (("auto", 1), ("plain", 0)):
        report = convert("in.mp4", engine=engine, **given)
        assert sum("seq_chunk" in note for note in report.notes) == count, engine


def test_segments_refuse_and_note_the_same() -> None:
    with pytest.raises(ValueError, match=r"background_fit .*no effect"):
        convert_in_parts("in.mp4", "o.mp4", background_fit="cover")
    with pytest.raises(ValueError, match="--lead-in has no effect"):
        convert_in_parts("in.mp4", "o.mp4", lead_in=3)
    report = convert_in_parts("in.mp4", "o.mp4", num_workers=1)
    assert sum("num_workers" in note for note in report.notes) == 1


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        (["convert", "in.mp4", "-o", "o.mp4"], "--segment 5"),
        (["convert", "in.mp4", "-o", "o.mp4"], "--lead-in 5"),
        (["batch", "in.mp4", "-o", "{stem}_cut.mov"], "--suffix .webm"),
        (["batch", "in.mp4", "--alpha", "{stem}_a.mov"], "--suffix .webm"),
        (["batch", "in.mp4", "-o", "out"], "--split"),
        (["batch", "in.mp4", "-o", "out"], "--worker-cpus 1"),
        (["batch", "in.mp4", "-o", "out"], "--retries 0"),
    ],
)
def test_flags_that_need_others(
    command: list[str], flag: str, refused: Refused, fake: Fake, tmp_path: Path
) -> None:
    before, name = {*tmp_path.iterdir()}, flag.split()[0]
    line = refused(2, *command, *flag.split())
    assert f"{name} has no effect without" in line
    assert name in NEEDS
    assert {*tmp_path.iterdir()} == before


def test_notes_are_on_stderr_and_in_json(run: Run, fake: Fake) -> None:
    words = "convert", "in.mp4", "-y", "-o", "o.mov", "--alpha", "a.mp4", "--crf", "30"
    code, out, err = run(*words)
    assert code == 0
    assert "note: crf" in err
    assert "note:" not in out
    code, out, err = run(*words, "--json")
    assert "no effect on the output" in out
    assert "note: crf" in err
    many = "batch", "in.mp4", "-o", "out", "--alpha", "{stem}_a.mp4", "--crf", "3"
    assert "note: in.mp4: crf" in run(*many)[2]
    assert run(*words, "-q") == (0, "", "")
