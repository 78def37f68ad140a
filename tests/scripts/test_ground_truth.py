"""The ground-truth script: drawn truth is exact, and what it says is what it found."""

import sys
from pathlib import Path
from typing import Any

import ground_truth as script
import numpy as np
import pytest
import torch
from PIL import Image

from rematte.network.matting_network import MattingNetwork
from rematte.train.augment import Layers
from rematte.train.data import Blob, Item, Media


@pytest.fixture
def person() -> np.ndarray:
    """A cut-out: a head on a body, with a soft edge."""
    rows, columns = np.mgrid[:60, :30]
    head = np.hypot(rows - 12, columns - 15) < 7
    body = (rows > 18) & (abs(columns - 15) < 10)
    rgba = np.zeros((60, 30, 4), np.uint8)
    rgba[head | body] = 200, 120, 90, 255
    rgba[18, 5:25, 3] = 128
    return rgba


def test_a_yellow_wall_is_keyed() -> None:
    wall, jacket = torch.tensor([0.8, 0.8, 0.1]), torch.tensor([0.2, 0.2, 0.2])
    src = wall[:, None, None].repeat(2, 1, 20, 30)
    src[:, :, 5:, 10:20] = jacket[:, None, None]
    keyed = script.key_yellow(src)
    assert keyed.pha[0, 0, 10, 15] == 1
    assert keyed.pha[:, :, :5].max() == 0
    assert keyed.fgr[0, :, 10, 15].sub(jacket).abs().max() < 1e-6


def test_cutouts_move_and_obey_the_law(tmp_path: Path, person: np.ndarray) -> None:
    def item(name: str, pixels: np.ndarray) -> Item:
        path = tmp_path / name
        Image.fromarray(pixels).save(path)
        return Item(name, Media((Blob(str(path), 0, path.stat().st_size),), 1))

    gray = np.full((40, 60, 3), 128, np.uint8)
    front, back = item("a.png", person), item("b.png", gray)
    draws = [np.random.default_rng(1) for _ in range(2)]
    clip, again = (script.cutout_clip(front, back, 3, draw) for draw in draws)
    assert torch.equal(clip.src, again.src)
    assert clip.src.shape == (3, 3, *script.SIZE)
    assert not torch.equal(clip.pha[0], clip.pha[2])
    outside, inside = clip.pha[:, 0] == 0, clip.pha[:, 0] == 1
    assert (clip.src[:, 0] - 128 / 255)[outside].abs().max() < 1e-6
    assert clip.src[:, 0][inside].median().sub(200 / 255).abs() < 0.01


def test_listed_is_a_fixed_tenth() -> None:
    items = [Item(f"cutouts/{n}.png", Media((), 1)) for n in range(500)]
    chosen = script.listed(items)
    assert 30 < len(chosen) < 70
    assert chosen == script.listed(items[::-1])[::-1]


def test_bars_have_their_period_and_share() -> None:
    drawn = script.bars((4, 120), 12, 0.25, 0)[0]
    assert drawn.mean().sub(0.25).abs() < 0.01
    assert torch.allclose(drawn[:, :12], drawn[:, 12:24], atol=1e-4)
    assert torch.equal(drawn[0], drawn[3])
    slanted = script.bars((4, 120), 12, 0.25, 1)[0]
    assert torch.allclose(slanted[0, 1:], slanted[1, :-1], atol=1e-4)


def test_large_pictures_have_their_truth(
    person: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "LARGE", (540, 960))
    back = torch.full((3, 90, 160), 0.5)
    found = {kind: script.large_still(person, back, kind) for kind in script.KINDS}
    bare = found["railings"].pha
    assert torch.equal(bare, found["stripes"].pha)
    hair = found["hair"].pha - bare
    assert hair.min() >= 0  # behind the head, and nowhere in front
    assert 0.0005 < hair.mean() < 0.05
    for still in found.values():
        edge = still.pha[0, 0, still.at[0], still.at[1] - 2 : still.at[1] + 1]
        assert edge.min() < 0.5 < edge.max()
    behind = found["hair"].src[0, 0][found["hair"].pha[0, 0] == 0]
    assert behind.sub(128 / 255).abs().max() < 0.01


@pytest.mark.parametrize("refiner", ["deep_guided_filter", "fast_guided_filter"])
def test_the_filters_are_those_of_the_network(refiner: str) -> None:
    torch.manual_seed(0)
    model = MattingNetwork(refiner=refiner).eval().requires_grad_(False)
    src = torch.rand(1, 3, 64, 96)
    found = script.by_filter(model, src, 0.5)
    rec: list[Any] = [None] * 4
    for _ in range(script.WARM):
        _, pha, *rec = model(src, *rec, downsample_ratio=0.5)
    name = refiner.split("_")[0]
    assert torch.allclose(found[name], pha, atol=1e-6)
    assert list(found) == ["bilinear", "fast", "deep"][: 3 if name == "deep" else 2]


def test_perfect_alpha_has_no_error_and_photos_their_iou() -> None:
    pha = torch.zeros(3, 1, 16, 16)
    pha[:, :, 4:12, 4:12] = 1
    clip = script.laid(Layers(pha.repeat(1, 3, 1, 1), pha, torch.zeros(3, 3, 16, 16)))

    class Seer(torch.nn.Module):
        def forward(self, src: torch.Tensor, *states: Any) -> Any:
            return src, src[:, :1], *states

    figures, last = script.measure(Seer(), [clip])
    assert set(figures) == set(script.MEASURES)
    assert max(figures.values()) == 0
    assert torch.equal(last[0], pha[-1])
    assert script.measure_masks(Seer(), [clip]) == {"mad": 0, "iou": 1}


def test_tables_and_verdicts(tmp_path: Path) -> None:
    clips = {
        "new": {"a": {"dtssd": 1.2}, "none": {}},
        "old": {"a": {"dtssd": 1.0}, "none": {}},
    }
    assert script.table(clips, ["dtssd"])[0] == "| what | weights | dtSSD |"
    assert script.table(clips, ["dtssd"])[2:] == [
        *("| a | new | 1.200 |", "| a | old | 1.000 |"),
        *("| none | new | - |", "| none | old | - |"),
    ]
    row = {"Grad bilinear": 3.0, "Grad fast": 2.0}
    filters = {
        "new": {"x": row | {"Grad deep": 1.0}, "y": row | {"Grad deep": 2.5}},
        "old": {"x": row},
    }
    lines = list(script.verdicts(clips, filters, "old"))
    assert len(lines) == 2
    assert lines[0].endswith("no: y")
    assert lines[1].endswith("no, 1.20")
    script.save_sheet(tmp_path, "a b/c", [[torch.zeros(1, 4, 5), torch.ones(3, 4, 5)]])
    with Image.open(tmp_path / "a_b_c.png") as image:
        assert image.size == (10, 4)


def test_without_the_shared_data_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "w.safetensors", "--shared", str(tmp_path)])
    assert script.main() == 0
    assert "is not here" in capsys.readouterr().out
