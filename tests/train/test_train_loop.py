"""The loop: it learns, stops, resumes exactly, and leaves files that load."""

import dataclasses
import json
import multiprocessing
import os
import signal
import sys
import types
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from conftest import draw_disc, make_clip
from fakes import lay_out, python
from PIL import Image
from runs import elsewhere, few, log, one_thread, quick
from safetensors.torch import load_file, save_file
from test_data import encoded, make_shards, make_tar

import rematte
from rematte.cli.app import main
from rematte.errors import InputError, OutputError, WeightsError
from rematte.network.matting_network import MattingNetwork
from rematte.train import Recipe, load_recipe, stopping
from rematte.train.batches import Batches, load
from rematte.train.blocks import block_names, capture
from rematte.train.checkpoint import BEST, SETTINGS, STATE, WEIGHTS
from rematte.train.data import index
from rematte.train.journal import LOG
from rematte.train.passes import Passes
from rematte.train.recipe import NO_AUGMENT, Data, High, Model, Phase, Rates, Run
from rematte.train.setup import parameter_groups, rate_factor

ALL = Rates(1e-3, 1e-3, 1e-3, 1e-3)
FEW = few(1, 2)


def drawn(folder: Path) -> Data:
    """One moving disc with its alpha, and the wall behind it."""
    disc = draw_disc(3, (64, 64))
    pictures = {"m/fgr/1": disc.frames, "m/pha/1": disc.alpha}
    lay_out(folder, pictures | {"b/wall.png": disc.background})
    return Data(mattes=(str(folder / "m"),), backgrounds=(str(folder / "b"),))


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No step is left out because the machine is slow."""
    monkeypatch.setattr(stopping, "GRACE", 600.0)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(5)
    network = MattingNetwork(refiner="fast_guided_filter")
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # a plain mean: its maps get a variance of about 1
    with torch.no_grad():
        network(torch.rand(2, 2, 3, 64, 64))
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_file(network.state_dict(), path)
    return str(path)


@pytest.fixture
def mixed(tmp_path: Path, teacher: str) -> Recipe:
    """Every kind of phase and pass, two steps each, on drawn shards."""
    data = make_shards(tmp_path, make_clip(tmp_path / "c.mkv", 6, codec="ffv1"))
    short = {"steps": 2, "frames": (1, 2), "size": (32, 48), "rates": ALL}
    return Recipe(
        (
            Phase("m", "matting", high=High((1, 1), (64, 64), 0.5), batch_norm=True,
                  **short),
            Phase("b", "blocks", schedule="cosine", optimizer="adamw", **short),
            Phase("d", "distill", truth=0.5, precision="bfloat16", ratio=(0.5, 0.8),
                  **short),
        ),
        data,
        Model(teacher=teacher),
        validate=FEW,
        run=Run(str(tmp_path / "run"), seed=3, workers=0, save_every=1, log_every=1),
    )  # fmt: skip


def distilled(
    student: MattingNetwork, teacher: MattingNetwork, sample: Any, **settings: Any
) -> dict[str, torch.Tensor]:
    passes = Passes(student, teacher, Phase("d", "distill", **settings))
    return passes("distill", sample, 1.0)


def unlabelled(*shape: int) -> dict[str, torch.Tensor]:
    """Frames (1, T, C, H, W) of which nothing is known."""
    count, *size = shape
    src, no = torch.rand(1, count, 3, *size), torch.zeros(1, 1, 1, 1, 1)
    return {"src": src, "fgr": src, "pha": src[:, :, :1], "known": no, "coloured": no}


def plain(state: Any) -> Any:
    """The same with bytes in place of tensors, so that == compares all of it."""
    if isinstance(state, torch.Tensor):
        values = state.flatten().view(torch.uint8).numpy()
        return state.dtype, state.shape, values.tobytes()
    if isinstance(state, dict):
        return {key: plain(value) for key, value in state.items()}
    return [plain(each) for each in state] if isinstance(state, list) else state


def test_one_drawn_clip_is_learned_by_heart(tmp_path: Path) -> None:
    phase = Phase(
        "m", "matting", steps=20, frames=(2, 2), size=(64, 64), batch_norm=True,
        rates=Rates(1e-3, 1e-3, 1e-3), segmentation=False,
    )  # fmt: skip
    run = Run(str(tmp_path / "run"), workers=0, ema=0.0, log_every=1)
    recipe = Recipe((phase,), drawn(tmp_path), Model(), NO_AUGMENT, FEW, run)
    quick(recipe)
    lines = log(recipe, "loss")
    assert lines[-1]["matting/alpha_l1"] < 0.01 < 0.1 < lines[0]["matting/alpha_l1"]
    assert lines[-1]["loss"] < lines[0]["loss"] / 10


# A chain of blocks follows more slowly than each of them fed with the teacher's input.
@pytest.mark.parametrize(("kind", "most"), [("blocks", 0.7), ("encoder", 0.9)])
def test_a_teacher_is_followed_block_by_block(
    kind: Literal["blocks", "encoder"], most: float, mixed: Recipe
) -> None:
    phase = Phase(
        "b", kind, steps=14, frames=(2, 2), size=(48, 48), empty=0.0, clips=0.0,
        rates=ALL,
    )  # fmt: skip
    seldom = elsewhere(mixed, Path(mixed.run.out), save_every=100)
    quick(dataclasses.replace(seldom, phase=(phase,), augment=NO_AUGMENT))
    losses = [line["loss"] for line in log(mixed, "loss")]
    assert sum(losses[-3:]) < most * sum(losses[:3])
    held = [line["held_out_loss"] for line in log(mixed, "error")]
    assert held[-1] < held[0]


def test_a_teacher_of_the_same_numbers_has_no_error() -> None:
    teacher = MattingNetwork(refiner="fast_guided_filter").eval()
    terms = distilled(teacher, teacher, unlabelled(2, 48, 32))
    assert sum(float(term.detach()) for term in terms.values()) == 0
    assert "maps" in terms


def test_the_truth_replaces_the_teacher_where_it_is_known() -> None:
    teacher = MattingNetwork().eval()
    src = torch.rand(2, 1, 3, 32, 32)
    with torch.no_grad():
        fgr, pha, *_ = teacher(src)
    known = torch.tensor([1.0, 0.0]).view(2, 1, 1, 1, 1)
    batch = {"src": src, "fgr": fgr, "pha": 1 - pha, "known": known, "coloured": known}
    terms = distilled(teacher, teacher, batch, maps=0.0)
    hand = 5 * (1 - 2 * pha[:1]).abs().mean() / 2
    assert float(terms["alpha_l1"].detach()) == pytest.approx(float(hand), rel=1e-4)
    assert "maps" not in terms


def test_another_variant_is_followed_by_its_outputs() -> None:
    student, teacher = MattingNetwork("resnet50").eval(), MattingNetwork().eval()
    assert "maps" not in distilled(student, teacher, unlabelled(1, 32, 32))
    with capture(student, block_names(student)) as seen:
        student(torch.rand(1, 1, 3, 32, 32))
    assert len(seen) == len(block_names(student)) == 25


def test_rates_rise_and_fall() -> None:
    phase = Phase("p", "matting", steps=100, warmup=3, schedule="cosine")
    assert rate_factor(phase, 0) == pytest.approx(0.25)
    assert rate_factor(phase, 50) == pytest.approx(0.5)
    assert rate_factor(phase, 99) < 0.001
    assert rate_factor(dataclasses.replace(phase, schedule="constant"), 99) == 1
    assert rate_factor(dataclasses.replace(phase, warmup=0), 0) == 1
    late = dataclasses.replace(phase, constant=0.5)
    assert rate_factor(late, 50) == 1
    assert rate_factor(late, 75) == pytest.approx(0.5)


def test_parts_at_rate_0_stay() -> None:
    network = MattingNetwork()
    groups = parameter_groups(network, Rates(decoder=1e-3, backbone=1e-4))
    assert [group["lr"] for group in groups] == pytest.approx([1e-4, 1e-3])
    learning = {
        name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad
    }
    assert learning == {"backbone", "decoder", "project_mat", "project_seg"}


def test_a_resumed_run_equals_an_unbroken_one(
    mixed: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, over all phases; with a worker for the unbroken one."""
    unbroken = elsewhere(mixed, tmp_path / "whole", workers=1, save_every=100)
    # Stopped once within every phase, and once between two of them.
    stops = iter([True, True, True, False, True, False])
    with one_thread():
        whole = quick(unbroken)
        monkeypatch.setattr(stopping.Stop, "over", property(lambda _: next(stops)))
        parts = [quick(mixed, resume=True) for _ in range(5)]
    assert [part.steps for part in parts] == [1, 2, 3, 5, 6]
    assert whole.steps == 6
    assert whole.finished
    assert parts[-1].finished
    one, other = (torch.load(Path(r.run.out) / STATE) for r in (unbroken, mixed))
    for key in ("at", "network", "mean", "optimizer", "scaler", "rng"):
        assert plain(one[key]) == plain(other[key]), key
    assert whole.weights.read_bytes() == parts[-1].weights.read_bytes()
    steps, again = (
        [line | {"seconds": 0} for line in log(recipe, "loss")]
        for recipe in (unbroken, mixed)
    )
    assert steps == again


def test_workers_outlive_a_sigterm_to_all_processes(mixed: Recipe) -> None:
    """As `timeout` and cluster schedulers send it; the run itself ends cleanly."""
    phase = mixed.phase[1]
    batches = Batches(index(mixed.data), phase, mixed.augment, (0,), 0)
    made = load(batches, range(6), 1)
    next(made)
    for worker in multiprocessing.active_children():
        os.kill(worker.pid or 0, signal.SIGTERM)
    assert len(list(made)) == 5
    assert not multiprocessing.active_children()


def test_an_interrupt_leaves_a_checkpoint_that_loads_and_goes_on(
    mixed: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Passes.forward

    def pressed(*arguments: Any) -> Any:
        if not once:
            once.append(os.kill(os.getpid(), signal.SIGINT))
        return forward(*arguments)

    once: list[None] = []

    before = signal.getsignal(signal.SIGINT)
    recipe = dataclasses.replace(mixed, phase=mixed.phase[1:2])
    with monkeypatch.context() as patch:
        patch.setattr(Passes, "forward", pressed)
        with pytest.raises(KeyboardInterrupt, match=STATE):
            quick(recipe)
    assert signal.getsignal(signal.SIGINT) is before
    folder = Path(mixed.run.out)
    rematte.load_model(folder / WEIGHTS)
    assert {path.name for path in folder.iterdir()} == {
        STATE, WEIGHTS, BEST, SETTINGS, LOG, "sheets",
    }  # fmt: skip
    assert quick(recipe, resume=True).steps == 2


def test_a_failed_write_keeps_the_checkpoint_before(
    mixed: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(mixed, minutes=1e-6)
    folder = Path(mixed.run.out)
    before = (folder / STATE).read_bytes()
    for error in (OSError, RuntimeError):  # torch raises the second

        def full(state: object, file: Any, error: type[Exception] = error) -> None:
            file.write(b"half")
            raise error("no space left")

        monkeypatch.setattr(torch, "save", full)
        message = r"state\.pt .*no space left.*; the previous"
        with pytest.raises(OutputError, match=message):
            quick(mixed, resume=True, minutes=1e-6)
        assert (folder / STATE).read_bytes() == before
        assert not list(folder.glob(".*"))


def test_a_run_is_not_overwritten_nor_mixed_with_another(mixed: Recipe) -> None:
    quick(mixed, minutes=1e-6)
    with pytest.raises(OutputError, match="holds a run; continue it with --resume"):
        quick(mixed)
    other = dataclasses.replace(mixed, augment=NO_AUGMENT)
    with pytest.raises(OutputError, match=r"with other settings \(augment\)"):
        quick(other, resume=True)
    (Path(mixed.run.out) / STATE).write_bytes(b"x")
    with pytest.raises(InputError, match=r"state\.pt is damaged; delete it"):
        quick(mixed, resume=True)


def test_a_loss_that_is_not_finite_keeps_the_checkpoint_before(mixed: Recipe) -> None:
    phase = dataclasses.replace(mixed.phase[1], rates=Rates(1e30, 1e30, 1e30), steps=9)
    with pytest.raises(ValueError, match=r"not finite at step .*lower phase"):
        quick(dataclasses.replace(mixed, phase=(phase,)))


def test_the_export_and_what_lies_beside_it(mixed: Recipe, tmp_path: Path) -> None:
    half = elsewhere(mixed, tmp_path / "half", export="float16")
    half = dataclasses.replace(half, phase=mixed.phase[2:3])
    trained = quick(half)
    stored = load_file(trained.weights)
    assert stored["project_mat.conv.weight"].dtype == torch.float16
    model = rematte.load_model(trained.weights)
    fgr, pha, *_ = model(torch.rand(1, 3, 64, 64), 0.5)
    assert bool(pha.isfinite().all() and fgr.isfinite().all())
    settings = json.loads((tmp_path / "half" / SETTINGS).read_text())
    assert settings["run"]["export"] == "float16"
    assert settings["phase"][0]["rates"]["decoder"] == 1e-3
    with Image.open(tmp_path / "half/sheets/0000002.png") as sheet:
        assert sheet.size == (4 * 32, 32)
    # Weights are a start, too; the refiner may be another one.
    model = Model(refiner="fast_guided_filter", start=str(trained.weights),
                  teacher=mixed.model.teacher)  # fmt: skip
    again = dataclasses.replace(elsewhere(half, tmp_path / "again"), model=model)
    assert quick(again).finished


def test_torchscript_is_no_teacher_and_no_start(mixed: Recipe, tmp_path: Path) -> None:
    module = torch.jit.trace(torch.nn.Identity(), torch.rand(1))
    torch.jit.save(module, tmp_path / "t.pt")
    path = str(tmp_path / "t.pt")
    for model in (Model(teacher=path), Model(start=path)):
        with pytest.raises(WeightsError, match="is TorchScript; give the state dict"):
            quick(dataclasses.replace(mixed, model=model))


def test_blocks_need_a_teacher_of_the_same_variant(mixed: Recipe) -> None:
    model = dataclasses.replace(mixed.model, variant="resnet50")
    with pytest.raises(InputError, match="is not a resnet50, so its maps cannot be"):
        quick(dataclasses.replace(mixed, model=model))


def test_a_phase_of_no_steps_is_left_out(mixed: Recipe) -> None:
    none = [dataclasses.replace(phase, steps=0) for phase in mixed.phase[:2]]
    recipe = dataclasses.replace(mixed, phase=(*none, mixed.phase[2]))
    trained = quick(recipe)
    assert trained.finished
    assert trained.steps == 2
    assert {line["phase"] for line in log(recipe, "phase")} == {"d"}  # nor is measured


def test_tensorboard_is_told(mixed: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, float, int]] = []

    class SummaryWriter:
        def __init__(self, folder: Path) -> None:
            assert folder == Path(mixed.run.out)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            told.append((name, value, step))

        def close(self) -> None:
            told.append(("closed", 0.0, -1))

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    quick(dataclasses.replace(mixed, phase=mixed.phase[1:2]))
    assert {("error", 0), ("blocks/blocks", 1), ("loss", 2)} <= {
        (name, step) for name, _, step in told
    }
    assert [name for name, *_ in told].index("closed") == len(told) - 1


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_picture_is_told(mixed: Recipe, tmp_path: Path, workers: int) -> None:
    make_tar(tmp_path / "bad.tar", {"people/a.jpg": b"no image"})
    make_tar(tmp_path / "good.tar", {"people/b.jpg": encoded(draw_disc(1).frames[0])})
    data = Data(shards=(str(tmp_path / "bad.tar"), str(tmp_path / "good.tar")))
    recipe = elsewhere(mixed, tmp_path / "run", workers=workers)
    phase = dataclasses.replace(mixed.phase[1], batch=8, empty=0.0)
    with pytest.raises(InputError, match=r"^\S+bad.tar at byte 512: not a readable"):
        quick(dataclasses.replace(recipe, data=data, phase=(phase,)))


@pytest.mark.parametrize("minutes", [0, float("nan"), float("inf"), 1e30])
def test_minutes_have_a_range(mixed: Recipe, minutes: float) -> None:
    with pytest.raises(ValueError, match="minutes must be above 0 and at most"):
        quick(mixed, minutes=minutes)


# The command line and torchrun

RECIPE = """
data = {{ mattes = ["{0}/m"], backgrounds = ["{0}/b"] }}
run = {{ out = "{0}/run", workers = 0, log_every = 1 }}
validate = {{ samples = 1, frames = 1, size = 32 }}
[[phase]]
name = "m"
kind = "matting"
steps = 2
size = [32, 32]
segmentation = false
rates = {{ decoder = 1e-3 }}
"""


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn(tmp_path)
    path = tmp_path / "r.toml"
    path.write_text(RECIPE.format(tmp_path))
    words = ["train", str(path), "--device", "cpu", "--minutes"]
    assert main([*words, "0.00001"]) == 0
    assert "1 steps, to continue, add --resume" in capsys.readouterr().out
    assert main([*words, "5", "--resume", "--set", "run.log_every=2"]) == 0
    out = capsys.readouterr().out
    assert "2 steps, finished; nothing was held out; alpha error on trained" in out
    assert main([*words, "5", "--set", "run.sed=1"]) == 2
    assert "the nearest is run.seed" in capsys.readouterr().err


def test_without_the_extra_one_line_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name.startswith("rematte.train"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert main(["train", "x.toml"]) == 2
    assert "pip install 'rematte[train]'" in capsys.readouterr().err


# What torchrun does, but both processes begin with what this one has imported.
TORCHRUN = """
import sys
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from rematte.cli.app import main
import rematte.train, torch._dynamo

config = LaunchConfig(
    min_nodes=1, max_nodes=1, nproc_per_node=2, start_method="fork",
    rdzv_backend="c10d", rdzv_endpoint="localhost:0", run_id="two",
)
assert elastic_launch(config, main)(sys.argv[1:]) == {0: 0, 1: 0}
"""


def test_two_processes_train_one_network(tmp_path: Path) -> None:
    drawn(tmp_path)
    (tmp_path / "r.toml").write_text(RECIPE.format(tmp_path))
    words = "train", tmp_path / "r.toml", "--device", "cpu"
    python(TORCHRUN, *words, OMP_NUM_THREADS="1")
    recipe = load_recipe(tmp_path / "r.toml")
    assert [line["step"] for line in log(recipe, "loss")] == [1, 2]
    rematte.load_model(tmp_path / "run" / WEIGHTS)
