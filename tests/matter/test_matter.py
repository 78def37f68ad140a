"""Frames in memory are matted as files are, by one engine for all threads."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from conftest import make_clip
from fakes import open_image, python, threads
from numpy.typing import NDArray
from PIL import Image

import rematte
from rematte import Matter
from rematte.engines.openvino import CompiledGraph
from rematte.errors import InputError
from rematte.matter.photo import PhotoSource
from rematte.video.frame import Frame
from rematte.video.reader import VideoReader

SIZE = 112, 80
Pictures = list[NDArray[Any]]


@pytest.fixture(scope="module")
def matter() -> Matter:
    """Alpha reshaped and edges cleaned, so that these are seen to be done too."""
    return Matter(downsample_ratio=0.5, edge_colour="clean", black_point=0.1)


@pytest.fixture(scope="module")
def frames() -> Pictures:
    """Somebody who sways before a wall."""
    rng, frames = np.random.default_rng(3), []
    width, height = SIZE
    for step in range(6):
        y, x = np.mgrid[:height, :width]
        picture = np.full((height, width, 3), (140, 150, 150), np.float64)
        x = x - width / 2 - 2 * step
        for middle, half, colour in (
            ((0.25 * height), (14, 16), (50, 35, 25)),
            ((0.32 * height), (12, 16), (215, 165, 140)),
            ((1.05 * height), (25, 44), (40, 50, 110)),
        ):
            picture[(x / half[0]) ** 2 + ((y - middle) / half[1]) ** 2 < 1] = colour
        noisy = picture + rng.normal(0, 4, picture.shape)
        frames.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return frames


@pytest.fixture(scope="module")
def alone(matter: Matter, frames: Pictures) -> Pictures:
    stream = matter.stream()
    mattes = [stream(frame).rgba for frame in frames]
    assert 0.1 < (mattes[-1][..., 3] > 200).mean() < 0.5
    return mattes


def convert(matter: Matter, source: Path, **options: Any) -> rematte.Report:
    return rematte.convert_video(matter, source, progress=False, **options)


def converted(
    matter: Matter, frames: Pictures, folder: Path, **options: Any
) -> Pictures:
    """What `convert_video` makes of a lossless video of these frames."""
    clip = make_clip(folder / "in.mkv", frames, size=SIZE, codec="ffv1", pix_fmt="bgr0")
    (out := folder / "out").mkdir(exist_ok=True)
    convert(matter, clip, output=out, **options)
    return [open_image(path) for path in sorted(out.iterdir())]


def same(mattes: Pictures, others: Pictures) -> bool:
    return len(mattes) == len(others) and all(map(np.array_equal, mattes, others))


def test_a_stream_gives_what_a_conversion_gives(
    matter: Matter, frames: Pictures, alone: Pictures,
    tmp_path: Path,
) -> None:  # fmt: skip
    assert same(converted(matter, frames, tmp_path), alone)


def test_frames_are_warmed_up_as_a_conversion_is(
    frames: Pictures, alone: Pictures, tmp_path: Path
) -> None:
    matter = Matter(
        downsample_ratio=0.5, edge_colour="clean", black_point=0.1, warmup="auto"
    )
    held = np.empty_like(frames[0])

    def camera() -> Any:  # that writes every frame into the same memory
        for frame in frames:
            held[:] = frame
            yield held

    made = [matted.rgba for matted in matter.frames(camera())]
    assert same(converted(matter, frames, tmp_path), made)
    assert not np.array_equal(made[0], alone[0])
    assert list(matter.frames([])) == []


def test_frames_that_are_no_longer_wanted_end_the_threads(
    matter: Matter, frames: Pictures
) -> None:
    before = threads()
    mattes = matter.frames(frames)
    assert next(mattes).alpha.shape == frames[0].shape[:2]
    mattes.close()  # type: ignore[attr-defined]
    assert threads() <= before
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        list(matter.frames([frames[0], frames[0].astype(np.float32)]))


def test_streams_of_threads_are_each_as_if_alone(
    matter: Matter, frames: Pictures, alone: Pictures
) -> None:
    def run(number: int) -> bool:
        stream = matter.stream()
        shown = frames[::-1] if number % 2 else frames
        if number % 2:  # another video in between, of another size
            stream(shown[0][:64])
            stream(shown[0])
            stream.reset()
            shown = frames
        return same([stream(frame).rgba for frame in shown], alone)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(run, range(8)))


def test_streams_in_one_call(matter: Matter, frames: Pictures, alone: Pictures) -> None:
    streams = matter.streams()
    for index, frame in enumerate(frames):
        found = streams({"door": frame, "stage": frames[0]})
        assert np.array_equal(found["door"].rgba, alone[index])
    streams.leave("door")
    assert len(streams) == 1
    assert np.array_equal(streams({"door": frames[0]})["door"].rgba, alone[0])


def test_fast_is_the_fast_network(frames: Pictures) -> None:
    both = Matter(quality="fast"), Matter("rematte-fast")
    assert np.array_equal(*(each.stream()(frames[0]).alpha for each in both))


def test_what_is_warm_compiles_nothing(frames: Pictures, monkeypatch: Any) -> None:
    matter = Matter(engine="openvino-float32", downsample_ratio=0.5)
    follows = Matter(region="auto")
    matter.warm_up(*SIZE)
    follows.warm_up(640, 360)

    def fail(*args: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(CompiledGraph, "_build", fail)
    for _ in range(2):  # the first one takes the engine that warmed up
        matter.stream()(frames[0])
    matter.photo(frames[0])
    follows.stream()(np.zeros((360, 640, 3), np.uint8))
    assert matter.engine == "openvino-float32"
    with pytest.raises(AssertionError, match="compiled"):
        matter.warm_up(64, 48)
    with pytest.raises(ValueError, match="0x4"):
        matter.warm_up(0, 4)


def test_a_matter_is_pickled(matter: Matter, frames: Pictures, alone: Pictures) -> None:
    again: Matter = pickle.loads(pickle.dumps(matter))
    assert again.options == matter.options
    assert np.array_equal(again.photo(frames[0]).alpha, matter.photo(frames[0]).alpha)


def weighted(rgba: NDArray[Any], most: float) -> NDArray[Any]:
    """Levels of 255; colours count as much as alpha shows of them."""
    levels = np.asarray(rgba) / most * 255
    levels[..., :3] *= levels[..., 3:] / 255
    return levels


def test_arrays_return_alike(matter: Matter, frames: Pictures, alone: Pictures) -> None:
    frame, exact = frames[0], Matter(engine="openvino-float32")
    true = weighted(exact.stream()(frame).rgba, 255)
    for given, most in (
        (frame.astype(np.uint16) * np.uint16(257), 65535),
        (frame.astype(np.float32) / np.float32(255), 1),
        ((frame / 255), 1),
        (torch.from_numpy(frame).movedim(-1, 0), 255),
        (torch.from_numpy(frame) / 255, 1),
    ):
        matted = exact.stream()(given)
        kind = np.asarray(given).dtype
        assert matted.rgba.dtype == matted.alpha.dtype == kind
        assert np.abs(weighted(matted.rgba, most) - true).max() <= 1
        behind = np.ones_like(matted.foreground)
        assert matted.over(behind).dtype == kind
        shown = np.asarray(Image.open(BytesIO(matted._repr_png_())))  # by Jupyter
        assert np.abs(weighted(shown, 255) - true).max() <= 1
    bgr = matter.stream(order="bgr")(frame[..., ::-1])
    assert np.array_equal(np.asarray(Image.open(BytesIO(bgr._repr_png_()))), alone[0])
    assert np.array_equal(bgr.rgba[..., [2, 1, 0, 3]], alone[0])
    rgb = matter.stream()(frame)
    over = rgb.over((120, 255, 155))
    assert np.array_equal(bgr.over((155, 255, 120)), over[..., ::-1])
    plate = np.broadcast_to(np.array([120, 255, 155], np.uint8), frame.shape)
    assert np.array_equal(rgb.over(plate), over)
    for wrong in ("white", [1, 2, 3], None, (0.5, 0.5, 0.5), torch.zeros(40, 40, 3)):
        with pytest.raises(
            ValueError, match="three whole numbers from 0 to 255"
        ) as told:
            rgb.over(wrong)  # type: ignore[arg-type]
        assert "\n" not in str(told.value)
    assert np.array_equal(over[0, 0], [120, 255, 155])
    assert rgb.alpha.shape == frame.shape[:2]
    assert rgb.foreground.shape == frame.shape


def test_frames_of_libraries(matter: Matter, frames: Pictures, alone: Pictures) -> None:
    decoded = av.VideoFrame.from_ndarray(frames[0], "rgb24")
    image = Image.fromarray(frames[0])
    turned = image.transpose(Image.Transpose.ROTATE_90)  # as EXIF's 6 has it stored
    turned.getexif()[0x0112] = 6
    for given in (decoded, image, turned, next(iter([Frame(frames[0], 0, 1)]))):  # type: ignore[arg-type]
        assert np.array_equal(matter.stream()(given).rgba, alone[0])
    clear = np.dstack([frames[0], np.full(frames[0].shape[:2], 128, np.uint8)])
    assert 100 < matter.stream()(clear).alpha.max() <= 128


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (np.full((8, 8, 3), 255.0), ValueError, r"\[0, 1\].*divide"),
        (np.full((8, 8, 3), np.nan), ValueError, r"\[0, 1\]"),
        (np.zeros((8, 8, 3), np.int64), TypeError, "astype"),
        (np.zeros((8, 8), np.uint8), ValueError, r"\(H, W, 3\)"),
        (Image.new("I", (8, 8)), ValueError, "which number is white"),
        (Image.new("F", (8, 8)), ValueError, "which number is white"),
        (np.zeros((0, 8, 3), np.uint8), ValueError, r"\(H, W, 3\)"),
        ("frame.png", TypeError, "str"),
    ],
)
def test_what_is_no_frame_is_refused(
    matter: Matter, frames: Pictures, alone: Pictures,
    wrong: Any, error: type[Exception], message: str,
) -> None:  # fmt: skip
    stream = matter.stream()
    with pytest.raises(error, match=message):
        stream(wrong)
    assert np.array_equal(stream(frames[0]).rgba, alone[0])  # it begins again


def test_a_region_is_a_rectangle_in_every_size(frames: Pictures) -> None:
    stream = Matter(region=(0, 0, 40, 80), downsample_ratio=0.5).stream()
    assert not stream(frames[0]).alpha[:, 40:].any()
    assert not stream(frames[0][:, :96]).alpha[:, 40:].any()
    with pytest.raises(ValueError, match="beyond"):
        stream(frames[0][:40])
    wrong: Any = {"person": "largest"}
    with pytest.raises(TypeError, match=r"person.*convert_video"):
        Matter(**wrong)
    for ratio in (0, 7, float("nan"), "half"):
        with pytest.raises(ValueError, match=r"downsample_ratio must be .* \(0, 1\]"):
            Matter(downsample_ratio=ratio)  # type: ignore[arg-type]


def test_masks_are_those_of_a_conversion(frames: Pictures, tmp_path: Path) -> None:
    half = np.zeros(SIZE[::-1], np.uint8)
    half[:, 56:] = 255
    Image.fromarray(half).save(tmp_path / "half.png")
    matter = Matter(
        downsample_ratio=0.5, include="0,0,20,20", exclude=tmp_path / "half.png"
    )
    stream = matter.stream()
    one_by_one = [stream(frame).rgba for frame in frames]
    assert one_by_one[0][:20, :20, 3].min() == 255
    assert not one_by_one[0][:, 60:].any()
    for made in (one_by_one, [matted.rgba for matted in matter.frames(frames)]):
        assert same(converted(matter, frames, tmp_path), made)
    clip = make_clip(tmp_path / "mask.mp4", 2)
    for moving in ("0,0,9,9@1-2", "0,0,9,9@0;1,0,9,9@1", clip):
        with pytest.raises(ValueError, match=r"same for all frames.*convert_video"):
            Matter(exclude=moving)


def test_a_photo_is_what_a_conversion_makes_of_it(
    matter: Matter, frames: Pictures, tmp_path: Path
) -> None:
    photo = tmp_path / "in.png"
    Image.fromarray(frames[0]).save(photo)
    convert(matter, photo, output=tmp_path / "out.png")
    true = open_image(tmp_path / "out.png")
    sources: list[PhotoSource] = [
        photo, str(photo), photo.read_bytes(), BytesIO(photo.read_bytes()), frames[0],
    ]  # fmt: skip
    for source in sources:
        assert np.array_equal(matter.photo(source).rgba, true)
    assert np.array_equal(
        np.asarray(Image.open(BytesIO(matter.photo(photo, "png")))), true
    )
    for name in ("bmp", "tga"):  # of which TGA has no mark in its content
        Image.fromarray(frames[0]).save(tmp_path / f"in.{name}")
        with (tmp_path / f"in.{name}").open("rb") as file:
            assert np.array_equal(matter.photo(file).rgba, true)
    assert np.array_equal(matter.photo((tmp_path / "in.bmp").read_bytes()).rgba, true)
    for name in ("exr", "tiff", "webp", "jpg"):
        out = tmp_path / f"out.{name}"
        background = "white" if name == "jpg" else None
        convert(matter, photo, output=out, background=background)
        assert matter.photo(photo, name, background=background) == out.read_bytes()


def test_a_photo_is_turned_by_its_exif(matter: Matter, frames: Pictures) -> None:
    file, plain = BytesIO(), BytesIO()
    image = Image.fromarray(frames[0])
    exif = Image.Exif()
    exif[0x0112] = 8  # shown turned to the left
    image.save(file, "jpeg", quality=98, exif=exif)
    image.save(plain, "jpeg", quality=98)
    turned, as_it_is = matter.photo(file.getvalue()), matter.photo(plain.getvalue())
    assert turned.size == SIZE
    assert as_it_is.size == SIZE[::-1]
    assert np.array_equal(np.rot90(as_it_is.frame.pixels), turned.frame.pixels)
    for kind in "tiff", "png":  # Pillow turns a TIFF itself
        file = BytesIO()
        image.save(file, kind, exif=exif)
        opened = matter.photo(Image.open(file))
        assert np.array_equal(opened.rgba, matter.photo(file.getvalue()).rgba)


def test_what_is_no_photo_is_refused(matter: Matter, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", 2)
    with pytest.raises(InputError, match=r"^the image: not a single image"):
        matter.photo(b"nothing of the kind")
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    with pytest.raises(InputError, match=r"%d.png: not a single image"):
        matter.photo(tmp_path / "%d.png")
    with pytest.raises(InputError, match="convert_video"):
        matter.photo(clip)
    blank = np.zeros((48, 64, 3), np.uint8)
    with pytest.raises(ValueError, match="format must be one of png"):
        matter.photo(blank, "mp4")
    with pytest.raises(
        ValueError, match=r"background, .*: .png, .tif, .* can$"
    ) as told:
        matter.photo(blank, "jpg")
    assert ".mov" not in str(told.value)


def test_a_conversion_takes_a_matter_s_options(
    matter: Matter, frames: Pictures, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames, size=SIZE)
    out = tmp_path / "a.mkv"
    assert convert(matter, clip, output_alpha=out).downsample_ratio == 0.5
    report = convert(matter, clip, output_alpha=out, downsample_ratio=1)
    assert report.downsample_ratio == 1
    with pytest.raises(ValueError, match="engine was chosen"):
        convert(matter, clip, output_alpha=out, engine="plain")
    with VideoReader(clip) as reader:
        assert len(list(matter.frames(reader))) == len(frames)


PROGRAM = """
import gc, multiprocessing
import numpy as np, torch, rematte
from rematte import Matter
frame, ways = np.zeros((64, 96, 3), np.uint8), {}

def in_child(method, function):
    with multiprocessing.get_context(method).Pool(1) as pool:
        return pool.apply_async(function).get(timeout=60)

def network():
    with torch.no_grad():
        return tuple(model(torch.rand(1, 3, 64, 96), 1.0).pha.shape)

def matte():
    return Matter(downsample_ratio=1.0).stream()(frame).alpha.shape

def shared():
    return matter.stream()(frame).alpha.shape

def replaced():
    global matter
    matter = Matter(downsample_ratio=1.0)
    return shared()

def plain():
    return torch_matter.stream()(frame).rgba.shape

def refused(task, words):
    try:
        in_child("fork", task)
    except RuntimeError as error:
        assert words in str(error)
    else:
        raise AssertionError("it ran")

model = rematte.load_model()
if __name__ == "__main__":
    network()
    matter = Matter(downsample_ratio=1.0)
    assert in_child("fork", network) == (1, 1, 64, 96)
    assert in_child("fork", shared) == (64, 96)  # nothing is compiled yet
    torch_matter = Matter(model, engine="plain", downsample_ratio=1.0)
    assert plain() == (64, 96, 4)
    assert in_child("fork", plain) == (64, 96, 4)
    matter.warm_up(96, 64)
    refused(shared, "make a Matter in each process")
    assert in_child("fork", matte) == (64, 96)
    assert in_child("fork", replaced) == (64, 96)
    assert in_child("fork", network) == (1, 1, 64, 96)
    del matter
    gc.collect()
    refused(matte, 'get_context("spawn")')
    assert matte() == (64, 96)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forked_processes_work_or_say_why_not() -> None:
    python(PROGRAM)
