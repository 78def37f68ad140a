"""Lay a cut-out of rematte over what a Blender scene renders, and render it.

    blender --background room.blend --python over_scene.py -- cutout.mov --output out/

Cut-outs are videos with alpha (ProRes 4444 in .mov, VP9 in .webm) or numbered images
(PNG, OpenEXR). The scene keeps its camera and its render settings; its length, its size
and its frame rate become those of the cut-out unless --keep is given. Needs Blender 5.0
or newer, or the `bpy` package. Blender is GPL; so is what you build on this script.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import bpy

_VIDEOS = {".mov", ".webm", ".mkv", ".mp4"}


def load(path: Path) -> Any:
    """Load a cut-out: a video, or the first of numbered images.

    Colours are straight and display-encoded; in OpenEXR they are premultiplied and
    linear, as Blender expects. Blender divides the colours of videos of more than 8
    bits by alpha, whatever the image's alpha mode is, unless they are marked as data.
    So they are marked as data, and `lay_over` makes them linear.
    """
    image = bpy.data.images.load(str(path.absolute()))
    if path.suffix.lower() in _VIDEOS:
        image.source = "MOVIE"
    elif _numbered(path):
        image.source = "SEQUENCE"
    if path.suffix.lower() != ".exr":
        image.alpha_mode = "STRAIGHT"
        _ = image.pixels[0]  # decodes a frame, after which Blender knows the depth
        if image.is_float:
            image.colorspace_settings.name = "Non-Color"
            image.alpha_mode = "CHANNEL_PACKED"
    return image


def _numbered(path: Path) -> list[Path]:
    """The images of a sequence, in order; empty for an image without a number."""
    match = re.fullmatch(r"(.*?)(\d+)(\.\w+)", path.name)
    if match is None:
        return []
    name = re.compile(re.escape(match[1]) + r"\d+" + re.escape(match[3]))
    return sorted(each for each in path.parent.iterdir() if name.fullmatch(each.name))


def lay_over(scene: Any, image: Any, first: int, frames: int) -> None:
    """Make the scene's compositor lay an image over what the scene renders."""
    group = bpy.data.node_groups.new("Cut-out over the scene", "CompositorNodeTree")
    scene.compositing_node_group = group
    scene.render.use_compositing = True
    group.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
    nodes, links = group.nodes, group.links
    layers = nodes.new("CompositorNodeRLayers")
    layers.scene = scene
    picture = nodes.new("CompositorNodeImage")
    picture.image = image
    if image.source != "FILE":
        picture.frame_duration, picture.frame_start = frames, scene.frame_start
        picture.frame_offset = first - 1
        picture.use_auto_refresh = True
    over, end = nodes.new("CompositorNodeAlphaOver"), nodes.new("NodeGroupOutput")
    links.new(layers.outputs["Image"], over.inputs["Background"])
    made = picture.outputs["Image"]
    if image.alpha_mode == "CHANNEL_PACKED":
        linear, alpha = (
            nodes.new(f"CompositorNode{name}")
            for name in ("ConvertColorSpace", "PremulKey")
        )
        linear.from_color_space, linear.to_color_space = "sRGB", "Linear Rec.709"
        links.new(made, linear.inputs["Image"])
        links.new(linear.outputs["Image"], alpha.inputs["Image"])
        made = alpha.outputs["Image"]
    fit = nodes.new("CompositorNodeScale")
    fit.inputs["Type"].default_value = "Render Size"
    fit.inputs["Frame Type"].default_value = "Fit"
    links.new(made, fit.inputs["Image"])
    links.new(fit.outputs["Image"], over.inputs["Foreground"])
    links.new(over.outputs["Image"], end.inputs["Image"])


def render(scene: Any, path: Path, output: Path, keep: bool = False) -> None:
    """Lay a cut-out over a scene and render every frame as a PNG image.

    Args:
        scene: The scene.
        path: The cut-out.
        output: The folder of the rendered images.
        keep: Keep the scene's length, size and frame rate.
    """
    image = load(path)
    images = _numbered(path) if image.source == "SEQUENCE" else []
    frames = len(images) or image.frame_duration
    first = int(re.findall(r"\d+", images[0].stem)[-1]) if images else 1
    if not keep:
        scene.frame_start, scene.frame_end = 1, frames
        scene.render.resolution_x, scene.render.resolution_y = image.size
        scene.render.resolution_percentage = 100
        if image.source == "MOVIE":
            rate = bpy.data.movieclips.load(str(path.absolute())).fps
            scene.render.fps = round(rate)
            scene.render.fps_base = round(rate) / rate
    lay_over(scene, image, first, frames)
    scene.render.image_settings.file_format = "PNG"
    scene.render.filepath = str(output.absolute()) + "/"
    bpy.ops.render.render(animation=True, scene=scene.name)


def main(words: list[str]) -> None:
    """Read the command line and render the current scene."""
    parser = argparse.ArgumentParser(description="Lay a cut-out over a scene.")
    parser.add_argument("cutout", type=Path, help="a video with alpha, or an image")
    parser.add_argument("--output", type=Path, required=True, help="a folder")
    parser.add_argument("--keep", action="store_true", help="keep length and size")
    given = parser.parse_args(words)
    render(bpy.context.scene, given.cutout, given.output, given.keep)


if __name__ == "__main__":
    main(sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:])
