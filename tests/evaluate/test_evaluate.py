"""Evaluation: which files make a clip, what is refused, and what comes out."""

import csv
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DiscClip, Printed, Refused, Run, draw_disc, make_clip
from fakes import Fake, colours, decode, lay_out, names, save_images
from PIL import Image

from rematte.errors import InputError
from rematte.evaluate import METRICS, evaluate
from rematte.evaluate.dataset import Matte, Source, find_clips, read_mattes
from rematte.evaluate.evaluate import pair_files, run_network, score
from rematte.evaluate.testset import make_testset
from rematte.matting.loop import matte
from rematte.weights import load as weights

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def truth(disc: DiscClip) -> Path:
    return save_images(Path("true"), disc.alpha)


def alphas(path: Path) -> list[np.ndarray]:
    return [matte.alpha for matte in read_mattes(Source(path))]


@pytest.mark.parametrize("kind", ["gray", "rgb", "rgba", "palette", "deep"])
def test_alpha_of_images(disc: DiscClip, kind: str) -> None:
    pictures: dict[str, list[Any]] = {
        "rgb": [alpha[..., None].repeat(3, 2) for alpha in disc.alpha],
        "rgba": disc.rgba,
        "deep": [alpha.astype(np.uint16) * 257 for alpha in disc.alpha],
    }
    folder = save_images(Path("a"), pictures.get(kind, disc.alpha))
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
    disc: DiscClip, name: str, codec: str, pix_fmt: str, off: float
) -> None:
    how = {"options": {"auto-alt-ref": "0"} if "vp9" in codec else {}}
    how |= {"codec": codec, "pix_fmt": pix_fmt}
    found = alphas(make_clip(Path(name), disc.rgba, **how))
    assert len(found) == len(disc.alpha)
    for mine, true in zip(found, disc.alpha, strict=True):
        assert np.abs(mine - true / 255).max() <= off
        assert mine.max() == pytest.approx(1, abs=0.005)


def test_colours_of_a_transparent_picture_are_its_foreground(disc: DiscClip) -> None:
    folder = save_images(Path("a"), disc.rgba)
    for found, true in zip(read_mattes(Source(folder)), disc.rgba, strict=True):
        assert np.array_equal(found.foreground, true[..., :3] / 255)


def test_a_colour_picture_is_no_matte(disc: DiscClip) -> None:
    folder = save_images(Path("a"), disc.frames)
    with pytest.raises(InputError, match="without an alpha channel"):
        alphas(folder)
    clip = make_clip(Path("gray.mp4"), 3)  # and what H.264 makes of gray is one
    assert len(alphas(clip)) == 3


def test_layouts(disc: DiscClip) -> None:
    root = Path("set")
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


def test_a_known_error(printed: Printed) -> None:
    dark = np.full((8, 10), 51, np.uint8)  # 0.2
    save_images(Path("true"), [dark, dark, dark])
    save_images(Path("pred"), [dark, dark + 51, dark])
    words = ["--pred", "pred", "--true", "true"]
    out = printed("evaluate", *words, "--json")
    clip = json.loads(out)["clips"]["true"]
    assert [frame["mad"] for frame in clip["frames"]] == pytest.approx([0, 200, 0])
    assert clip["mean"]["mad"] == pytest.approx(200 / 3)
    assert clip["mean"]["mse"] == pytest.approx(40 / 3)
    # The first frame has none before it; no map has anything above a half.
    assert [f.get("dtssd") for f in clip["frames"]] == [None, *[pytest.approx(20)] * 2]
    assert clip["mean"]["dtssd"] == pytest.approx(20)
    assert not {"iou", "fgr_mse"} & set(clip["mean"])


def test_equal_files_have_no_error_in_any_form(disc: DiscClip, truth: Path) -> None:
    clip = make_clip(Path("p.mkv"), disc.rgba, codec="ffv1", pix_fmt="bgra")
    (found,) = evaluate.evaluate(pair_files(clip, truth))
    assert len(found.frames) == len(disc.alpha)
    zero = ("mad", "mse", "sad", "grad", "conn", "dtssd")
    assert found.mean == dict.fromkeys(zero, 0) | {"iou": 1}


def test_normalise_reaches_the_gradient() -> None:
    ramp = np.tile(np.linspace(0, 0.5, 16), (16, 1))
    pair = [Matte(ramp)], [Matte(2 * ramp)]
    plain, stretched = (score("a", *pair, ["grad"], n) for n in (False, True))
    assert plain.mean["grad"] > stretched.mean["grad"] == pytest.approx(0)


@pytest.fixture
def testset(disc: DiscClip) -> Path:
    """Two clips of a disc whose red over black is its alpha."""
    red = [np.dstack([np.where(p[..., 3:] > 0, 255, 0), p[..., :2] * 0, p[..., 3:]])
           for p in disc.rgba]  # fmt: skip
    person = save_images(Path("red"), [p.astype(np.uint8) for p in red])
    save_images(Path("black"), [np.zeros((64, 96, 3), np.uint8)])
    made = Path("set")
    black = Path("black/shot0.png")
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


def test_the_command_on_a_test_set(testset: Path, run: Run, monkeypatch: Any) -> None:
    asked: list[Any] = []

    def load_model(*arguments: Any) -> Fake:
        asked.append(arguments[0])
        return Fake()

    monkeypatch.setattr(weights, "load_model", load_model)
    table, plot = Path("t.csv"), Path("p.png")
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


def test_the_bundled_network_runs(testset: Path, printed: Printed) -> None:
    words = ["--testset", testset, "--device", "cpu", "--metrics", "mad"]
    out = printed("evaluate", *words)
    assert out.splitlines()[0].split() == ["clip", "frames", "MAD"]


@pytest.mark.parametrize(
    ("pred", "said"),
    [
        (draw_disc(7).alpha, "the prediction ends after 7 frames"),
        (draw_disc(13).alpha, "the truth ends after 12 frames"),
        (draw_disc(12, (64, 96)).alpha, "64x96 in the prediction and 96x64"),
        (colours(12, (96, 64)), "without an alpha channel"),
    ],
)
def test_files_must_fit(truth: Path, refused: Refused, pred: Any, said: str) -> None:
    folder = save_images(Path("pred"), pred)
    assert said in refused(3, "evaluate", "--pred", folder, "--true", truth)


def test_clips_must_have_partners(disc: DiscClip, refused: Refused) -> None:
    for path in map(Path, ("p/a", "p/b", "t/a", "t/c")):
        path.parent.mkdir(exist_ok=True)
        save_images(path, disc.alpha[:1])
    line = refused(3, "evaluate", "--pred", "p", "--true", "t")
    assert "no clip 'c' there, only a, b" in line


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("--pred true", 2, "--pred and --true, or --testset"),
        ("--testset true", 3, "make-testset"),
        ("--pred nowhere --true true", 3, "nowhere"),
        ("--pred empty --true true", 3, "empty"),
        ("--pred true --true true --model a", 2, "--pred and --true, or --testset"),
        ("--pred true --true true --testset true", 2, "or --testset"),
        ("--pred true --testset true", 2, "--pred and --true, or --testset"),
        ("--pred true --true true --metrics psnr", 2, "psnr"),
        ("--pred true --true true --csv none/a.csv", 1, "does not exist"),
        ("--pred true --true true --csv true", 1, "cannot be written"),
        ("--pred true --true true --metrics fgr_mse --plot a.png", 2, "nothing to"),
    ],
)
def test_wrong_words(truth: Path, run: Run, words: str, code: int, said: str) -> None:
    Path("empty").mkdir()
    found, _, err = run("evaluate", *words.split())
    assert (found, err.count("\n")) == (code, 1)
    assert said in err
    assert names(Path()) == {"true", "empty"}


@pytest.mark.parametrize(
    ("module", "words"), [("scipy", []), ("matplotlib.figure", ["--plot", "a.png"])]
)
def test_a_missing_extra_is_told_in_one_line(
    truth: Path, refused: Refused, monkeypatch: Any, module: str, words: Any
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    line = refused(1, "evaluate", "--pred", truth, "--true", truth, *words)
    assert "pip install rematte[evaluate]" in line


def test_key_testset_evaluate_together(disc: DiscClip, run: Run) -> None:
    """A green screen of known alpha, keyed, is found again over a room."""
    green = np.array([30, 190, 70])
    shots = []
    for alpha in disc.alpha[:4]:
        a = alpha[..., None] / 255
        shots.append((a * 140 + (1 - a) * green).round().astype(np.uint8))
    clip = make_clip(Path("shot.mkv"), shots, codec="ffv1", pix_fmt="bgr0")
    cut = Path("cut.mkv")
    assert run("key", clip, "-o", cut, "--low", "0", "--high", "1")[0] == 0
    made = Path("set")
    assert run(
        "make-testset", made, "--foreground", cut, "--background", clip,
        "--size", "96x64",
    )[0] == 0  # fmt: skip
    truth = save_images(Path("true"), disc.alpha[:4])
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
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert compare(monkeypatch, "--clips", ".") == 0
    assert "is not here" in capfd.readouterr().out


def test_the_comparison_finds_its_own_alpha_again(monkeypatch: Any, capfd: Any) -> None:
    """A clip larger than 512 is reduced by areas, and the states are carried on."""
    clip = make_clip(Path("thoughtful.mp4"), draw_disc(3, (1024, 64)).frames)
    frames = runpy.run_path(str(SCRIPT))["frames"](clip)
    mattes = matte(weights.load_model(), frames, downsample_ratio=1)
    alpha = [(m.pha[0] * 255).round().byte().numpy() for m in mattes]
    assert alpha[0].shape == (32, 512)
    Path("reference_alpha").mkdir()
    np.savez(Path("reference_alpha/thoughtful.npz"), alpha=np.stack(alpha))
    out = Path("out.json")
    assert compare(monkeypatch, "--clips", ".", "--json", out) == 0
    assert capfd.readouterr().out.startswith("clip")
    found = json.loads(out.read_text())
    assert found["clips"]["thoughtful"]["mad"] < 1
    assert found["means"]["all"] == found["means"]["unseen"]
    against = "--against", "rematte-mobilenetv3"
    assert compare(monkeypatch, "--clips", ".", "--json", out, *against) == 0
    assert json.loads(out.read_text())["means"]["all"]["mad"] == 0


def evaluate_here(network: Fake, *metrics: str) -> list[Any]:
    return evaluate.evaluate(
        run_network(network, Path()), *([metrics] if metrics else [])
    )


@pytest.mark.parametrize(
    ("images", "alphas_in"),
    [("blurred_image", "mask"), ("original_image", "mask"), ("original", "mask"),
     ("image", "matte")],
)  # fmt: skip
def test_sets_of_photos_are_found_and_measured_within_their_trimaps(
    disc: DiscClip, images: str, alphas_in: str
) -> None:
    for n, alpha in enumerate(disc.alpha[:2]):
        trimap = np.select([alpha < 5, alpha > 250], [0, 255], 128).astype(np.uint8)
        pictures = {images: disc.frames[n], alphas_in: alpha, "trimap": trimap}
        lay_out(Path(), {f"{k}/p_{n}.png": each for k, each in pictures.items()})
    scores = evaluate_here(Fake(), "sad", "sad_t", "mad_t", "dtssd")
    assert [clip.name for clip in scores] == ["p_0", "p_1"]
    for clip in scores:
        assert set(clip.mean) == {"sad", "sad_t", "mad_t"}
        assert 0 < clip.mean["sad_t"] < clip.mean["sad"]
    Path(images, "p_1.png").unlink()
    with pytest.raises(InputError, match=r"p_1\.png: no picture of this name in"):
        evaluate_here(Fake())


def test_some_frames_of_a_clip_may_be_labelled(disc: DiscClip) -> None:
    lay_out(Path(), {f"com/{n:04}.png": disc.frames[n] for n in range(7)})
    lay_out(Path(), {f"pha/{n:04}.png": disc.alpha[n] for n in (0, 3, 6)})
    seen = Fake()
    (sparse,) = evaluate_here(seen)
    assert sum(seen.chunks) == 7
    assert len(sparse.frames) == 3
    assert "dtssd" not in sparse.mean
    lay_out(Path(), {f"pha/{n:04}.png": disc.alpha[n] for n in (1, 2, 4, 5)})
    (whole,) = evaluate_here(Fake())
    every_third = [whole.frames[at]["mad"] for at in (0, 3, 6)]
    assert [frame["mad"] for frame in sparse.frames] == every_third
    Path("pha/0002.png").rename("pha/x.png")
    Path("pha/0001.png").unlink()
    with pytest.raises(InputError, match="x has no frame of its name"):
        evaluate_here(Fake())


def test_a_sparse_clip_takes_no_metric_from_the_next(disc: DiscClip) -> None:
    for clip, labelled in (("a", [0, 2]), ("b", [0, 1, 2])):
        lay_out(Path(), {f"{clip}/com/{n}.png": disc.frames[n] for n in range(3)})
        lay_out(Path(), {f"{clip}/pha/{n}.png": disc.alpha[n] for n in labelled})
    sparse, whole = evaluate_here(Fake(), "mad", "dtssd")
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
