"""What `rematte inspect` says of clips and finished files that the tests draw."""

import json
import re
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DiscClip, Printed, Refused, Run, draw_disc, make_clip
from fakes import Fake, names, save_images
from numpy.typing import NDArray
from torch import Tensor

from rematte.inspect import figures
from rematte.inspect.checks import colour_check, match_times
from rematte.inspect.clip import at_other_ratio, mirrored
from rematte.inspect.moments import Timeline, spread
from rematte.matting.region import Region, Regions, Window, cut
from rematte.video.frame import SDR, VideoInfo

Pictures = list[NDArray[Any]]
Words = str | Path
RATE = Fraction(25)
FULL = {"mirror": 1, "direction": 1, "ratio": 1}


@pytest.fixture(autouse=True)
def network(fake: Fake, here: Path) -> Fake:
    """The network of every clip; commands run in a folder of their own."""
    return fake


def still(count: int = 40, red: int = 255) -> Pictures:
    """A clip that stands still and is its own mirror image: a disc in the middle."""
    y, x = np.mgrid[:48, :64]
    disc = np.hypot(x - 31.5, y - 24) < 12
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[disc, 0] = red
    return [frame] * count


def lossless(frames: Pictures, name: str = "in.mkv") -> Path:
    return make_clip(Path(name), frames, codec="ffv1", pix_fmt="bgr0")


def cutout(frames: Pictures, **options: Any) -> Path:
    return make_clip(Path("cut.mkv"), frames, codec="ffv1", pix_fmt="bgra", **options)


def inspect(run: Run, *words: Words, code: int = 0) -> dict[str, Any]:
    found, out, err = run("inspect", *words, "--json")
    assert found == code, (out, err)
    report: dict[str, Any] = json.loads(out)
    return report


def check(run: Run, name: str, *words: Words) -> str:
    """What is said by a check that fails."""
    report = inspect(run, *words, code=1)
    (found,) = [each for each in report["checks"] if each["name"] == name]
    assert not found["ok"]
    return str(found["text"])


@pytest.mark.parametrize("region", ["full", "4,0,48,48"])
def test_a_still_symmetric_clip_has_full_agreement(run: Run, region: str) -> None:
    """Also in a window."""
    words = lossless(still()), "--frames", "2", "--region", region
    report = inspect(run, *words)
    assert report["kind"] == "clip"
    assert len(report["regions"]) == (region != "full")
    assert report["mean"]["agreement"] == FULL
    assert report["mean"]["coverage"] == pytest.approx(0.147, abs=0.01)
    assert report["mean"]["flicker"] in (None, 0)
    assert report["look_at"] == report["no_people"] == []
    assert len(report["moments"]) == 2


def test_an_empty_clip_has_no_people(run: Run) -> None:
    clip = lossless(still(red=0))
    report = inspect(run, clip)
    (span,) = report["no_people"]
    assert span["start"] < 0.4
    assert span["end"] > 1.2
    reasons = {reason for each in report["look_at"] for reason in each["reasons"]}
    assert reasons == {"no people found"}
    assert "no people found: " in run("inspect", clip)[1]


def test_people_who_leave_are_missed(run: Run, network: Fake) -> None:
    network.memory = 0
    clip = lossless([*still(60), *still(60, red=0)])
    (span,) = inspect(run, clip, "--every", "0.5")["no_people"]
    assert 2.4 <= span["start"] < 3
    assert span["end"] > 4.5


class OneSided(Fake):
    """Sees what is red on the left half of the picture alone."""

    def forward(self, src: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        src = src.clone()
        src[..., src.shape[-1] // 2 :] = 0
        return super().forward(src, *rest)


class Hasty(Fake):
    """Sees nothing at a large ratio."""

    def forward(self, src: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        return super().forward(src * (0 if rest[-1] > 0.9 else 1), *rest)


@pytest.mark.parametrize(
    ("network_of", "way", "name"),
    [
        (OneSided, "mirror", "its mirror image"),
        (Hasty, "ratio", "another downsample ratio (0.975)"),
    ],
)
def test_what_disagrees_is_named(
    network_of: type[Fake], way: str, name: str, run: Run, monkeypatch: Any
) -> None:
    monkeypatch.setattr("rematte.engines.choose.load_for", lambda *_: network_of())
    words = lossless(still()), "--frames", "1", "--downsample-ratio", "0.78"
    report = inspect(run, *words)
    agreement = report["mean"]["agreement"]
    assert agreement.pop(way) < 0.1
    assert set(agreement.values()) == {1.0}
    (found,) = report["look_at"]
    assert found["reasons"][0].startswith(f"{name} gives a matte that agrees by")


def test_motion_makes_the_clip_played_backwards_differ(run: Run) -> None:
    frames = [np.roll(frame, 3 * i, 1) for i, frame in enumerate(still(20))]
    report = inspect(run, lossless(frames), "--frames", "1")
    agreement = report["mean"]["agreement"]
    assert agreement["direction"] < 0.9
    assert agreement["mirror"] > 0.99


def test_a_single_image_is_a_clip_of_one_frame(run: Run) -> None:
    report = inspect(run, save_images(Path("in"), still(1)) / "shot0.png")
    assert report["frames"] == 1
    assert report["mean"]["agreement"] == FULL


def test_the_page_is_one_file_that_fetches_nothing(
    run: Run, printed: Printed, refused: Refused
) -> None:
    out = Path("out")
    words = ["inspect", lossless(still(), "a&b.mkv"), "-o", out]
    assert printed(*words).rstrip().endswith("out/index.html")
    assert names(out) == {"index.html", "inspect.json", "map.png", "moments.png"}
    page = (out / "index.html").read_text("utf-8")
    assert "a&amp;b.mkv" in page
    assert not re.search(r"https?:|<script|<link|@import|url\(", page)
    assert all(s.startswith("data:") for s in re.findall(r'src="([^"]*)', page))
    assert json.loads((out / "inspect.json").read_text())["kind"] == "clip"
    assert "exists; pass overwrite (-y)" in refused(1, *words)
    assert run(*words, "-y", "-q") == (0, "", "")


@pytest.mark.parametrize("folder", [".", "report"])
def test_a_folder_that_cannot_be_written_is_found_before_any_work(
    closed_disk: Path, folder: str, network: Fake, refused: Refused
) -> None:
    words = ["inspect", lossless(still()), "-o", closed_disk / folder]
    assert f"no permission to write to {closed_disk}" in refused(1, *words)
    assert network.seen == 0


@pytest.fixture
def source(disc: DiscClip, network: Fake) -> Path:
    return lossless(disc.frames, "source.mkv")


def test_a_good_cutout_passes(run: Run, disc: DiscClip, source: Path) -> None:
    path = cutout(disc.rgba)
    report = inspect(run, path, "--source", source)
    assert (report["kind"], report["ok"]) == ("cut-out", True)
    assert report["frames"] == len(disc.frames)
    told = {each["name"]: (each["ok"], each["text"]) for each in report["checks"]}
    assert told["hidden colours"] == (True, "RGB is 0 where alpha is 0")
    assert told["frames"] == (True, "12, as the source")
    expected = np.mean(disc.alpha) / 255
    assert report["mean"]["coverage"] == pytest.approx(expected, abs=1e-3)
    assert inspect(run, path, "--frames", "3")["ok"]


@pytest.mark.parametrize(
    ("flag", "target", "more"),
    [("-o", "o.mov", []), ("-o", "o.webm", []), ("--alpha", "a.mp4", ["--matte"])],
)
def test_conversions_pass(flag: str, target: str, more: list[str], run: Run) -> None:
    clip = make_clip(Path("in.mp4"), draw_disc(8).frames, sound=True)
    assert run("convert", clip, flag, target, "-q")[0] == 0
    report = inspect(run, target, *more, "--source", clip)
    assert report["ok"], report


@pytest.mark.parametrize("lost", [0, 5, 11])
def test_a_frame_is_missing(lost: int, run: Run, disc: DiscClip, source: Path) -> None:
    rgba, times = disc.rgba, [index / RATE for index in range(12)]
    del rgba[lost], times[lost]
    text = check(run, "frames", cutout(rgba, times=times), "--source", source)
    # Times are read from the first picture on: a clip without its first frame is one
    # without its last.
    assert text.startswith(f"11, the source has 12; missing: {lost or 11} ")


def test_lost_images_of_mattes_are_told(run: Run, disc: DiscClip, source: Path) -> None:
    folder = save_images(Path("pha"), disc.alpha)
    words = folder, "--matte"
    assert inspect(run, *words, "--source", source)["ok"]
    (folder / "shot3.png").unlink()
    assert check(run, "numbers", *words) == "0 to 11, without 3"
    text = check(run, "frames", *words, "--source", source)
    assert text == "11, the source has 12"


def test_a_file_without_alpha_is_named(
    run: Run, refused: Refused, source: Path
) -> None:
    line = refused(3, "inspect", source, "--source", source)
    assert re.search(r"source\.mkv: no alpha channel .*--matte", line)
    assert check(run, "gray", source, "--matte").startswith("a colour picture")


def test_an_opaque_alpha_channel_is_reported(run: Run, disc: DiscClip) -> None:
    full = np.full((64, 96), 255, np.uint8)
    opaque = [np.dstack([frame, full]) for frame in disc.frames]
    text = check(run, "alpha", cutout(opaque))
    assert text == "opaque everywhere: nothing was cut out"


def test_the_room_below_alpha_is_told(run: Run, source: Path, disc: DiscClip) -> None:
    kept = [np.dstack(pair) for pair in zip(disc.frames, disc.alpha, strict=True)]
    text = check(run, "hidden colours", cutout(kept), "--source", source)
    assert "it is the source's there" in text


def test_colours_fail_where_both_state_them_and_they_differ() -> None:
    for stated, ok in ((1, True), (2, True), (9, False)):
        found = colour_check(replace(SDR, primaries=stated), SDR, False)
        assert found.ok is ok, found


def test_limited_range_is_reported(run: Run, disc: DiscClip) -> None:
    narrow = [(16 + alpha * (219 / 255)).astype(np.uint8) for alpha in disc.alpha]
    text = check(run, "alpha", save_images(Path("pha"), narrow), "--matte")
    assert "limited range" in text


def test_a_person_who_vanishes_for_a_frame_is_listed(run: Run, disc: DiscClip) -> None:
    alpha = [*disc.alpha]
    alpha[6] = np.zeros_like(alpha[6])
    words = save_images(Path("pha"), alpha), "--matte"
    report = inspect(run, *words)
    assert report["look_at"][0]["time"] == pytest.approx(6 / 30, abs=1 / 30)
    assert report["no_people"] == [{"start": 0.2, "end": 0.233}]
    assert run("inspect", *words, "-o", "out", "-q")[0] == 0
    assert "data:image/jpeg" in Path("out/index.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("cut.mkv --engine plain", "--engine has no effect without"),
        ("cut.mkv --downsample-ratio 1", "--downsample-ratio has no effect without"),
        ("cut.mkv --quality best", "--quality has no effect without"),
        ("cut.mkv --start 1", "--start has no effect without"),
        ("cut.mkv --region 0,0,9,9", "--region has no effect without"),
        ("cut.mkv -y", "--overwrite has no effect without"),
        ("source.mkv --frames 0", "--frames"),
        ("source.mkv --every 0", "--every"),
        ("source.mkv --region 60,0,48,48", "reaches beyond the frame"),
    ],
)
def test_flags_without_effect_and_out_of_range_are_refused(
    words: str, said: str, refused: Refused, disc: DiscClip, source: Path
) -> None:
    cutout(disc.rgba)
    assert said in refused(2, "inspect", *words.split())


def test_holes_are_enclosed() -> None:
    alpha = np.zeros((20, 20))
    alpha[5:15, 5:15] = 1
    assert figures.holes(alpha) == 0
    alpha[8:10, 8:13] = 0
    assert figures.holes(alpha) == pytest.approx(0.1)
    alpha[8:10, 8:] = 0  # open to the outside
    assert figures.holes(alpha) == 0
    assert figures.holes(alpha * 0) == 0


def test_a_path_that_winds_leads_out_of_no_hole() -> None:
    walls = np.ones((9, 9))
    walls[1, 1:8] = walls[1:8, 7] = walls[7, 1:8] = walls[3:8, 1] = walls[3, 1:5] = 0
    assert figures.holes(walls) > 0
    walls[0, 1] = 0
    assert figures.holes(walls) == 0


def test_flicker_needs_a_still_picture() -> None:
    edge = np.tile(np.linspace(0, 1, 20), (20, 1))
    picture = np.zeros((20, 20))
    changed = [edge, np.clip(edge + 0.1, 0, 1)]
    assert figures.flicker([edge, edge], [picture, picture]) == 0
    found = figures.flicker(changed, [picture, picture])
    assert found == pytest.approx(0.1, abs=0.01)
    assert figures.flicker(changed, [picture, picture + 0.5]) is None


def test_windows_of_a_mirror_image_hold_the_mirror_image() -> None:
    windows = Window(10, 20, (10, 20, 42, 52)), Window(-8, 40, (0, 40, 24, 60))
    regions = Regions((60, 80), (Region(windows=windows, size=(32, 32)),))
    (flipped,) = mirrored(regions).regions
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    for window, other in zip(windows, flipped.windows, strict=True):
        one = cut(pixels, window, (32, 32))
        two = cut(pixels[:, ::-1], other, (32, 32))
        assert (one[:, ::-1] == two).all()
    assert mirrored(mirrored(regions)) == regions
    (changed,) = at_other_ratio(regions).regions
    assert changed.ratio == pytest.approx(0.8)


def test_moments_are_spread_and_do_not_overlap() -> None:
    info = VideoInfo(64, 48, rate=RATE, time_base=1 / RATE, colour=SDR)
    for count in (1, 2, 5, 17, 100):
        times = [index / RATE for index in range(count + 3)]
        line = Timeline(info, times, 3, count + 3, [])
        for number in (1, 3, 50):
            firsts = spread(line, number, 4)
            assert firsts == sorted(set(firsts))
            assert firsts[0] >= 3
            assert firsts[-1] + min(4, count) <= count + 3
            assert all(b - a >= 4 for a, b in pairwise(firsts))


def test_times_match_by_another_clock() -> None:
    wanted = [index / RATE for index in range(10)]
    later = [time + 3 for time in wanted]
    assert match_times(later, wanted) == ([], [], 0)
    assert match_times(later[:4] + later[5:], wanted)[:2] == ([4], [])
    doubled = sorted([*wanted, wanted[3] + 1 / RATE / 2 + Fraction(1, 1000)])
    assert len(match_times(doubled, wanted)[1]) <= 1
