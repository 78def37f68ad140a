"""Blender lays cut-outs over a scene with the edges that arithmetic gives."""

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Tags, draw_disc, make_clip
from fakes import Fake
from numpy.typing import NDArray

from rematte.convert import convert_video
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader

BLUE = (0.05, 0.2, 0.6)  # in linear light
SCRIPT = Path(__file__).parents[2] / "integrations" / "blender" / "over_scene.py"
# An empty scene with a blue world, without denoising and dither.
SCENE = f"""
import importlib.util, pathlib, sys
import bpy, addon_utils
spec = importlib.util.spec_from_file_location("over_scene", {str(SCRIPT)!r})
over_scene = importlib.util.module_from_spec(spec)
spec.loader.exec_module(over_scene)
addon_utils.enable("cycles")
for source in sys.argv[1:]:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine, scene.cycles.samples = "CYCLES", 1
    scene.cycles.use_denoising = False
    scene.world = bpy.data.worlds.new("blue")
    scene.world.node_tree.nodes["Background"].inputs[0].default_value = (*{BLUE}, 1)
    scene.camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    scene.collection.objects.link(scene.camera)
    scene.view_settings.view_transform, scene.render.dither_intensity = "Standard", 0
    path = pathlib.Path(source)
    over_scene.render(scene, path, pathlib.Path("got", path.suffix[1:]))
"""


def read(path: Path, alpha: bool) -> list[NDArray[Any]]:
    """Frames with values in [0, 1]."""
    with VideoReader(path, ReadOptions(alpha=alpha)) as reader:
        return [frame.pixels / np.iinfo(frame.pixels.dtype).max for frame in reader]


def over_blue(cutout: NDArray[Any]) -> NDArray[Any]:
    """Lay straight RGBA over blue in linear light, and encode as sRGB."""
    colour, alpha = cutout[..., :3], cutout[..., 3:]
    bright = ((colour + 0.055) / 1.055) ** 2.4
    light = np.where(colour <= 0.04045, colour / 12.92, bright)
    mixed = light * alpha + np.array(BLUE) * (1 - alpha)
    high = 1.055 * mixed ** (1 / 2.4) - 0.055
    return np.where(mixed <= 0.0031308, mixed * 12.92, high)


def test_cut_outs_lie_over_a_scene_with_exact_edges(tmp_path: Path) -> None:
    blender = os.environ.get("REMATTE_BLENDER")
    if blender is None:
        # It is built for NumPy 1, so that it has an environment of its own.
        pytest.skip("REMATTE_BLENDER names no Python that has Blender's module bpy")
    clip = make_clip(tmp_path / "in.mp4", draw_disc(2).frames, tags=Tags(1, 1, 1, 1))
    outputs = {"mov": "cut.mov", "png": "png/%04d.png", "exr": "exr/%04d.exr"}
    for each in outputs.values():
        convert_video(
            Fake(), clip, output=tmp_path / each, downsample_ratio=1, progress=False
        )
    sources = [each.replace("%04d", "0000") for each in outputs.values()]
    subprocess.run([blender, "-c", SCENE, *sources], cwd=tmp_path, check=True)
    for kind, mean, most in ("mov", 1, 4), ("png", 0.3, 0.6), ("exr", 0.4, 1.5):
        cut = read(tmp_path / ("cut.mov" if kind == "mov" else kind), True)
        got = read(tmp_path / "got" / kind, False)
        assert len(cut) == len(got) == 2
        for cutout, picture in zip(cut, got, strict=True):
            wrong = 255 * np.abs(over_blue(cutout) - picture)
            assert wrong.mean() < mean, kind
            assert wrong.max() < most, kind
