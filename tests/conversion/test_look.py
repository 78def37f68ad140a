"""Looking for people: who is seen, where scenes begin, and what a conversion does."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import make_clip
from fakes import Fake, decode, open_image, read, read_all, save_images
from numpy.typing import NDArray
from PIL import Image

import rematte
from rematte.conversion.look import choose_regions, find_boxes, find_regions
from rematte.conversion.source import open_reader
from rematte.engines.module import ModuleEngine
from rematte.matting.matte import Matted
from rematte.matting.region import Regions
from rematte.options import Options
from rematte.resume.run import convert_long
from rematte.video.frame import SDR, Frame, LazyFrame, VideoInfo
from rematte.video.reader import VideoReader
from rematte.video.scene_cuts import sketch

WIDTH, HEIGHT = 640, 360


def scene(left: int, top: int, room: int = 60, side: int = 60) -> NDArray[np.uint8]:
    """Draw a red square, which the fake network takes for a person."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[..., 1:] = room
    picture[top : top + 2 * side, max(0, left) : max(0, left + side), 0] = 255
    return picture


def look(path: Path) -> Regions:
    """The regions of a conversion with the fake network, which has no memory."""
    with VideoReader(path) as reader:
        return choose_regions(Fake(0.0), path, Options(region="auto"), reader.info)


def find(path: Path, engine: ModuleEngine | None = None) -> Any:
    """The same, of every frame, and with an engine."""
    engines = (engine or ModuleEngine(Fake(0.0)),) * 2
    with VideoReader(path) as reader:
        return find_regions(reader.lazy_frames(), reader.info, engines, 0.8)


def convert(source: Path, network: Fake | None = None, **options: Any) -> Any:
    network = network or Fake(0.0)
    return rematte.convert_video(network, source, progress=False, **options)


def shares_seen(path: Path, regions: Regions) -> list[float]:
    """The share of each frame that windows keep; the person must be within them."""
    shares = []
    for frame in read(path):
        person = frame.pixels[..., 0] > 200
        inside = np.zeros_like(person)
        for window in regions.at(frame).windows:
            left, top, right, bottom = window.keep
            inside[top:bottom, left:right] = True
        assert inside[person].all()
        shares.append(float(inside.mean()))
    return shares


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = [scene(20 + 6 * n, 100) for n in range(40)]
    pictures += [scene(400, 200, room=200) for _ in range(12)]
    return make_clip(
        tmp_path_factory.mktemp("walk") / "walk.mkv", pictures, codec="ffv1"
    )


def test_boxes_are_around_what_is_sure() -> None:
    alpha = np.zeros((90, 160), np.float32)
    alpha[10:50, 20:40] = 1
    alpha[50:60, 22:30] = 0.2  # less sure, but connected
    alpha[70:80, 90:120] = 0.3  # nowhere sure
    alpha[5:7, 150:153] = 1  # hardly larger than noise
    alpha[60:90, 150:160] = 0.9
    assert sorted(find_boxes(alpha)) == [(20, 10, 40, 60), (150, 60, 160, 90)]
    assert find_boxes(np.zeros((9, 9), np.float32)) == []


def test_a_region_follows_and_starts_again_at_a_cut(walk: Path) -> None:
    regions = look(walk)
    (cut,) = [region.since for region in regions.regions if region.restart][1:]
    assert cut == Fraction(40, 25)
    assert all(share < 0.6 for share in shares_seen(walk, regions))


def test_a_conversion_finds_everybody_and_no_more(walk: Path, tmp_path: Path) -> None:
    for region in ("auto", "full"):
        target = tmp_path / f"{region}.mkv"
        report = convert(walk, output_alpha=target, region=region)
        assert bool(report.regions) == (region == "auto")
    auto, full = (decode(tmp_path / f"{name}.mkv") for name in ("auto", "full"))
    assert len(auto) == len(full) == 52
    for one, other in zip(auto, full, strict=True):
        assert (one[other > 200] > 200).all()


def test_segments_have_the_regions_of_one_run(walk: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "once.mkv", tmp_path / "parts.mkv"
    once = convert(walk, Fake(), output_alpha=one, region="auto")
    parts = convert_long(
        Fake, walk, output_alpha=other, region="auto", segment=15, resume=True,
        progress=False,
    )  # fmt: skip
    assert parts.regions == once.regions
    for a, b in zip(decode(one), decode(other), strict=True):
        assert (a == b).all()


def test_a_rectangle_is_all_that_is_seen(walk: Path, tmp_path: Path) -> None:
    target, region = tmp_path / "a.mkv", (380, 180, 200, 160)
    report = convert(walk, output_alpha=target, region=region)
    assert report.regions[0]["why"] == "as given"
    frames = decode(target)
    outside = np.ones((HEIGHT, WIDTH), bool)
    outside[180:340, 380:580] = False
    assert not any((frame[outside] > 16).any() for frame in frames)
    assert (frames[-1][220:300, 420:440] > 200).all()


def test_small_frames_and_given_ratios_are_seen_whole(walk: Path) -> None:
    info = VideoInfo(480, 270, Fraction(25), Fraction(1, 25), SDR)
    assert choose_regions(Fake(), walk, Options(region="auto"), info) is None
    with open_reader(walk, Options()) as reader:
        options = Options(region="auto", downsample_ratio=0.5)
        assert choose_regions(Fake(), walk, options, reader.info) is None
        assert choose_regions(Fake(), walk, Options(), reader.info) is None


def test_who_leaves_is_followed_to_the_edge(tmp_path: Path) -> None:
    """Nothing but the place where they were differs at the next look."""
    pictures = [scene(max(-60, 300 - 9 * n), 100) for n in range(75)]
    walk = make_clip(tmp_path / "leave.mkv", pictures, codec="ffv1")
    assert len(shares_seen(walk, look(walk))) == 75


@pytest.mark.parametrize("trace", [0, 60])
def test_nobody_is_there_until_something_changes(trace: int, tmp_path: Path) -> None:
    """Unless there is a trace of somebody, of whom the network is not sure."""
    pictures = [scene(min(300, 9 * max(0, n - 30) - 60), 100) for n in range(70)]
    for picture in pictures:
        picture[20:60, 500:520, 0] = trace
    clip = make_clip(tmp_path / "enter.mkv", pictures, codec="ffv1")
    regions = look(clip)
    assert regions.regions[0].empty == (not trace)
    shares = shares_seen(clip, regions)
    assert all(shares[30:])
    assert any(shares[:29]) == bool(trace)


def test_who_fills_the_frame_ends_the_search_until_a_cut(tmp_path: Path) -> None:
    pictures = [scene(20 + n, 0, side=480) for n in range(60)]
    pictures += [scene(300, 100, room=200)] * 20
    clip = make_clip(tmp_path / "near.mkv", pictures, codec="ffv1")
    network = Fake(0.0)
    found = find(clip, ModuleEngine(network))
    near, far = found.regions
    assert len(network.chunks) <= 4  # one look before the cut
    assert (near.windows, near.empty, far.since) == ((), False, Fraction(60, 25))
    assert far.windows
    assert found.why[0].startswith("people fill the frame")


def test_images_say_nothing_of_what_is_between_looks(tmp_path: Path) -> None:
    """So nowhere is an empty scene, and nothing starts again."""
    pictures = [scene(300, 100)] * 40 + [scene(900, 100)] * 60
    found = find(save_images(tmp_path / "in", pictures))
    assert found.regions[0].windows
    assert not any(region.empty for region in found.regions)
    assert not any(region.restart for region in found.regions[1:])


def test_who_crosses_is_followed(tmp_path: Path) -> None:
    pictures = [
        np.maximum(scene(9 * n, 100, side=30), scene(560 - 9 * n, 110, side=30))
        for n in range(60)
    ]
    walk = make_clip(tmp_path / "cross.mkv", pictures, codec="ffv1")
    shares = shares_seen(walk, look(walk))
    assert len(shares) == 60
    assert np.mean(shares) < 0.4


class Blurred(ModuleEngine):
    """Takes what is dim for a person too, unless it is seen by itself."""

    def step(self, frames: list[Frame], state: Any) -> tuple[list[Matted], Any]:
        pixels = frames[0].pixels
        if pixels.shape[1] > WIDTH:
            pixels = np.where(pixels > 100, 255, pixels).astype(np.uint8)
        return super().step([replace(frames[0], pixels=pixels)], state)


def test_what_is_no_person_from_near_gets_no_window(tmp_path: Path) -> None:
    picture = scene(500, 100, side=40)
    picture[60:140, 60:100, 0] = 110
    picture = picture.repeat(2, 0).repeat(2, 1)
    clip = make_clip(tmp_path / "chair.mkv", [picture] * 30, codec="ffv1")
    (region,) = find(clip, Blurred(Fake(0.0))).regions
    (window,) = region.windows
    assert window.keep[0] > 600


def test_a_picture_between_bars_is_looked_at(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", [scene(500, 100)] * 3, codec="ffv1")
    target, size = tmp_path / "out.mkv", (1400, 1400)
    report = convert(
        clip, input_resize=size, fit="contain", region="auto", output_alpha=target
    )
    assert report.regions
    for frame in decode(target):
        assert (frame > 250).any((0, 2))[1110:1210].all()
        assert not frame[:300].any()


def test_images_are_looked_at_without_decoding_all(tmp_path: Path) -> None:
    """One shot: a look every second and at the last image, and twice for cuts."""
    looked = []

    def watched(candidate: LazyFrame) -> LazyFrame:
        def convert(size: tuple[int, int]) -> Frame:
            looked.append(candidate.time)
            return candidate.convert(size)

        return LazyFrame(candidate.time, convert)

    folder = save_images(tmp_path / "in", [scene(20 + n, 100) for n in range(70)])
    with VideoReader(folder) as reader:
        candidates = map(watched, reader.lazy_frames())
        regions = find_regions(
            candidates, reader.info, (ModuleEngine(Fake()),) * 2, 0.8
        )
    assert regions.regions[0].windows
    assert 3 <= len(set(looked)) <= 5
    assert Fraction(69, 30) in looked


@pytest.mark.parametrize(("before", "after"), [(9, 40), (33, 20), (47, 5)])
def test_images_start_again_at_a_cut(tmp_path: Path, before: int, after: int) -> None:
    """It is found with a few looks, also where the shots are short."""
    pictures = [scene(20 + n, 100) for n in range(before)]
    pictures += [scene(400, 200, room=200) for _ in range(after)]
    folder = save_images(tmp_path / "in", pictures)
    found = find(folder, ModuleEngine(Fake()))
    assert shares_seen(folder, found)[before - 1 : before + 1] != [1, 1]
    (start,) = (each.since for each in found.regions[1:] if each.restart)
    assert start == Fraction(before, 30)


def test_stills_are_seen_in_their_window(tmp_path: Path) -> None:
    photo, target = tmp_path / "in.png", tmp_path / "out.png"
    Image.fromarray(scene(500, 40)).save(photo)
    assert convert(photo, output=target, region="auto").regions
    alpha = open_image(target)[..., 3]
    assert (alpha[45:155, 505:555] > 250).all()
    assert alpha[:, :300].max() == 0


def test_a_look_changes_nothing_of_the_conversion(walk: Path) -> None:
    """Frames that are looked at are those that iterating gives."""
    with VideoReader(walk) as reader:
        candidates = [
            (each.time, each.convert((WIDTH, HEIGHT)).pixels)
            for each in reader.lazy_frames()
        ]
    frames, _ = read_all(walk)
    assert [time for time, _ in candidates] == [frame.time for frame in frames]
    for (_, looked), frame in zip(candidates, frames, strict=True):
        # The edges of chroma differ.
        assert np.abs(looked.astype(int) - frame.pixels).mean() < 1


@pytest.mark.parametrize("name", ["yuv420p", "yuv420p10le", "p010le", "nv12", "rgb24"])
def test_a_sketch_is_brightness_in_any_format(name: str) -> None:
    picture = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 128, np.uint8))
    values = sketch(picture.reformat(format=name))
    assert values.size >= 96
    assert 0.45 < values.mean() < 0.55
