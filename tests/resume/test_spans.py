"""Every option acts in spans as in one run: the same notes, frames, times and sound."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import Tags, damage, make_clip
from fakes import Fake, colours, contents, read, save_images, scenes, sound
from PIL import Image
from segmenting import RATIO

from rematte.convert import convert_video
from rematte.options import OPTIONS
from rematte.segments import SegmentConverter, join, prepare

Maker = Callable[[Path], Path]
UNEVEN = [Fraction(3 + 2 * n + n % 2, 60) for n in range(10)]


def plain(folder: Path) -> Path:
    return make_clip(
        folder / "in.mp4", colours(), times=UNEVEN, time_base=Fraction(1, 600),
        sound=True, sound_seconds=0.6,
    )  # fmt: skip


def drawn(pictures: list[Any], name: str = "in.mp4", **how: Any) -> Maker:
    return lambda folder: make_clip(folder / name, pictures, **how)


interlaced = drawn(
    colours(10, (32, 32)),
    options={"qp": "0", "flags": "+ildct", "x264-params": "keyint=5:interlaced=1"},
)
hdr = drawn(
    [picture.astype(np.uint16) * 257 for picture in colours()], "in.mkv",
    codec="ffv1", pix_fmt="yuv444p10le", tags=Tags(9, 1, 9, 16),
)  # fmt: skip


def transparent(folder: Path) -> Path:
    alpha = np.tile(np.array([0, 85, 170, 255], np.uint8).repeat(8), (24, 1))
    pictures = [np.dstack([picture, alpha]) for picture in colours()]
    return make_clip(folder / "in.mkv", pictures, codec="ffv1", pix_fmt="bgra")


def damaged(folder: Path) -> Path:
    """Frames that stand alone, one of which cannot be decoded."""
    path = make_clip(folder / "in.mov", colours(), codec="png", pix_fmt="rgb24")
    return damage(path, slice(4, 5))


def listed(folder: Path) -> Path:
    plain(folder)
    path = folder / "in.ffconcat"
    path.write_text("ffconcat version 1.0\nfile in.mp4\nfile in.mp4")
    return path


def crossing(folder: Path) -> Path:
    """Two people, of two or of one colour, walk past each other."""
    pictures = []
    for n in range(12):
        picture = np.zeros((40, 64, 3), np.uint8)
        picture[5:35, 4 + 4 * n : 14 + 4 * n] = 255, 140, 0
        picture[6:36, 50 - 4 * n : 60 - 4 * n] = 255, 150, 0
        pictures.append(picture)
    return make_clip(folder / "in.mkv", pictures, codec="ffv1", pix_fmt="bgr0")


def picture(folder: Path) -> Path:
    Image.fromarray(colours(1, (64, 16))[0]).save(folder / "b.png")
    return plain(folder)


def before_a_film(folder: Path) -> Path:
    make_clip(folder / "film.mp4", colours(3), rate=40)
    return plain(folder)


# For each option a value that has an effect, the input, and outputs unless `o.mkv`.
CASES: dict[str, tuple[Any, Maker, dict[str, str]]] = {
    "background": ("film.mp4", before_a_film, {"output_composition": "o.mkv"}),
    "background_fit": ("contain", picture, {"output_composition": "o.mkv"}),
    "edge_colour": ("clean", plain, {}),
    "black_point": (0.2, plain, {}),
    "white_point": (0.8, plain, {}),
    "grow": (1.5, plain, {}),
    "feather": (1.5, plain, {}),
    "outline": ("2:red", plain, {}),
    "light_wrap": (0.5, plain, {"output_composition": "o.mkv"}),
    "despill": ("green", plain, {}),
    "include": ("2,2,8,8@0;20,2,8,8@0.4", plain, {}),
    "exclude": (["2,2,8,8@0.2-", "0,16,9,8"], plain, {}),
    "person": ("54,20@0.04", crossing, {}),
    "downsample_ratio": (0.5, plain, {}),
    "quality": ("fast", drawn(colours(12, (480, 32))), {}),
    "region": ((4, 2, 20, 16), plain, {}),
    "device": ("cpu", plain, {}),
    "dtype": (torch.float32, plain, {}),
    "engine": ("plain", plain, {}),
    "seq_chunk": (2, plain, {}),
    "start": ("0:00.12", plain, {}),
    "end": (0.3, plain, {}),
    "limit": (7, plain, {}),
    "input_resize": ((16, 12), plain, {}),
    "fit": ("contain", plain, {}),
    "frame_rate": (24, plain, {}),
    "max_rate": (20, plain, {}),
    "deinterlace": ("off", interlaced, {}),
    "ignore_errors": (True, damaged, {}),
    "max_pixels": (32 * 24, plain, {}),
    "allow_lists": (True, listed, {}),
    "hwaccel": ("cuda", plain, {}),
    "input_alpha": ("ignore", transparent, {}),
    "num_workers": (2, lambda folder: save_images(folder / "in", colours()), {}),
    "codec": ("prores", plain, {"output": "o.mov"}),
    "output_video_mbps": (1, plain, {"output": "o.mp4"}),
    "crf": (12, plain, {"output": "o.mp4"}),
    "alpha_mode": ("premultiplied", plain, {"output": "o_%02d.tif"}),
    "packed": ("side", plain, {"output": "o.mp4"}),
    "exr_compression": ("zips", plain, {"output": "o_%02d.exr"}),
    "preset": ("resolve", plain, {"output": "o.mov"}),
    "start_number": (5, plain, {"output": "o_%02d.png"}),
    "tone_map": ("off", hdr, {"output": "o.mp4"}),
    "audio": (False, plain, {}),
    "warmup": (4, drawn(scenes(6, 5)), {}),
    "cuts": ("cuts.csv", drawn(scenes(6, 5)), {}),
    "overwrite": (False, plain, {}),
    "output_type": ("png_sequence", plain, {"output_alpha": "o"}),
}
# Encoders with a rate start over with each segment.
LOSSY = {"output_video_mbps", "crf", "tone_map", "codec", "packed", "preset"}
# It needs the whole video at once; segments refuse it.
WHOLE = {"max_bytes"}


def test_every_option_is_tried() -> None:
    assert {*CASES} == {*OPTIONS} - WHOLE


@pytest.mark.parametrize("name", CASES)
def test_an_option_acts_in_spans_as_in_one_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, make, outputs = CASES[name]
    source = make(tmp_path)
    given = {**RATIO, **(outputs or {"output": "o.mkv"}), name: value}
    if name == "quality":
        del given["downsample_ratio"]
    if name == "limit":
        given["start"] = 0.12
    if name == "fit":
        given["input_resize"] = 32, 40
    if name.startswith("background"):
        given["background"] = tmp_path / ("b.png" if "fit" in name else value)
    found = []
    # With a lead-in over everything, each segment reads all that is before it.
    for length, lead_in in ((None, None), (4, None), (5, 99)):
        (folder := tmp_path / f"segments of {length}").mkdir()
        monkeypatch.chdir(folder)
        if length is None:
            report = convert_video(Fake(), source, **given)
        else:
            work = prepare(Fake(), source, segment=length, lead_in=lead_in, **given)
            assert len(work.segments) > 1
            converter = SegmentConverter(Fake(), work)
            for segment in work.segments:
                converter(segment)
            report = join(work)
        target = next(folder.glob("o*"))
        silent = target.is_dir() or target.suffix == ".png"
        heard = [] if silent else sound(target)
        found.append((report, shown(target), heard, {*contents(folder)}))
    whole = found[0]
    assert bool(whole[0].damaged) == (name == "ignore_errors")
    for spans in found[1:]:
        assert sorted(spans[0].notes) == sorted(whole[0].notes)
        assert spans[0].damaged == whole[0].damaged
        assert spans[0].frames == whole[0].frames
        assert spans[2:] == whole[2:]
        # Encoders that reorder forget how long the last one is shown.
        until = -1 if name in LOSSY else None
        assert [f[:2] for f in spans[1]][:until] == [f[:2] for f in whole[1]][:until]
        for one, other in zip(spans[1], whole[1], strict=True):
            assert one[2].shape == other[2].shape
            off = np.abs(one[2].astype(float) - other[2]).mean()
            assert off <= (np.iinfo(one[2].dtype).max / 40 if name in LOSSY else 0)


def shown(path: Path) -> list[tuple[Fraction, Fraction, Any]]:
    path = path.with_name("o_%02d.png") if path.suffix == ".png" else path
    return [(f.time, f.duration, f.pixels) for f in read(path, alpha=True)]
