"""What `convert_video` promises, mostly with a network too simple to be wrong."""

import os
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
from rematte.video.values import parse_rate

GREEN = (120, 255, 155)
UNEVEN = [Fraction(index**2, 250) for index in range(10)]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Ten frames of 32x24 at 25 per second, with sound."""
    return make_clip(tmp_path / "in.mp4", colours(), sound=True)


def convert(model: Any, source: Path, **options: Any) -> rematte.Report:
    return convert_video(model, source, progress=False, **options)


def truth(source: Path, memory: float = 0.5) -> list[tuple[NDArray[Any], ...]]:
    """Foreground (3), alpha (1) and frame (3) of `Fake` for every frame, in [0, 1]."""
    found = []
    state = None
    with VideoReader(source) as reader:
        for frame in reader:
            src = frame.pixels / 255
            red = src[..., :1]
            state = red if state is None else memory * state + (1 - memory) * red
            found.append((1 - src, state, src))
    return found


def over(colour: Any, fgr: NDArray[Any], pha: NDArray[Any]) -> NDArray[Any]:
    """The composition in 8-bit levels, not rounded."""
    mixed: NDArray[Any] = 255 * fgr * pha + np.asarray(colour) * (1 - pha)
    return mixed


def differ(a: NDArray[Any], b: NDArray[Any]) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(float) - b).max())


def audible(path: Path) -> list[tuple[Fraction, bytes]]:
    """A file's sound, of which there must be some."""
    packets = sound(path)
    assert packets
    return packets


# What comes out


@pytest.mark.parametrize("chunk", [1, 4, "auto"])
def test_every_kind_of_output_has_every_frame_sound_and_time(
    tmp_path: Path, chunk: int | str
) -> None:
    clip = make_clip(tmp_path / "in.mp4", colours(), times=UNEVEN, sound=True)
    outputs = {
        "output": tmp_path / "cut.mov",
        "output_composition": tmp_path / "com.mp4",
        "output_alpha": tmp_path / "pha.mp4",
        "output_foreground": tmp_path / "fgr.mov",
    }
    report = convert(Fake(), clip, seq_chunk=chunk, **outputs)
    assert report.frames == 10
    for path in outputs.values():
        assert times(path) == UNEVEN
        assert sound(path) == audible(clip)
    assert names(tmp_path) == {"in.mp4", *(path.name for path in outputs.values())}


@pytest.mark.parametrize("suffix", [".webm", ".mkv"])
def test_other_containers_have_every_frame_and_sound(clip: Path, suffix: str) -> None:
    target = clip.with_name(f"cut{suffix}")
    convert(Fake(), clip, output=target)
    assert len(times(target)) == 10
    assert audible(target)


@pytest.mark.parametrize("suffix", [".webp", ".gif", ".apng"])
def test_moving_images_have_every_frame(clip: Path, suffix: str) -> None:
    target = clip.with_name(f"cut{suffix}")
    convert(Fake(), clip, output=target)
    with Image.open(target) as image:
        assert image.n_frames == 10  # type: ignore[attr-defined]
        assert image.convert("RGBA").getextrema()[3][0] < 128


def test_sound_can_be_left_out(clip: Path) -> None:
    convert(Fake(), clip, output=clip.with_name("out.mp4"), audio=False)
    assert sound(clip.with_name("out.mp4")) == []


def test_composition_in_a_video_is_over_the_documented_green(clip: Path) -> None:
    target = clip.with_name("com.mkv")
    convert(Fake(), clip, output_composition=target)
    for got, (fgr, pha, _) in zip(decode(target), truth(clip), strict=True):
        assert differ(got, over(GREEN, fgr, pha)) <= 0.51


def test_lossy_composition_is_near(tmp_path: Path) -> None:
    plain = [np.full((24, 32, 3), (60 + 15 * n, 90, 40), np.uint8) for n in range(10)]
    clip = make_clip(tmp_path / "in.mp4", plain)
    convert(Fake(), clip, output_composition=tmp_path / "com.mp4", crf=1)
    for got, (fgr, pha, _) in zip(
        decode(tmp_path / "com.mp4"), truth(clip), strict=True
    ):
        assert differ(got, over(GREEN, fgr, pha)) <= 4


def test_png_sequence_is_transparent_and_gives_the_composition_again(
    clip: Path,
) -> None:
    folder = clip.with_name("frames")
    convert(Fake(), clip, output_type="png_sequence", output_composition=folder)
    assert names(folder) == {f"{index:04d}.png" for index in range(10)}
    for index, (fgr, pha, _) in enumerate(truth(clip)):
        image = open_image(folder / f"{index:04d}.png")
        assert image.shape == (24, 32, 4)
        assert image.dtype == np.uint8
        alpha = image[..., 3:] / 255
        assert differ(image[..., 3:], 255 * pha) <= 0.51
        again = image[..., :3] * alpha + np.array(GREEN) * (1 - alpha)
        assert differ(again, over(GREEN, fgr, pha)) <= 1
        assert not image[image[..., 3] == 0].any()  # nothing hides in what is cut away


def test_png_sequence_holds_alpha_as_gray_and_foreground_as_rgb(clip: Path) -> None:
    pha_folder, fgr_folder = clip.with_name("pha"), clip.with_name("fgr")
    convert(
        Fake(),
        clip,
        output_type="png_sequence",
        output_alpha=pha_folder,
        output_foreground=fgr_folder,
    )
    for index, (fgr, pha, _) in enumerate(truth(clip)):
        alpha = open_image(pha_folder / f"{index:04d}.png")
        assert differ(alpha, 255 * pha[..., 0]) <= 0.51
        foreground = open_image(fgr_folder / f"{index:04d}.png")
        assert differ(foreground, 255 * fgr) <= 0.51


def test_png_sequence_over_a_background_is_opaque(clip: Path) -> None:
    folder = clip.with_name("frames")
    convert(Fake(), clip, output=folder, background="blue")
    for index, (fgr, pha, _) in enumerate(truth(clip)):
        image = open_image(folder / f"{index:04d}.png")
        assert differ(image, over((0, 71, 187), fgr, pha)) <= 0.51


def test_each_output_can_have_a_background_of_its_own(clip: Path) -> None:
    """One pass makes a transparent video and a composition over something."""
    cut, com = clip.with_name("cut"), clip.with_name("com")
    convert(
        Fake(),
        clip,
        output_type="png_sequence",
        output=cut,
        output_composition=com,
        background={"composition": "blue"},
    )
    for index, (fgr, pha, _) in enumerate(truth(clip)):
        image = open_image(com / f"{index:04d}.png")
        assert differ(image, over((0, 71, 187), fgr, pha)) <= 0.51
        assert open_image(cut / f"{index:04d}.png").shape == (24, 32, 4)


def test_a_background_of_one_output_is_not_replaced_either(clip: Path) -> None:
    behind = make_clip(clip.with_name("behind.mov"), 2)
    with pytest.raises(ValueError, match="is the background itself"):
        convert(Fake(), clip, output=behind, background={"composition": behind})


def test_progress_can_be_told_to_a_function(clip: Path) -> None:
    told: list[tuple[int, int | None]] = []
    convert_video(
        Fake(),
        clip,
        output_alpha=clip.with_name("pha.mp4"),
        limit=4,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(index, 4) for index in range(1, 5)]


def test_folders_with_a_dot_in_their_names_are_transparent_too(clip: Path) -> None:
    folder = clip.with_name("take.2")
    folder.mkdir()
    convert(Fake(), clip, output=folder)
    assert open_image(folder / "0000.png").shape == (24, 32, 4)


def test_patterns_name_images(clip: Path) -> None:
    folder = clip.with_name("frames")
    folder.mkdir()
    convert(
        Fake(), clip, output=folder / "c_%03d.tif", output_alpha=folder / "a_%03d.png"
    )
    assert names(folder) == {
        f"{name}_{index:03d}.{suffix}"
        for index in range(10)
        for name, suffix in (("c", "tif"), ("a", "png"))
    }


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 65536, (24, 32, 3), np.uint16) for _ in range(2)]
    clip = make_clip(tmp_path / "in.mkv", frames, codec="ffv1", pix_fmt="gbrp16le")
    convert(Fake(0), clip, output_type="png_sequence", output_alpha=tmp_path / "pha")
    for index, frame in enumerate(frames):
        alpha = open_image(tmp_path / "pha" / f"{index:04d}.png")
        assert alpha.max() > 255
        assert differ(alpha, frame[..., 0]) <= 1


def test_one_pass_gives_what_separate_passes_give(clip: Path) -> None:
    together, apart = clip.with_name("together"), clip.with_name("apart")
    for folder in (together, apart):
        folder.mkdir()
    # None of these are H.264: x264 itself does not always give the same bits again.
    kinds = {
        "output": "cut.mov",
        "output_composition": "com.mkv",
        "output_alpha": "pha.mkv",
        "output_foreground": "fgr",
    }
    convert(Fake(), clip, **{kind: together / name for kind, name in kinds.items()})
    for kind, name in kinds.items():
        convert(Fake(), clip, **{kind: apart / name})
        if name != "fgr":
            pairs = zip(decode(together / name), decode(apart / name), strict=True)
            assert all(np.array_equal(a, b) for a, b in pairs)
    for name in names(together / "fgr"):
        a, b = together / "fgr" / name, apart / "fgr" / name
        assert a.read_bytes() == b.read_bytes()


# Backgrounds


def test_background_image_video_and_colour(clip: Path) -> None:
    room = colours(1, (32, 24))[0]
    Image.fromarray(room).save(clip.with_name("room.png"))
    slow = [np.full((24, 32, 3), (30 * n, 255 - 30 * n, 9), np.uint8) for n in range(3)]
    film = make_clip(
        clip.with_name("film.mkv"), slow, rate=10, codec="ffv1", pix_fmt="bgr0"
    )
    # Frame n is shown at n / 25 s, where the film is at its frame n * 10 / 25.
    films = [slow[index * 10 // 25 % 3] for index in range(10)]
    for spec, behind in (
        (clip.with_name("room.png"), [room] * 10),
        (film, films),
        ((1, 2, 3), [np.array((1, 2, 3))] * 10),
        ("#00ff7f", [np.array((0, 255, 127))] * 10),
    ):
        target = clip.with_name("out.mkv")
        convert(Fake(), clip, output=target, background=spec)
        for got, back, (fgr, pha, _) in zip(
            decode(target), behind, truth(clip), strict=True
        ):
            assert differ(got, over(back, fgr, pha)) <= 0.51


def test_background_blur(clip: Path) -> None:
    target = clip.with_name("out.mkv")
    convert(Fake(0), clip, output=target, background="blur:3")
    assert len(decode(target)) == 10


def test_background_fit_is_handed_on(clip: Path) -> None:
    white = np.full((24, 12, 3), 255, np.uint8)
    Image.fromarray(white).save(clip.with_name("tall.png"))
    black = make_clip(clip.with_name("black.mp4"), [0 * colours(1)[0]])
    for fit, dark in (("cover", False), ("stretch", False), ("contain", True)):
        convert(
            Fake(),
            black,
            output=clip.with_name(fit + ".mkv"),
            background=clip.with_name("tall.png"),
            background_fit=fit,
        )
        image = decode(clip.with_name(fit + ".mkv"))[0]
        assert image[12, 16].tolist() == [255] * 3
        assert (image[12, 0].max() == 0) == dark


def test_background_asked_for_in_the_same_run_as_alpha_changes_no_alpha(
    clip: Path,
) -> None:
    convert(
        Fake(),
        clip,
        output=clip.with_name("out.mp4"),
        output_alpha=clip.with_name("pha.mkv"),
        background="red",
    )
    for got, (_, pha, _) in zip(
        decode(clip.with_name("pha.mkv")), truth(clip), strict=True
    ):
        assert differ(got[..., :1], 255 * pha) <= 0.51


# Images in


@pytest.mark.parametrize(
    ("rate", "exact"),
    [
        (24, Fraction(24)),
        (23.976, Fraction(24000, 1001)),
        ("29.97", Fraction(30000, 1001)),
        ("24000/1001", Fraction(24000, 1001)),
        (Fraction(25, 2), Fraction(25, 2)),
        (np.float32(59.94), Fraction(60000, 1001)),
        (np.int64(50), Fraction(50)),
        (12.5, Fraction(25, 2)),
    ],
)
def test_image_folder_becomes_a_video(
    tmp_path: Path, rate: Any, exact: Fraction
) -> None:
    folder = save_images(tmp_path / "shots", colours(12))
    target = tmp_path / "out.mov"
    report = convert(Fake(), folder, output_alpha=target, frame_rate=rate)
    assert report.frames == 12
    assert times(target) == [index / exact for index in range(12)]
    with av.open(str(target)) as container:
        assert container.streams.video[0].average_rate == exact


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_image_folder_is_read_in_the_order_people_count(
    tmp_path: Path, workers: int
) -> None:
    folder = save_images(tmp_path / "shots", colours(12))
    convert(
        Fake(), folder, output_alpha=tmp_path / "pha.mkv", num_workers=workers,
    )  # fmt: skip
    for got, (_, pha, _) in zip(
        decode(tmp_path / "pha.mkv"), truth(folder), strict=True
    ):
        assert differ(got[..., :1], 255 * pha) <= 0.51


def test_images_keep_their_names_unless_numbered(tmp_path: Path) -> None:
    folder = save_images(tmp_path / "shots", colours(3))
    convert(Fake(), folder, output=tmp_path / "cut")
    assert names(tmp_path / "cut") == {"shot0.png", "shot1.png", "shot2.png"}
    convert(
        Fake(), folder, output_composition=tmp_path / "n", output_type="png_sequence"
    )
    assert names(tmp_path / "n") == {"0000.png", "0001.png", "0002.png"}


def test_images_of_unlike_sizes_become_images_but_no_video(tmp_path: Path) -> None:
    folder = save_images(tmp_path / "shots", [*colours(2), *colours(2, (20, 40))])
    convert(Fake(), folder, output=tmp_path / "cut")
    assert open_image(tmp_path / "cut" / "shot1.png").shape == (24, 32, 4)
    assert open_image(tmp_path / "cut" / "shot3.png").shape == (40, 20, 4)
    with pytest.raises(ValueError, match=r"20x40.*--resize"):
        convert(Fake(), folder, output=tmp_path / "cut.mov")
    assert names(tmp_path) == {"shots", "cut"}
    convert(Fake(), folder, output=tmp_path / "cut.mov", input_resize=(32, 24))
    assert len(decode(tmp_path / "cut.mov")) == 4


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_still_in_still_out(tmp_path: Path, suffix: str) -> None:
    picture = colours(1)[0]
    picture[...] = (250, 120, 60)
    Image.fromarray(picture).save(tmp_path / "in.png")
    target = tmp_path / f"out{suffix}"
    fake = Fake()
    report = convert(fake, tmp_path / "in.png", output=target)
    assert report.frames == 1
    assert 2 <= fake.seen <= 16
    image = open_image(target).astype(float)
    alpha = 250 / 255
    if suffix == ".jpg":
        expected = over(GREEN, 1 - picture / 255, np.full((24, 32, 1), alpha))
    else:
        expected = np.concatenate([255 - picture, np.full((24, 32, 1), 250)], 2)
    assert differ(image, expected) <= (3 if suffix in (".jpg", ".webp") else 0)
    assert names(tmp_path) == {"in.png", target.name}


def test_still_gives_several_images_side_by_side(tmp_path: Path) -> None:
    Image.fromarray(colours(1)[0]).save(tmp_path / "in.png")
    convert(
        Fake(),
        tmp_path / "in.png",
        output=tmp_path / "cut.png",
        output_alpha=tmp_path / "pha.png",
        output_foreground=tmp_path / "fgr.jpg",
    )
    assert names(tmp_path) == {"in.png", "cut.png", "pha.png", "fgr.jpg"}
    assert open_image(tmp_path / "pha.png").ndim == 2


def test_still_becomes_a_video_of_one_frame(tmp_path: Path) -> None:
    Image.fromarray(colours(1)[0]).save(tmp_path / "in.png")
    convert(Fake(), tmp_path / "in.png", output=tmp_path / "out.mov")
    assert len(decode(tmp_path / "out.mov")) == 1


def test_image_is_not_made_of_a_video(clip: Path) -> None:
    with pytest.raises(ValueError, match=r"one image, but the input is a video"):
        convert(Fake(), clip, output=clip.with_name("out.png"))


def test_a_percent_sign_alone_is_no_pattern(clip: Path) -> None:
    target = clip.with_name("100% done.mp4")
    convert(Fake(), clip, output=target)
    assert len(decode(target)) == 10


# Parts and sizes


def test_resize_sizes_input_and_outputs(clip: Path) -> None:
    target = clip.with_name("out.mov")
    report = convert(Fake(), clip, input_resize=(48, 20), output=target)
    assert (report.width, report.height) == (48, 20)
    assert decode(target)[0].shape == (20, 48, 3)


@pytest.mark.parametrize("size", [(0, 10), (10, 0), (-5, 5)])
def test_resize_to_nothing_is_refused(clip: Path, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="input_resize"):
        convert(Fake(), clip, input_resize=size, output=clip.with_name("out.mov"))


@pytest.mark.parametrize(
    ("options", "first", "count"),
    [
        ({"start": 0.4}, 10, 15),
        ({"start": "0:00.4", "end": "00:00:00.8"}, 10, 10),
        ({"end": Fraction(4, 5)}, 0, 20),
        ({"limit": 7}, 0, 7),
        ({"start": "0.4", "limit": 7}, 10, 7),
        ({"start": 0, "end": 99, "limit": 99}, 0, 25),
    ],
)
def test_part_of_a_video_takes_its_part_of_the_sound(
    tmp_path: Path, options: dict[str, Any], first: int, count: int
) -> None:
    clip = make_clip(tmp_path / "in.mp4", colours(25), sound=True)
    target = tmp_path / "out.mov"
    report = convert(Fake(0), clip, output_alpha=target, **options)
    assert report.frames == count
    assert times(target) == [Fraction(index, 25) for index in range(count)]
    shift, length = Fraction(first, 25), Fraction(count, 25)
    whole = {data: time for time, data in audible(clip)}
    part = audible(target)
    for time, data in part:
        assert abs(whole[data] - shift - time) < Fraction(1, 1000)
        assert -Fraction(1, 40) < time < length
    # No gap at either end longer than a packet, which is 1024 samples.
    assert part[0][0] < Fraction(1024, 48000)
    assert part[-1][0] + 2 * Fraction(1024, 48000) > length
    reds = [frame[..., 0] for frame in decode(target)]
    whole_alpha = [255 * pha[..., 0] for _, pha, _ in truth(clip, 0)]
    for got, expected in zip(reds, whole_alpha[first : first + count], strict=True):
        assert differ(got, expected) <= 3


def test_sound_longer_than_the_picture_is_kept_where_nothing_is_cut(
    tmp_path: Path,
) -> None:
    clip = make_clip(tmp_path / "in.mp4", colours(), sound=True, sound_seconds=1.5)
    for options in ({}, {"end": 2}, {"limit": 11}):
        convert(Fake(), clip, output=tmp_path / "out.mp4", **options)
        assert sound(tmp_path / "out.mp4") == audible(clip)
    convert(Fake(), clip, output=tmp_path / "out.mp4", end=1)
    assert Fraction(9, 10) < sound(tmp_path / "out.mp4")[-1][0] < 1
    convert(Fake(), clip, output=tmp_path / "out.mp4", limit=10)
    assert Fraction(3, 10) < sound(tmp_path / "out.mp4")[-1][0] < Fraction(4, 10)


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
        ({"output_type": "gif"}, "output_type must be"),
        ({"background": "nowhere"}, "background"),
        ({"background_fit": "zoom"}, "background_fit"),
        ({"codec": "vp9"}, "vp9"),
        ({"codec": "mpeg1"}, "mpeg1"),
        ({"output_video_mbps": 0}, "mbps"),
        ({"output_video_mbps": -4}, "mbps"),
        ({"crf": -1}, "crf"),
        ({"crf": 400}, "crf"),
        ({"num_workers": -1}, "num_workers"),
        ({"device": "cpu:x"}, "device"),
    ],
)
def test_arguments_out_of_range_are_refused_and_leave_nothing(
    clip: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        convert(Fake(), clip, output=clip.with_name("out.mp4"), **options)
    assert names(clip.parent) == {"in.mp4"}


def test_something_must_be_asked_for(clip: Path) -> None:
    with pytest.raises(ValueError, match="no output: give"):
        convert(Fake(), clip)


def test_suffixes_that_cannot_be_transparent_are_refused(clip: Path) -> None:
    with pytest.raises(ValueError, match=r"\.mp4.*cannot hold transparency.*\.mov"):
        convert(Fake(), clip, output=clip.with_name("o.mp4"), background="transparent")


def test_codec_is_taken(clip: Path) -> None:
    target = clip.with_name("out.mp4")
    clip = make_clip(clip, colours(4, (128, 96)))
    convert(Fake(), clip, output=target, codec="hevc")
    with av.open(str(target)) as container:
        assert "hevc" in container.streams.video[0].codec_context.codec.canonical_name
    assert len(times(target)) == 4


def test_bit_rate_is_aimed_at(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (96, 128, 3), np.uint8) for _ in range(25)]
    clip = make_clip(tmp_path / "in.mkv", noise, codec="ffv1", pix_fmt="bgr0")
    sizes = []
    for mbps in (0.5, 2):
        target = tmp_path / f"{mbps}.mp4"
        convert(Fake(), clip, output_foreground=target, output_video_mbps=mbps)
        sizes.append(target.stat().st_size)
    assert 2 < sizes[1] / sizes[0] < 8


# The report


def test_report_tells_what_was_done(clip: Path) -> None:
    report = convert(
        Fake(), clip, output_composition=clip.with_name("out.mp4"),
        output_alpha=clip.with_name("p"),
    )  # fmt: skip
    assert (report.frames, report.width, report.height) == (10, 32, 24)
    assert report.downsample_ratio == 1
    assert report.seconds > 0
    assert set(report.shares) == {"decode", "network", "composite", "encode"}
    assert sum(report.shares.values()) == pytest.approx(1)
    assert all(share > 0 for share in report.shares.values())
    assert report.outputs == {
        "composition": str(clip.with_name("out.mp4")),
        "alpha": str(clip.with_name("p")),
    }
    assert report.notes == [
        "p: left out: sound; a folder of images holds only pictures"
    ]


def test_report_notes_what_is_not_as_in_the_source(tmp_path: Path) -> None:
    clip = make_clip(
        tmp_path / "in.mkv", colours(3, (33, 21)), codec="ffv1", pix_fmt="bgr0"
    )
    report = convert(Fake(), clip, output_composition=tmp_path / "out.mp4")
    assert len(report.notes) == 1
    assert "out.mp4: padded from 33x21 to 34x22" in report.notes[0]


def test_share_of_the_network_counts_for_a_still(tmp_path: Path) -> None:
    Image.fromarray(colours(1, (200, 150))[0]).save(tmp_path / "in.png")
    report = convert(
        rematte.load_model(), tmp_path / "in.png", output=tmp_path / "o.png"
    )
    assert report.shares["network"] > 0.5


def test_progress_is_shown_unless_turned_off(
    clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert_video(Fake(), clip, output_alpha=clip.with_name("pha.mp4"))
    assert "10/10" in capsys.readouterr().err
    convert(Fake(), clip, output_alpha=clip.with_name("pha.mp4"))
    assert capsys.readouterr() == ("", "")


# Networks


def test_the_bundled_network_converts(clip: Path) -> None:
    clip = make_clip(clip, colours(4, (64, 48)), sound=True)
    for ratio in (None, 0.5, "portrait", "full-body"):
        report = convert(
            rematte.load_model(),
            clip,
            downsample_ratio=ratio,
            seq_chunk=2,
            output_composition=clip.with_name("com.mp4"),
            output_alpha=clip.with_name("pha.mp4"),
        )
        assert report.frames == 4
        assert report.downsample_ratio == (0.5 if ratio == 0.5 else 1)
        assert sound(clip.with_name("com.mp4")) == audible(clip)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_networks(clip: Path, dtype: torch.dtype) -> None:
    Image.fromarray(colours(1)[0]).save(clip.with_name("room.png"))
    for background in ("green", "blur", clip.with_name("room.png")):
        convert(
            Fake().to(dtype),
            clip,
            output=clip.with_name("out.mkv"),
            background=background,
        )
    convert(Fake().to(dtype), clip, output_alpha=clip.with_name("pha.mkv"))
    for got, (_, pha, _) in zip(
        decode(clip.with_name("pha.mkv")), truth(clip), strict=True
    ):
        assert differ(got[..., :1], 255 * pha) <= (2 if dtype == torch.bfloat16 else 1)


def test_scripted_and_frozen_networks(clip: Path) -> None:
    scripted = torch.jit.script(Scriptable())
    frozen = torch.jit.freeze(torch.jit.script(Scriptable()))
    reference = clip.with_name("fake.mkv")
    convert(Fake(), clip, output_alpha=reference)
    place = {"device": "cpu", "dtype": torch.float32}
    for model, options in ((scripted, {}), (scripted, place), (frozen, place)):
        target = clip.with_name("pha.mkv")
        convert(model, clip, seq_chunk=4, output_alpha=target, **options)
        for a, b in zip(decode(target), decode(reference), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize(
    "options", [{}, {"device": "cpu"}, {"dtype": torch.float32}], ids=str
)
def test_frozen_networks_need_device_and_dtype(
    clip: Path, options: dict[str, Any]
) -> None:
    frozen = torch.jit.freeze(torch.jit.script(Scriptable()))
    with pytest.raises(ValueError, match=r"device and dtype must be given.*dtype="):
        convert(frozen, clip, output=clip.with_name("out.mp4"), **options)


def test_networks_of_another_precision_or_place_or_in_training_are_refused(
    clip: Path,
) -> None:
    for model, more, message in (
        (Fake(), {"dtype": torch.float16}, r"dtype.*float16.*float32"),
        (Fake(), {"device": "meta"}, r"device is meta, but the model is on cpu"),
        (Fake().train(), {}, r"training mode.*model\.eval\(\)"),
    ):
        with pytest.raises(ValueError, match=message):
            convert(model, clip, output=clip.with_name("o.mp4"), **more)


# Harm


def test_input_is_never_written_over(clip: Path) -> None:
    before = clip.read_bytes()
    link = clip.with_name("link.mp4")
    link.symlink_to(clip)
    hard = clip.with_name("hard.mp4")
    os.link(clip, hard)
    for path in (clip, link, hard, clip.parent / "x" / ".." / "in.mp4"):
        for kind in ("output", "output_composition", "output_alpha"):
            with pytest.raises(ValueError, match="the input itself"):
                convert(Fake(), clip, **{kind: path})
    assert clip.read_bytes() == before


def test_input_images_are_never_written_over(tmp_path: Path) -> None:
    folder = save_images(tmp_path / "shots", colours(2))
    Image.fromarray(colours(1)[0]).save(folder / "0000.png")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for source, target in (
        (folder, folder),
        (folder, folder / "%04d.png"),
        (folder, folder / "shot%d.png"),
        (folder / "shot0.png", folder),
        (folder / "0000.png", folder / "%04d.png"),
        (folder / "shot0.png", folder / "shot0.png"),
        (folder, folder / "shot0.mov"),
    ):
        if target.suffix == ".mov":
            convert(Fake(), source, output=target)
            target.unlink()
            continue
        with pytest.raises(ValueError, match="the input"):
            convert(Fake(), source, output=target)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_background_is_never_written_over(clip: Path) -> None:
    room = clip.with_name("room.mp4")
    make_clip(room, colours(2))
    with pytest.raises(ValueError, match="the background itself"):
        convert(Fake(), clip, output=room, background=room)


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
    clip.with_name("x").mkdir()
    clip.with_name("seq").mkdir()
    with pytest.raises(ValueError, match=r"is the \w+ itself; write elsewhere"):
        convert(
            Fake(),
            clip,
            output_composition=clip.parent / first,
            output_alpha=clip.parent / second,
        )


def test_existing_outputs_are_kept_where_told_so_and_else_replaced(clip: Path) -> None:
    target, folder = clip.with_name("out.mp4"), clip.with_name("seq")
    target.write_text("precious")
    folder.mkdir()
    (folder / "0000.png").write_text("precious")
    for options, why in (({"output": target}, "exists"), ({"output": folder}, "would")):
        with pytest.raises(OutputError, match=rf"{why}.*; pass overwrite \(-y\)"):
            convert(Fake(), clip, overwrite=False, **options)
    assert target.read_text() == (folder / "0000.png").read_text() == "precious"
    convert(Fake(), clip, output=target, output_alpha=folder)
    assert len(decode(target)) == 10
    assert open_image(folder / "0000.png").shape == (24, 32)


# Errors and interrupts on the way

ALL_KINDS = {
    "output": "cut.mov",
    "output_composition": "com.mp4",
    "output_alpha": "pha",
    "output_foreground": "fgr_%04d.png",
}


def all_kinds(folder: Path) -> dict[str, Path]:
    return {kind: folder / name for kind, name in ALL_KINDS.items()}


@pytest.mark.parametrize("index", [0, 5])
@pytest.mark.parametrize(
    "error", [RuntimeError("broke"), MemoryError(), ValueError("odd")], ids=repr
)
def test_an_error_leaves_nothing_and_touches_nothing(
    clip: Path, index: int, error: Exception
) -> None:
    old = clip.with_name("com.mp4")
    old.write_text("precious")
    (clip.parent / "pha").mkdir()
    (clip.parent / "pha" / "0000.png").write_text("precious")
    with pytest.raises(type(error)):
        convert(Fake(fail_at=index, error=error), clip, **all_kinds(clip.parent))
    assert names(clip.parent) == {"in.mp4", "com.mp4", "pha"}
    assert names(clip.parent / "pha") == {"0000.png"}
    assert old.read_text() == "precious"
    assert (clip.parent / "pha" / "0000.png").read_text() == "precious"


def test_an_error_while_outputs_are_opened_leaves_nothing(clip: Path) -> None:
    with pytest.raises(ValueError, match="unknown suffix"):
        convert(
            Fake(),
            clip,
            output=clip.with_name("out.mov"),
            output_alpha=clip.with_name("out.xyz"),
        )
    assert names(clip.parent) == {"in.mp4"}


def test_an_error_at_the_very_end_leaves_nothing(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of two outputs fails to complete: the first is no longer wanted."""
    old = clip.with_name("a.mov")
    old.write_text("precious")

    def fail(*_: Any) -> None:
        raise OutputError("no space")

    monkeypatch.setattr("rematte.video.writer.check_alpha", fail)
    with pytest.raises(OutputError, match="no space"):
        convert(
            Fake(),
            clip,
            output=old,
            output_composition=clip.with_name("b.webm"),
            output_foreground=clip.with_name("fgr"),
            background="transparent",
        )
    assert names(clip.parent) == {"in.mp4", "a.mov"}
    assert old.read_text() == "precious"


@pytest.mark.parametrize("name", ["cut.mov", "com.mp4", "cut.mkv", "cut.webm"])
def test_an_interrupt_keeps_a_playable_part(tmp_path: Path, name: str) -> None:
    clip = make_clip(tmp_path / "in.mp4", colours(25), sound=True)
    with pytest.raises(KeyboardInterrupt) as caught:
        convert(
            Fake(fail_at=15, error=KeyboardInterrupt()), clip, output=tmp_path / name
        )
    partial = (tmp_path / name).with_suffix(f".partial{Path(name).suffix}")
    assert caught.value.args == (str(partial),)
    assert names(tmp_path) == {"in.mp4", partial.name}
    assert len(decode(partial)) == 15
    packets = audible(partial)
    assert Fraction(13, 25) < packets[-1][0] < Fraction(15, 25)
    if name.endswith(("mov", "mp4")):
        assert packets == audible(clip)[: len(packets)]
        assert times(partial) == [Fraction(index, 25) for index in range(15)]


def test_an_interrupt_keeps_parts_of_every_output(clip: Path) -> None:
    old = clip.with_name("com.mp4")
    old.write_text("precious")
    with pytest.raises(KeyboardInterrupt) as caught:
        convert(Fake(fail_at=5, error=KeyboardInterrupt()), clip,
                **all_kinds(clip.parent))  # fmt: skip
    assert len(caught.value.args) == 4
    assert old.read_text() == "precious"
    left = names(clip.parent) - {"in.mp4", "com.mp4"}
    assert left == {Path(path).name for path in caught.value.args}
    for path in map(Path, caught.value.args):
        assert "partial" in path.name
        assert len(names(path) if path.is_dir() else decode(path)) == 5


def test_an_interrupt_before_the_first_frame_leaves_nothing(clip: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        convert(Fake(fail_at=0, error=KeyboardInterrupt()), clip,
                **all_kinds(clip.parent))  # fmt: skip
    assert caught.value.args == ()
    assert names(clip.parent) == {"in.mp4"}


def test_an_interrupt_while_outputs_are_completed_leaves_no_temporary(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rematte.video.writer.check_alpha", interrupt)
    with pytest.raises(KeyboardInterrupt):
        convert(
            Fake(),
            clip,
            output=clip.with_name("a.mov"),
            output_composition=clip.with_name("b.webm"),
            output_foreground=clip.with_name("fgr"),
            background="transparent",
        )
    assert not [name for name in names(clip.parent) if name.startswith(".")]
    for path in clip.parent.glob("*.partial.*"):
        assert len(decode(path)) == 10


def test_the_source_is_not_kept_open(clip: Path) -> None:
    def open_files() -> set[str]:
        found = set()
        for link in Path("/proc/self/fd").iterdir():
            try:
                found.add(str(link.readlink()))
            except OSError:
                continue
        return found

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    convert(Fake(), clip, output=clip.with_name("out.mp4"))
    with pytest.raises(RuntimeError):
        convert(Fake(fail_at=3), clip, output=clip.with_name("out.mov"))
    assert not [path for path in open_files() if path.startswith(str(clip.parent))]


def test_chapters_end_where_the_picture_does(tmp_path: Path) -> None:
    chapters = [(0, 0.12, "one"), (0.12, 0.3, "two"), (0.3, 0.4, "three")]
    clip = make_clip(tmp_path / "in.mkv", colours(), chapters=chapters)
    convert(Fake(), clip, output=tmp_path / "out.mkv", end=0.2)
    with av.open(str(tmp_path / "out.mkv")) as container:
        kept = [
            (c["metadata"]["title"], c["end"] * (c["time_base"] or 0))
            for c in container.chapters()
        ]
    assert kept == [("one", Fraction(12, 100)), ("two", Fraction(1, 5))]


@pytest.mark.parametrize("rate", [23.98, "23.976", Fraction(24000, 1001)])
def test_rates_of_film_on_television_are_exact(rate: Any) -> None:
    assert parse_rate(rate) == Fraction(24000, 1001)


def test_weights_may_be_given_by_name_or_file(
    tmp_path: Path, bundled: MattingNetwork
) -> None:
    clip = make_clip(tmp_path / "in.mp4", colours(3, (64, 48)))
    own = tmp_path / "own.pth"
    torch.save(bundled.state_dict(), own)
    out = tmp_path / "a.mkv"
    # OpenVINO would convert the file's weights first; tests/engines has that.
    for engine, models in (
        ("openvino", (bundled, None, "rematte-mobilenetv3")),
        ("plain", (bundled, own, str(own))),
    ):
        pictures = []
        for model in models:
            report = convert_video(
                model, clip, output_alpha=out, engine=engine, progress=False
            )
            assert report.engine == engine
            pictures.append(decode(out))
        for found in pictures[1:]:
            assert all(map(np.array_equal, found, pictures[0]))
    with pytest.raises(WeightsError, match="neither a file nor a known name"):
        convert_video("rematte-resnet", clip, output_alpha=out)
    with pytest.raises(ValueError, match="device cuda:7"):
        convert_video(None, clip, output_alpha=out, device="cuda:7")
