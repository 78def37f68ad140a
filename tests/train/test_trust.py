"""What researchers rely on: honest figures, used files, exact stops, own parts."""

import dataclasses
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import draw_disc, make_clip
from fakes import lay_out, random_network
from runs import changed, elsewhere, few, log, quick
from safetensors.torch import save_file
from torch import Tensor

from rematte.cli.app import main
from rematte.errors import InputError, WeightsError
from rematte.network.matting_network import MattingNetwork
from rematte.train import Extras, Recipe, dry_run, load_recipe, stopping, train
from rematte.train.batches import Batches
from rematte.train.checkpoint import BEST, STATE, WEIGHTS
from rematte.train.data import index
from rematte.train.extras import Sample
from rematte.train.journal import LOG, Journal
from rematte.train.passes import Passes
from rematte.train.recipe import NO_AUGMENT, Data, Model, Phase, Rates, Run, Validate
from rematte.train.setup import start_network
from rematte.weights.describe import describe

FEW = few(2)
DISC = draw_disc(6, (64, 64))


@pytest.fixture
def matting(tmp_path: Path) -> Recipe:
    """Two mattes and two walls, a step or two, segmentation left out."""
    mattes = {f"m/{number}.png": DISC.rgba[number] for number in range(2)}
    walls = {f"b/{n}.png": np.roll(DISC.background, 9 * n, 1) for n in range(2)}
    lay_out(tmp_path, mattes | walls)
    phase = Phase(
        "m", "matting", steps=2, size=(32, 32), segmentation=False,
        rates=Rates(decoder=1e-3),
    )  # fmt: skip
    folders = {"mattes": (str(tmp_path / "m"),), "backgrounds": (str(tmp_path / "b"),)}
    data = Data(**folders, held_out=0.0)
    run = Run(str(tmp_path / "run"), workers=0, log_every=1)
    return Recipe((phase,), data, Model(), NO_AUGMENT, FEW, run)


def test_a_figure_on_trained_pictures_is_named_so(matting: Recipe) -> None:
    trained = quick(matting)
    assert not trained.held_out
    assert [line["held_out"] for line in log(matting, "error")] == [False] * 2


def test_a_stop_measures_and_the_best_lies_beside_the_last(
    matting: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "GRACE", 600.0)
    trained = quick(changed(matting, steps=50), minutes=1e-6)
    assert trained.steps == 1
    figures = log(matting, "error")
    assert [line["step"] for line in figures] == [0, 1]
    assert trained.error == figures[-1]["error"]
    assert (Path(matting.run.out) / BEST).exists()


def test_the_best_is_kept_where_training_harms(matting: Recipe, tmp_path: Path) -> None:
    save_file(random_network().state_dict(), tmp_path / "start.safetensors")
    model = Model(start=str(tmp_path / "start.safetensors"))
    harmful = changed(matting, rates=Rates(decoder=1.0), steps=3)
    recipe = dataclasses.replace(harmful, model=model)
    quick(elsewhere(recipe, matting.run.out, ema=0.0))
    first, *_, last = (line["error"] for line in log(matting, "error"))
    best = describe(Path(matting.run.out) / BEST)
    assert ("steps: 0" in best) == (first < last)


def test_files_that_are_not_used_are_named(tmp_path: Path) -> None:
    names = ("m/fgr/a", "m/pha/a", "m/fgr/lonely", "m/pha/lost", "rgba/x", "p/q")
    pictures = {f"{name}.png": DISC.rgba[0] for name in names}
    pictures |= {"p/clip": DISC.frames[:2], "p/clip/.hidden.png": DISC.frames[0]}
    lay_out(tmp_path, pictures | {"p/q.mask.png": DISC.alpha[0]})
    (tmp_path / "p/notes.txt").write_text("x")
    (tmp_path / "p/empty").mkdir()
    mattes = str(tmp_path / "m"), str(tmp_path / "rgba")
    found = index(Data(mattes=mattes, people=(str(tmp_path / "p"),)))
    assert len(found.mattes) == 2
    assert [item.media.frames for item in found.people] == [2, 1]
    named = [text.removeprefix(f"{tmp_path}/") for text in found.unused]
    assert named == [
        "m/fgr/lonely.png: no partner in pha/",
        "m/pha/lost.png: no partner in fgr/",
        "p/empty: no images in it",
        "p/notes.txt: neither image nor video",
        "p/q.mask.png: a mask beside no picture, or not in data.masks",
    ]


def test_a_video_among_rgba_images_is_named(tmp_path: Path) -> None:
    lay_out(tmp_path, {"rgba/x.png": DISC.rgba[0]})
    make_clip(tmp_path / "rgba/keyed.mkv", 3)
    (text,) = index(Data(mattes=(str(tmp_path / "rgba"),))).unused
    assert "keyed.mkv: a video among RGBA images; put it into fgr/" in text


def test_an_alpha_of_another_size_is_named(tmp_path: Path) -> None:
    pictures = {"m/fgr/a.png": DISC.frames[0], "m/pha/a.png": DISC.alpha[0][:32]}
    lay_out(tmp_path, pictures | {"b/a.png": DISC.background})
    data = Data(mattes=(str(tmp_path / "m"),), backgrounds=(str(tmp_path / "b"),))
    phase = Phase("m", "matting", segmentation=False)
    with pytest.raises(InputError, match=r"pha/a\.png is 64x32, but .*a\.png is 64x64"):
        Batches(index(data), phase, NO_AUGMENT, (0,), 0).make(0)


def test_a_step_that_takes_too_long_is_left_out(
    matting: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "GRACE", 0.05)
    norm = changed(matting, batch_norm=True)
    forward, calls = Passes.forward, [0]

    def slow(*arguments: Any) -> Any:
        calls[0] += 1
        out = forward(*arguments)
        if calls[0] == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        return out

    begin = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(Passes, "forward", slow)
        with pytest.raises(KeyboardInterrupt, match=STATE):
            quick(norm)
    assert time.monotonic() - begin < 50
    state = torch.load(Path(norm.run.out) / STATE)
    assert state["at"][1] == 1
    monkeypatch.setattr(stopping, "GRACE", 600.0)
    resumed = quick(norm, resume=True)
    unbroken = quick(elsewhere(norm, norm.run.out + "2"))
    assert resumed.weights.read_bytes() == unbroken.weights.read_bytes()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_a_terminal_that_closes_stops_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "GRACE", 600.0)
    before = signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        stop = stopping.Stop(None)
        with stop.watch():
            for _ in range(2):  # the shell's, and the system's
                os.kill(os.getpid(), signal.SIGHUP)
                time.sleep(0.01)
        assert stop.signals == [signal.SIGHUP]
        assert signal.getsignal(signal.SIGHUP) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_step_may_take_several_batches(matting: Recipe) -> None:
    calls: list[int] = []

    def count(sample: Sample, rng: np.random.Generator) -> Sample:
        calls.append(1)
        return sample

    recipe = changed(matting, steps=2, accumulate=3)
    quick(recipe, extras=Extras(augment=count))
    assert len(calls) == 6
    assert [line["step"] for line in log(recipe, "loss")] == [1, 2]


def test_weights_state_how_they_were_made(matting: Recipe, capsys: Any) -> None:
    trained = quick(elsewhere(matting, matting.run.out, licence="CC-BY-4.0"))
    assert main(["weights", "info", str(trained.weights)]) == 0
    out = capsys.readouterr().out
    for text in (
        "licence of the weights: CC-BY-4.0",
        "phases: m (matting, 2)",
        "steps: 2",
        "data: 2 mattes, 2 backgrounds",
        "held_out_alpha_error: not measured",
        "start: random numbers",
    ):
        assert text in out


def test_a_missing_backbone_is_reported_in_one_line(
    matting: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*arguments: object, **options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    recipe = dataclasses.replace(matting, model=Model(start="imagenet"))
    with pytest.raises(WeightsError, match="imagenet: the encoder of mobilenetv3 can"):
        start_network(recipe, [])


def test_without_a_terminal_there_are_lines(matting: Recipe, capsys: Any) -> None:
    train(changed(matting, precision="float16"), device="cpu")
    err = capsys.readouterr().err
    assert "m step 2: loss" in err
    assert "no picture is held out" in err
    assert "m: float32, since float16 is far slower" in err


def test_tensorboard_is_left_out_where_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    Journal(tmp_path, False).write({"step": 1, "loss": 0.5}, 1)
    assert (tmp_path / LOG).read_text() == '{"step": 1, "loss": 0.5}\n'


@pytest.fixture
def filmed(tmp_path: Path) -> Data:
    """Filmed frames with their alpha, of both layouts, and other people."""
    pictures = {"f/images/clip": DISC.frames[:3], "f/alpha/clip": DISC.alpha[:3]}
    pictures |= {"g/a.jpg": DISC.frames[4], "g/a.alpha.png": DISC.alpha[4]}
    lay_out(tmp_path, pictures | {"p/a.png": DISC.frames[5]})
    folders = tuple(str(tmp_path / name) for name in "fg")
    return Data(filmed=folders, people=(str(tmp_path / "p"),))


def test_filmed_frames_keep_their_alpha(filmed: Data) -> None:
    found = index(filmed)
    assert sorted(item.media.frames for item in found.filmed) == [1, 3]
    assert not found.unused
    phase = Phase("d", "distill", batch=8, size=(64, 64), filmed=0.5, empty=0.0)
    batch = Batches(found, phase, NO_AUGMENT, (1,), 0).make(0)["distill"]
    known = batch["known"].flatten()
    assert 0 < known.sum() < 8
    assert not batch["coloured"].any()
    for pha, yes in zip(batch["pha"], known, strict=True):
        assert bool(yes) == bool(pha.any())
        soft = (pha > 0) & (pha < 1)
        assert bool(yes) == bool(soft.any())  # not rounded like a mask


def test_fine_tuning_measures_both(filmed: Data, tmp_path: Path) -> None:
    save_file(random_network().state_dict(), tmp_path / "w.safetensors")
    recipe = load_recipe("finetune")
    start = str(tmp_path / "w.safetensors")
    model = dataclasses.replace(recipe.model, start=start, teacher=start)
    parts = {"validate": Validate(samples=6, frames=1, size=32), "data": filmed}
    parts |= {"model": model, "run": Run(str(tmp_path / "run"), workers=0)}
    short = changed(recipe, steps=1, size=(32, 32), batch=1)
    quick(recipe := dataclasses.replace(short, **parts))
    first, *_ = log(recipe, "error")
    assert first["error"] == 0  # the start is the teacher
    assert first["filmed_error"] > 0


def test_a_network_an_augmentation_and_a_loss_of_ones_own(matting: Recipe) -> None:
    seen: list[float] = []

    class Mine(MattingNetwork):
        """Another variant: alpha is squared."""

        def forward(self, *arguments: Any, **options: Any) -> Any:
            out = super().forward(*arguments, **options)
            return out._replace(pha=out.pha**2)

    def darker(sample: Sample, rng: np.random.Generator) -> Sample:
        return sample | {"src": sample["src"] * 0.5}

    def loss(fgr: Tensor, pha: Tensor, sample: Sample) -> Sample:
        seen.append(float(sample["src"].max()))
        return {"mine": pha.mean()}

    quick(matting, extras=Extras(network=Mine, augment=darker, loss=loss))
    assert max(seen) <= 0.5
    assert all("matting/mine" in line for line in log(matting, "loss"))


def test_a_dry_run_says_what_would_be_done(matting: Recipe) -> None:
    skipped = Phase("s", "segmentation", steps=0, examples=1)  # and there are no masks
    recipe = dataclasses.replace(matting, phase=(*matting.phase, skipped))
    lines = "\n".join(dry_run(recipe, device="cpu"))
    assert "trained on: 2 mattes, 0 filmed, 2 backgrounds" in lines
    assert "m: 2 steps of " in lines
    assert "MB of memory" in lines
    folder = Path(matting.run.out)
    assert [path.name for path in folder.iterdir()] == ["dry-run.png"]
    assert not (folder / WEIGHTS).exists()
