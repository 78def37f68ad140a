"""Photos and scans as cameras, phones and scanners write them."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest
from clips import encode_image, frame_label, make_clip, packets
from fakes import convert, read, read_all, save_images
from PIL import Image

from rematte.errors import InputError
from rematte.video.reader import VideoReader


@pytest.mark.parametrize(("codec", "suffix", "pix_fmt"), [
    ("jpeg2000", ".jp2", "rgb24"), ("qoi", ".qoi", "rgb24"),
    ("hdr", ".hdr", "gbrpf32le"),
])  # fmt: skip
def test_a_rare_kind_of_image_is_an_image(
    tmp_path: Path, codec: str, suffix: str, pix_fmt: str
) -> None:
    """A photo, and so its output may be one too."""
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(encode_image(codec, frame_label(3), to=pix_fmt))
    with VideoReader(path) as reader:
        assert reader.info.still
    target = tmp_path / "out.png"
    convert(path, target)
    with Image.open(target) as image:
        assert image.size == frame_label(3).shape[1::-1]


def tiff(path: Path, order: str, *kinds: int) -> None:
    """Write a TIFF with a gray page of 8x8 for each kind (NewSubfileType)."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    data, page = mark + struct.pack(f"{order}I", 8), bytes(range(64))
    for number, kind in enumerate(kinds, 1):
        tags = {254: kind, 256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 277: 1, 278: 8}
        tags |= {273: len(data) + 2 + 12 * 10 + 4, 279: len(page)}
        entries = [struct.pack(f"{order}HHII", k, 4, 1, tags[k]) for k in sorted(tags)]
        following = len(data) + 2 + 12 * 10 + 4 + len(page)
        data += struct.pack(f"{order}H", len(tags)) + b"".join(entries)
        data += struct.pack(f"{order}I", following if number < len(kinds) else 0) + page
    path.write_bytes(data)


@pytest.mark.parametrize("order", ["<", ">"])
def test_further_pages_of_tiffs_are_noted_once(tmp_path: Path, order: str) -> None:
    folder, said = tmp_path / "in", "scan0.tif: only the first of its pages is read"
    folder.mkdir()
    for number in range(3):
        tiff(folder / f"scan{number}.tif", order, 0, 1, 2)
    for path, out in ((folder, "out.mkv"), (folder / "scan0.tif", "out.png")):
        notes = convert(path, tmp_path / out).notes
        assert [note.startswith(said) for note in notes] == [True]


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_preview_within_a_tiff_is_no_page(tmp_path: Path, order: str) -> None:
    """As scanners and cameras write them: a smaller copy, marked as such."""
    path = tmp_path / "photo.tif"
    tiff(path, order, 0, 1, 1)
    (frame,), notes = read_all(path)
    assert notes == []
    assert frame.pixels[7, 7, 0] == 63


def test_a_tiff_whose_directories_are_a_ring_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ring.tif"
    Image.fromarray(frame_label(0)).save(path)
    data = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * count, first)
    path.write_bytes(data)
    assert len(read(path)) == 1


def layered(path: Path, channels: dict[str, float]) -> None:
    """Write an OpenEXR image of 8x4, each of whose channels has one value."""
    library = pytest.importorskip("OpenEXR", reason="needs the package OpenEXR")
    planes = {
        name: np.full((4, 8), value, np.float32) for name, value in channels.items()
    }
    library.File({"type": library.scanlineimage}, planes).write(str(path))


def layer(name: str, *values: float) -> dict[str, float]:
    return {f"{name}.{key}": v for key, v in zip("RGB", values, strict=True)}


@pytest.mark.parametrize(("channels", "taken"), [
    (layer("View.AO", 0, 0, 1) | layer("View.Combined", 1, 0, 0) | {"View.Z": 9},
     "View.Combined"),
    (layer("beauty", 1, 0, 0) | layer("spec", 0, 0, 1), "beauty"),
    (dict(zip("RGB", (1, 0, 0), strict=True)) | layer("AO", 0, 0, 1), None),
])  # fmt: skip
def test_a_layer_of_an_openexr_image_is_read(
    tmp_path: Path, channels: dict[str, float], taken: str | None
) -> None:
    """Renderers write all layers into one file; channels without one go first."""
    for number in range(2):
        layered(tmp_path / f"shot.{number:04d}.exr", channels)
    frames, notes = read_all(tmp_path)
    colours = [frame.pixels[0, 0].tolist() for frame in frames]
    assert notes == ([f"the layer {taken} is read"] if taken else [])
    assert colours == [pytest.approx([65535, 0, 0], abs=8)] * 2


def test_a_tiff_of_32_bits_says_how_to_save_it(tmp_path: Path) -> None:
    path = tmp_path / "render.tif"
    Image.fromarray(np.zeros((4, 4), np.float32)).save(path)
    with pytest.raises(InputError, match="save it with 8 or 16 bits"):
        VideoReader(path)


def test_a_cut_off_jpeg_is_noted(tmp_path: Path) -> None:
    folder, noise = tmp_path / "in", np.random.default_rng(0)
    folder.mkdir()
    for number in range(3):
        pixels = noise.integers(0, 256, (64, 96, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
    assert read_all(folder)[1] == []
    cut = folder / "1.jpg"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    frames, notes = read_all(folder)
    assert len(frames) == 3
    said = "1.jpg: cut off or damaged; it is decoded as far as possible"
    assert notes == [said]


def test_an_image_that_was_removed_is_named(tmp_path: Path) -> None:
    folder = save_images(tmp_path / "in", [frame_label(n, (64, 48)) for n in range(3)])
    with VideoReader(folder) as reader:
        removed = sorted(folder.iterdir())[1]
        removed.unlink()
        with pytest.raises(InputError, match=f"{removed.name}: not a readable image"):
            list(reader)


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_a_heic_photo_is_refused(tmp_path: Path, brand: bytes) -> None:
    """FFmpeg shows one of the tiles of which photos of phones consist."""
    path = tmp_path / "IMG_0001.HEIC"
    make_clip(path.with_suffix(".mp4"), 1)
    data = path.with_suffix(".mp4").read_bytes()
    path.write_bytes(data[:8] + brand + data[12:])
    with pytest.raises(InputError, match=r"HEIC photo.*save it as JPEG or PNG"):
        VideoReader(path)


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box of ISO/IEC 14496-12."""
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def tiled_photo(path: Path, brand: bytes) -> None:
    """Write two tiles of a photo, side by side, as ISO/IEC 23008-12 has it."""
    film = make_clip(path.with_suffix(".mp4"), 1, size=(64, 64), codec="libx265",
                     options={"x265-params": "log-level=none"})  # fmt: skip
    data = film.read_bytes()
    at = data.index(b"hvcC") - 4
    (length,) = struct.unpack_from(">I", data, at)
    tile = bytes(packets(film)[0])

    def full(kind: bytes, head: int, *parts: bytes) -> bytes:
        return box(kind, struct.pack(">I", head), *parts)

    def size(width: int) -> bytes:
        return full(b"ispe", 0, struct.pack(">II", width, 64))

    def item(number: int, kind: bytes) -> bytes:
        return full(b"infe", 2 << 24, struct.pack(">HH", number, 0), kind, b"\0")

    grid = struct.pack(">BBBBHH", 0, 0, 0, 1, 128, 64)
    items = item(1, b"hvc1") + item(2, b"hvc1") + item(3, b"grid")
    used = struct.pack(">HBBB", 1, 2, 0x81, 2) + struct.pack(">HBBB", 2, 2, 0x81, 2)
    used += struct.pack(">HBB", 3, 1, 3)
    properties = box(b"ipco", data[at : at + length], size(64), size(128))

    def meta(first: int) -> bytes:
        places = [(1, 0, first, len(tile)), (2, 0, first, len(tile))]
        places += [(3, 1, 0, len(grid))]
        where = b"".join(
            struct.pack(">HHHHII", number, way, 0, 1, offset, count)
            for number, way, offset, count in places
        )
        return full(
            b"meta", 0,
            full(b"hdlr", 0, struct.pack(">I4s12s", 0, b"pict", b""), b"\0"),
            full(b"pitm", 0, struct.pack(">H", 3)),
            full(b"iloc", 1 << 24, struct.pack(">HH", 0x4400, 3), where),
            full(b"iinf", 0, struct.pack(">H", 3), items),
            full(b"iref", 0, box(b"dimg", struct.pack(">HHHH", 3, 2, 1, 2))),
            box(b"iprp", properties, full(b"ipma", 0, struct.pack(">I", 3), used)),
            box(b"idat", grid),
        )  # fmt: skip

    kind = box(b"ftyp", brand, struct.pack(">I", 0), b"mif1" + brand)
    first = len(kind) + len(meta(0)) + 8
    path.write_bytes(kind + meta(first) + box(b"mdat", tile))


@pytest.mark.parametrize("brand", [b"heic", b"avif"])
def test_no_tile_is_taken_for_the_photo(tmp_path: Path, brand: bytes) -> None:
    path = tmp_path / "IMG_0002.HEIC"
    tiled_photo(path, brand)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2
        assert container.streams.video[0].width == 64
    with pytest.raises(InputError, match="in tiles"):
        VideoReader(path)
