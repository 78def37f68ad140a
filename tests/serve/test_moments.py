"""Looking at a moment: its pictures, the choice of who is cut out, the small video."""

import io
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_clip
from fakes import Fake, decode
from numpy.typing import NDArray
from PIL import Image
from serving import New, Server, error, new, shared
from torch import Tensor

from rematte.serve.choice import read_choice
from rematte.serve.pictures import Pictures
from rematte.serve.playable import views_of, write_playable
from rematte.serve.processes import WorkError

__all__ = ["new", "shared"]  # the fixtures
WIDTH, HEIGHT, COUNT = 96, 64, 20


def draw(count: int = COUNT) -> list[NDArray[np.uint8]]:
    """Two people, whose alpha is their red; the right one comes after ten frames."""
    frames = []
    for index in range(count):
        frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        frame[16:48, 8:32] = 255, 10 * index, 0
        if index >= 10:
            frame[16:48, 64:88] = 255, 0, 200
        frames.append(frame)
    return frames


@pytest.fixture(scope="module")
def id(shared: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    clip = make_clip(tmp_path_factory.mktemp("clip") / "two.mp4", draw(), sound=True)
    return shared.add(clip)


def picture(answer: Any) -> NDArray[np.uint8]:
    assert answer.status_code == 200
    with Image.open(io.BytesIO(answer.content)) as image:
        return np.asarray(image)


def alpha(shared: Server, id: str, at: float, **choice: Any) -> NDArray[np.uint8]:
    return picture(shared.moment(id, at=at, choice=choice))[..., 3]


def test_the_frame_of_any_moment_is_shown(shared: Server, id: str) -> None:
    for at, green in ((0.02, 0), (0.3, 70), (0.78, 190), (99, 190)):
        frame = picture(shared.still(id, at=at))
        assert frame.shape == (HEIGHT, WIDTH, 3)
        assert abs(int(frame[32, 20, 1]) - green) < 12
    thumb = shared.still(id, "thumb", at=0.5)
    assert thumb.headers["content-type"] == "image/jpeg"


def test_the_cut_out_of_a_moment_is_settled(shared: Server, id: str) -> None:
    early, late = alpha(shared, id, 0.02), alpha(shared, id, 0.78)
    assert min(early[32, 20], late[32, 20], late[32, 76]) > 250
    assert max(early[32, 76], late[32, 48], early[32, 48]) < 5


def test_one_person_is_kept_or_left_out(shared: Server, id: str) -> None:
    right = {"x": 76 / WIDTH, "y": 0.5, "at": 0.78}
    kept = alpha(shared, id, 0.78, person={**right, "keep": True})
    assert (kept[32, 76] > 250, kept[32, 20]) == (True, 0)
    left_out = alpha(shared, id, 0.78, person={**right, "keep": False})
    assert (left_out[32, 20] > 250, left_out[32, 76]) == (True, 0)
    # At another moment they are known by their colours.
    again = alpha(shared, id, 0.7, person={**right, "keep": True})
    assert (again[32, 76] > 250, again[32, 20]) == (True, 0)
    nobody = {"x": 0.5, "y": 0.5, "at": 0.78, "keep": True}
    answer = shared.moment(id, at=0.78, choice={"person": nobody})
    assert "nobody is there" in error(answer, 422)


def test_painted_areas_hold_for_their_time(shared: Server, id: str) -> None:
    box = {"points": [[0.4, 0.3], [0.6, 0.7]], "size": 0, "keep": True, "since": 0.5}
    stroke = {"points": [[0.1, 0.5], [0.3, 0.5]], "size": 0.1, "keep": False}
    made = alpha(shared, id, 0.78, marks=[box, stroke])
    assert made[32, 48] == 255
    assert made[32, 20] == 0
    assert made[20, 20] > 250
    assert alpha(shared, id, 0.3, marks=[box])[32, 48] < 5
    assert alpha(shared, id, 0.78)[32, 48] < 5


class Everything(Fake):
    def forward(self, src: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        foreground, alpha, *state = super().forward(src, *rest)
        return foreground, torch.ones_like(alpha), *state


def test_fast_has_a_network_of_its_own(new: New, tmp_path: Path) -> None:
    server = new(Fake, fast=Everything)
    id = server.add(make_clip(tmp_path / "two.mp4", draw()))
    for quality, everything in ("balanced", False), ("fast", True), ("best", False):
        shown = picture(server.moment(id, at=0.5, quality=quality))
        assert bool((shown[..., 3] > 250).all()) is everything
        server.finish(id, outputs=["alpha"], quality=quality)
        (tmp_path / "alpha.mp4").write_bytes(server.file(id, "alpha").content)
        assert bool((decode(tmp_path / "alpha.mp4")[9] > 250).all()) is everything


def test_it_says_where_nobody_is(shared: Server, tmp_path: Path) -> None:
    black = [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 3
    id = shared.add(make_clip(tmp_path / "black.mp4", black))
    assert shared.moment(id, "judgement").json() == {
        "nobody": True, "unsure": False, "edges": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ([1], "choice must be an object"),
        ({"start": -1}, "start must be a number from 0"),
        ({"start": 2, "end": 1}, "end must be later than the start"),
        ({"person": {"x": 2, "y": 0}}, "a place must be a number from 0 to 1"),
        ({"person": {"x": 0.5, "y": 0, "at": 1}, "start": 2}, "outside of the part"),
        ({"marks": [{"points": []}]}, "points must be a list"),
        ({"marks": [{"points": [[0, 0]], "size": 0}]}, "a box has two corners"),
        ({"marks": [{"points": [[0, True]], "size": 1}]}, "a place must be a number"),
        ({"marks": [{}] * 65}, "at most 64"),
        ({"marks": [{"points": [[0, 0]], "size": 1, "keep": [1]}]}, "true or false"),
        ({"person": {"x": 0.5, "y": 0.5, "keep": {"a": 1}}}, "true or false"),
        ({"marks": [{"path": "/etc/passwd"}]}, "mark must be an object of keep"),
    ],
)
def test_wrong_choices_fail(shared: Server, id: str, choice: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_choice(choice)
    for answer in (shared.start(id, choice=choice), shared.moment(id, choice=choice)):
        assert message in error(answer, 400)


@pytest.mark.parametrize(
    "moment", [{"at": -1}, {"at": "x"}, {"at": 10**400}, {"quality": "x"}]
)
def test_invalid_moments_are_refused(shared: Server, id: str, moment: Any) -> None:
    assert shared.moment(id, **moment).status_code == 400
    assert shared.still(id, "poster").status_code == 404


def test_a_part_is_converted_as_chosen(shared: Server, id: str, tmp_path: Path) -> None:
    choice = {
        "start": 0.480001,
        "end": 0.719999,
        "person": {"x": 76 / WIDTH, "y": 0.5, "at": 0.6, "keep": False},
        "marks": [{"points": [[0.4, 0.3], [0.6, 0.7]], "size": 0, "keep": True}],
    }
    outputs = ["alpha", "mp4"]
    assert shared.finish(id, outputs=outputs, choice=choice)["done"] == 6
    made = {}
    for kind in ("alpha", "playable"):
        (tmp_path / f"{kind}.mp4").write_bytes(shared.file(id, kind).content)
        made[kind] = decode(tmp_path / f"{kind}.mp4")
        assert len(made[kind]) == 6
    last = made["alpha"][-1][..., 0]
    assert min(last[32, 20], last[32, 48]) > 240
    assert last[32, 76] < 15
    # Frame 12 comes first, in all views: original, cut-out, alpha, composition.
    views = np.split(made["playable"][0].astype(int), 4, axis=1)
    assert views_of(outputs) == ["original", "cutout", "alpha", "mp4"]
    assert abs(views[0][32, 20] - [255, 120, 0]).max() < 25
    assert abs(views[1][32, 20] - [255, 120, 0]).max() < 25
    assert views[1][32, 76].max() < 25
    assert (views[2][32, 20].min() > 230, views[2][32, 76].max() < 25) == (True, True)


def test_a_conversion_without_who_is_chosen_says_so(shared: Server, id: str) -> None:
    nobody = {"x": 0.5, "y": 0.5, "at": 0.1, "keep": True}
    job = shared.finish(id, "failed", outputs=["alpha"], choice={"person": nobody})
    assert job["error"] == "nobody is where the person was clicked; click on them again"


class Gate:
    """A process whose first call waits to be let through."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.reached, self.open = threading.Event(), threading.Event()

    def call(self, name: str, function: Any, path: Path, *args: Any) -> None:
        target, number = args
        self.calls.append(number)
        self.reached.set()
        self.open.wait()
        target.write_text(str(number))


def ask_first(gate: Any, folder: Path) -> tuple[Pictures, Path]:
    """Ask for a picture, which waits at the gate."""
    (source := folder / "source.mp4").touch()
    pictures = Pictures(gate)
    assert pictures.get("name", print, source, ".txt", 1) is None
    gate.reached.wait()
    return pictures, source


def test_what_was_asked_for_last_comes_first(tmp_path: Path) -> None:
    gate: Any = Gate()
    pictures, source = ask_first(gate, tmp_path)
    for number in (2, 3):
        assert pictures.get("name", print, source, ".txt", number) is None
    gate.open.set()
    while len(gate.calls) < 3:
        time.sleep(0.01)
    pictures.close()
    assert gate.calls == [1, 3, 2]
    made = pictures.get("name", print, source, ".txt", 2)
    assert made.read_text() == "2"


def test_what_is_not_asked_for_again_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate: Any = Gate()
    pictures, source = ask_first(gate, tmp_path)
    pictures.get("name", print, source, ".txt", 2)
    monkeypatch.setattr("rematte.serve.pictures._FORGOTTEN", -1)
    gate.open.set()
    pictures.close()
    assert gate.calls == [1]


def test_old_pictures_are_deleted(shared: Server, id: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("rematte.serve.pictures._SAVED", 3)
    for n in range(5):
        shared.still(id, "thumb", at=n / 10)
    assert len(list((shared.jobs.store.folder(id) / "look").iterdir())) == 3


def test_half_a_picture_is_never_shown(tmp_path: Path) -> None:
    class Full:
        def call(self, name: str, function: Any, path: Path, target: Path) -> None:
            target.write_text("{")
            raise WorkError(f"{target}: no space left on the disk")

    (source := tmp_path / "source.mp4").touch()
    process: Any = Full()
    pictures = Pictures(process)
    assert pictures.get("name", print, source, ".json") is None
    while not pictures._failed:
        time.sleep(0.01)
    with pytest.raises(WorkError, match=r"^a picture: no space"):
        pictures.get("name", print, source, ".json")
    pictures.close()
    assert not list((tmp_path / "look").iterdir())


def test_what_failed_is_tried_again(shared: Server, tmp_path: Path) -> None:
    id = shared.add(make_clip(tmp_path / "clip.mp4", 3))
    source = shared.jobs.store.folder(id) / "source.mp4"
    content = source.read_bytes()
    source.write_bytes(b"no video")
    assert shared.still(id).status_code == 422
    source.write_bytes(content)
    assert shared.still(id).status_code == 200


@pytest.mark.parametrize("seen", [0, 1])
def test_a_result_without_anybody_is_known(tmp_path: Path, seen: int) -> None:
    before, alpha = tmp_path / "before.mp4", tmp_path / "alpha.mp4"
    black = np.zeros((64, 96, 3), np.uint8)
    make_clip(before, [black] * 3)
    make_clip(alpha, [black, black, black + np.uint8(255 * seen)])
    made = tmp_path / "made.mp4"
    assert write_playable(before, {"alpha": alpha}, made, None) is (not seen)
    assert write_playable(before, {"mp4": alpha}, made, None) is False


@pytest.mark.parametrize(
    ("source", "result", "aspects", "bars"),
    [
        ((100, 51), (100, 50), (1, 1), False),
        ((80, 64), (96, 64), (Fraction(6, 5), 1), False),
        ((80, 64), (80, 64), (Fraction(6, 5), Fraction(6, 5)), False),
        ((96, 64), (96, 96), (1, 1), True),
    ],
)
def test_only_a_result_of_another_shape_has_bars_in_the_player(
    tmp_path: Path, source: Any, result: Any, aspects: Any, bars: bool
) -> None:
    paths = [tmp_path / name for name in ("before.mp4", "alpha.mp4")]
    for path, size, aspect in zip(paths, (source, result), aspects, strict=True):
        white = [np.full((size[1], size[0], 3), 255, np.uint8)] * 2
        make_clip(path, white, aspect=Fraction(aspect), pix_fmt="yuv444p")
    write_playable(paths[0], {"alpha": paths[1]}, tmp_path / "made.mp4", None)
    original = decode(tmp_path / "made.mp4")[0][:, : result[0]]
    assert original.min() < 20 if bars else original.min() > 235
