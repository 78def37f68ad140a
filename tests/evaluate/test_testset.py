"""Test sets: what is written is exact, drawn by the seed, and complete or not there."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DiscClip, Refused, Run, draw_disc, make_clip
from fakes import colours, names, open_image, save_images

from rematte.errors import InputError
from rematte.evaluate.testset import make_testset

SIZE = (96, 64)
pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def person(disc: DiscClip) -> Path:
    """Twelve transparent images of a disc."""
    return save_images(Path("person"), disc.rgba)


@pytest.fixture
def room() -> Path:
    save_images(Path("rooms"), colours(1, SIZE))
    return Path("rooms", "shot0.png")


@pytest.fixture
def street() -> Path:
    """Ten frames of which no two are alike, without loss."""
    pictures = colours(10, SIZE)
    return make_clip(
        Path("street.mkv"), pictures, codec="ffv1", pix_fmt="bgr0", size=SIZE
    )


def part(folder: Path) -> list[np.ndarray]:
    return [open_image(path) for path in sorted(folder.iterdir())]


def make(name: str, *sources: Any, **options: Any) -> Path:
    target = Path(name)
    make_testset(target, *sources, **{"size": SIZE, "frames": 5, **options})
    return target


def everything(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*.png"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_layout_and_exact_truth(person: Path, room: Path, disc: DiscClip) -> None:
    made = make("set", [person], [room])
    assert names(made) == {"0000", "testset.json"}
    assert names(made / "0000") == {"com", "pha", "fgr", "bgr"}
    assert names(made / "0000/com") == {f"{i:04d}.png" for i in range(5)}
    com, pha, fgr, bgr = (part(made / "0000" / p) for p in ("com", "pha", "fgr", "bgr"))
    for index in range(5):
        assert np.array_equal(pha[index], disc.alpha[index])
        assert np.array_equal(fgr[index], disc.rgba[index][..., :3])
        assert np.array_equal(bgr[index], open_image(room))
        alpha = pha[index][..., None] / 255
        exact = alpha * fgr[index] + (1 - alpha) * bgr[index]
        assert np.abs(com[index] - exact).max() < 0.501
    recipe = json.loads((made / "testset.json").read_text())
    assert recipe["seed"] == 0
    assert recipe["clips"][0]["foreground"] == str(person)


def test_separate_alpha_is_the_same(person: Path, room: Path, disc: DiscClip) -> None:
    save_images(Path("fgr"), [picture[..., :3] for picture in disc.rgba])
    save_images(Path("pha"), disc.alpha)
    one = make("one", [person], [room])
    two = make("two", [Path("fgr")], [room], [Path("pha")])
    assert everything(one) == everything(two)
    # A set is a source of foregrounds, too.
    three = make("three", [one], [room])
    assert everything(three) == everything(one)


def test_the_seed_decides(person: Path, room: Path, street: Path) -> None:
    def drawn(name: str, seed: int) -> dict[str, bytes]:
        options = {"seed": seed, "clips_each": 3, "motion": "pan"}
        return everything(make(name, [person], [room, street], **options))

    first = drawn("a", 1)
    assert len(first) == 3 * 4 * 5
    assert first == drawn("b", 1)
    assert first != drawn("c", 2)


def test_every_background_comes_in_turn(person: Path, room: Path, street: Path) -> None:
    rows = make_testset(
        Path("set"), [person], [room, street], frames=1, size=SIZE, clips_each=4
    )
    used = [row["background"] for row in rows]
    assert {*used[:2]} == {*used[2:]} == {str(room), str(street)}


def test_videos_play_over_and_over_or_stand(person: Path, street: Path) -> None:
    frames = colours(10, SIZE)
    made = make("own", [person], [street], frames=12)
    for index, picture in enumerate(part(made / "0000/bgr")):
        assert np.array_equal(picture, frames[index % 10])
    made = make("still", [person], [street], frames=3, motion="none")
    first, *others = part(made / "0000/bgr")
    assert all(np.array_equal(first, picture) for picture in others)


def test_pan_moves_an_image(person: Path, room: Path) -> None:
    made = make("set", [person], [room], motion="pan")
    seen = part(made / "0000/bgr")
    assert not np.array_equal(seen[0], seen[-1])


def test_a_clip_ends_with_its_foreground(person: Path, room: Path) -> None:
    made = make("set", [person], [room], frames=50)
    assert len(names(made / "0000/com")) == 12


def test_another_size_keeps_the_shape_and_the_colour(room: Path) -> None:
    disc = draw_disc(1, (64, 64))
    person = save_images(Path("square"), disc.rgba)
    made = make("set", [person], [room], size=(64, 32))
    pha, fgr = part(made / "0000/pha")[0], part(made / "0000/fgr")[0]
    assert pha.shape == (32, 64)
    assert pha[:, :16].max() == pha[:, 48:].max() == 0
    assert pha.mean() * 2 == pytest.approx(disc.alpha[0].mean(), abs=0.5)
    # Hidden black does not bleed into the edge.
    assert np.abs(fgr[pha > 0].astype(int) - disc.colour).max() <= 1


def test_opaque_or_gray_is_refused(room: Path, street: Path, disc: DiscClip) -> None:
    with pytest.raises(InputError, match="without an alpha channel"):
        make("set", [street], [room])
    gray = save_images(Path("gray"), disc.alpha)
    with pytest.raises(InputError, match="no colours"):
        make("set", [gray], [room])
    assert not any("set" in name for name in names(Path()))


def test_alpha_must_fit_its_picture(street: Path, room: Path, disc: DiscClip) -> None:
    short = save_images(Path("short"), disc.alpha[:4])
    with pytest.raises(InputError, match="differ in length"):
        make("set", [street], [room], [short])
    small = save_images(Path("small"), draw_disc(10, (48, 32)).alpha)
    with pytest.raises(InputError, match="another size"):
        make("set", [street], [room], [small])
    with pytest.raises(ValueError, match="an alpha for each"):
        make("set", [street], [room], [short, short])


@pytest.mark.parametrize(
    "wrong",
    [{"frames": 0}, {"size": (0, 4)}, {"clips_each": 0}, {"seed": -1}, {"motion": "x"}],
)
def test_numbers_out_of_range(person: Path, room: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        make("set", [person], [room], **wrong)
    assert not Path("set").exists()


def test_the_command(person: Path, room: Path, run: Run, refused: Refused) -> None:
    words = ["make-testset", Path("set"), "--foreground", person, "--background",
             room, "--frames", "2", "--size", "48x32", "--background-motion", "pan",
             "--clips-each", "2", "--seed", "3"]  # fmt: skip
    assert run(*words) == (0, "2 clips, 4 frames: set\n", "")
    before = everything(Path("set"))
    assert "exists" in refused(1, *words)
    assert everything(Path("set")) == before
