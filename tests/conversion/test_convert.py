"""What `convert_video` promises, mostly with a network too simple to be wrong."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from conftest import make_clip
from fakes import (
    Fake,
    Scriptable,
    colours,
    decode,
    names,
    open_image,
    save_images,
    sound,
    times,
)
from numpy.typing import NDArray
from PIL import Image

import rematte
from rematte import MattingNetwork
from rematte.convert import convert_video
from rematte.errors import OutputError, WeightsError
from rematte.video.reader import VideoReader

GREEN, BLUE = (120, 255, 155), (0, 71, 187)
NO_REGIONS: Any = ["all", (1, 2, 3), (0, 0, 0, 5), (-1, 0, 5, 5), "1,2,3,4"]
UNEVEN = [Fraction(index**2, 250) for index in range(10)]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path()


@pytest.fixture
def clip() -> Path:
    """Ten frames of 32x24 at 25 per second, with sound."""
    return make_clip(Path("in.mp4"), colours(), sound=True)


@pytest.fixture
def still() -> Path:
    Image.fromarray(colours(1)[0]).save("in.png")
    return Path("in.png")


@pytest.fixture
def shots() -> Path:
    """A folder of twelve images, of which the last ones have two digits."""
    return save_images(Path("shots"), colours(12))


def convert(model: Any, source: Path, **options: Any) -> rematte.Report:
    return convert_video(model, source, progress=False, **options)


def truth(source: Path, memory: float = 0.5) -> Iterator[tuple[NDArray[Any], ...]]:
    """Foreground (3) and alpha (1) of `Fake` for every frame, in [0, 1]."""
    state = None
    with VideoReader(source) as reader:
        for frame in reader:
            src = frame.pixels / 255
            red = src[..., :1]
            state = red if state is None else memory * state + (1 - memory) * red
            yield 1 - src, state


def over(colour: Any, fgr: NDArray[Any], pha: NDArray[Any]) -> NDArray[Any]:
    """The composition in 8-bit levels, not rounded."""
    mixed: NDArray[Any] = 255 * fgr * pha + np.asarray(colour) * (1 - pha)
    return mixed


def differ(a: NDArray[Any], b: NDArray[Any]) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(float) - b).max())


def is_alpha(target: Any, source: Path, most: float = 0.51) -> None:
    """Check that a video without loss holds the alpha of `Fake`."""
    for got, (_, pha) in zip(decode(target), truth(source), strict=True):
        assert differ(got[..., :1], 255 * pha) <= most


def is_over(target: Any, source: Path, behind: list[Any], most: float = 0.51) -> None:
    """Check that a video holds the composition of `Fake` over what is behind.

    The last of what is behind is there for all frames that follow, too.
    """
    pairs = zip(decode(target), truth(source), strict=True)
    for n, (got, (fgr, pha)) in enumerate(pairs):
        back = behind[min(n, len(behind) - 1)]
        assert differ(got, over(back, fgr, pha)) <= most


def audible(path: Any) -> list[tuple[Fraction, bytes]]:
    """A file's sound, of which there must be some."""
    packets = sound(path)
    assert packets
    return packets


@pytest.mark.parametrize("chunk", [1, 4, "auto"])
def test_every_output_has_frames_sound_and_times(here: Path, chunk: int | str) -> None:
    clip = make_clip(Path("in.mp4"), colours(), times=UNEVEN, sound=True)
    outputs = {"output": "cut.mov", "output_foreground": "fgr.mov"}
    outputs |= {"output_composition": "com.mp4", "output_alpha": "pha.mp4"}
    report = convert(Fake(), clip, seq_chunk=chunk, **outputs)
    assert report.frames == 10
    for target in outputs.values():
        assert times(target) == UNEVEN
        assert sound(target) == audible(clip)
    assert names(here) == {"in.mp4", *outputs.values()}


@pytest.mark.parametrize("target", ["cut.webm", "cut.mkv"])
def test_other_containers_have_every_frame_and_sound(clip: Path, target: str) -> None:
    convert(Fake(), clip, output=target)
    assert len(times(target)) == 10
    assert audible(target)


@pytest.mark.parametrize("target", ["cut.webp", "cut.gif", "cut.apng"])
def test_moving_images_have_every_frame(clip: Path, target: str) -> None:
    convert(Fake(), clip, output=target)
    with Image.open(target) as image:
        assert image.n_frames == 10  # type: ignore[attr-defined]
        assert image.convert("RGBA").getextrema()[3][0] < 128


def test_sound_can_be_left_out(clip: Path) -> None:
    convert(Fake(), clip, output="out.mp4", audio=False)
    assert sound("out.mp4") == []


@pytest.mark.parametrize(
    ("target", "more", "most"), [("com.mkv", {}, 0.51), ("com.mp4", {"crf": 1}, 4)]
)
def test_composition_in_a_video_is_over_the_documented_green(
    target: str, more: dict[str, Any], most: float
) -> None:
    plain = [np.full((24, 32, 3), (60 + 15 * n, 90, 40), np.uint8) for n in range(10)]
    clip = make_clip(Path("in.mp4"), plain)
    convert(Fake(), clip, output_composition=target, **more)
    is_over(target, clip, [GREEN], most)


def test_png_sequence_is_transparent_and_gives_the_composition(clip: Path) -> None:
    folder = clip.with_name("frames")
    convert(Fake(), clip, output_type="png_sequence", output_composition=folder)
    assert names(folder) == {f"{index:04d}.png" for index in range(10)}
    for index, (fgr, pha) in enumerate(truth(clip)):
        image = open_image(folder / f"{index:04d}.png")
        assert image.shape == (24, 32, 4)
        assert image.dtype == np.uint8
        alpha = image[..., 3:] / 255
        assert differ(image[..., 3:], 255 * pha) <= 0.51
        again = image[..., :3] * alpha + np.array(GREEN) * (1 - alpha)
        assert differ(again, over(GREEN, fgr, pha)) <= 1
        assert not image[image[..., 3] == 0].any()  # nothing hides in what is cut away


def test_png_sequence_holds_alpha_as_gray_and_foreground_as_rgb(clip: Path) -> None:
    outputs = {"output_alpha": Path("pha"), "output_foreground": Path("fgr")}
    convert(Fake(), clip, output_type="png_sequence", **outputs)
    for index, (fgr, pha) in enumerate(truth(clip)):
        alpha = open_image(Path("pha", f"{index:04d}.png"))
        assert differ(alpha, 255 * pha[..., 0]) <= 0.51
        foreground = open_image(Path("fgr", f"{index:04d}.png"))
        assert differ(foreground, 255 * fgr) <= 0.51


def test_each_output_can_have_a_background_of_its_own(clip: Path) -> None:
    """One pass makes a transparent video and a composition over something."""
    convert(
        Fake(), clip, output_type="png_sequence", output="cut",
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


def test_folders_with_a_dot_in_their_names_are_transparent_too(clip: Path) -> None:
    folder = clip.with_name("take.2")
    folder.mkdir()
    convert(Fake(), clip, output=folder)
    assert open_image(folder / "0000.png").shape == (24, 32, 4)


def test_patterns_name_images(clip: Path) -> None:
    folder = clip.with_name("frames")
    folder.mkdir()
    outputs = {"output": folder / "c_%03d.tif", "output_alpha": folder / "a_%03d.png"}
    convert(Fake(), clip, **outputs)
    assert names(folder) == {
        f"{name}_{index:03d}.{suffix}"
        for index in range(10)
        for name, suffix in (("c", "tif"), ("a", "png"))
    }


def test_sixteen_bits_are_kept() -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 65536, (24, 32, 3), np.uint16) for _ in range(2)]
    clip = make_clip(Path("in.mkv"), frames, codec="ffv1", pix_fmt="gbrp16le")
    convert(Fake(0), clip, output_type="png_sequence", output_alpha="pha")
    for index, frame in enumerate(frames):
        alpha = open_image(Path("pha", f"{index:04d}.png"))
        assert alpha.max() > 255
        assert differ(alpha, frame[..., 0]) <= 1


def test_one_pass_gives_what_separate_passes_give(clip: Path) -> None:
    together, apart = clip.with_name("together"), clip.with_name("apart")
    for folder in (together, apart):
        folder.mkdir()
    # None of these are H.264: x264 itself does not always give the same bits again.
    kinds = {"output": "cut.mov", "output_composition": "com.mkv"}
    kinds |= {"output_alpha": "pha.mkv", "output_foreground": "fgr"}
    convert(Fake(), clip, **{kind: together / name for kind, name in kinds.items()})
    for kind, name in kinds.items():
        convert(Fake(), clip, **{kind: apart / name})
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
        convert(Fake(), clip, output="out.mkv", background=background)
        is_over("out.mkv", clip, behind)


def test_background_fit_is_handed_on() -> None:
    Image.fromarray(np.full((24, 12, 3), 255, np.uint8)).save("tall.png")
    black = make_clip(Path("black.mp4"), [0 * colours(1)[0]])
    for fit, dark in (("cover", False), ("stretch", False), ("contain", True)):
        behind = {"background": "tall.png", "background_fit": fit}
        convert(Fake(), black, output="out.mkv", **behind)
        image = decode("out.mkv")[0]
        assert image[12, 16].tolist() == [255] * 3
        assert (image[12, 0].max() == 0) == dark


def test_a_background_in_the_same_run_changes_no_alpha(clip: Path) -> None:
    outputs = {"output": "out.mp4", "output_alpha": "pha.mkv"}
    convert(Fake(), clip, background="red", **outputs)
    is_alpha("pha.mkv", clip)


@pytest.mark.parametrize(
    ("rate", "exact"),
    [
        (24, Fraction(24)),
        (23.976, Fraction(24000, 1001)),
        (23.98, Fraction(24000, 1001)),
        ("29.97", Fraction(30000, 1001)),
        ("24000/1001", Fraction(24000, 1001)),
        (Fraction(25, 2), Fraction(25, 2)),
        (np.float32(59.94), Fraction(60000, 1001)),
        (np.int64(50), Fraction(50)),
        (12.5, Fraction(25, 2)),
    ],
)
def test_image_folder_becomes_a_video(shots: Path, rate: Any, exact: Fraction) -> None:
    report = convert(Fake(), shots, output_alpha="out.mov", frame_rate=rate)
    assert report.frames == 12
    assert times("out.mov") == [index / exact for index in range(12)]
    with av.open("out.mov") as container:
        assert container.streams.video[0].average_rate == exact


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_image_folder_is_read_as_people_count(shots: Path, workers: int) -> None:
    convert(Fake(), shots, output_alpha="pha.mkv", num_workers=workers)
    is_alpha("pha.mkv", shots)


def test_images_keep_their_names_unless_numbered() -> None:
    folder = save_images(Path("shots"), colours(3))
    convert(Fake(), folder, output="cut")
    assert names(Path("cut")) == {"shot0.png", "shot1.png", "shot2.png"}
    convert(Fake(), folder, output_composition="n", output_type="png_sequence")
    assert names(Path("n")) == {"0000.png", "0001.png", "0002.png"}


def test_images_of_unlike_sizes_become_images_but_no_video(here: Path) -> None:
    folder = save_images(Path("shots"), [*colours(2), *colours(2, (20, 40))])
    convert(Fake(), folder, output="cut")
    assert open_image(Path("cut/shot1.png")).shape == (24, 32, 4)
    assert open_image(Path("cut/shot3.png")).shape == (40, 20, 4)
    with pytest.raises(ValueError, match=r"20x40.*--resize"):
        convert(Fake(), folder, output="cut.mov")
    assert names(here) == {"shots", "cut"}
    convert(Fake(), folder, output="cut.mov", input_resize=(32, 24))
    assert len(decode("cut.mov")) == 4


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_still_in_still_out(here: Path, suffix: str) -> None:
    picture = np.full((24, 32, 3), (250, 120, 60), np.uint8)
    Image.fromarray(picture).save("in.png")
    fake, target = Fake(), Path(f"out{suffix}")
    report = convert(fake, Path("in.png"), output=target)
    assert report.frames == 1
    assert 2 <= fake.seen <= 16
    image = open_image(target).astype(float)
    if suffix == ".jpg":
        expected = over(GREEN, 1 - picture / 255, np.full((24, 32, 1), 250 / 255))
    else:
        expected = np.concatenate([255 - picture, np.full((24, 32, 1), 250)], 2)
    assert differ(image, expected) <= (3 if suffix in (".jpg", ".webp") else 0)
    assert names(here) == {"in.png", target.name}


def test_still_gives_images_and_a_video_of_one_frame(still: Path, here: Path) -> None:
    more = {"output_alpha": Path("pha.png"), "output_foreground": "fgr.jpg"}
    convert(Fake(), still, output="cut.png", **more)
    assert names(here) == {"in.png", "cut.png", "pha.png", "fgr.jpg"}
    assert open_image(more["output_alpha"]).ndim == 2
    convert(Fake(), still, output="out.mov")
    assert len(decode("out.mov")) == 1


def test_resize_sizes_input_and_outputs(clip: Path) -> None:
    report = convert(Fake(), clip, input_resize=(48, 20), output="out.mov")
    assert (report.width, report.height) == (48, 20)
    assert decode("out.mov")[0].shape == (20, 48, 3)


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
    report = convert(Fake(0), clip, output_alpha="out.mov", **options)
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
        convert(Fake(), clip, output="out.mp4", **options)
        assert sound("out.mp4") == audible(clip)
    for options, least, most in (({"end": 1}, 0.9, 1), ({"limit": 10}, 0.3, 0.4)):
        convert(Fake(), clip, output="out.mp4", **options)
        assert least < sound("out.mp4")[-1][0] < most


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"start": 5}, "in.mp4: no frame"),
        ({"start": 1e12}, "in.mp4: no frame"),
        ({"end": 0}, "end"),
        ({"start": 0.2, "end": 0.1}, "end"),
        ({"start": -1}, "start must not be negative"),
        ({"start": "soon"}, "start must be seconds"),
        ({"end": float("inf")}, "end must be seconds"),
        ({"end": "1:x"}, "end must be seconds"),
        ({"limit": 0}, "limit must be 1 or more"),
        ({"seq_chunk": 0}, "seq_chunk must be"),
        ({"seq_chunk": "many"}, "seq_chunk must be"),
        ({"downsample_ratio": 2}, "downsample_ratio must be"),
        ({"downsample_ratio": "big"}, "downsample_ratio must be"),
        ({"frame_rate": 0}, "frame_rate must be"),
        ({"frame_rate": "fast"}, "frame_rate must be"),
        ({"frame_rate": float("inf")}, "frame_rate must be"),
        ({"frame_rate": float("nan")}, "frame_rate must be"),
        ({"frame_rate": 1e-9}, "frame_rate must be"),
        ({"input_resize": (0, 10)}, "input_resize"),
        ({"input_resize": (10, 0)}, "input_resize"),
        ({"input_resize": (-5, 5)}, "input_resize"),
        ({"output_type": "gif"}, "output_type must be"),
        ({"background": "nowhere"}, "background"),
        ({"background": "transparent"}, r"\.mp4.*cannot hold transparency.*\.mov"),
        ({"background_fit": "zoom"}, "background_fit"),
        ({"codec": "vp9"}, "vp9"),
        ({"codec": "mpeg1"}, "mpeg1"),
        ({"output_video_mbps": 0}, "mbps"),
        ({"output_video_mbps": -4}, "mbps"),
        ({"crf": -1}, "crf"),
        ({"crf": 400}, "crf"),
        *(({"region": each}, "region must be auto, full or X") for each in NO_REGIONS),
        ({"region": (0, 0, 70, 10)}, r"--region.* beyond the frame.*32x24"),
        ({"region": (30, 0, 6, 10)}, r"--region.* beyond the frame.*32x24"),
        ({"timeout": 0}, "timeout must be above 0"),
        ({"warmup": -1}, r'warmup must be 0 or more, or "auto"'),
        ({"warmup": 1.5}, "warmup must be"),
        ({"warmup": "some"}, "warmup must be"),
        ({"num_workers": -1}, "num_workers"),
        ({"device": "cpu:x"}, "device"),
        ({"output_alpha": "out.xyz"}, "unknown suffix"),
    ],
)
def test_arguments_out_of_range_are_refused_and_leave_nothing(
    clip: Path, here: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        convert(Fake(), clip, output="out.mp4", **options)
    assert names(here) == {"in.mp4"}


def test_bit_rate_is_aimed_at() -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (96, 128, 3), np.uint8) for _ in range(25)]
    clip = make_clip(Path("in.mkv"), noise, codec="ffv1", pix_fmt="bgr0")
    sizes = []
    for mbps in (0.5, 2):
        convert(Fake(), clip, output_foreground="out.mp4", output_video_mbps=mbps)
        sizes.append(Path("out.mp4").stat().st_size)
    assert 2 < sizes[1] / sizes[0] < 8


def test_report_tells_what_was_done(clip: Path) -> None:
    report = convert(Fake(), clip, output_composition="out.mp4", output_alpha="p")
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


def test_share_of_the_network_counts_for_a_still() -> None:
    Image.fromarray(colours(1, (200, 150))[0]).save("in.png")
    report = convert(rematte.load_model(), Path("in.png"), output="o.png")
    assert report.shares["network"] > 0.5


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
    convert(Fake(), clip, output_alpha="pha.mp4")
    assert capsys.readouterr() == ("", "")


def test_the_bundled_network_converts() -> None:
    clip = make_clip(Path("in.mp4"), colours(4, (64, 48)), sound=True)
    outputs = {"output_composition": "com.mp4", "output_alpha": "pha.mp4"}
    for ratio in (None, 0.5, "portrait", "full-body"):
        report = convert(
            rematte.load_model(), clip, downsample_ratio=ratio, seq_chunk=2, **outputs
        )
        assert report.frames == 4
        assert report.downsample_ratio == (0.5 if ratio == 0.5 else 1)
        assert sound("com.mp4") == audible(clip)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_networks(clip: Path, still: Path, dtype: torch.dtype) -> None:
    for background in ("green", "blur", still):
        convert(Fake().to(dtype), clip, output="out.mkv", background=background)
    convert(Fake().to(dtype), clip, output_alpha="pha.mkv")
    is_alpha("pha.mkv", clip, 2 if dtype == torch.bfloat16 else 1)


def test_scripted_and_frozen_networks(clip: Path) -> None:
    scripted = torch.jit.script(Scriptable())
    frozen = torch.jit.freeze(torch.jit.script(Scriptable()))
    convert(Fake(), clip, output_alpha="fake.mkv")
    place = {"device": "cpu", "dtype": torch.float32}
    for model, options in ((scripted, {}), (scripted, place), (frozen, place)):
        convert(model, clip, seq_chunk=4, output_alpha="pha.mkv", **options)
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
            convert(model, clip, output="o.mp4", **more)


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
            report = convert(model, clip, output_alpha="a.mkv", engine=engine)
            assert report.engine == engine
            pictures.append(decode("a.mkv"))
        for found in pictures[1:]:
            assert all(map(np.array_equal, found, pictures[0]))
    with pytest.raises(WeightsError, match="neither a file nor a known name"):
        convert("rematte-resnet", clip, output_alpha="a.mkv")
    with pytest.raises(ValueError, match="device cuda:7"):
        convert(None, clip, output_alpha="a.mkv", device="cuda:7")


def test_input_is_never_written_over(clip: Path) -> None:
    before = clip.read_bytes()
    link, hard = Path("link.mp4"), Path("hard.mp4")
    link.symlink_to(clip)
    os.link(clip, hard)
    for path in (clip, link, hard, Path("x/../in.mp4")):
        for kind in ("output", "output_composition", "output_alpha"):
            with pytest.raises(ValueError, match="the input itself"):
                convert(Fake(), clip, **{kind: path})
    assert clip.read_bytes() == before


def test_input_images_are_never_written_over(still: Path) -> None:
    folder = save_images(Path("shots"), colours(2))
    still.rename(folder / "0000.png")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for source, target in (
        (folder, folder),
        (folder, folder / "%04d.png"),
        (folder, folder / "shot%d.png"),
        (folder / "shot0.png", folder),
        (folder / "0000.png", folder / "%04d.png"),
        (folder / "shot0.png", folder / "shot0.png"),
    ):
        with pytest.raises(ValueError, match="the input"):
            convert(Fake(), source, output=target)
    convert(Fake(), folder, output=folder / "shot0.mov")
    (folder / "shot0.mov").unlink()
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_background_is_never_written_over(clip: Path) -> None:
    room = make_clip(clip.with_name("room.mov"), 2)
    for background in (room, {"composition": room}):
        with pytest.raises(ValueError, match="is the background itself"):
            convert(Fake(), clip, output=room, background=background)


@pytest.mark.parametrize("name", ["include", "exclude"])
def test_a_mask_is_never_written_over(clip: Path, name: str) -> None:
    mask: Any = make_clip(clip.with_name("mask.mp4"), colours(2))
    before = mask.read_bytes()
    for given in (mask, ["0,0,4,4", f"{mask}@0-1"]):
        with pytest.raises(ValueError, match=rf"is a mask \({name}\) itself"):
            convert(Fake(), clip, output_alpha=mask, **{name: given})
    assert mask.read_bytes() == before


@pytest.mark.parametrize(
    ("first", "second"),
    [("o.mp4", "o.mp4"), ("o.mp4", "x/../o.mp4"), ("seq", "seq"),
     ("seq", "seq/%04d.png"), ("seq/%04d.png", "seq")],
)  # fmt: skip
def test_two_outputs_alike_are_refused(clip: Path, first: str, second: str) -> None:
    Path("x").mkdir()
    Path("seq").mkdir()
    with pytest.raises(ValueError, match=r"is the \w+ itself; write elsewhere"):
        convert(Fake(), clip, output_composition=first, output_alpha=second)


def test_existing_outputs_are_kept_where_told_so_and_else_replaced(clip: Path) -> None:
    target, image = Path("out.mp4"), Path("seq/0000.png")
    target.write_text("precious")
    image.parent.mkdir()
    image.write_text("precious")
    for path, why in ((target, "exists"), (image.parent, "would")):
        with pytest.raises(OutputError, match=rf"{why}.*; pass overwrite \(-y\)"):
            convert(Fake(), clip, overwrite=False, output=path)
    assert target.read_text() == image.read_text() == "precious"
    convert(Fake(), clip, output=target, output_alpha=image.parent)
    assert len(decode(target)) == 10
    assert open_image(image).shape == (24, 32)


# Errors and interrupts on the way

ALL_KINDS = {
    "output": "cut.mov", "output_composition": "com.mp4",
    "output_alpha": "pha", "output_foreground": "fgr_%04d.png",
}  # fmt: skip
# The second output fails at its very end, where its alpha is checked.
COMPLETED = {
    "output": "a.mov", "output_composition": "b.webm",
    "output_foreground": "fgr", "background": "transparent",
}  # fmt: skip


@pytest.mark.parametrize("index", [0, 5])
@pytest.mark.parametrize(
    "error", [RuntimeError("broke"), MemoryError(), ValueError("odd")], ids=repr
)
def test_an_error_leaves_nothing_and_touches_nothing(
    clip: Path, here: Path, index: int, error: Exception
) -> None:
    old, image = Path("com.mp4"), Path("pha/0000.png")
    image.parent.mkdir()
    for path in (old, image):
        path.write_text("precious")
    with pytest.raises(type(error)):
        convert(Fake(fail_at=index, error=error), clip, **ALL_KINDS)
    assert names(here) == {"in.mp4", "com.mp4", "pha"}
    assert names(image.parent) == {"0000.png"}
    assert old.read_text() == image.read_text() == "precious"


@pytest.mark.parametrize("error", [OutputError("no space"), KeyboardInterrupt()])
def test_an_error_or_interrupt_at_the_very_end_leaves_nothing_temporary(
    clip: Path, here: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """The second of two outputs fails to complete: the first is no longer wanted."""
    Path("a.mov").write_text("precious")

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("rematte.video.writer.check_alpha", fail)
    with pytest.raises(type(error)):
        convert(Fake(), clip, **COMPLETED)
    partial = {path.name for path in here.glob("[!.]*.partial.*")}
    assert names(here) - {"fgr.partial"} == {"in.mp4", "a.mov", *partial}
    assert bool(partial) == isinstance(error, KeyboardInterrupt)
    assert all(len(decode(name)) == 10 for name in partial)
    assert Path("a.mov").read_text() == "precious"


@pytest.mark.parametrize("name", ["cut.mov", "com.mp4", "cut.mkv", "cut.webm"])
def test_an_interrupt_keeps_a_playable_part(here: Path, name: str) -> None:
    clip = make_clip(Path("in.mp4"), colours(25), sound=True)
    network = Fake(fail_at=15, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt) as caught:
        convert(network, clip, output=name)
    partial = Path(name).with_suffix(f".partial{Path(name).suffix}")
    assert caught.value.args == (str(partial.absolute()),)
    assert names(here) == {"in.mp4", partial.name}
    assert len(decode(partial)) == 15
    packets = audible(partial)
    assert Fraction(13, 25) < packets[-1][0] < Fraction(15, 25)
    if name.endswith(("mov", "mp4")):
        assert packets == audible(clip)[: len(packets)]
        assert times(partial) == [Fraction(index, 25) for index in range(15)]


def test_an_interrupt_keeps_parts_of_every_output(clip: Path, here: Path) -> None:
    old = Path("com.mp4")
    old.write_text("precious")
    with pytest.raises(KeyboardInterrupt) as caught:
        convert(Fake(fail_at=5, error=KeyboardInterrupt()), clip, **ALL_KINDS)
    assert len(caught.value.args) == 4
    assert old.read_text() == "precious"
    left = names(here) - {"in.mp4", "com.mp4"}
    assert left == {Path(path).name for path in caught.value.args}
    for path in map(Path, caught.value.args):
        assert "partial" in path.name
        assert len(names(path) if path.is_dir() else decode(path)) == 5


def test_the_source_is_not_kept_open(clip: Path) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    convert(Fake(), clip, output="out.mp4")
    with pytest.raises(RuntimeError):
        convert(Fake(fail_at=3), clip, output="out.mov")
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # it may have been closed meanwhile
            assert Path.cwd() not in link.readlink().parents


def test_chapters_end_where_the_picture_does() -> None:
    chapters = [(0, 0.12, "one"), (0.12, 0.3, "two"), (0.3, 0.4, "three")]
    clip = make_clip(Path("in.mkv"), colours(), chapters=chapters)
    convert(Fake(), clip, output="out.mkv", end=0.2)
    with av.open("out.mkv") as container:
        kept = [
            (c["metadata"]["title"], c["end"] * (c["time_base"] or 0))
            for c in container.chapters()
        ]
    assert kept == [("one", Fraction(12, 100)), ("two", Fraction(1, 5))]
