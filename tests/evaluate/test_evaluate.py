"""Evaluation: which files make a clip, what is refused, and what comes out."""

import csv
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DiscClip, Run, draw_disc, make_clip
from fakes import Fake, colours, decode, names, save_images
from PIL import Image

from rematte.errors import InputError
from rematte.evaluate import METRICS, evaluate
from rematte.evaluate.dataset import Matte, Source, find_clips, read_mattes
from rematte.evaluate.evaluate import pair_files, run_network, score
from rematte.evaluate.testset import make_testset
from rematte.matting.loop import matte
from rematte.weights import load as weights


@pytest.fixture
def truth(tmp_path: Path, disc: DiscClip) -> Path:
    return save_images(tmp_path / "true", disc.alpha)


def alphas(path: Path) -> list[np.ndarray]:
    return [matte.alpha for matte in read_mattes(Source(path))]


# What is read


@pytest.mark.parametrize("kind", ["gray", "rgb", "rgba", "palette", "deep"])
def test_alpha_of_images(tmp_path: Path, disc: DiscClip, kind: str) -> None:
    pictures: dict[str, list[Any]] = {
        "rgb": [alpha[..., None].repeat(3, 2) for alpha in disc.alpha],
        "rgba": disc.rgba,
        "deep": [alpha.astype(np.uint16) * 257 for alpha in disc.alpha],
    }
    folder = save_images(tmp_path / "a", pictures.get(kind, disc.alpha))
    if kind == "palette":  # of grays, none of them transparent
        for path in folder.iterdir():
            with Image.open(path) as image:
                image.convert("P").save(path)
    for found, true in zip(alphas(folder), disc.alpha, strict=True):
        assert np.array_equal(found, true / 255)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "off"),
    [
        ("a.mkv", "ffv1", "bgra", 0.0),
        ("a.mov", "prores_ks", "yuva444p10le", 0.004),
        ("a.mkv", "ffv1", "yuva420p", 0.004),
        ("a.webm", "libvpx-vp9", "yuva420p", 0.1),
    ],
)
def test_alpha_of_transparent_videos(
    tmp_path: Path, disc: DiscClip, name: str, codec: str, pix_fmt: str, off: float
) -> None:
    options = {"auto-alt-ref": "0"} if "vp9" in codec else {}
    clip = make_clip(
        tmp_path / name, disc.rgba, codec=codec, pix_fmt=pix_fmt, options=options
    )
    found = alphas(clip)
    assert len(found) == len(disc.alpha)
    for mine, true in zip(found, disc.alpha, strict=True):
        assert np.abs(mine - true / 255).max() <= off
        assert mine.max() == pytest.approx(1, abs=0.005)


def test_colours_of_a_transparent_picture_are_its_foreground(
    tmp_path: Path, disc: DiscClip
) -> None:
    folder = save_images(tmp_path / "a", disc.rgba)
    for found, true in zip(read_mattes(Source(folder)), disc.rgba, strict=True):
        assert found.foreground is not None
        assert np.array_equal(found.foreground, true[..., :3] / 255)


def test_a_colour_picture_is_no_matte(tmp_path: Path, disc: DiscClip) -> None:
    folder = save_images(tmp_path / "a", disc.frames)
    with pytest.raises(InputError, match="without an alpha channel"):
        alphas(folder)
    clip = make_clip(tmp_path / "gray.mp4", 3)  # and what H.264 makes of gray is one
    assert len(alphas(clip)) == 3


def test_layouts(tmp_path: Path, disc: DiscClip) -> None:
    root = tmp_path / "set"
    (root / "b").mkdir(parents=True)
    save_images(root / "b/2", disc.alpha[:1])
    save_images(root / "b/10", disc.alpha[:1])
    (root / "a").mkdir()
    for name in ("pha", "com"):
        save_images(root / "a" / name, disc.alpha[:1])
    make_clip(root / "c.mkv", 1)
    found = find_clips(root)
    assert list(found) == ["a", "b/2", "b/10", "c"]
    assert found["a"] == Source(root / "a/pha", None, root / "a/com")
    assert find_clips(root / "b/2") == {"": Source(root / "b/2")}
    assert find_clips(root / "c.mkv") == {"": Source(root / "c.mkv")}


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_nothing_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=name):
        find_clips(tmp_path / name)


# What is measured


def test_a_known_error(tmp_path: Path, run: Run) -> None:
    dark = np.full((8, 10), 51, np.uint8)  # 0.2
    save_images(tmp_path / "true", [dark, dark, dark])
    save_images(tmp_path / "pred", [dark, dark + 51, dark])
    code, out, err = run(
        "evaluate", "--pred", tmp_path / "pred", "--true", tmp_path / "true", "--json"
    )
    assert (code, err) == (0, "")
    clip = json.loads(out)["clips"]["true"]
    assert [frame["mad"] for frame in clip["frames"]] == pytest.approx([0, 200, 0])
    assert clip["mean"]["mad"] == pytest.approx(200 / 3)
    assert clip["mean"]["mse"] == pytest.approx(40 / 3)
    # The first frame has none before it; no map has anything above a half.
    assert [f.get("dtssd") for f in clip["frames"]] == [None, *[pytest.approx(20)] * 2]
    assert clip["mean"]["dtssd"] == pytest.approx(20)
    assert not {"iou", "fgr_mse"} & set(clip["mean"])


def test_equal_files_have_no_error_whatever_holds_them(
    tmp_path: Path, disc: DiscClip, truth: Path
) -> None:
    clip = make_clip(tmp_path / "p.mkv", disc.rgba, codec="ffv1", pix_fmt="bgra")
    (found,) = evaluate.evaluate(pair_files(clip, truth))
    assert len(found.frames) == len(disc.alpha)
    zero = ("mad", "mse", "sad", "grad", "conn", "dtssd")
    assert found.mean == dict.fromkeys(zero, 0) | {"iou": 1}


def test_only_what_is_wanted_is_computed(truth: Path) -> None:
    (found,) = evaluate.evaluate(pair_files(truth, truth), ["iou", "mad"])
    assert set(found.mean) == {"iou", "mad"}


def test_one_frame_has_no_dtssd() -> None:
    alpha = np.ones((4, 4))
    found = score("still", [Matte(alpha)], [Matte(alpha)])
    assert "dtssd" not in found.mean


def test_normalise_reaches_the_gradient() -> None:
    ramp = np.tile(np.linspace(0, 0.5, 16), (16, 1))
    pair = [Matte(ramp)], [Matte(2 * ramp)]
    plain, stretched = (score("a", *pair, ["grad"], n) for n in (False, True))
    assert plain.mean["grad"] > stretched.mean["grad"] == pytest.approx(0)


# A network on a test set


@pytest.fixture
def testset(tmp_path: Path, disc: DiscClip) -> Path:
    """Two clips of a disc whose red over black is its alpha."""
    red = [np.dstack([np.where(p[..., 3:] > 0, 255, 0), p[..., :2] * 0, p[..., 3:]])
           for p in disc.rgba]  # fmt: skip
    person = save_images(tmp_path / "red", [p.astype(np.uint8) for p in red])
    save_images(tmp_path / "black", [np.zeros((64, 96, 3), np.uint8)])
    made = tmp_path / "set"
    black = tmp_path / "black/shot0.png"
    make_testset(made, [person], [black], frames=3, size=(96, 64), clips_each=2)
    return made


def test_a_network_on_a_test_set(testset: Path) -> None:
    network = Fake(memory=0)  # its alpha is red, its foreground the frame inverted
    found = evaluate.evaluate(run_network(network, testset, downsample_ratio=0.5))
    assert [clip.name for clip in found] == ["0000", "0001"]
    assert set(network.ratios) == {0.5}
    assert network.fresh == 2
    for clip in found:
        assert clip.mean["mad"] == pytest.approx(0, abs=1e-4)
        assert clip.mean["iou"] == 1
        assert clip.mean["fgr_mse"] > 300


def test_memory_is_part_of_what_is_measured(testset: Path) -> None:
    slow = evaluate.evaluate(run_network(Fake(memory=0.9), testset))
    assert slow[0].frames[0]["mad"] == pytest.approx(0, abs=1e-4)
    assert slow[0].frames[2]["mad"] > 1


def test_the_command_on_a_test_set(
    testset: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def load_model(*arguments: Any) -> Fake:
        asked.append(arguments[0])
        return Fake()

    monkeypatch.setattr(weights, "load_model", load_model)
    table, plot = tmp_path / "t.csv", tmp_path / "p.png"
    code, out, err = run(
        "evaluate", "--testset", testset, "--model", "mine.pth", "--csv", table,
        "--plot", plot, "--downsample-ratio", "1", "--device", "cpu",
    )  # fmt: skip
    assert (code, err, asked) == (0, "", ["mine.pth"])
    lines = [line.split() for line in out.splitlines()]
    whole = [name for name in METRICS.values() if not name.endswith("-T")]
    assert lines[0] == ["clip", "frames", *whole]
    assert [line[0] for line in lines[1:]] == ["0000", "0001", "mean"]
    with table.open(newline="") as file:
        assert list(csv.reader(file)) == lines
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_bundled_network_runs(testset: Path, run: Run) -> None:
    code, out, err = run(
        "evaluate", "--testset", testset, "--device", "cpu", "--metrics", "mad"
    )
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == ["clip", "frames", "MAD"]


# What is refused


@pytest.mark.parametrize(
    ("pred", "said"),
    [
        (draw_disc(7).alpha, "the prediction ends after 7 frames"),
        (draw_disc(13).alpha, "the truth ends after 12 frames"),
        (draw_disc(12, (64, 96)).alpha, "64x96 in the prediction and 96x64"),
        (colours(12, (96, 64)), "without an alpha channel"),
    ],
)
def test_files_that_do_not_fit(
    tmp_path: Path, truth: Path, run: Run, pred: list[Any], said: str
) -> None:
    folder = save_images(tmp_path / "pred", pred)
    code, out, err = run("evaluate", "--pred", folder, "--true", truth)
    assert (code, out) == (3, "")
    assert said in err
    assert err.count("\n") == 1


def test_clips_must_have_partners(tmp_path: Path, disc: DiscClip, run: Run) -> None:
    for name in ("p/a", "p/b", "t/a", "t/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save_images(tmp_path / name, disc.alpha[:1])
    code, _, err = run("evaluate", "--pred", tmp_path / "p", "--true", tmp_path / "t")
    assert code == 3
    assert "no clip 'c' there, only a, b" in err


def test_a_set_without_composites(truth: Path, run: Run) -> None:
    code, _, err = run("evaluate", "--testset", truth)
    assert code == 3
    assert "make-testset" in err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("--pred true", 2, "--pred and --true, or --testset"),
        ("--pred true --true true --model a", 2, "--pred and --true, or --testset"),
        ("--pred true --true true --testset true", 2, "or --testset"),
        ("--pred true --testset true", 2, "--pred and --true, or --testset"),
        ("--pred true --true true --metrics psnr", 2, "psnr"),
        ("--pred true --true true --csv none/a.csv", 1, "does not exist"),
        ("--pred true --true true --csv true", 1, "cannot be written"),
        ("--pred true --true true --metrics fgr_mse --plot a.png", 2, "nothing to"),
    ],
)
def test_wrong_words(
    truth: Path, run: Run, monkeypatch: pytest.MonkeyPatch,
    words: str, code: int, said: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(truth.parent)
    found, _, err = run("evaluate", *words.split())
    assert found == code
    assert said in err
    assert err.count("\n") == 1
    assert names(truth.parent) == {"true"}


@pytest.mark.parametrize(
    ("module", "words"), [("scipy", []), ("matplotlib.figure", ["--plot", "a.png"])]
)
def test_a_missing_extra_is_told_in_one_line(
    truth: Path, run: Run, monkeypatch: pytest.MonkeyPatch,
    module: str, words: list[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(truth.parent)
    monkeypatch.setitem(sys.modules, module, None)
    code, out, err = run("evaluate", "--pred", truth, "--true", truth, *words)
    assert (code, out) == (1, "")
    assert "pip install rematte[evaluate]" in err
    assert err.count("\n") == 1


def test_key_testset_evaluate_together(
    tmp_path: Path, disc: DiscClip, run: Run
) -> None:
    """A green screen of known alpha, keyed, is found again over a room."""
    green = np.array([30, 190, 70])
    shots = []
    for alpha in disc.alpha[:4]:
        a = alpha[..., None] / 255
        shots.append((a * 140 + (1 - a) * green).round().astype(np.uint8))
    clip = make_clip(tmp_path / "shot.mkv", shots, codec="ffv1", pix_fmt="bgr0")
    cut = tmp_path / "cut.mkv"
    assert run("key", clip, "-o", cut, "--low", "0", "--high", "1")[0] == 0
    made = tmp_path / "set"
    assert run(
        "make-testset", made, "--foreground", cut, "--background", clip,
        "--size", "96x64",
    )[0] == 0  # fmt: skip
    truth = save_images(tmp_path / "true", disc.alpha[:4])
    (found,) = evaluate.evaluate(pair_files(made, truth))
    assert found.mean["mad"] < 0.5
    assert found.mean["iou"] > 0.99
    assert len(decode(clip)) == 4


# benchmarks/compare_reference.py

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "compare_reference.py"


def compare(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> Any:
    monkeypatch.setattr(sys, "argv", ["compare", *(str(word) for word in words)])
    return runpy.run_path(str(SCRIPT))["main"]()


def test_without_the_shared_clips_the_comparison_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert compare(monkeypatch, "--clips", tmp_path) == 0
    assert "is not here" in capfd.readouterr().out


def test_the_comparison_finds_its_own_alpha_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A clip larger than 512 is reduced by areas, and the states are carried on."""
    clip = make_clip(tmp_path / "thoughtful.mp4", draw_disc(3, (1024, 64)).frames)
    frames = runpy.run_path(str(SCRIPT))["frames"](clip)
    mattes = matte(weights.load_model(), frames, downsample_ratio=1)
    alpha = [(m.pha[0] * 255).round().byte().numpy() for m in mattes]
    assert alpha[0].shape == (32, 512)
    (tmp_path / "reference_alpha").mkdir()
    np.savez(tmp_path / "reference_alpha/thoughtful.npz", alpha=np.stack(alpha))
    out = tmp_path / "out.json"
    assert compare(monkeypatch, "--clips", tmp_path, "--json", out) == 0
    assert capfd.readouterr().out.startswith("clip")
    found = json.loads(out.read_text())
    assert found["clips"]["thoughtful"]["mad"] < 1
    assert found["means"]["all"] == found["means"]["unseen"]
    against = "--against", "rematte-mobilenetv3"
    assert compare(monkeypatch, "--clips", tmp_path, "--json", out, *against) == 0
    assert json.loads(out.read_text())["means"]["all"]["mad"] == 0


# Layouts of public sets


@pytest.mark.parametrize(
    ("images", "alphas_in"),
    [("blurred_image", "mask"), ("original_image", "mask"), ("original", "mask"),
     ("image", "matte")],
)  # fmt: skip
def test_sets_of_photos_are_found_and_measured_within_their_trimaps(
    tmp_path: Path, disc: DiscClip, images: str, alphas_in: str
) -> None:
    for name in (images, alphas_in, "trimap"):
        (tmp_path / name).mkdir()
    for number in range(2):
        trimap = np.where(disc.alpha[number] > 250, 255, 128).astype(np.uint8)
        trimap[disc.alpha[number] < 5] = 0
        shown = {images: disc.frames, alphas_in: disc.alpha}
        for name, pictures in shown.items():
            Image.fromarray(pictures[number]).save(tmp_path / name / f"p_{number}.png")
        Image.fromarray(trimap).save(tmp_path / "trimap" / f"p_{number}.png")
    wanted = ["sad", "sad_t", "mad_t", "dtssd"]
    scores = evaluate.evaluate(run_network(Fake(), tmp_path), wanted)
    assert [clip.name for clip in scores] == ["p_0", "p_1"]
    for clip in scores:
        assert set(clip.mean) == {"sad", "sad_t", "mad_t"}
        assert 0 < clip.mean["sad_t"] < clip.mean["sad"]
    (tmp_path / images / "p_1.png").unlink()
    with pytest.raises(InputError, match=r"p_1\.png: no picture of this name in"):
        evaluate.evaluate(run_network(Fake(), tmp_path))


def test_some_frames_of_a_clip_may_be_labelled(tmp_path: Path, disc: DiscClip) -> None:
    for name in ("com", "pha"):
        (tmp_path / name).mkdir()
    for number, frame in enumerate(disc.frames[:7]):
        Image.fromarray(frame).save(tmp_path / "com" / f"{number:04}.png")
    for number in (0, 3, 6):
        path = tmp_path / "pha" / f"{number:04}.png"
        Image.fromarray(disc.alpha[number]).save(path)
    seen = Fake()
    (sparse,) = evaluate.evaluate(run_network(seen, tmp_path))
    assert sum(seen.chunks) == 7
    assert len(sparse.frames) == 3
    assert "dtssd" not in sparse.mean
    for number in (1, 2, 4, 5):
        path = tmp_path / "pha" / f"{number:04}.png"
        Image.fromarray(disc.alpha[number]).save(path)
    (whole,) = evaluate.evaluate(run_network(Fake(), tmp_path))
    every_third = [whole.frames[at]["mad"] for at in (0, 3, 6)]
    assert [frame["mad"] for frame in sparse.frames] == every_third
    (tmp_path / "pha" / "0002.png").rename(tmp_path / "pha" / "x.png")
    (tmp_path / "pha" / "0001.png").unlink()
    with pytest.raises(InputError, match="x has no frame of its name"):
        evaluate.evaluate(run_network(Fake(), tmp_path))


def test_a_sparse_clip_takes_no_metric_from_the_next(
    tmp_path: Path, disc: DiscClip
) -> None:
    for clip, labelled in (("a", [0, 2]), ("b", [0, 1, 2])):
        for part, numbers in (("com", [0, 1, 2]), ("pha", labelled)):
            (tmp_path / clip / part).mkdir(parents=True)
            pictures = disc.frames if part == "com" else disc.alpha
            for number in numbers:
                path = tmp_path / clip / part / f"{number}.png"
                Image.fromarray(pictures[number]).save(path)
    sparse, whole = evaluate.evaluate(run_network(Fake(), tmp_path), ["mad", "dtssd"])
    assert sparse.mean.keys() == {"mad"}
    assert whole.mean.keys() == {"mad", "dtssd"}


def test_published_counts_the_first_frame(truth: Path, disc: DiscClip) -> None:
    mattes = [Matte(a / 255) for a in disc.alpha[:4]]
    wrong = [Matte(np.roll(m.alpha, n * n, 1)) for n, m in enumerate(mattes)]
    plain, published = (
        score("c", wrong, mattes, published=each).mean["dtssd"]
        for each in (False, True)
    )
    assert published == pytest.approx(plain * 3 / 4)
