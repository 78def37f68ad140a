"""Phases that learn from prepared examples: what they compute, and what learns."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import lay_out, random_network
from runs import elsewhere, few, log, one_thread, quick, rng, uneven_network
from safetensors.torch import load_file, save_file
from torch import Tensor

from rematte.network.guided_filter import refine, shrink
from rematte.network.matting_network import MattingNetwork
from rematte.train import Recipe, batches, edges, filter, load_recipe, stopping
from rematte.train.batches import Batches, Examples
from rematte.train.blocks import block_errors, block_examples, chains_of
from rematte.train.data import Index, index
from rematte.train.dry_run import dry_run
from rematte.train.passes import Passes
from rematte.train.recipe import NO_AUGMENT, Data, Model, Phase, Rates, Run
from rematte.train.setup import make_optimizer

Sample = dict[str, Tensor]
ALL = Rates(1e-3, 1e-3, 1e-3, 1e-3)


@pytest.fixture
def network() -> MattingNetwork:
    return uneven_network()


@pytest.fixture
def data(tmp_path: Path) -> Data:
    """Noisy people and a clip, their masks, a room and a cut-out."""
    draw, mask = rng(), np.zeros((112, 128), np.uint8)
    mask[30:, 40:90] = 255
    disc = np.full((100, 60, 4), 128, np.uint8)
    disc[..., 3] = 255 * (np.hypot(*np.mgrid[-50:50, -30:30]) < 25)
    names = ("people/a.png", "people/b.png", "backgrounds/r.png", "masks/m.png")
    pictures: dict[str, Any] = {
        name: draw.integers(0, 256, (112, 128, 3), np.uint8) for name in names
    }
    clip = list(draw.integers(0, 256, (5, 96, 128, 3), np.uint8))
    pictures |= {"people/clip": clip, "masks/m.mask.png": mask, "mattes/a.png": disc}
    lay_out(tmp_path, pictures)
    kinds = {name.split("/")[0] for name in pictures}
    return Data(**{kind: (str(tmp_path / kind),) for kind in kinds}, held_out=0.0)  # type: ignore[arg-type]


@pytest.fixture
def found(data: Data) -> Index:
    return index(data)


def sample_of(found: Index, phase: Phase, step: int = 0) -> Sample:
    return Batches(found, phase, NO_AUGMENT, (0,), 0).make(step)[phase.kind]


def phase_of(kind: Any, **settings: Any) -> Phase:
    base = {"frames": (1, 2), "size": (64, 64), "rates": ALL, "steps": 2, "examples": 4}
    sides = {"edges": 48, "sequences": 64, "filter": 16}
    crop = {"crop": sides[kind]} if kind in sides else {}
    ratio = {"ratio": (0.5, 0.5)} if kind == "filter" else {}
    return Phase(kind, kind, **base | crop | ratio | settings)


@pytest.mark.parametrize("kind", ["blocks", "encoder", "edges", "sequences"])
def test_a_perfect_student_has_nothing_to_learn(
    network: MattingNetwork, found: Index, kind: str
) -> None:
    phase = phase_of(kind, native=True, frames=(2, 2))
    passes = Passes(network, network, phase)
    samples = (sample_of(found, phase, at) for at in range(3))
    examples = Examples(passes.prepare(each, rng()) for each in samples)
    assert len(examples) >= 3
    for each in examples.every():
        terms = passes(kind, each, 1.0)
        assert sum(float(term.detach()) for term in terms.values()) < 1e-3


def test_the_end_of_the_encoder_is_fed_by_the_students_beginning(
    network: MattingNetwork, found: Index
) -> None:
    names = (*(f"backbone.features.{n}" for n in range(14, 17)), "aspp")
    phase = phase_of("encoder", blocks=(names,))
    other = random_network()
    with torch.no_grad():
        for parameter in other.backbone.features[3].parameters():
            parameter.add_(0.3)
    sample = sample_of(found, phase)
    good, bad = (
        Passes(student, network, phase).prepare(sample, rng())
        for student in (network, other)
    )
    assert not torch.allclose(good["0.0"], bad["0.0"])
    for name in names:
        assert torch.equal(good[f"0.{name}"], bad[f"0.{name}"])
    assert Passes(network, network, phase).learning() == list(names)


def test_a_part_of_a_map_teaches_what_the_whole_does(network: MattingNetwork) -> None:
    """The place is the same in all arguments, and the margin does not count."""
    chains = (("decoder.decode2",), ("decoder.decode0", "project_mat"))
    phase = phase_of("blocks", blocks=chains, crop=16)
    sample = {"src": torch.rand(1, 2, 3, 96, 128)}
    examples = block_examples(network, network, sample, phase, rng())
    assert examples["0.decoder.decode2"].shape[-2:] == (16, 16)
    assert examples["1.0"].shape[-2:] == (8, 8)
    errors = block_errors(network, examples, phase)
    # The recurrent block looks further than the margin, but random weights hardly do.
    assert float(errors["project_mat"].detach()) < 1e-6
    assert float(errors["decoder.decode2"].detach()) < 1e-2


def test_pictures_are_cut_to_the_grid_and_made_smaller_but_never_larger() -> None:
    small = torch.rand(2, 3, 37, 70)
    shown = batches.on_grid(batches.shrunk(small))
    assert torch.equal(shown, small[..., :32, :64])
    assert batches.shrunk(torch.zeros(1, 3, 1080, 1920)).shape == (1, 3, 288, 512)


def test_a_pan_shows_the_photo_pixel_for_pixel() -> None:
    photo = torch.rand(3, 240, 272)
    shown = batches.panned(photo, 4, rng(3))
    windows = photo.unfold(1, 224, 1).unfold(2, 256, 1)
    for frame in shown:
        same = (windows == frame[:, None, None]).all(-1).all(-1).all(0)
        assert same.sum() == 1


def is_exact(sample: Sample) -> None:
    """Check that the foreground is what is seen where alpha is 1."""
    fgr, solid = sample["fgr"], sample["pha"] == 1
    assert (sample["src"] - fgr)[solid.expand_as(fgr)].abs().max() < 1e-6


def test_crisp_composites_have_exact_alpha(found: Index) -> None:
    how = dataclasses.replace(NO_AUGMENT, crisp=1.0)
    phase = phase_of("edges", truth=1.0, augment=how)
    sample = sample_of(found, phase)
    assert (sample["pha"].min(), sample["pha"].max()) == (0, 1)
    is_exact(sample)


def test_hair_and_groups_have_exact_alpha(found: Index) -> None:
    makes = []
    for share in (0.0, 1.0):
        how = dataclasses.replace(NO_AUGMENT, hair=share, group=share)
        phase = phase_of("edges", truth=1.0, frames=(2, 2), augment=how)
        makes.append([sample_of(found, phase, step) for step in range(4)])
    for plain, grouped in zip(*makes, strict=True):
        assert grouped["pha"].shape == plain["pha"].shape
        assert 0 <= grouped["pha"].min() < grouped["pha"].max() <= 1
        is_exact(grouped)
    areas = [sum(float(each["pha"].mean()) for each in made) for made in makes]
    assert areas[1] > areas[0]  # more people


def test_composites_teach_exact_alpha(network: MattingNetwork, found: Index) -> None:
    sums = []
    for truth in (1.0, 0.0):
        phase = phase_of("edges", truth=truth)
        passes = Passes(network, network, phase)
        examples = passes.prepare(sample_of(found, phase), rng())
        assert (examples["known"] == truth).all()
        sums.append(float(passes("edges", examples, 1.0)["alpha"].detach()))
    assert sums[0] > 0.05  # random weights know nothing of it
    assert sums[1] < 1e-6


def test_only_edges_of_the_picture_itself_are_learned() -> None:
    size = (288, 512)
    assert edges.seen_whole(size, (40, 100), 192).sum() == (192 - 24) ** 2
    corner = edges.seen_whole(size, (96, 0), 192)[0]  # at the bottom and at the left
    assert corner[12:, :180].all()
    assert not corner[:12].any()
    assert not corner[:, 180:].any()


@pytest.fixture
def disc() -> Sample:
    """A picture with noise in it, and a disc in the middle."""
    rows, columns = (torch.arange(float(n)) for n in (272, 304))
    away = ((rows[:, None] - 136).square() + (columns - 152).square()).sqrt()
    torch.manual_seed(1)
    src = torch.rand(1, 1, 3, 272, 304)
    pha = (60 - away).clamp(0, 1)[None, None, None]
    yes = torch.ones(1, 1, 1, 1, 1)
    return {"src": src, "fgr": src, "pha": pha, "known": yes, "coloured": yes}


@torch.no_grad()
@pytest.mark.parametrize("ratio", [0.25, 0.5])
def test_a_crop_shows_what_the_whole_picture_does(
    network: MattingNetwork, disc: Sample, ratio: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filter, "_LOST", 1)
    src = disc["src"][0]
    picture = shrink(src, ratio)
    hidden = filter.last_map(network, filter._still(picture))
    whole = refine(src, *network.refiner(picture, network.project_mat(hidden), hidden))
    phase = phase_of("filter", crop=48, ratio=(ratio, ratio))
    crops = filter.filter_examples(network, network, disc, phase, rng())
    maps = network.refiner(crops["picture"], crops["coarse"], crops["hidden"])
    found = refine(crops["src"], *maps)
    edge, side = 2 * round(1 / ratio) + 2, crops["src"].shape[-1]
    inside = slice(edge, side - edge)
    for mine, shown in zip(found, crops["src"], strict=True):
        places = src[0, 0].unfold(0, 4, 1).unfold(1, 4, 1)  # it is noise: no two alike
        same = (places == shown[0, :4, :4]).all(-1).all(-1)
        ((top, left),) = same.nonzero().tolist()
        theirs = whole[0, :, top:, left:][:, inside, inside]
        assert torch.allclose(mine[:, inside, inside], theirs, atol=1e-4, rtol=1e-4)


def test_the_filter_learns_in_units_of_its_inputs(
    network: MattingNetwork, disc: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filter, "_LOST", 1)
    phase = phase_of("filter", crop=48, ratio=(0.25, 0.25))
    crops = Passes(network, network, phase).prepare(disc, rng())
    size = filter.input_sizes(network.refiner, [crops])
    weight = network.get_parameter("refiner.conv.0.weight").requires_grad_(True)
    before = weight.detach().clone()
    optimizer = torch.optim.Adam([weight], 1e-3)
    filter.scale_steps(optimizer, network.refiner, [crops])
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    step = (before - weight.detach()) * size
    torch.testing.assert_close(step, torch.full_like(step, 1e-3), rtol=1e-3, atol=1e-6)


def recipe_of(data: Data, folder: Path, phase: Phase, **run: Any) -> Recipe:
    """A run whose start and teacher are random but for the part that learns."""
    torch.manual_seed(5)
    network = random_network()
    with torch.no_grad():
        network.project_mat.conv.bias[3] = 0.5  # alpha that is neither 0 nor 1
    save_file(network.state_dict(), folder / "start.safetensors")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    save_file(network.state_dict(), folder / "teacher.safetensors")
    files = {part: f"{folder}/{part}.safetensors" for part in ("start", "teacher")}
    how = Run(str(folder / "run"), workers=0, ema=0.0, log_every=1, **run)
    return Recipe((phase,), data, Model(**files), NO_AUGMENT, few(2), how)


ENCODER = ("backbone.features.2", "backbone.features.3")
ENDS = {"decoder.decode1", "decoder.decode0", "project_mat"}


@pytest.mark.parametrize(
    ("kind", "settings", "learning"),
    [
        ("blocks", {"blocks": (("decoder.decode3",),)}, {"decoder.decode3"}),
        ("encoder", {"blocks": (ENCODER,)}, {*ENCODER}),
        ("edges", {"truth": 0.5, "native": True}, ENDS),
        ("sequences", {"native": True, "frames": (3, 3)}, set(edges.BLOCKS)),
        ("sequences", {"blocks": (("decoder.decode2",),)}, {"decoder.decode2"}),
        ("filter", {"truth": 1.0, "steps": 12}, {"refiner"}),
        ("segmentation", {"size": (32, 32), "steps": 12}, {"project_seg"}),
    ],
)
def test_only_the_part_of_a_phase_learns_and_it_does(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    kind: str, settings: dict[str, Any], learning: set[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(filter, "_LOST", 1)
    phase = phase_of(kind, **{"steps": 6, "batch": 2} | settings)
    recipe = recipe_of(data, tmp_path, phase)
    trained = quick(recipe)
    was, now = load_file(recipe.model.start), load_file(trained.weights)
    assert was.keys() == now.keys()
    changed = {key for key in was if not torch.equal(was[key], now[key])}
    assert changed
    assert all(any(key.startswith(f"{m}.") for m in learning) for key in changed)
    held = [line["held_out_loss"] for line in log(recipe, "held_out_loss")]
    assert held[-1] < held[0]


def test_a_mask_that_the_maps_tell_is_learned() -> None:
    network = random_network()
    hidden = torch.randn(4, 16, 20, 30)
    mask = (hidden[:, 3:4] - hidden[:, 7:8] > 0.2).float()
    passes = Passes(network, None, phase_of("segmentation"))
    optimizer = torch.optim.AdamW(network.project_seg.parameters(), 0.1)
    network.project_seg.requires_grad_(True)
    for _ in range(150):
        optimizer.zero_grad()
        loss = passes("segmentation", {"hidden": hidden, "mask": mask}, 1.0)
        loss["segmentation"].backward()
        optimizer.step()
    right = (network.project_seg(hidden) > 0) == (mask > 0)
    assert right.float().mean() > 0.97


def test_a_phase_may_go_part_of_the_way(data: Data, tmp_path: Path) -> None:
    weights = []
    for way in (1.0, 0.25):
        folder = tmp_path / str(way)
        folder.mkdir()
        phase = phase_of("blocks", blocks=(("decoder.decode4",),), way=way)
        trained = quick(recipe_of(data, folder, phase))
        weights.append(load_file(trained.weights)["decoder.decode4.gru.ih.0.weight"])
    start = load_file(folder / "start.safetensors")["decoder.decode4.gru.ih.0.weight"]
    assert not torch.equal(weights[0], start)
    torch.testing.assert_close(weights[1], start.lerp(weights[0], 0.25))


def test_unknown_blocks_are_named(network: MattingNetwork) -> None:
    phase = phase_of("blocks", blocks=(("decoder.decode9",),))
    with pytest.raises(ValueError, match=r"blocks: decoder\.decode9 is not a block"):
        chains_of(phase, network)


@pytest.mark.parametrize("name", ["bundled", "short"])
def test_the_phases_of_a_recipe_reach_every_part(name: str) -> None:
    network = MattingNetwork()
    learned = set()
    for phase in load_recipe(name).phase:
        for module in Passes(network, None, phase).learning():
            learned |= {id(p) for p in network.get_submodule(module).parameters()}
    assert learned == {id(p) for p in network.parameters()}


def test_the_fast_recipe_reaches_all_that_is_cut_down() -> None:
    network, learned = MattingNetwork("mobilenetv3_fast"), set()
    for phase in load_recipe("fast").phase:
        learned |= set(Passes(network, None, phase).learning())
    same = {"backbone", "aspp", "decoder.decode4", "decoder.shrink"}
    parts = {f"decoder.{name}" for name, _ in network.decoder.named_children()}
    parts |= {name for name, _ in network.named_children()} - {"decoder"}
    assert learned == parts - same


def test_soap_finds_the_answer_where_inputs_go_together() -> None:
    torch.manual_seed(0)
    # All inputs are nearly the same: a hundred times as much along one direction.
    x = torch.randn(512, 1) + 0.01 * torch.randn(512, 8)
    true = torch.randn(8, 4)
    errors = []
    for name in ("soap", "adam"):
        layer = torch.nn.Linear(8, 4)
        torch.nn.init.zeros_(layer.weight)
        phase = phase_of("blocks", optimizer=name)
        optimizer = make_optimizer(phase, [{"params": layer.parameters(), "lr": 0.05}])
        for step in range(300):
            optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 300)
            optimizer.zero_grad()
            loss = (layer(x) - x @ true).square().mean()
            loss.backward()
            optimizer.step()
        errors.append(loss.item())
    assert errors[0] < 0.1 * errors[1]


@pytest.mark.parametrize("kind", ["blocks", "edges"])
def test_a_resumed_phase_of_examples_equals_an_unbroken_one(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Also with SOAP, whose state has bases, and on the way back at the end.

    The states in examples of edges come from the blocks that learn.
    """
    monkeypatch.setattr(stopping, "GRACE", 600.0)
    settings = {"optimizer": "soap", "steps": 3, "frames": (2, 2)}
    if kind == "blocks":
        settings |= {"blocks": (("decoder.decode4",),), "way": 0.5}
    phase = phase_of(kind, **settings)
    recipe = recipe_of(data, tmp_path, phase)
    stops = iter([False, True, False])  # SOAP makes its bases in the first step
    with one_thread():
        unbroken = quick(elsewhere(recipe, tmp_path / "whole"))
        monkeypatch.setattr(stopping.Stop, "over", property(lambda _: next(stops)))
        parts = [quick(recipe, resume=True) for _ in range(2)]
    assert [part.steps for part in parts] == [2, 3]
    assert parts[1].weights.read_bytes() == unbroken.weights.read_bytes()


def test_a_filter_is_tried_with_good_weights(data: Data, tmp_path: Path) -> None:
    recipe = recipe_of(data, tmp_path, phase_of("filter"))
    model = dataclasses.replace(recipe.model, start="")
    lines = dry_run(dataclasses.replace(recipe, model=model), device="cpu")
    assert any(line.startswith("filter: 2 steps of") for line in lines)
