"""What `convert_video` promises, mostly with a network too simple to be wrong."""

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_clip, noise
from converting import (
    GREEN,
    audible,
    clip,
    differ,
    is_alpha,
    is_over,
    over,
    still,
    truth,
)
from fakes import (
    Fake,
    Scriptable,
    colours,
    convert,
    decode,
    names,
    open_image,
    sound,
    times,
)
from PIL import Image

import rematte
from rematte import MattingNetwork
from rematte.convert import convert_video
from rematte.errors import WeightsError

__all__ = ["clip", "still"]  # the fixtures
pytestmark = pytest.mark.usefixtures("here")
BLUE = 0, 71, 187
UNEVEN = [Fraction(index**2, 250) for index in range(10)]


@pytest.mark.parametrize("chunk", [1, 4, "auto"])
def test_every_output_has_frames_sound_and_times(here: Path, chunk: int | str) -> None:
    clip = make_clip(Path("in.mp4"), colours(), times=UNEVEN, sound=True)
    outputs = {"output": "cut.mov", "output_foreground": "fgr.mov"}
    outputs |= {"output_composition": "com.mp4", "output_alpha": "pha.mp4"}
    report = convert(clip, seq_chunk=chunk, **outputs)
    assert report.frames == 10
    for target in outputs.values():
        assert times(target) == UNEVEN
        assert sound(target) == audible(clip)
    assert names(here) == {"in.mp4", *outputs.values()}


@pytest.mark.parametrize(
    ("target", "more", "most"), [("com.mkv", {}, 0.51), ("com.mp4", {"crf": 1}, 4)]
)
def test_composition_in_a_video_is_over_the_documented_green(
    target: str, more: dict[str, Any], most: float
) -> None:
    plain = [np.full((24, 32, 3), (60 + 15 * n, 90, 40), np.uint8) for n in range(10)]
    clip = make_clip(Path("in.mp4"), plain)
    convert(clip, output_composition=target, **more)
    is_over(target, clip, [GREEN], most)


def test_each_output_can_have_a_background_of_its_own(clip: Path) -> None:
    """One pass makes a transparent video and a composition over something."""
    convert(
        clip, output_type="png_sequence", output="cut",
        output_composition="com", background={"composition": "blue"},
    )  # fmt: skip
    for index, (fgr, pha) in enumerate(truth(clip)):
        image = open_image(Path("com", f"{index:04d}.png"))
        assert differ(image, over(BLUE, fgr, pha)) <= 0.51
        assert open_image(Path("cut", f"{index:04d}.png")).shape == (24, 32, 4)


def test_progress_can_be_told_to_a_function(clip: Path) -> None:
    told: list[tuple[int, int | None]] = []
    convert_video(
        Fake(), clip, output_alpha="pha.mp4", limit=4,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told == [(index, 4) for index in range(1, 5)]


def test_one_pass_gives_what_separate_passes_give(clip: Path) -> None:
    together, apart = clip.with_name("together"), clip.with_name("apart")
    for folder in (together, apart):
        folder.mkdir()
    # None of these are H.264: x264 itself does not always give the same bits again.
    kinds = {"output": "cut.mov", "output_composition": "com.mkv"}
    kinds |= {"output_alpha": "pha.mkv", "output_foreground": "fgr"}
    convert(clip, **{kind: together / name for kind, name in kinds.items()})
    for kind, name in kinds.items():
        convert(clip, **{kind: apart / name})
        if name != "fgr":
            pairs = zip(decode(together / name), decode(apart / name), strict=True)
            assert all(np.array_equal(a, b) for a, b in pairs)
    for name in names(together / "fgr"):
        a, b = together / "fgr" / name, apart / "fgr" / name
        assert a.read_bytes() == b.read_bytes()


def test_background_image_video_and_colour(clip: Path) -> None:
    room = colours(1, (32, 24))[0]
    Image.fromarray(room).save("room.png")
    slow = [np.full((24, 32, 3), (30 * n, 255 - 30 * n, 9), np.uint8) for n in range(3)]
    make_clip(Path("film.mkv"), slow, rate=10, codec="ffv1", pix_fmt="bgr0")
    # Frame n is shown at n / 25 s, where the film is at its frame n * 10 / 25.
    films = [slow[index * 10 // 25 % 3] for index in range(10)]
    for background, behind in (
        ("room.png", [room]),
        ("film.mkv", films),
        ((1, 2, 3), [(1, 2, 3)]),
        ("#00ff7f", [(0, 255, 127)]),
    ):
        report = convert(clip, output="out.mkv", background=background)
        assert report.notes == []
        is_over("out.mkv", clip, behind)


def test_background_fit_is_handed_on() -> None:
    Image.fromarray(np.full((24, 12, 3), 255, np.uint8)).save("tall.png")
    black = make_clip(Path("black.mp4"), [0 * colours(1)[0]])
    for fit, dark in (("cover", False), ("stretch", False), ("contain", True)):
        behind = {"background": "tall.png", "background_fit": fit}
        convert(black, output="out.mkv", **behind)
        image = decode("out.mkv")[0]
        assert image[12, 16].tolist() == [255] * 3
        assert (image[12, 0].max() == 0) == dark


def test_a_background_in_the_same_run_changes_no_alpha(clip: Path) -> None:
    outputs = {"output": "out.mp4", "output_alpha": "pha.mkv"}
    convert(clip, background="red", **outputs)
    is_alpha("pha.mkv", clip)


@pytest.mark.parametrize(
    ("options", "first", "count"),
    [
        ({"start": 0.4}, 10, 15),
        ({"start": 0.36, "end": 0.44}, 9, 2),  # floats a little less, a little more
        ({"start": "0:00.4", "end": "00:00:00.8"}, 10, 10),
        ({"end": Fraction(4, 5)}, 0, 20),
        ({"limit": 7}, 0, 7),
        ({"start": "0.4", "limit": 7}, 10, 7),
        ({"start": 0, "end": 99, "limit": 99}, 0, 25),
    ],
)
def test_part_of_a_video_takes_its_part_of_the_sound(
    options: dict[str, Any], first: int, count: int
) -> None:
    clip = make_clip(Path("in.mp4"), colours(25), sound=True)
    report = convert(clip, model=Fake(0), output_alpha="out.mov", **options)
    assert report.frames == count
    assert times("out.mov") == [Fraction(index, 25) for index in range(count)]
    shift, length = Fraction(first, 25), Fraction(count, 25)
    whole = {data: time for time, data in audible(clip)}
    part = audible("out.mov")
    for time, data in part:
        assert abs(whole[data] - shift - time) < Fraction(1, 1000)
        assert -Fraction(1, 40) < time < length
    # No gap at either end longer than a packet, which is 1024 samples.
    assert part[0][0] < Fraction(1024, 48000)
    assert part[-1][0] + 2 * Fraction(1024, 48000) > length
    reds = [frame[..., 0] for frame in decode("out.mov")]
    whole_alpha = [255 * pha[..., 0] for _, pha in truth(clip, 0)]
    for got, expected in zip(reds, whole_alpha[first : first + count], strict=True):
        assert differ(got, expected) <= 3


def test_sound_longer_than_the_picture_is_kept_where_nothing_is_cut() -> None:
    clip = make_clip(Path("in.mp4"), colours(), sound=True, sound_seconds=1.5)
    for options in ({}, {"end": 2}, {"limit": 11}):
        convert(clip, output="out.mp4", **options)
        assert sound("out.mp4") == audible(clip)
    for options, least, most in (({"end": 1}, 0.9, 1), ({"limit": 10}, 0.3, 0.4)):
        convert(clip, output="out.mp4", **options)
        assert least < sound("out.mp4")[-1][0] < most


def test_bit_rate_is_aimed_at() -> None:
    pictures = noise(25, (128, 96))
    clip = make_clip(Path("in.mkv"), pictures, codec="ffv1", pix_fmt="bgr0")
    sizes = []
    for mbps in (0.5, 2):
        convert(clip, output_foreground="out.mp4", output_video_mbps=mbps)
        sizes.append(Path("out.mp4").stat().st_size)
    assert 2 < sizes[1] / sizes[0] < 8


def test_report_tells_what_was_done(clip: Path) -> None:
    report = convert(clip, output_composition="out.mp4", output_alpha="p")
    assert (report.frames, report.width, report.height) == (10, 32, 24)
    assert report.downsample_ratio == 1
    assert report.seconds > 0
    assert set(report.shares) == {"decode", "network", "composite", "encode"}
    assert sum(report.shares.values()) == pytest.approx(1)
    assert all(share > 0 for share in report.shares.values())
    assert report.outputs == {"composition": "out.mp4", "alpha": "p"}
    assert report.notes == [
        "p: left out: sound; a folder of images holds only pictures"
    ]


def test_a_program_without_a_console_shows_none(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)  # as in a window's program on Windows
    report = convert_video(Fake(), clip, output=tmp_path / "o.mkv", downsample_ratio=1)
    assert report.frames == 10


def test_progress_is_shown_unless_turned_off(clip: Path, capsys: Any) -> None:
    convert_video(Fake(), clip, output_alpha="pha.mp4")
    assert "10/10" in capsys.readouterr().err
    convert(clip, output_alpha="pha.mp4")
    assert capsys.readouterr() == ("", "")


def test_the_bundled_network_converts() -> None:
    clip = make_clip(Path("in.mp4"), colours(4, (64, 48)), sound=True)
    outputs = {"output_composition": "com.mp4", "output_alpha": "pha.mp4"}
    for ratio in (None, 0.5, "portrait", "full-body"):
        report = convert(
            clip,
            model=rematte.load_model(),
            downsample_ratio=ratio,
            seq_chunk=2,
            **outputs,
        )
        assert report.frames == 4
        assert report.downsample_ratio == (0.5 if ratio == 0.5 else 1)
        assert sound("com.mp4") == audible(clip)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_networks(clip: Path, still: Path, dtype: torch.dtype) -> None:
    for background in ("green", "blur", still):
        convert(clip, model=Fake().to(dtype), output="out.mkv", background=background)
    convert(clip, model=Fake().to(dtype), output_alpha="pha.mkv")
    is_alpha("pha.mkv", clip, 2 if dtype == torch.bfloat16 else 1)


def test_scripted_and_frozen_networks(clip: Path) -> None:
    scripted = torch.jit.script(Scriptable())
    frozen = torch.jit.freeze(torch.jit.script(Scriptable()))
    convert(clip, output_alpha="fake.mkv")
    place = {"device": "cpu", "dtype": torch.float32}
    for model, options in ((scripted, {}), (scripted, place), (frozen, place)):
        convert(clip, model=model, seq_chunk=4, output_alpha="pha.mkv", **options)
        for a, b in zip(decode("pha.mkv"), decode("fake.mkv"), strict=True):
            assert np.array_equal(a, b)


def test_networks_that_do_not_fit_what_is_asked_for_are_refused(clip: Path) -> None:
    frozen = torch.jit.freeze(torch.jit.script(Scriptable()))
    needed = r"device and dtype must be given.*dtype="
    for model, more, message in (
        (Fake(), {"dtype": torch.float16}, r"dtype.*float16.*float32"),
        (Fake(), {"device": "meta"}, r"device is meta, but the model is on cpu"),
        (Fake().train(), {}, r"training mode.*model\.eval\(\)"),
        (frozen, {}, needed),
        (frozen, {"device": "cpu"}, needed),
        (frozen, {"dtype": torch.float32}, needed),
    ):
        with pytest.raises(ValueError, match=message):
            convert(clip, model=model, output="o.mp4", **more)


def test_weights_may_be_given_by_name_or_file(bundled: MattingNetwork) -> None:
    clip = make_clip(Path("in.mp4"), colours(3, (64, 48)))
    own = Path("own.pth")
    torch.save(bundled.state_dict(), own)
    # OpenVINO would convert the file's weights first; tests/engines has that.
    for engine, models in (
        ("openvino", (bundled, None, "rematte-mobilenetv3")),
        ("plain", (bundled, own, str(own))),
    ):
        pictures = []
        for model in models:
            report = convert_video(model, clip, output_alpha="a.mkv", engine=engine)
            assert report.engine == engine
            pictures.append(decode("a.mkv"))
        for found in pictures[1:]:
            assert all(map(np.array_equal, found, pictures[0]))
    with pytest.raises(WeightsError, match="neither a file nor a known name"):
        convert(clip, model="rematte-resnet", output_alpha="a.mkv")
    with pytest.raises(ValueError, match="device cuda:7"):
        convert_video(None, clip, output_alpha="a.mkv", device="cuda:7")
