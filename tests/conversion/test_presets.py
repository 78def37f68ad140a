"""What receivers take, and videos of at most so many bytes."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import Printed, Refused, Run, make_clip
from fakes import Fake, convert, convert_in_parts, times
from PIL import Image

from rematte.cli.app import build_parser
from rematte.cli.flags import settings
from rematte.conversion.presets import PRESETS
from rematte.errors import OutputError
from rematte.options import make_options
from rematte.video.reader import VideoReader


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of noise at 60 frames/s, which no codec likes, with sound."""
    draw = np.random.default_rng(0)
    coarse = draw.integers(0, 255, (40, 8, 12, 3), np.uint8)
    frames = [f.repeat(8, 0).repeat(8, 1) for f in coarse]
    path = tmp_path_factory.mktemp("busy") / "in.mkv"
    return make_clip(path, frames, rate=20, codec="ffv1", pix_fmt="bgr0", sound=True)


@pytest.mark.parametrize(
    ("name", "more", "share"),
    [
        ("o.webm", {"crf": 10}, 0.4),
        ("o.mp4", {"codec": "hevc", "background": "red"}, 0.5),
        ("o.mp4", {"output_video_mbps": 2, "background": "red"}, 0.6),
        ("o.webp", {}, 0.4),
        ("o.gif", {}, 0.5),
        ("o.apng", {}, 0.5),
    ],
)
def test_bytes_stay_within_the_limit(
    busy: Path, tmp_path: Path, name: str, more: dict[str, Any], share: float
) -> None:
    path = tmp_path / name
    convert(busy, path, audio=False, **more)
    limit, network = int(path.stat().st_size * share), Fake()
    report = convert(busy, path, network, max_bytes=limit, audio=False, **more)
    assert limit / 5 < path.stat().st_size <= limit
    assert len(network.chunks) == report.frames == 40
    assert any("bytes became" in note for note in report.notes)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    if name == "o.webm":
        shown = times(path)  # which are those of the source
        assert shown == sorted({*shown} & {Fraction(n, 20) for n in range(40)})


def test_outputs_of_one_name_share_no_hidden_file(busy: Path, tmp_path: Path) -> None:
    """Those beside which lossless frames are saved, and one in the format of these."""
    names = {"output": "o.avif", "composition": "o.gif", "alpha": "o.nut"}
    paths = {kind: tmp_path / name for kind, name in names.items()}
    given = {"background": "red", "max_bytes": 40_000, "limit": 20}
    alpha, both = paths.pop("alpha"), {"output_composition": paths["composition"]}
    report = convert(busy, paths["output"], output_alpha=alpha, **both, **given)
    assert sum("bytes became" in note for note in report.notes) == 1
    assert {entry.name for entry in tmp_path.iterdir()} == {*names.values()}
    shown = [frame.pixels for frame in VideoReader(alpha)]
    composed = [frame.pixels for frame in VideoReader(paths["composition"])]
    for path in paths.values():
        path.unlink()
    convert(busy, output_alpha=alpha, limit=20)
    for found, alone in zip(shown, VideoReader(alpha), strict=True):
        np.testing.assert_array_equal(found, alone.pixels)
    convert(busy, **both, **given)
    alone = [frame.pixels for frame in VideoReader(paths["composition"])]
    np.testing.assert_array_equal(composed, alone)


def test_a_file_that_is_small_is_written_once(busy: Path, tmp_path: Path) -> None:
    for name, more in (("a.webp", {}), ("b.webp", {"max_bytes": 10**7})):
        report = convert(busy, tmp_path / name, **more)
        assert not any("bytes" in note for note in report.notes)
    assert (tmp_path / "a.webp").read_bytes() == (tmp_path / "b.webp").read_bytes()


@pytest.mark.parametrize("name", ["o.webm", "o.gif", "o.mp4"])
def test_what_cannot_be_that_small_fails(busy: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"max_bytes \(--max-bytes\).*--resize"):
        convert(busy, tmp_path / name, max_bytes=4000)
    assert not [*tmp_path.iterdir()]


def test_segments_refuse_it(busy: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--max-bytes"):
        convert_in_parts(busy, tmp_path / "o.mkv", codec="vp9", max_bytes=10**6)


# What has a longest length is tried in its size, and for so long in a smaller one.
TRIED = [
    (name, suffix, more)
    for name, each in PRESETS.items()
    for suffix in each.suffixes
    for more in (
        [{"limit": 5}, {"input_resize": (96, 64)}] if each.seconds
        else [{"limit": 9, "input_resize": (96, 64)}] if name == "slides"
        else [{"limit": 9}]
    )
]  # fmt: skip


@pytest.mark.parametrize(("name", "suffix", "more"), TRIED)
def test_every_preset_writes_what_its_receiver_takes(
    name: str, suffix: str, more: dict[str, Any], tmp_path: Path, disc_clip: Path
) -> None:
    path = tmp_path / ("%04d.exr" if suffix == ".exr" else f"o{suffix}")
    report = convert(disc_clip, path, preset=name, **more)
    assert report.notes[0].startswith(f"preset {name}: --")
    wanted = PRESETS[name].options
    if suffix == ".exr":
        assert len([*tmp_path.glob("*.exr")]) == report.frames
        return
    assert path.stat().st_size <= wanted.get("max_bytes", 10**9)
    wanted = {**wanted, **more}
    width, height = wanted.get("input_resize", (96, 64))
    if suffix == ".webp":
        with Image.open(path) as image:
            assert image.size == (width, height)
            lengths = []
            for index in range(image.n_frames):
                image.seek(index)
                image.load()
                lengths.append(image.info["duration"])
            assert sum(lengths) <= 1000 * PRESETS[name].seconds  # type: ignore[operator]
        return
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name in (wanted.get("codec"), "gif", "apng")
        if "packed" not in wanted:
            assert (stream.width, stream.height) == (width, height)
        assert wanted.get("audio", True) or not container.streams.audio
    with VideoReader(path) as reader:
        frames = list(reader)
    assert reader.info.rate <= wanted.get("max_rate", 65) + Fraction(1, 2)
    if PRESETS[name].seconds is not None:
        assert frames[-1].time + frames[-1].duration <= PRESETS[name].seconds


@pytest.fixture(scope="module")
def disc_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More than three seconds and more than every rate that is allowed, with sound."""
    frames = [np.full((64, 96, 3), 40 + n // 4, np.uint8) for n in range(210)]
    path = tmp_path_factory.mktemp("disc") / "in.mp4"
    return make_clip(path, frames, rate=Fraction(65), sound=True)


def test_given_options_win() -> None:
    options = make_options(preset="telegram", input_resize=(100, 512), start=2)
    assert options.input_resize == (100, 512)
    assert options.max_bytes == PRESETS["telegram"].options["max_bytes"]
    assert options.end == pytest.approx(4.95)
    assert make_options(preset="telegram", end=9).end == 9
    assert make_options(preset="web", output_video_mbps=2).crf is None
    default = make_options(preset="telegram", fit="stretch", audio=True)
    assert (default.fit, default.audio) == ("stretch", True)


def test_what_a_preset_fills_in_without_effect_is_noted(
    tmp_path: Path, run: Run, refused: Refused, fake: Fake
) -> None:
    image, path = tmp_path / "in.png", tmp_path / "o.webp"
    Image.new("RGB", (64, 48)).save(image)
    words = ["convert", image, "-o", path, "-y", "--preset", "whatsapp"]
    code, _, err = run(*words, "--fit", "stretch")
    assert code == 0
    assert "--fit stretch" in err
    assert "; without effect here: --max-rate 15, --max-bytes 500000" in err
    line = refused(2, *words, "--limit", "2")
    assert "limit (--limit) 2 has no effect here" in line


def test_a_given_flag_wins_even_where_it_names_the_default() -> None:
    words = ["convert", "in.mp4", "-o", "o_%02d.exr", "--preset", "nuke"]
    for more, found in (([], "zips"), (["--exr-compression", "zip"], "zip")):
        given = settings(build_parser().parse_args([*words, *more]), "cpu")
        assert make_options(**given).exr_compression == found


def test_batches_write_for_receivers(
    disc_clip: Path, tmp_path: Path, printed: Printed
) -> None:
    words = ["batch", disc_clip, "-o", tmp_path / "out", "--preset", "telegram"]
    assert "/in.webm" in printed(*words, "--dry-run", "--json")


def test_a_wrong_suffix(disc_clip: Path, tmp_path: Path, refused: Refused) -> None:
    words = ["convert", disc_clip, "--preset", "telegram", "-o", tmp_path / "o.mov"]
    needed = "preset telegram (--preset) needs an output that ends in .webm"
    assert needed in refused(2, *words)
    assert not [*tmp_path.iterdir()]
