"""Finding pictures and clips in folders and shards, and drawing batches of them."""

import io
import shutil
import tarfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_disc, make_clip, read_label
from fakes import colours, lay_out
from PIL import Image

from rematte.errors import InputError
from rematte.train.batches import Batches
from rematte.train.data import Blob, Index, Item, Media, decode, index
from rematte.train.recipe import NO_AUGMENT, Augment, Data, High, Phase


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def make_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def make_shards(folder: Path, clip: Path) -> Data:
    """Two shards with everything, an image and its mask in different ones."""
    disc = draw_disc(4)
    photo, mask = encoded(disc.frames[0], "JPEG"), encoded(disc.alpha[0])
    wall = encoded(disc.background, "JPEG")
    make_tar(folder / "s-00.tar", {
        "ccp/1.jpg": photo, "ccp/2.mask.png": mask, "ccp/lost.mask.png": mask,
        "cutouts/a.png": encoded(disc.rgba[0]), "rooms/r.jpg": wall,
        "video/davis/run/00010.jpg": photo, "video/clips/c.mkv": clip.read_bytes(),
    })  # fmt: skip
    make_tar(folder / "s-01.tar", {
        "ccp/1.mask.png": mask, "ccp/2.jpg": photo, "ccp/3.jpg": photo,
        "flickr_other/o.jpg": photo, "video/davis/run/00009.jpg": photo,
        "wallpapers/w x.jpg": wall,
    })  # fmt: skip
    return Data(shards=(str(folder / "s-*.tar"),), held_out=0.0)


@pytest.fixture
def shards(tmp_path: Path) -> Data:
    return make_shards(tmp_path, make_clip(tmp_path / "c.mkv", 10, codec="ffv1"))


def names(items: tuple[object, ...]) -> list[str]:
    return [item.name for item in items]


def test_names_tell_the_kind_and_masks_find_images_elsewhere(shards: Data) -> None:
    found = index(shards)
    assert names(found.masks) == ["ccp/1.jpg", "ccp/2.jpg"]
    assert names(found.mattes) == ["cutouts/a.png"]
    assert names(found.backgrounds) == ["rooms/r.jpg", "wallpapers/w x.jpg"]
    assert names(found.others) == ["flickr_other/o.jpg"]
    assert names(found.people) == ["ccp/3.jpg", "video/clips/c.mkv", "video/davis/run"]
    assert [item.media.frames for item in found.people] == [1, 10, 2]
    for item in found.masks:
        assert {Path(item.media.blobs[0].path).name, Path(item.alpha.blobs[0].path).name
                } == {"s-00.tar", "s-01.tar"}  # fmt: skip
        mask = decode(item.alpha, [0], "L")
        assert (mask[0, ..., 0] == draw_disc(1).alpha[0]).all()
    frames = found.people[2].media.blobs  # sorted by number, over both shards
    assert [Path(blob.path).name for blob in frames] == ["s-01.tar", "s-00.tar"]


def test_videos_are_read_by_frame_number(shards: Data, tmp_path: Path) -> None:
    """Also where frames lie between key frames."""
    (tmp_path / "p").mkdir()
    make_clip(tmp_path / "p/c.mp4", 20, options={"g": "5", "qp": "0"})
    whole, keyed = index(shards), index(Data(people=(str(tmp_path / "p"),)))
    for media, order in (
        (whole.people[1].media, [7, 2, 2, 9]),
        *((keyed.people[0].media, each) for each in ([13, 14, 15], [19], [0, 6])),
    ):
        assert [read_label(frame) for frame in decode(media, order, "RGB")] == order


def test_held_out_is_a_fixed_share_of_every_kind() -> None:
    media = Media((Blob("x", 0, 1),), 1)
    whole = Index(people=tuple(Item(str(n), media) for n in range(2000)))
    train, kept = whole.split(0.1)
    assert 150 < len(kept.people) < 250
    assert sorted(train.people + kept.people) == sorted(whole.people)
    assert whole.split(0.1) == (train, kept)
    assert set(kept.people) <= set(whole.split(0.2)[1].people)


def test_damaged_and_missing_shards(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing matches .*set it to files"):
        index(Data(shards=(str(tmp_path / "*.tar"),)))
    (tmp_path / "a.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(InputError, match="not a readable, uncompressed tar"):
        index(Data(shards=(str(tmp_path / "a.tar"),)))
    make_tar(tmp_path / "a.tar", {"video/a.mp4": b"no video"})
    with pytest.raises(InputError, match=r"video/a.mp4 of .* is not a readable video"):
        index(Data(shards=(str(tmp_path / "a.tar"),)))
    make_tar(tmp_path / "a.tar", {"ccp/a.jpg": b"no image"})
    (item,) = index(Data(shards=(str(tmp_path / "a.tar"),))).people
    with pytest.raises(InputError, match="at byte 512: not a readable image; remove"):
        decode(item.media, [0], "RGB")


def test_a_damaged_video_is_named(shards: Data) -> None:
    (blob,) = index(shards).people[1].media.blobs
    cut = Media((blob._replace(size=blob.size // 20),), 10, Fraction(25))
    with pytest.raises(InputError, match=r"at byte \d+: damaged video .*; remove it"):
        decode(cut, [0], "RGB")


def test_folders_of_every_kind(tmp_path: Path) -> None:
    disc = draw_disc(3)
    photo, mask = disc.frames[0], disc.alpha[0]
    pictures = {"m/fgr/2": disc.frames, "m/pha/2": disc.alpha, "b/clip": colours(3)}
    pictures |= {"rgba/x.png": disc.rgba[0], "b/still.jpg": disc.background}
    pictures |= {"s/p.jpg": photo, "s/p.mask.png": mask}
    pictures |= {"t/images/q.jpg": photo, "t/masks/q.png": mask}
    pictures |= {"people/.hidden.png": photo, "people/z.png": photo}
    lay_out(tmp_path, pictures)
    gray = [np.repeat(alpha[..., None], 3, 2) for alpha in disc.alpha]
    make_clip(tmp_path / "m/fgr/1.mp4", disc.frames)
    make_clip(tmp_path / "m/pha/1.mp4", gray)

    def at(*folders: str) -> tuple[str, ...]:
        return tuple(str(tmp_path / folder) for folder in folders)

    data = Data((), at("m", "rgba"), (), at("b"), at("s", "t"), at("people"))
    found = index(data)
    assert names(found.mattes) == ["m/1", "m/2", "rgba/x.png"]
    assert [item.media.frames for item in found.mattes] == [3, 3, 1]
    assert [item.media.frames for item in found.backgrounds] == [3, 1]
    assert len(found.masks) == 2
    assert len(found.people) == 1
    alpha = found.mattes[0].alpha
    difference = decode(alpha, [2], "L")[0, ..., 0].astype(int) - disc.alpha[2]
    assert np.abs(difference).max() <= 2
    shutil.rmtree(tmp_path / "m/pha")
    with pytest.raises(InputError, match="pha is not a folder"):
        index(Data(mattes=at("m")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"nothing of this kind in .*docs/train\.md"):
        index(Data(people=at("empty")))
    with pytest.raises(InputError, match="is not a folder"):
        index(Data(people=at("people/z.png")))


def test_frames_of_unlike_sizes_are_refused(tmp_path: Path) -> None:
    sizes = ((4, 4, 3), (5, 4, 3))
    lay_out(tmp_path, {"c": [np.zeros(size, np.uint8) for size in sizes]})
    (item,) = index(Data(people=(str(tmp_path),))).people
    with pytest.raises(InputError, match="different sizes"):
        decode(item.media, [0, 1], "RGB")


# Batches

MATTING = Phase(
    "m", "matting", batch=2, frames=(2, 3), size=(32, 64), high=High((1, 1), (64, 64))
)


def test_batches_depend_on_the_step_alone(shards: Data) -> None:
    found = index(shards)
    for phase in (MATTING, Phase("d", "distill", frames=(2, 3), size=(32, 48))):
        one = Batches(found, phase, Augment(), (7, 0), 0)
        again = Batches(found, phase, Augment(), (7, 0), 0)
        other = Batches(found, phase, Augment(), (7, 0), 1)
        again.make(4)
        for name, sample in one.make(3).items():
            for key, value in sample.items():
                assert torch.equal(value, again.make(3)[name][key])
                assert value.shape == other.make(3)[name][key].shape
            assert not torch.equal(sample["src"], other.make(3)[name]["src"])


def test_a_matting_step_has_its_passes(shards: Data) -> None:
    batches = Batches(index(shards), MATTING, Augment(), (0, 0), 0)
    for step in range(3):
        batch = batches.make(step)
        assert list(batch) == ["matting", "high", "segmentation"]
        length = batch["matting"]["src"].shape[1]
        assert batch["matting"]["src"].shape[0] == 2
        assert 2 <= length <= 3
        assert batch["high"]["src"].shape == (2, 1, 3, 64, 64)
        # T low-resolution images, as clips of one frame
        assert batch["segmentation"]["src"].shape[:2] == (2 * length, 1)
        assert set(batch["segmentation"]["mask"].unique().tolist()) <= {0.0, 1.0}


def test_segmentation_takes_clips_and_images(shards: Data, tmp_path: Path) -> None:
    disc = draw_disc(3)
    lay_out(tmp_path, {"v/images/clip": disc.frames, "v/masks/clip": disc.alpha})
    found = index(Data(shards=shards.shards, masks=(str(tmp_path / "v"),)))
    batches = Batches(found, MATTING, Augment(), (0, 0), 0)
    lengths = [batches.make(step)["segmentation"]["src"].shape[1] for step in range(4)]
    assert lengths[0] > 1
    assert lengths[2] > 1
    assert lengths[1] == lengths[3] == 1


def test_distilled_batches_mix_truth_and_unlabelled(shards: Data) -> None:
    phase = Phase("d", "distill", batch=8, size=(32, 32), truth=0.5, empty=0.2)
    sample = Batches(index(shards), phase, NO_AUGMENT, (0, 0), 0).make(0)["distill"]
    known = sample["known"].flatten().tolist()
    assert set(known) == {0.0, 1.0}
    for alpha, true in zip(sample["pha"], known, strict=True):
        assert bool(alpha.any()) == bool(true)


def test_a_kind_that_is_needed_and_not_there(shards: Data) -> None:
    found = index(shards)
    nothing = Index(people=found.people)
    with pytest.raises(InputError, match="phase m needs backgrounds"):
        Batches(nothing, MATTING, Augment(), (0, 0), 0)
    with pytest.raises(InputError, match="phase d needs people"):
        Batches(Index(), Phase("d", "blocks"), Augment(), (0, 0), 0)
