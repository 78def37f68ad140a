"""A node of ComfyUI that cuts the people out of a batch of images, in order of time."""

from functools import cache
from typing import Any

import numpy as np
import torch

import rematte
from rematte.video.values import parse_region


@cache
def _matter(device: str, quality: str, region: str, edge_colour: str) -> rematte.Matter:
    """Load the network once for each choice of options."""
    options: Any = {
        "device": device,
        "quality": quality,
        "region": parse_region(region),
        "edge_colour": edge_colour,
    }
    return rematte.Matter(**options)


class CutOutPeople:
    """A node that gives the people's colours and their alpha for a batch of images.

    ComfyUI keeps one instance for each node of a workflow, so the network's recurrent
    state can be kept from one run to the next.
    """

    CATEGORY = "image/matting"
    DESCRIPTION = "Cuts people out of the frames of a video, with a steady matte."
    RETURN_TYPES = ("IMAGE", "MASK")
    RETURN_NAMES = ("foreground", "alpha")
    OUTPUT_TOOLTIPS = (
        "The people's colours, without the background's at edges.",
        "1 where people are, 0 elsewhere.",
    )
    FUNCTION = "cut_out"

    def __init__(self) -> None:
        self._stream: Any = None
        self._matter: Any = None

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:  # noqa: N802 - ComfyUI's name
        """Name the inputs, with their types, choices and defaults."""
        return {
            "required": {
                "images": ("IMAGE", {"tooltip": "Frames in order of time."}),
                "quality": (
                    ["fast", "balanced", "best"],
                    {
                        "default": "balanced",
                        "tooltip": "How large a copy of each frame the network sees.",
                    },
                ),
                "region": (
                    "STRING",
                    {
                        "default": "full",
                        "tooltip": "full, or X,Y,WIDTH,HEIGHT in pixels of a rectangle "
                        "outside of which there is nobody.",
                    },
                ),
                "edge_colour": (
                    ["clean", "network"],
                    {
                        "default": "clean",
                        "tooltip": "Whether edges lose the background's colours.",
                    },
                ),
                "continue_video": (
                    "BOOLEAN",
                    {
                        "default": False,
                        "tooltip": "These frames follow those of this node's last run: "
                        "the network remembers them. Off: another video begins.",
                    },
                ),
            },
            "optional": {
                "device": (["auto", "cpu", "cuda", "mps"], {"default": "auto"})
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, region: str) -> bool | str:  # noqa: N802 - ComfyUI's name
        """Check the region before anything runs."""
        try:
            parse_region(region)
        except ValueError as error:
            return f"region {error}"
        return True

    @classmethod
    def IS_CHANGED(cls, continue_video: bool, **_: Any) -> float | bool:  # noqa: N802
        """Run again for the same images if the network's state has changed."""
        return float("nan") if continue_video else False

    def cut_out(
        self,
        images: torch.Tensor,
        quality: str,
        region: str,
        edge_colour: str,
        continue_video: bool,
        device: str = "auto",
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Matte a batch.

        Args:
            images: (B, H, W, 3), floating in [0, 1], in order of time.
            quality: "fast", "balanced" or "best".
            region: "full" or "X,Y,WIDTH,HEIGHT" [pixels].
            edge_colour: "clean" or "network".
            continue_video: Whether the frames follow those of the last run.
            device: "auto", "cpu", "cuda" or "mps".

        Returns:
            Foreground (B, H, W, 3) and alpha (B, H, W), float32 in [0, 1].
        """
        matter = _matter(device, quality, region, edge_colour)
        if self._stream is None or matter is not self._matter:
            self._matter, self._stream = matter, matter.stream()
        elif not continue_video:
            self._stream.reset()
        foreground = torch.empty((*images.shape[:3], 3))
        alpha = torch.empty(images.shape[:3])
        for index, image in enumerate(images):
            matted = self._stream(image.float().cpu().numpy())
            foreground[index] = torch.from_numpy(np.asarray(matted.foreground))
            alpha[index] = torch.from_numpy(np.asarray(matted.alpha))
        return foreground, alpha
