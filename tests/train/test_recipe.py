"""Recipes: what they may hold, and what is said about what they may not."""

import dataclasses
from pathlib import Path

import pytest

from rematte.errors import InputError
from rematte.train.recipe import Phase, Recipe, load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
SMALL = """
[[phase]]
name = "one"
kind = "matting"
rates = { decoder = 1e-4 }
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "r.toml"
    path.write_text(SMALL)
    return path


def test_defaults_fill_what_is_left_out(recipe: Path) -> None:
    read = load_recipe(recipe)
    assert read == Recipe((Phase("one", "matting", rates=read.phase[0].rates),))
    assert read.phase[0].rates.decoder == 1e-4


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda p: p.name)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_recipes_parse(path: Path, device: str) -> None:
    assert load_recipe(path, (), device).phase


def test_recipes_of_the_package_are_found_by_name(recipe: Path) -> None:
    for path in RECIPES.glob("*.toml"):
        assert load_recipe(path.stem) == load_recipe(path)
    with pytest.raises(InputError, match=r"one of bundled, .*short, stage1"):
        load_recipe("nonsense")


def test_stages_are_the_published_ones() -> None:
    recipes = [load_recipe(RECIPES / f"stage{n}.toml") for n in (1, 2, 3, 4)]
    stages = [phase for recipe in recipes for phase in recipe.phase]
    assert [stage.frames for stage in stages] == [(n, n) for n in (15, 50, 40, 40)]
    rates = [dataclasses.astuple(stage.rates)[:4] for stage in stages]
    assert rates == [
        (1e-4, 2e-4, 2e-4, 0),
        (5e-5, 1e-4, 1e-4, 0),
        (1e-5, 1e-5, 1e-5, 2e-4),
        (1e-5, 1e-5, 5e-5, 2e-4),
    ]
    assert [stage.high is not None for stage in stages] == [False, False, True, True]
    for stage in stages:
        assert sum(stage.size) / 2 == 512
        assert stage.segmentation
        assert stage.batch_norm
        if stage.high is not None:
            assert (stage.high.frames, stage.high.ratio) == ((6, 6), 0.25)
            assert sum(stage.high.size) / 2 == 2048
    before = [f"runs/stage{n}/weights.safetensors" for n in (1, 2, 3)]
    assert [recipe.model.start for recipe in recipes] == ["imagenet", *before]


def test_overrides_win_over_the_device_and_the_file(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(f'{SMALL}steps=5\n[on.cpu]\n"phase.0.steps"=6\n"run.seed"=7\n')
    assert load_recipe(path).phase[0].steps == 5
    assert load_recipe(path, (), "cpu").phase[0].steps == 6
    assert load_recipe(path, (), "cuda").run.seed == 0
    more = ["phase.0.steps=8", "run.out=a b", 'data.people=["x", "y"]', "run.ema=0"]
    read = load_recipe(path, more, "cpu")
    assert read.phase[0].steps == 8
    assert (read.run.out, read.run.seed) == ("a b", 7)
    assert read.data.people == ("x", "y")
    assert type(read.run.ema) is float


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("run.sed=1", "unknown setting run.sed; the nearest is run.seed; all: out, "),
        ("phase.0.stpes=1", "unknown setting phase.0.stpes; the nearest is .*steps"),
        ("phase.0.rates.x=1", "unknown setting phase.0.rates.x; the nearest is"),
        ("dat.shards=[]", "unknown setting dat; the nearest is data"),
        ("run.seed=1.5", "run.seed must be a valid integer, got 1.5"),
        ("run.seed=true", "run.seed must be a valid integer, got True"),
        ("run.out=3", "run.out must be a valid string, got 3"),
        ("phase.0.batch_norm=1", "batch_norm must be a valid boolean, got 1"),
        ("run.ema=2", "run.ema must be less than or equal to 0.99999, got 2"),
        ("phase.0.kind=mating", "must be 'matting', .* or 'segmentation', got 'mat"),
        ("phase.0.frames=[1]", r"frames\.1 is missing"),
        ("phase.0.frames=[3, 2]", r"frames must be \[least, most\], got \[3, 2\]"),
        ("phase.0.size=[8, 64]", r"size\.0 must be greater than or equal to 32, got 8"),
        ("phase.0.high.size=[8, 64]", r"high\.size\.0 must be"),
        ("phase.0.ratio=[0.5, 1.5]", r"ratio\.1 must be"),
        ("data.shards=a.tar", "data.shards must be a valid array, got 'a.tar'"),
        ("phase.0=3", "give a number and a name"),
        ("phase.1.steps=3", "1 is not in 0 to 0; members of a list are counted"),
        ("phase.0.name.x.y=3", "phase.0.name.x.y: x is not a table"),
        ("phase.0.high=3", "phase.0.high must be an object, got 3"),
        ("phase.0.kind=blocks", "needs a teacher: set model.teacher"),
        ("phase.0.native=true", r"phase\.0\.examples must be at least 1 in a phase"),
        ("phase.0.examples=3", r"phase\.0\.examples must be 0 in a phase of kind mat"),
        ("phase.0.rates.decoder=0", "rates are all 0: nothing would be trained"),
        ("run.seed", "--set must be KEY=VALUE, got 'run.seed'"),
    ],
)
def test_what_is_wrong_is_one_line(recipe: Path, change: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_recipe(recipe, [change])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("a = = b", r"is not TOML: .*; correct it"),
        ("", "phase is missing; add it to the recipe"),
        ('[[phase]]\nname = "x"\n', r"phase\.0\.kind is missing"),
        ("on = 3\n", r"on must hold tables named on\.cpu, "),
        ("[on]\ncpu = 3\n", r"on must hold tables named on\.cpu, "),
        ("[on.gpu]\n", r"on must hold tables named on\.cpu, "),
    ],
)
def test_files_that_are_no_recipe(tmp_path: Path, words: str, message: str) -> None:
    path = tmp_path / "r.toml"
    with pytest.raises(InputError, match="cannot be read"):
        load_recipe(path)
    path.write_text(words)
    with pytest.raises((InputError, ValueError), match=message):
        load_recipe(path)
