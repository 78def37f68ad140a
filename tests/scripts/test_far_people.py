"""Clips of small people: their truth composes to the picture, and losses are told."""

import sys
import tarfile
from pathlib import Path
from typing import Any

import far_clips
import far_people
import numpy as np
import pytest
from fakes import decode, read, save_images

from rematte.train.data import Index, index
from rematte.train.recipe import Data

SIZE = (96, 64)
ROOM, PERSON = 180, 60


@pytest.fixture
def found(tmp_path: Path) -> Index:
    """Eight gray people with soft edges, and a gray room."""
    rows, columns = np.mgrid[:80, :40]
    edge = np.minimum(20 - abs(columns - 19.5), 40 - abs(rows - 39.5))
    person = np.full((80, 40, 4), PERSON, np.uint8)
    person[..., 3] = np.clip(edge * 100, 0, 255)
    save_images(tmp_path / "people", [person] * 8)
    save_images(tmp_path / "rooms", [np.full((30, 40, 3), ROOM, np.uint8)])
    data = Data(
        mattes=(str(tmp_path / "people"),), backgrounds=(str(tmp_path / "rooms"),)
    )
    return index(data)


@pytest.mark.parametrize("number", [1, 7])  # people who cross; one enters, and a cut
def test_the_truth_composes_to_the_picture(
    tmp_path: Path, found: Index, number: int
) -> None:
    drawn = [far_clips.draw(found, 3, number, SIZE) for _ in range(2)]
    clip, again = (one._replace(noise=0) for one in drawn)
    shown = list(far_clips.pictures(clip, np.random.default_rng(0)))
    for com, alpha, labels in shown:
        share = alpha / 255
        exact = share * PERSON + (1 - share) * ROOM
        assert np.abs(com - exact).max() <= 0.51
        assert (labels[alpha > 200] > 0).all()
    seen = {label for _, _, labels in shown for label in np.unique(labels)}
    assert seen == set(range(1 + sum(len(scene.people) for scene in clip.scenes)))
    far_clips.save(again, tmp_path / "clip", 0)
    for part, name in enumerate(("com.mp4", "pha.mkv", "people.mkv")):
        pixels = [frame.pixels for frame in read(tmp_path / "clip" / name)]
        assert len(pixels) == len(shown)
        for mine, theirs in zip(pixels, shown, strict=True):
            off = np.abs(mine.astype(int) - theirs[part])
            assert off.max() <= (25 if part == 0 else 0)


def test_a_person_is_lost_where_the_first_finds_them() -> None:
    labels = np.zeros((20, 30), np.uint8)
    labels[5:15, 2:8], labels[5:15, 20:26] = 1, 2
    whole, half = (labels > 0).astype(float), (labels == 1).astype(float)
    everything = np.ones(labels.shape)
    see = far_people.find_people
    assert see(whole, labels) == {1: (1, 1), 2: (1, 1)}
    assert see(half, labels)[2] == (0, 0)
    assert see(everything * 0.4, labels)[1] == (pytest.approx(0.4), 0)
    first, other = (
        [see(whole, labels)] * 4,
        [see(whole, labels)] + [see(half, labels)] * 3,
    )
    assert far_people.lost_people(first, other) == {2: [1, 2, 3]}
    assert far_people.lost_people(other, first) == {}
    assert far_people.spans([1, 2, 3, 7]) == "1-3, 7"


def test_a_run_makes_a_table_and_json(
    tmp_path: Path, found: Index, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Both variants are given the truth, so that nothing is off and nobody lost."""
    folder = tmp_path / "clips" / "seed0" / far_people.name_of(2)
    far_clips.save(far_clips.draw(found, 0, 2, SIZE), folder, 0)

    def convert(clip: Path, alpha: Path, flags: list[str]) -> dict[str, Any]:
        alpha.write_bytes(clip.with_name("pha.mkv").read_bytes())
        return {"seconds": float(len(flags)), "work": 0.5, "cpu": 1, "report": {}}

    monkeypatch.setitem(far_people.measure.__globals__, "convert", convert)
    shards = tmp_path / "some.tar"
    tarfile.open(shards, "w").close()
    words = ["far", str(shards), "--folder", str(tmp_path / "clips"), "--only", "2"]
    words += ["--variant", "a=--x 1", "--variant", "b=--y", "--output"]
    monkeypatch.setattr(sys, "argv", [*words, str(tmp_path / "out.json")])
    assert far_people.main() == 0
    out = capsys.readouterr().out
    assert (
        "| 02-entering-3-1080p | a | 0.000 | 0.000 | 1.000 | 2.0 | 0.5 | 1.0 | - |"
        in out
    )
    told = next(line for line in out.splitlines() if line.startswith("b: "))
    assert told.startswith("b: mad holds 0.25, dtssd holds 1.3, iou holds 0.96; ")
    assert told.endswith(" 0.50, 1.00, 1.00")
    assert (tmp_path / "out.json").stat().st_size > 100
    assert decode(folder / "com.mp4")
