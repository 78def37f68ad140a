"""HDR: the curves against their standards' figures, and pictures end to end."""

from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from clips import Tags, make_clip
from conftest import Run
from fakes import Fake, as_frames, colours, convert, convert_in_parts
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rematte.video.frame import SDR, Colour
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader
from rematte.video.tone import (
    Restoration,
    between,
    decode,
    displayed,
    encode,
    reduce_range,
    to_light,
)

PQ, HLG, LOG = Colour(9, 1, 9, 16), Colour(9, 1, 9, 18), Colour(1, 1, 1, 9)
WHITE = {"pq": 0.5807, "hlg": 0.75}  # of 203 cd/m2; table 1 of BT.2408
COLOUR = {"pq": PQ, "hlg": HLG}


def pixel(*values: int, kind: type = np.uint8) -> NDArray[Any]:
    return np.array([[values]], kind)


def converted(pixels: NDArray[Any], source: Colour, target: Colour) -> NDArray[Any]:
    return between(source, target)(pixels) / 65535


# Curves


@pytest.mark.parametrize(("transfer", "value", "light"), [
    (16, 0.5081, 100),  # BT.2100 and BT.2408, in cd/m2
    (16, 0.5807, 203),
    (16, 0.7518, 1000),
    (16, 1.0, 10000),
    (18, 0.5, 1 / 12),  # BT.2100, light of the scene
    (18, 0.75, 0.265),
    (18, 1.0, 1.0),
    (9, 0.5, 0.1),  # H.273
    (10, 0.2, 0.01),
    (1, 1.0, 1.0),
])  # fmt: skip
def test_curves_obey_their_standards(transfer: int, value: float, light: float) -> None:
    unit = 203 if transfer == 16 else 1
    assert decode(np.array(value), transfer) * unit == pytest.approx(light, rel=2e-3)
    assert encode(np.array(light / unit), transfer) == pytest.approx(value, abs=2e-4)


@given(st.floats(0, 1), st.sampled_from([1, 9, 10, 16, 18]))
def test_encoding_undoes_decoding(value: float, transfer: int) -> None:
    light = decode(np.array(value), transfer)
    again = encode(light, transfer)
    # The curves of H.273 end at a hundredth, or a bit less than that.
    assert again == pytest.approx(value, abs=1e-6)


@given(st.floats(0, 50), st.floats(0.1, 50))
def test_the_reduced_range_fits_and_keeps_order(light: float, peak: float) -> None:
    low, high = (
        float(reduce_range(np.array(x), peak)) for x in (light, light * 1.01 + 1e-3)
    )
    assert 0 <= low <= high + 1e-9
    assert high <= 1 + 1e-6
    assert reduce_range(np.array(peak), peak) == pytest.approx(min(peak, 1), rel=1e-6)


def test_dark_and_middle_tones_stay() -> None:
    """Below its knee the EETF changes nothing; at 1000 cd/m2 that is 88 cd/m2."""
    light = np.linspace(0, 85 / 203, 50)
    np.testing.assert_allclose(reduce_range(light, 1000 / 203), light, rtol=1e-6)


# Pictures


@pytest.mark.parametrize("name", COLOUR)
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_tables_are_as_exact_as_the_formulas(name: str, data: st.DataObject) -> None:
    """In levels of 255, of gray, where the matrix does nothing."""
    value = data.draw(st.integers(0, 65535))
    light = decode(np.array(value / 65535), COLOUR[name].transfer)
    if name == "hlg":
        light = 1000 / 203 * light**1.2
    expected = encode(reduce_range(light, 1000 / 203), 1)
    found = converted(pixel(value, value, value, kind=np.uint16), COLOUR[name], SDR)
    assert np.abs(found - expected).max() * 255 < 0.1


def test_primaries_are_converted() -> None:
    """BT.709's red in BT.2020, by the matrix of BT.2087."""
    light = decode(converted(pixel(255, 0, 0), SDR, PQ), 16)[0, 0]
    np.testing.assert_allclose(light, [0.6274, 0.0691, 0.0164], atol=2e-3)


def test_colours_outside_of_the_gamut_lose_saturation_not_brightness() -> None:
    green = encode(np.array([0.0, 0.5, 0.0]), 16)
    codes = (green * 65535).round().astype(np.uint16)[None, None]
    found = decode(converted(codes, PQ, SDR), 1)[0, 0]
    assert found.min() < 0.01
    reduced = float(reduce_range(np.array(0.5), 1000 / 203))
    assert found @ [0.2126, 0.7152, 0.0722] == pytest.approx(0.678 * reduced, rel=0.01)


@pytest.mark.parametrize("colour", [PQ, HLG, LOG])
def test_there_and_back(colour: Colour) -> None:
    """SDR behind HDR has the same colours once more where only the curve differs."""
    rng = np.random.default_rng(0)
    sdr = rng.integers(0, 256, (20, 30, 3), np.uint8)
    up = between(SDR, colour)
    light = to_light(up(sdr), colour)
    # The logarithmic curve ends at a hundredth.
    floor = 1e-3 if colour.hdr else 1e-2
    np.testing.assert_allclose(light, decode(sdr / 255, 1), atol=floor)


def test_hdr_behind_other_hdr_keeps_its_light() -> None:
    rng = np.random.default_rng(0)
    pq = rng.integers(0, int(0.74 * 65535), (20, 30, 3)).astype(np.uint16)
    to_hlg = between(PQ, HLG)
    expected = to_light(pq, PQ)
    found = to_light(to_hlg(pq), HLG)
    inside = expected.max(-1) < 1  # the brightest colours are cut off
    assert np.abs(found - expected)[inside].max() < 0.01


def test_sdr_costs_nothing() -> None:
    assert between(SDR, Colour(9, 1, 9, 14)) is None
    assert between(PQ, Colour(9, 2, 9, 16)) is None
    (frame,) = as_frames([pixel(1, 2, 3)])
    assert [*displayed([frame], SDR)] == [frame]


@pytest.mark.parametrize("colour", [PQ, HLG, LOG])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_an_unchanged_foreground_is_the_picture(colour: Colour, kind: type) -> None:
    rng = np.random.default_rng(0)
    most = np.iinfo(kind).max
    picture = rng.integers(0, most, (15, 20, 3), kind, endpoint=True)
    shown = between(colour, SDR)
    sdr = shown(picture)
    back = Restoration(colour)(picture, sdr, sdr)
    np.testing.assert_array_equal(back, picture * np.uint16(65535 // most))


@pytest.mark.parametrize("colour", [PQ, HLG])
def test_a_changed_foreground_is_what_it_would_look_like(colour: Colour) -> None:
    """Another colour of SDR comes back as that colour, in the source's encoding."""
    rng = np.random.default_rng(0)
    sdr = (rng.integers(40, 180, (2, 15, 20, 3)) * 257).astype(np.uint16)
    raised = between(SDR, colour)
    shown = between(colour, SDR)
    before, after = sdr
    original = raised(before)
    restored = Restoration(colour)(original, shown(original), after)
    error = shown(restored) / 257 - after / 257
    assert np.abs(error).mean() < 2
    assert np.abs(error).max() < 12


# Files


class Bright(Fake):
    """Alpha is where the left half is, the foreground what is seen."""

    def forward(self, src: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        self.last = src.clone()
        pha = torch.zeros_like(src[:, :, :1])
        pha[..., : src.shape[-1] // 2] = 1
        return src.clone(), pha, *[torch.zeros(1)] * 4


once = partial(convert, model=Bright())
in_segments = partial(convert_in_parts, load=Bright, segment=1)


def hdr_clip(path: Path, name: str, value: float = 0.5, count: int = 2) -> Path:
    """A clip of one gray, by its code value in [0, 1]."""
    picture = np.full((64, 96, 3), round(value * 65535), np.uint16)
    tags = Tags(9, 1, 9, COLOUR[name].transfer)
    return make_clip(
        path, [picture] * count, codec="ffv1", pix_fmt="yuv444p10le", tags=tags
    )


def first(path: Path, alpha: bool = False) -> tuple[NDArray[Any], Colour]:
    with VideoReader(path, ReadOptions(alpha=alpha)) as reader:
        pixels = next(iter(reader)).pixels
        return pixels / np.iinfo(pixels.dtype).max, reader.info.colour


@pytest.mark.parametrize("name", COLOUR)
@pytest.mark.parametrize("run", [once, in_segments])
@pytest.mark.parametrize("target", ["o.mp4", "o.mov", "o.mkv"])
def test_hdr_stays_and_white_behind_it_is_reference_white(
    tmp_path: Path, name: str, run: Any, target: str
) -> None:
    clip = hdr_clip(tmp_path / "in.mkv", name, 0.6)
    path = tmp_path / target
    report = run(clip, output_composition=path, background="white")
    pixels, colour = first(path)
    assert (colour.matrix, colour.primaries) == (9, 9) or target == "o.mkv"
    assert colour.transfer == COLOUR[name].transfer
    assert pixels[32, 16] == pytest.approx(0.6, abs=4e-3)
    assert pixels[32, 80] == pytest.approx(WHITE[name], abs=4e-3)
    assert report.notes == []


@pytest.mark.parametrize("name", COLOUR)
@pytest.mark.parametrize("run", [once, in_segments])
@pytest.mark.parametrize(
    "target", ["o.webm", "h264.mp4", "o.gif", "o.webp", "p/%d.jpg", "p/%d.tif", "o.nut"]
)
def test_what_cannot_hold_hdr_is_tone_mapped(
    tmp_path: Path, name: str, run: Any, target: str
) -> None:
    if run is in_segments and target in ("o.gif", "o.webp"):
        pytest.skip("cannot be joined")
    clip = hdr_clip(tmp_path / "in.mkv", name, WHITE[name])
    path = tmp_path / target
    codec = "h264" if "h264" in target else "vp9" if "webm" in target else None
    report = run(clip, output_composition=path, background="#ff0000", codec=codec)
    assert any("tone-mapped to SDR" in note for note in report.notes)
    if target == "o.webp":
        pixels = np.asarray(Image.open(path).convert("RGB")) / 255
    else:
        pixels, colour = first(path.with_name(path.name.replace("%d", "0")))
        assert colour.sdr
        if path.suffix in (".webm", ".mp4"):
            assert (colour.matrix, colour.primaries, colour.transfer) == (1, 1, 1)
    expected = float(encode(reduce_range(np.array(1.0), 1000 / 203), 1))
    assert pixels[32, 16] == pytest.approx(expected, abs=0.015)
    # What is SDR already is left alone.
    assert pixels[32, 80] == pytest.approx([1, 0, 0], abs=0.02)


def test_two_outputs_may_differ(tmp_path: Path) -> None:
    clip = hdr_clip(tmp_path / "in.mkv", "pq", WHITE["pq"])
    report = once(
        clip, background="white",
        output=tmp_path / "cut.gif", output_composition=tmp_path / "over.mp4",
    )  # fmt: skip
    (note,) = [note for note in report.notes if "tone-mapped" in note]
    assert note.startswith("cut.gif: the PQ picture was tone-mapped to SDR")
    assert first(tmp_path / "over.mp4")[0][32, 16] == pytest.approx(0.5807, abs=4e-3)
    assert first(tmp_path / "cut.gif")[0][32, 16] == pytest.approx(230 / 255, abs=0.01)


@pytest.mark.parametrize("name", COLOUR)
def test_off_keeps_code_values(tmp_path: Path, name: str, fake: Fake, run: Run) -> None:
    clip = hdr_clip(tmp_path / "in.mkv", name, 0.6)
    path = tmp_path / "o.mp4"
    report = once(
        clip, output_composition=path, codec="h264", tone_map="off",
        background="white",
    )  # fmt: skip
    pixels, colour = first(path)
    assert colour.transfer == COLOUR[name].transfer
    assert pixels[32, 16] == pytest.approx(0.6, abs=6e-3)
    assert pixels[32, 80] == pytest.approx(WHITE[name], abs=6e-3)
    assert any("code values" in note for note in report.notes)
    code, _, _ = run(
        "convert", clip, "--composition", tmp_path / "p.webp", "--tone-map", "off"
    )
    assert code == 0


def test_a_brighter_master_is_reduced_from_its_own_peak(tmp_path: Path) -> None:
    """Its mastering display is noted, since no output here holds it."""
    master = (
        "master-display=G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)"
        "L(40000000,50):max-cll=4000,400:lossless=1:hdr10=1:repeat-headers=1"
    )
    gray = np.full((64, 96, 3), round(0.7518 * 65535), np.uint16)
    clip = make_clip(
        tmp_path / "in.mp4", [gray] * 2, codec="libx265", pix_fmt="yuv420p10le",
        tags=Tags(9, 1, 9, 16), options={"x265-params": f"log-level=error:{master}"},
    )  # fmt: skip
    with VideoReader(clip) as reader:
        assert reader.info.colour.peak == 4000
    report = once(clip, output_composition=tmp_path / "o.gif")
    note = "HDR metadata is not carried over: mastering display, content light level"
    assert note in report.notes
    expected = float(encode(reduce_range(np.array(1000 / 203), 4000 / 203), 1))
    assert first(tmp_path / "o.gif")[0][32, 16] == pytest.approx(expected, abs=0.01)
    assert expected < 0.985


@pytest.mark.parametrize("name", COLOUR)
def test_exr_holds_light(tmp_path: Path, name: str) -> None:
    """Linear, with reference white at 1 and highlights above it."""
    clip = hdr_clip(tmp_path / "in.mkv", name, 1.0 if name == "hlg" else 0.7518)
    report = once(clip, output_composition=tmp_path / "p/%d.exr", background="white")
    with av.open(str(tmp_path / "p/0.exr")) as container:
        frame = next(container.decode(video=0))
    kind = np.float16 if "f16" in frame.format.name else np.float32
    planes = [np.frombuffer(bytes(plane), kind) for plane in frame.planes]
    light = np.stack(planes, -1).reshape(frame.height, -1, 3)
    assert light[32, 16] == pytest.approx(1000 / 203, rel=0.03)
    assert light[32, 80] == pytest.approx(1, rel=0.01)
    assert report.notes == []


@pytest.mark.parametrize("spec", ["white.png", "white.mkv"])
def test_sdr_pictures_and_videos_behind_hdr(tmp_path: Path, spec: str) -> None:
    white = np.full((64, 96, 3), 255, np.uint8)
    behind = tmp_path / spec
    if spec.endswith("png"):
        Image.fromarray(white).save(behind)
    else:
        make_clip(behind, [white] * 2, codec="ffv1", pix_fmt="bgr0")
    clip = hdr_clip(tmp_path / "in.mkv", "pq", 0.4)
    once(clip, output_composition=tmp_path / "o.mp4", background=behind)
    pixels, _ = first(tmp_path / "o.mp4")
    assert pixels[32, 80] == pytest.approx(WHITE["pq"], abs=4e-3)
    # And behind SDR, HDR is tone-mapped.
    plain = make_clip(tmp_path / "sdr.mkv", [white] * 2, codec="ffv1", pix_fmt="bgr0")
    once(plain, output_composition=tmp_path / "s.mkv", background=clip)
    expected = encode(reduce_range(decode(np.array(0.4), 16), 1000 / 203), 1)
    pixels, _ = first(tmp_path / "s.mkv")
    assert pixels[32, 80] == pytest.approx(float(expected), abs=0.01)


def test_blur_keeps_the_source(tmp_path: Path) -> None:
    clip = hdr_clip(tmp_path / "in.mkv", "pq", 0.7)
    once(clip, output_composition=tmp_path / "o.mp4", background="blur:3")
    pixels, _ = first(tmp_path / "o.mp4")
    assert pixels[32, 80] == pytest.approx(0.7, abs=4e-3)


def test_the_cutout_composes_as_the_composition_does(tmp_path: Path) -> None:
    clip = make_clip(
        tmp_path / "in.mkv", [f.astype(np.uint16) * 200 for f in colours(2)],
        codec="ffv1", pix_fmt="yuv444p10le", tags=Tags(9, 1, 9, 16),
    )  # fmt: skip
    once(
        clip, model=Fake(0), output=tmp_path / "cut.mkv",
        output_composition=tmp_path / "over.mkv", background="white",
    )  # fmt: skip
    cut, _ = first(tmp_path / "cut.mkv", alpha=True)
    over, _ = first(tmp_path / "over.mkv")
    again = cut[..., :3] * cut[..., 3:] + WHITE["pq"] * (1 - cut[..., 3:])
    assert np.abs(again - over).max() * 255 < 0.1


def test_the_network_sees_the_same_of_every_encoding(tmp_path: Path) -> None:
    """PQ, HLG and their tone-mapped copy, within the last bits of each."""
    rng = np.random.default_rng(0)
    scene = rng.integers(20, 240, (32, 48, 3)).astype(np.uint8)
    bright = (between(SDR, PQ)(scene) * 1.1).clip(0, 65535).astype(np.uint16)
    copy = torch.from_numpy(converted(bright, PQ, SDR)).movedim(-1, 0).float()
    for colour, codes in (PQ, bright), (HLG, between(PQ, HLG)(bright)):
        clip = make_clip(
            tmp_path / "in.mkv", [codes], codec="ffv1", pix_fmt="gbrp16le",
            tags=Tags(0, 2, 9, colour.transfer),
        )  # fmt: skip
        model = Bright()
        once(clip, model=model, output_alpha=tmp_path / "a.mkv")
        assert (model.last[0, 0] - copy).abs().max() < 2e-3, colour
