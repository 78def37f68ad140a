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
from conftest import DiscClip, Run, draw_disc, make_clip
from fakes import Fake, save_images
from numpy.typing import NDArray
from torch import Tensor

from rematte.inspect import figures
from rematte.inspect.checks import colour_check, match_times
from rematte.inspect.clip import at_other_ratio, mirrored
from rematte.inspect.moments import Timeline, spread
from rematte.matting.region import Region, Regions, Window, cut
from rematte.video.frame import SDR, VideoInfo

Pictures = list[NDArray[Any]]
RATE = Fraction(25)


def still(count: int = 40, red: int = 255) -> Pictures:
    """A clip that stands still and is its own mirror image: a disc in the middle."""
    y, x = np.mgrid[:48, :64]
    disc = np.hypot(x - 31.5, y - 24) < 12
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[disc, 0] = red
    return [frame] * count


def lossless(path: Path, frames: Pictures) -> Path:
    return make_clip(path, frames, codec="ffv1", pix_fmt="bgr0")


def cutouts(path: Path, frames: Pictures, **options: Any) -> Path:
    return make_clip(path, frames, codec="ffv1", pix_fmt="bgra", **options)


def inspect(run: Run, *words: str | Path, code: int = 0) -> dict[str, Any]:
    found, out, err = run("inspect", *words, "--json")
    assert found == code, (out, err)
    report: dict[str, Any] = json.loads(out)
    return report


def check(report: dict[str, Any], name: str) -> tuple[bool, str]:
    (found,) = [each for each in report["checks"] if each["name"] == name]
    return found["ok"], found["text"]


# Clips


def test_a_still_symmetric_clip_has_full_agreement(
    run: Run, fake: Fake, tmp_path: Path
) -> None:
    report = inspect(run, lossless(tmp_path / "in.mkv", still()), "--frames", "2")
    assert report["kind"] == "clip"
    assert report["mean"]["agreement"] == {"mirror": 1, "direction": 1, "ratio": 1}
    assert report["mean"]["coverage"] == pytest.approx(0.147, abs=0.01)
    assert report["mean"]["flicker"] in (None, 0)
    assert report["look_at"] == report["no_people"] == []
    assert len(report["moments"]) == 2


def test_an_empty_clip_has_no_people(run: Run, fake: Fake, tmp_path: Path) -> None:
    report = inspect(run, lossless(tmp_path / "in.mkv", still(red=0)))
    (span,) = report["no_people"]
    assert span["start"] < 0.4
    assert span["end"] > 1.2
    assert {reason for each in report["look_at"] for reason in each["reasons"]} == {
        "no people found"
    }
    _, out, _ = run("inspect", tmp_path / "in.mkv")
    assert "no people found: " in out


def test_people_who_leave_are_missed_where_they_are_not(
    run: Run, fake: Fake, tmp_path: Path
) -> None:
    fake.memory = 0
    lossless(tmp_path / "in.mkv", [*still(60), *still(60, red=0)])
    (span,) = inspect(run, tmp_path / "in.mkv", "--every", "0.5")["no_people"]
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


@pytest.mark.parametrize(("network", "way"), [(OneSided, "mirror"), (Hasty, "ratio")])
def test_what_disagrees_is_named(
    network: type[Fake], way: str, run: Run, fake: Fake, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("rematte.engines.choose.load_for", lambda *args: network())
    clip = lossless(tmp_path / "in.mkv", still())
    report = inspect(run, clip, "--frames", "1", "--downsample-ratio", "0.78")
    agreement = report["mean"]["agreement"]
    assert agreement.pop(way) < 0.1
    assert set(agreement.values()) == {1.0}
    (found,) = report["look_at"]
    name = {"mirror": "its mirror image", "ratio": "another downsample ratio (0.975)"}
    assert found["reasons"][0].startswith(f"{name[way]} gives a matte that agrees by")


def test_motion_makes_the_clip_played_backwards_differ(
    run: Run, fake: Fake, tmp_path: Path
) -> None:
    frames = [np.roll(frame, 3 * i, 1) for i, frame in enumerate(still(20))]
    report = inspect(run, lossless(tmp_path / "in.mkv", frames), "--frames", "1")
    agreement = report["mean"]["agreement"]
    assert agreement["direction"] < 0.9
    assert agreement["mirror"] > 0.99


def test_a_single_image_is_a_clip_of_one_frame(
    run: Run, fake: Fake, tmp_path: Path
) -> None:
    folder = save_images(tmp_path / "in", still(1))
    report = inspect(run, folder / "shot0.png")
    assert report["frames"] == 1
    assert set(report["mean"]["agreement"].values()) == {1.0}


def test_the_page_is_one_file_that_fetches_nothing(
    run: Run, fake: Fake, tmp_path: Path
) -> None:
    clip = lossless(tmp_path / "a&b.mkv", still())
    words = ["inspect", clip, "-o", tmp_path / "out"]
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert out.rstrip().endswith(str(tmp_path / "out/index.html"))
    files = {file.name for file in (tmp_path / "out").iterdir()}
    assert files == {"index.html", "inspect.json", "map.png", "moments.png"}
    page = (tmp_path / "out/index.html").read_text("utf-8")
    assert "a&amp;b.mkv" in page
    assert not re.search(r"https?:|<script|<link|@import|url\(", page)
    assert all(s.startswith("data:") for s in re.findall(r'src="([^"]*)', page))
    assert json.loads((tmp_path / "out/inspect.json").read_text())["kind"] == "clip"
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    assert "exists; pass overwrite (-y)" in err
    assert run(*words, "-y", "-q") == (0, "", "")


# Finished files


@pytest.fixture
def source(disc: DiscClip, tmp_path: Path) -> Path:
    return lossless(tmp_path / "source.mkv", disc.frames)


def test_a_good_cutout_passes(
    run: Run, disc: DiscClip, source: Path, tmp_path: Path
) -> None:
    path = cutouts(tmp_path / "cut.mkv", disc.rgba)
    report = inspect(run, path, "--source", source)
    assert (report["kind"], report["ok"]) == ("cut-out", True)
    assert report["frames"] == len(disc.frames)
    assert check(report, "hidden colours") == (True, "RGB is 0 where alpha is 0")
    assert check(report, "frames") == (True, "12, as the source")
    expected = np.mean(disc.alpha) / 255
    assert report["mean"]["coverage"] == pytest.approx(expected, abs=1e-3)
    assert inspect(run, path, "--frames", "3")["ok"]


def test_what_the_converter_writes_passes(run: Run, fake: Fake, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", draw_disc(8).frames, sound=True)
    outputs = tmp_path / "o.mov", tmp_path / "o.webm", tmp_path / "a.mp4"
    for path, flag in zip(outputs, ("-o", "-o", "--alpha"), strict=True):
        assert run("convert", clip, flag, path, "-q")[0] == 0
        extra = ["--matte"] if path.stem == "a" else []
        report = inspect(run, path, *extra, "--source", clip)
        assert report["ok"], report


@pytest.mark.parametrize("lost", [0, 5, 11])
def test_a_missing_frame_is_reported(
    lost: int, run: Run, disc: DiscClip, source: Path, tmp_path: Path
) -> None:
    rgba, times = disc.rgba, [index / RATE for index in range(12)]
    del rgba[lost], times[lost]
    path = cutouts(tmp_path / "cut.mkv", rgba, times=times)
    report = inspect(run, path, "--source", source, code=1)
    ok, text = check(report, "frames")
    assert not ok
    # Times are read from the first picture on: a clip without its first frame is one
    # without its last.
    number = lost or 11
    assert text.startswith(f"11, the source has 12; missing: {number} ")


def test_a_matte_with_a_missing_image_is_reported(
    run: Run, disc: DiscClip, source: Path, tmp_path: Path
) -> None:
    folder = save_images(tmp_path / "pha", disc.alpha)
    assert inspect(run, folder, "--matte", "--source", source)["ok"]
    (folder / "shot3.png").unlink()
    report = inspect(run, folder, "--matte", code=1)
    assert check(report, "numbers") == (False, "0 to 11, without 3")
    ok, text = check(
        inspect(run, folder, "--matte", "--source", source, code=1), "frames"
    )
    assert (ok, text) == (False, "11, the source has 12")


def test_a_file_without_alpha_is_named(run: Run, source: Path, tmp_path: Path) -> None:
    code, out, err = run("inspect", source, "--source", source)
    assert (code, out) == (3, "")
    assert re.search(r"source\.mkv: no alpha channel .*--matte", err)
    report = inspect(run, source, "--matte", code=1)
    ok, text = check(report, "gray")
    assert (ok, text[:16]) == (False, "a colour picture")


def test_an_opaque_alpha_channel_is_reported(
    run: Run, disc: DiscClip, tmp_path: Path
) -> None:
    opaque = [np.dstack([frame, np.full(frame.shape[:2], 255, np.uint8)])
              for frame in disc.frames]  # fmt: skip
    report = inspect(run, cutouts(tmp_path / "cut.mkv", opaque), code=1)
    assert check(report, "alpha") == (False, "opaque everywhere: nothing was cut out")


def test_the_room_below_alpha_0_is_reported(
    run: Run, source: Path, disc: DiscClip, tmp_path: Path
) -> None:
    kept = [np.dstack(pair) for pair in zip(disc.frames, disc.alpha, strict=True)]
    path = cutouts(tmp_path / "cut.mkv", kept)
    ok, text = check(inspect(run, path, "--source", source, code=1), "hidden colours")
    assert not ok
    assert "it is the source's there" in text


def test_colours_fail_where_both_state_them_and_they_differ() -> None:
    for stated, ok in ((1, True), (2, True), (9, False)):
        found = colour_check(replace(SDR, primaries=stated), SDR, False)
        assert found.ok is ok, found


def test_limited_range_is_reported(run: Run, disc: DiscClip, tmp_path: Path) -> None:
    narrow = [(16 + alpha * (219 / 255)).astype(np.uint8) for alpha in disc.alpha]
    folder = save_images(tmp_path / "pha", narrow)
    ok, text = check(inspect(run, folder, "--matte", code=1), "alpha")
    assert not ok
    assert "limited range" in text


def test_a_person_who_vanishes_for_a_frame_is_listed(
    run: Run, disc: DiscClip, tmp_path: Path
) -> None:
    alpha = [*disc.alpha]
    alpha[6] = np.zeros_like(alpha[6])
    folder = save_images(tmp_path / "pha", alpha)
    report = inspect(run, folder, "--matte")
    assert report["look_at"][0]["time"] == pytest.approx(6 / 30, abs=1 / 30)
    assert report["no_people"] == [{"start": 0.2, "end": 0.233}]
    assert run("inspect", folder, "--matte", "-o", tmp_path / "out", "-q")[0] == 0
    assert "data:image/jpeg" in (tmp_path / "out/index.html").read_text("utf-8")


# Flags


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["--engine", "plain"], "--engine"),
        (["--quality", "best"], "--quality"),
        (["--downsample-ratio", "1"], "--downsample-ratio"),
        (["--start", "1"], "--start"),
        (["--region", "0,0,9,9"], "--region"),
        (["-y"], "--overwrite"),
    ],
)
def test_flags_without_effect_are_refused(
    words: list[str], flag: str, run: Run, disc: DiscClip, tmp_path: Path
) -> None:
    path = cutouts(tmp_path / "cut.mkv", disc.rgba)
    code, out, err = run("inspect", path, *words)
    assert (code, out) == (2, "")
    assert f"{flag} has no effect without" in err


def test_numbers_out_of_range_are_refused(run: Run, fake: Fake, source: Path) -> None:
    for flag in ("--frames", "--every"):
        code, out, err = run("inspect", source, flag, "0")
        assert (code, out) == (2, "")
        assert flag in err


# Figures


def test_agreement_is_between_none_and_full() -> None:
    one, other = np.zeros((20, 20)), np.zeros((20, 20))
    one[5:15, 5:15], other[5:15, 10:20] = 1, 1
    assert figures.agreement(one, one) == 1
    assert figures.agreement(one * 0, other * 0) == 1
    assert figures.agreement(one, other) == pytest.approx(1 / 3, abs=0.01)
    assert figures.agreement(one, one * 0) < 0.01


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
    changed = np.clip(edge + 0.1, 0, 1)
    assert figures.flicker([edge, edge], [picture, picture]) == 0
    assert figures.flicker([edge, changed], [picture, picture]) == pytest.approx(
        0.1, abs=0.01
    )
    assert figures.flicker([edge, changed], [picture, picture + 0.5]) is None


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


def test_windows_are_looked_into_like_whole_frames(
    run: Run, fake: Fake, tmp_path: Path
) -> None:
    clip = lossless(tmp_path / "in.mkv", still())
    report = inspect(run, clip, "--frames", "1", "--region", "8,0,48,48")
    assert len(report["regions"]) == 1
    assert report["mean"]["agreement"] == {"mirror": 1, "direction": 1, "ratio": 1}
    assert report["mean"]["coverage"] == pytest.approx(0.147, abs=0.01)
    code, _, err = run("inspect", clip, "--region", "40,0,48,48")
    assert code == 2
    assert "reaches beyond the frame" in err


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
