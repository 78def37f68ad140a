"""A source's own alpha: read to the last level, and multiplied into every matte."""

from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import Tags, encode_image, make_clip
from fakes import (
    Fake,
    colours,
    convert,
    convert_in_parts,
    decode,
    open_image,
    read_all,
)
from numpy.typing import NDArray
from PIL import Image

from rematte import MattingNetwork
from rematte.export.verify import CLIP
from rematte.live.run import live
from rematte.serve.choice import Choice
from rematte.serve.look import cutout
from rematte.serve.processes import Networks
from rematte.video.frame import Frame
from rematte.video.image_source import decode_image
from rematte.video.opening import Limits
from rematte.video.pixels import resize
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader
from rematte.video.transparency import read_alpha

SIZE = (64, 32)
RAMP = np.tile(np.arange(256, dtype=np.uint8), (8, 1))
NOTE = "the input's own alpha channel multiplies the matte"
# By suffix: codec, pixel format, and by how many levels of 255 alpha may differ.
KINDS = {
    "a.mov": ("prores_ks", "yuva444p10le", 0),
    "a.mkv": ("ffv1", "bgra", 0),
    "b.mkv": ("ffv1", "gbrap16le", 0),
    "a.apng": ("apng", "rgba", 0),
    "a.gif": ("gif", "bgra", 0),
    "a.webm": ("libvpx-vp9", "yuva420p", 1),
    "b.webm": ("libvpx", "yuva420p", 1),
}


# Hidden, a third, two thirds and all there, in four columns.
MATTE = np.tile(np.array([0, 85, 170, 255], np.uint8).repeat(16), (32, 1))


def transparent(count: int, alpha: NDArray[Any] = MATTE) -> list[NDArray[Any]]:
    return [np.dstack([picture, alpha]) for picture in colours(count, SIZE)]


def make(path: Path, count: int = 4, alpha: NDArray[Any] = MATTE) -> Path:
    """A video of `transparent` frames in the codec for its name in `KINDS`."""
    return encode(path, transparent(count, alpha))


def encode(path: Path, pictures: list[NDArray[Any]]) -> Path:
    codec, pix_fmt, _ = KINDS[path.name]
    if codec == "gif":
        frames = [Image.fromarray(picture) for picture in pictures]
        frames[0].save(path, save_all=True, append_images=frames[1:], disposal=2)
        return path
    options = {"auto-alt-ref": "0", "crf": "4", "b:v": "0"} if "vpx" in codec else {}
    options |= {"alpha_bits": "8"} if "prores" in codec else {}
    return make_clip(path, pictures, codec=codec, pix_fmt=pix_fmt, options=options)


def read(path: Path, **options: Any) -> tuple[list[Frame], list[str]]:
    return read_all(path, input_alpha="multiply", **options)


# Reading


@pytest.mark.parametrize("name", KINDS)
def test_alpha_is_read_exactly(tmp_path: Path, name: str) -> None:
    path = make(tmp_path / name)
    frames, notes = read(path)
    own = np.where(MATTE == 0, 0, 255) if name == "a.gif" else MATTE
    assert len(frames) == 4
    for frame in frames:
        unit = np.iinfo(frame.pixels.dtype).max / 255
        assert frame.alpha.dtype == frame.pixels.dtype
        found = np.rint(frame.alpha[..., 0] / unit)[:, 8::16]
        assert np.abs(found - own[:, 8::16]).max() <= KINDS[name][2]
    assert [note.split(";")[0] for note in notes] == [NOTE]
    kept, _ = read_all(path, alpha=True)
    for frame, whole in zip(frames, kept, strict=True):
        error = np.abs(whole.pixels[..., 3:].astype(int) - frame.alpha)
        assert error.max() <= np.iinfo(frame.alpha.dtype).max / 255
        assert whole.time == frame.time


@pytest.mark.parametrize("name", KINDS)
def test_what_is_opaque_is_as_without_alpha(tmp_path: Path, name: str) -> None:
    path = make(tmp_path / name, 2, np.full(SIZE[::-1], 255, np.uint8))
    frames, notes = read(path)
    assert {frame.alpha is None for frame in frames} == {True}
    assert notes == []
    with VideoReader(path, ReadOptions(input_alpha="ignore")) as reader:
        vpx = "webm" in name  # says so without a look at any frame
        assert bool(reader.notes) is vpx


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("name", [
    "rgba", "bgra", "argb", "abgr", "gbrap", "gbrap10le", "gbrap12le", "gbrap16le",
    "gbrap16be", "rgba64le", "rgba64be", "yuva420p", "yuva444p10le", "yuva444p12le",
])  # fmt: skip
def test_no_layout_moves_what_is_hidden_or_opaque(name: str, wide: bool) -> None:
    """However libswscale widens, the ends stay and no level is off by more than 1."""
    array: Any = np.dstack([RAMP] * 4)
    frame = av.VideoFrame.from_ndarray(array, "rgba").reformat(format=name)
    alpha = read_alpha(frame, wide)
    assert alpha.dtype == (np.uint16 if wide else np.uint8)
    unit = 257 if wide else 1
    assert (alpha[0, 0, 0], alpha[0, -1, 0]) == (0, 255 * unit)
    assert np.abs(alpha[..., 0] / unit - RAMP).max() <= 1


def test_images_with_alpha(tmp_path: Path) -> None:
    picture = np.dstack([RAMP[:, ::-1], RAMP // 2, RAMP // 3, RAMP])
    saved = {
        **dict.fromkeys(("a.png", "a.tif", "a.webp"), picture),
        "b.png": picture[..., 2:],
    }
    for name, pixels in saved.items():
        options = {"lossless": True, "exact": True} if name == "a.webp" else {}
        Image.fromarray(pixels).save(tmp_path / name, **options)
        ((frame,), notes) = read(tmp_path / name)
        np.testing.assert_array_equal(frame.alpha[..., 0], RAMP)
        assert notes[0].startswith(NOTE)
    palette = Image.fromarray(RAMP).convert("P")
    palette.info["transparency"] = bytes(range(256))
    palette.save(tmp_path / "p.png")
    ((frame,), _) = read(tmp_path / "p.png")
    assert len(np.unique(frame.alpha)) > 200


def save_exr(path: Path, pixels: NDArray[Any], kind: str) -> Path:
    """Write linear, premultiplied floats (H, W, 4)."""
    array = pixels.astype(np.float32)
    path.write_bytes(encode_image("exr", array, "gbrapf32le", format=kind))
    return path


@pytest.mark.parametrize(("kind", "limit"), [("float", 40), ("half", 80)])
def test_exr_becomes_straight(tmp_path: Path, kind: str, limit: int) -> None:
    """Its colours are premultiplied light; glows (light without alpha) stay."""
    rgb = np.random.default_rng(0).random((8, 256, 3))
    light = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    alpha = RAMP[..., None] / 255
    path = save_exr(tmp_path / "a.exr", np.dstack([light * alpha, alpha]), kind)
    ((frame,), _) = read(path)
    seen = RAMP > 0
    assert np.abs(frame.pixels - rgb * 65535)[seen].max() <= limit
    assert np.abs(frame.alpha[..., 0] - RAMP * 257.0).max() <= 32
    assert (frame.pixels[~seen] == 0).all()
    glow = np.dstack([light, np.zeros((8, 256))])
    ((frame,), _) = read(save_exr(tmp_path / "b.exr", glow, kind))
    assert np.abs(frame.pixels - rgb * 65535).max() <= limit
    solid = save_exr(tmp_path / "c.exr", np.dstack([light, np.ones((8, 256))]), kind)
    plain, _ = decode_image(solid, Limits(), [])
    ((frame,), notes) = read(solid)
    assert (frame.alpha, notes) == (None, [])
    np.testing.assert_array_equal(read_all(solid)[0][0].pixels, frame.pixels)
    assert plain.format.name.startswith("gbrap")


@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("alpha", [None, 0.5])
def test_gray_exr_is_light_too(
    tmp_path: Path, kind: type[np.floating[Any]], alpha: float | None
) -> None:
    openexr = pytest.importorskip("OpenEXR", reason="needs openexr")
    share = alpha or 1.0
    channels = {"Y": np.full((16, 17), 0.18 * share, kind)}
    if alpha:
        channels["A"] = np.full((16, 17), alpha, kind)
    path = tmp_path / "a.exr"
    openexr.File({}, channels).write(str(path))
    ((frame,), _) = read(path)
    assert frame.pixels == pytest.approx(0.4614 * 65535, abs=20)
    if alpha:
        assert frame.alpha == pytest.approx(alpha * 65535, abs=1)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_alpha_is_turned_and_resized_too(tmp_path: Path, degrees: int) -> None:
    turn = {90: (0, -1, 1, 0), 180: (-1, 0, 0, -1), 270: (0, 1, -1, 0)}[degrees]
    a, b, c, d = (65536 * part for part in turn)
    path = make_clip(
        tmp_path / "in.mov", transparent(1), codec="prores_ks",
        pix_fmt="yuva444p10le", options={}, matrix=[a, b, 0, c, d, 0, 0, 0, 1 << 30],
    )  # fmt: skip
    ((frame,), _) = read(path)
    levels = np.rint(frame.alpha[..., 0] / 257)
    np.testing.assert_array_equal(levels, np.rot90(MATTE, degrees // 90))
    size = (48, 40) if degrees == 180 else (40, 48)
    ((small,), _) = read(path, size=size)
    assert small.alpha.shape == (*size[::-1], 1)
    assert {0, 65535} <= {*np.unique(small.alpha)}
    middle = np.rint(small.alpha / 257)[size[1] // 8 :: size[1] // 4]
    if degrees != 180:
        assert [row[20, 0] for row in middle] == [*levels[8::16, 0]]


def test_an_animated_png_is_a_video_under_any_name(tmp_path: Path) -> None:
    path = make(tmp_path / "a.apng").rename(tmp_path / "a.png")
    frames, notes = read(path)
    assert len(frames) == 4
    assert all(frame.alpha is not None for frame in frames)
    assert notes[0].startswith(NOTE)


# Mattes


def outputs_in(folder: Path) -> dict[str, Any]:
    kinds = ("output", "output_alpha", "output_foreground", "output_composition")
    return {kind: folder / f"{kind}.mkv" for kind in kinds}


def open_all(folder: Path) -> list[list[NDArray[Any]]]:
    """Cut-out, alpha, foreground and composition, in levels of the file."""
    made = []
    for path in outputs_in(folder).values():
        frames, _ = read_all(path, alpha=True)
        made.append([frame.pixels.astype(float) for frame in frames])
    return made


@pytest.mark.parametrize("engine", ["openvino", "plain"])
@pytest.mark.parametrize("name", ["a.mkv", "a.mov"])
def test_both_mattes_are_multiplied(
    tmp_path: Path, bundled: MattingNetwork, engine: str, name: str
) -> None:
    with VideoReader(CLIP) as reader:  # somebody
        shown = [resize(frame.pixels, *SIZE) for frame in islice(reader, 2)]
    path = encode(tmp_path / name, [np.dstack([each, MATTE]) for each in shown])
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    red = {"background": (255, 0, 0), "engine": engine}
    report = convert(path, model=bundled, **outputs_in(tmp_path / "with"), **red)
    assert [note.split(";")[0] for note in report.notes] == [NOTE]
    red |= {"model": bundled, "input_alpha": "ignore"}
    report = convert(path, **outputs_in(tmp_path / "without"), **red)
    assert report.notes == [
        "the input's own alpha channel is ignored, as asked (--input-alpha ignore)"
    ]
    own = MATTE[..., None] / 255
    ours = open_all(tmp_path / "with")
    theirs = open_all(tmp_path / "without")
    most = 65535 if name == "a.mov" else 255
    for (cut, pha, fgr, com), (_, pha_, fgr_, _) in zip(
        zip(*ours, strict=True), zip(*theirs, strict=True), strict=True
    ):
        assert pha_.max() > most / 2
        assert np.abs(pha - pha_ * own).max() <= 1
        np.testing.assert_array_equal(fgr, fgr_ * (own > 0))
        np.testing.assert_array_equal(cut[..., 3:], pha[..., :1])
        seen = pha[..., 0] > 0
        np.testing.assert_array_equal(cut[seen, :3], fgr[seen])
        assert not cut[np.broadcast_to(own[..., 0] == 0, seen.shape)].any()
        over = fgr * pha / most + np.array([most, 0, 0]) * (1 - pha / most)
        assert np.abs(com - over).max() <= 2


def test_what_is_hidden_does_not_come_back_blurred(tmp_path: Path) -> None:
    picture = np.zeros((32, 64, 4), np.uint8)
    picture[:, :16] = (0, 255, 255, 0)  # hidden, bright, and no person to `Fake`
    picture[:, 16:, 3] = 255
    path = make_clip(
        tmp_path / "a.mkv", [picture] * 2, codec="ffv1", pix_fmt="bgra", options={}
    )
    out = tmp_path / "o.mkv"
    convert(path, out, background="blur:3")
    assert max(frame.max() for frame in decode(out)) <= 1
    convert(path, out, background="blur:3", input_alpha="ignore")
    assert max(frame.max() for frame in decode(out)) > 50


@pytest.mark.parametrize("workers", [1, 2])
def test_segments_multiply_and_say_so(tmp_path: Path, workers: int) -> None:
    path = make(tmp_path / "a.mkv", 12)
    out = tmp_path / "pha.mkv"
    for how, note in (("multiply", NOTE), ("ignore", "is ignored, as asked")):
        report = convert_in_parts(
            path, output_alpha=out, load=partial(Fake, 0), segment=5, workers=workers,
            input_alpha=how,
        )  # fmt: skip
        assert sum(note in text for text in report.notes) == len(report.notes) == 1
        own = MATTE / 255 if how == "multiply" else 1
        for found, picture in zip(decode(out), colours(12, SIZE), strict=True):
            assert np.abs(found[..., 0] - picture[..., 0] * own).max() <= 1


def test_an_image_with_alpha(tmp_path: Path) -> None:
    (picture,) = transparent(1)
    Image.fromarray(picture).save(tmp_path / "in.png")
    convert(tmp_path / "in.png", output_alpha=tmp_path / "pha.png")
    alpha = open_image(tmp_path / "pha.png")
    expected = picture[..., 0] * (MATTE / 255)
    assert np.abs(alpha - expected).max() <= 1


@pytest.mark.parametrize("out", ["o.mkv", "o.mov"])
def test_what_is_hidden_does_not_come_back_in_hdr(tmp_path: Path, out: str) -> None:
    """The restored foreground of an HDR source is hidden, too."""
    path = make_clip(
        tmp_path / "a.mov", transparent(2), codec="prores_ks", pix_fmt="yuva444p10le",
        options={}, tags=Tags(matrix=9, range=1, primaries=9, transfer=18),
    )  # fmt: skip
    target = tmp_path / out
    for kind in ("output", "output_foreground"):
        convert(path, **{kind: target}, background=None)
        (first, _), _ = read_all(target, alpha=True)
        # A thousandth of the range for what encoding in YUV adds.
        assert first.pixels[:, 1:14].max() <= 65
        assert first.pixels[:, 40:].max() > 1000


@pytest.mark.parametrize("name", ["room.png", "room.mkv", "room/%02d.png"])
def test_a_transparent_background_lies_over_black(tmp_path: Path, name: str) -> None:
    clip = make_clip(tmp_path / "in.mp4", [np.zeros((32, 64, 3), np.uint8)] * 2)
    picture = np.full((32, 64, 4), (200, 100, 50, 0), np.uint8)
    picture[..., 3] = MATTE
    room = tmp_path / name
    if name == "room.mkv":
        make_clip(room, [picture] * 2, codec="ffv1", pix_fmt="bgra", options={})
    else:
        room.parent.mkdir(exist_ok=True)
        target = room.with_name("01.png") if "%" in name else room
        Image.fromarray(picture).save(target)
    out = tmp_path / "o.mkv"
    report = convert(clip, out, background=room)
    (note,) = report.notes
    text = f"the background {room.name} is transparent in places: black shows there"
    assert note == f"o.mkv: {text}"
    expected = picture[..., :3] * (MATTE[..., None] / 255)
    for frame in decode(out):
        assert np.abs(frame - expected)[:, 8::16].max() <= 1


def test_live_multiplies_the_alpha_of_a_file(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", 3)
    out = tmp_path / "o.mkv"
    report = live(
        Fake(0), str(path), str(out), show="alpha", downsample_ratio=1, pace=False
    )
    assert [note.split(";")[0] for note in report.notes] == [NOTE]
    for frame in decode(out):
        assert frame[:, :16].max() == 0
        assert frame[:, 48:].max() > 50


def test_the_page_previews_what_the_conversion_gives(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", 1)
    networks = Networks(partial(Fake, 0))
    cutout(networks, path, tmp_path / "p.png", 0.0, "balanced", Choice())
    cut = open_image(tmp_path / "p.png")
    expected = colours(1, SIZE)[0][..., 0] * (MATTE / 255)
    assert np.abs(cut[..., 3] - expected).max() <= 1
