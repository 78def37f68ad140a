"""What the compiled module promises: one result everywhere, and no wrong memory."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rematte.engines.kernels.alpha_shape import despill, feather, grow
from rematte.engines.kernels.blur_fusion import estimate, lay_edges
from rematte.engines.kernels.guided_filter import render, shrink
from rematte.video.frame import SDR, TRANSFER_HLG, Colour
from rematte.video.parallel_rows import kernels
from rematte.video.pixels import extend_colours, views
from rematte.video.tone import Restoration, ToneConversion
from rematte.video.yuv420 import from_rgb, to_rgb

SETS = ("baseline", "avx2", "avx512")
HLG = Colour(9, 1, primaries=9, transfer=TRANSFER_HLG)


def results(height: int, width: int) -> Iterator[NDArray[Any]]:
    """What every loop makes of drawn pictures, with values at both ends."""
    rng = np.random.default_rng(height)
    picture = rng.integers(0, 256, (height, width, 3), np.uint8)
    deep = rng.integers(0, 65536, (height, width, 3), np.uint16)
    own = rng.integers(0, 4, (height, width, 1), np.uint8) * np.uint8(85)
    v, u = np.mgrid[:height, :width]
    soft = np.clip((width / 3 - np.hypot(v - height / 2, u - width / 2)) / 6, 0, 1)
    alpha = (soft * 65535).astype(np.uint16)[..., None]
    for ratio in (0.5, 1 / 3, 0.25, 0.3, 0.125):
        small = shrink(picture, ratio)
        yield small
        maps = rng.normal(0.3, 0.7, (8, *small.shape[:2])).astype(np.float32)
        yield render(picture, maps, "alpha", True)
        yield render(deep, maps, "composite", False, picture)
        yield render(picture, maps, "composite", False, picture[:1, :1])
        yield render(picture, maps, "cutout", False, own=own)
    yield shrink(deep, 1)
    yield render(deep, rng.normal(0.3, 0.7, (4, height, width)).astype(np.float32),
                 "foreground", True)  # fmt: skip
    for source in (picture, deep):
        edges = estimate(source, alpha, own, 3)
        for behind in None, source[::-1]:
            laid = source.copy()
            lay_edges(edges, laid, behind)
            despill(laid, 1)
            yield laid
    level = soft.astype(np.float32)
    yield from (grow(level, 2.3), grow(level, -1), feather(level, 3.5))
    frame = from_rgb(picture, SDR)
    yield from map(np.copy, views(frame))
    yield to_rgb(frame, SDR)
    yield extend_colours(np.dstack([picture, own]))
    yield ToneConversion(HLG, SDR)(deep)
    yield ToneConversion(SDR, HLG)(picture)
    yield Restoration(HLG)(picture, deep, deep[:, ::-1].copy())


@pytest.mark.parametrize("instructions", SETS[: SETS.index(kernels.instruction_set)])
def test_all_instruction_sets_give_the_same(instructions: str, tmp_path: Path) -> None:
    """Those of a weaker processor, to the last bit."""
    file = tmp_path / "found.npz"
    line = f"import numpy, test_kernels as t; t.save({str(file)!r})"
    environment = os.environ | {"REMATTE_INSTRUCTIONS": instructions}
    subprocess.run(
        [sys.executable, "-c", line],
        cwd=Path(__file__).parent, env=environment, check=True,
    )  # fmt: skip
    with np.load(file) as found:
        assert str(found["instructions"]) == instructions
        for number, expected in enumerate(everything()):
            np.testing.assert_array_equal(found[f"arr_{number}"], expected)


def everything() -> Iterator[NDArray[Any]]:
    for size in ((67, 101), (64, 96), (9, 11)):
        yield from results(*size)


def save(path: str) -> None:
    """Runs in a process of its own."""
    np.savez(path, *everything(), instructions=kernels.instruction_set)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_windows_need_no_copies(kind: Any) -> None:
    """Rows that are further apart than they are long, and a source's rows of RGBA."""
    large = np.random.default_rng(3).integers(0, 256, (60, 80, 4)).astype(kind)
    window = large[3:51, 5:69]
    alone = window.copy()
    maps = np.random.default_rng(4).normal(0.3, 0.7, (8, 12, 16)).astype(np.float32)
    behind = window[..., :3]
    wide = kind == np.uint16
    assert np.array_equal(
        render(window[..., :3], maps, "composite", wide, behind, window[..., 3:]),
        render(alone[..., :3].copy(), maps, "composite", wide, behind.copy(),
               alone[..., 3:].copy()),
    )  # fmt: skip
    assert np.array_equal(
        shrink(window[::-1, ::-1, :3], 0.25), shrink(alone[::-1, ::-1, :3].copy(), 0.25)
    )
    share = np.linspace(0, 65535, 48 * 64).astype(np.uint16).reshape(48, 64, 1)
    for source, own in (window, window[..., 3:]), (alone, alone[..., 3:].copy()):
        edges = estimate(source[..., :3], share, own)
        lay_edges(edges, source, source[..., :3].copy())
        despill(source, 2)
    assert np.array_equal(window, alone)


def test_own_alpha_of_8_bits_counts_like_its_16() -> None:
    """HDR pictures get 16 bits when they are shown as SDR, and their alpha does not."""
    rng = np.random.default_rng(5)
    deep = rng.integers(0, 65536, (20, 30, 3), np.uint16)
    own = rng.integers(0, 256, (20, 30, 1), np.uint8)
    maps = rng.normal(0.3, 0.7, (8, 5, 10)).astype(np.float32)
    same = own * np.uint16(257)
    share = np.minimum(rng.integers(0, 65536, same.shape, np.uint16), same)
    found, expected = (
        (render(deep, maps, "cutout", True, own=each), estimate(deep, share, each))
        for each in (own, same)
    )
    assert np.array_equal(found[0], expected[0])
    flags = found[1].colours[..., 3:]
    assert np.array_equal(found[1].colours * flags, expected[1].colours * flags)


def f32(*shape: int) -> NDArray[np.float32]:
    return np.zeros(shape, np.float32)


def u8(*shape: int) -> NDArray[np.uint8]:
    return np.zeros(shape, np.uint8)


@pytest.mark.parametrize(("name", "arguments", "message"), [
    ("sample", (0, 5, u8(8, 8, 3), f32(4, 4, 3), 2.0), "rows 0 to 5 of 4"),
    ("sample", (-1, 2, u8(8, 8, 3), f32(4, 4, 3), 2.0), "rows -1 to 2 of 4"),
    ("sample", (0, 4, u8(8, 8, 4), f32(4, 4, 3), 2.0),
     r"pixels has axes \(8, 8, 4\), and needs \(1 or more, 1 or more, 3\) of 8 bits"),
    ("sample", (0, 4, f32(8, 8, 3), f32(4, 4, 3), 2.0), "pixels must have unsigned"),
    ("sample", (0, 4, u8(8, 16, 3)[:, ::2], f32(4, 4, 3), 2.0), "pixels has gaps"),
    ("sample", (0, 4, u8(8, 8, 3), f32(4, 4, 3), np.nan), "step must be 0.5 or more"),
    ("render", (0, 8, u8(8, 8, 3), f32(7, 2, 2), u8(1, 1, 3), u8(0, 0), u8(8, 8, 1), 0),
     "maps must be 8, or 4"),
    ("render", (0, 8, u8(8, 8, 3), f32(8, 2, 2), u8(1, 1, 3), u8(0, 0), u8(8, 8, 3), 3),
     r"out has axes \(8, 8, 3\), and needs \(8, 8, 4\)"),
    ("render", (0, 8, u8(8, 8, 3), f32(8, 2, 2), u8(4, 8, 3), u8(0, 0), u8(8, 8, 3), 2),
     "behind must be of one pixel or as large"),
    ("render", (0, 8, u8(8, 8, 3), f32(8, 2, 2), u8(1, 1, 3), u8(7, 8), u8(8, 8, 1), 0),
     r"own has axes \(7, 8\)"),
    ("grow", (0, 8, f32(8, 8), np.ones((1, 1), bool), 33.0, f32(8, 8)), "distance"),
    ("feather", (0, 8, f32(8, 8), np.ones((1, 1), bool), f32(2), f32(8, 8)), "odd"),
    ("despill", (0, 8, u8(8, 8, 3), 3), "channel must be 0 to 2"),
    ("find", (0, 4, np.zeros((8, 8), np.uint16), 0, u8(4, 4)), "side must be"),
    ("to_rgb", (0, 8, u8(8, 8), u8(3, 4), u8(4, 4), u8(8, 8, 3), f32(6)), "blue has"),
    ("from_rgb", (0, 4, u8(8, 8, 2), u8(8, 8), u8(4, 4), u8(4, 4), f32(10)), "1 or 3"),
    ("convert", (0, 8, u8(8, 8, 3), np.zeros((8, 8, 3), np.uint16), f32(255),
                 f32(5, 4098), f32(21)), "light has axes"),
    ("fill", (0, 8, u8(8, 8, 4), f32(4, 3, 3), u8(8, 8, 3)), "coarse has axes"),
    ("shrink", (0, 4, u8(8, 8, 3), f32(4, 4, 4)), "large has axes"),
])  # fmt: skip
def test_wrong_arguments_are_refused(name: str, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(kernels, name)(*arguments)


def test_numbers_of_blocks_that_do_not_exist_are_not_followed() -> None:
    alpha = np.full((8, 8), 30000, np.uint16)
    blocks = np.array([[0, 1], [2, 7]], np.int32)
    colours = np.full((3, 16, 4), 65535, np.uint16)
    out = u8(8, 8, 3)
    kernels.lay(0, 2, alpha, 4, blocks, colours, u8(0, 0, 3), out)
    assert out[:4].all()
    assert out[4:, :4].all()
    assert not out[4:, 4:].any()


def run(lines: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", lines], env=os.environ | environment,
        capture_output=True, text=True,
    )  # fmt: skip


def test_a_missing_module_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    words = ["convert", str(tmp_path / "clip.mp4"), "-o", str(tmp_path / "out.mov")]
    done = run(
        "import sys; sys.modules['_rematte_kernels'] = None; "
        f"from rematte.cli import main; sys.exit(main({words!r}))"
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "rematte: the compiled module _rematte_kernels is missing; install it with "
        "`pip install rematte`, or in a checkout with `pip install -e .`\n"
    )


def test_an_unknown_instruction_set_is_refused() -> None:
    done = run("import rematte.video.parallel_rows", REMATTE_INSTRUCTIONS="sse")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        'ImportError: REMATTE_INSTRUCTIONS is "sse"; it can be baseline, avx2 or '
        "avx512, or unset"
    )
