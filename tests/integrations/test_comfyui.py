"""The node pack, called as ComfyUI calls it: by the names of its classes and types."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import draw_disc

import rematte

PACK = Path(__file__).parents[2] / "integrations" / "comfyui"


@pytest.fixture(scope="module")
def pack() -> Any:
    """The pack, imported as ComfyUI imports a folder of custom_nodes."""
    name = str(PACK).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, PACK / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """IMAGE: (B, H, W, 3) float32 in [0, 1]."""
    frames = [torch.from_numpy(frame.copy()) for frame in draw_disc(6).frames]
    return torch.stack(frames).float() / 255


def execute(node: Any, **inputs: Any) -> tuple[Any, ...]:
    """Check inputs against what the class says, fill in defaults, call its function."""
    kinds = type(node).INPUT_TYPES()
    known = {**kinds["required"], **kinds.get("optional", {})}
    assert inputs.keys() <= known.keys()
    given = {}
    for name, (kind, *more) in known.items():
        given[name] = inputs.get(name, more[0].get("default") if more else None)
        if isinstance(kind, list):
            assert given[name] in kind, name
        else:
            types = {"IMAGE": torch.Tensor, "STRING": str, "BOOLEAN": bool}
            assert isinstance(given[name], types[kind]), name
    made: tuple[Any, ...] = getattr(node, node.FUNCTION)(**given)
    assert len(made) == len(node.RETURN_TYPES) == len(node.RETURN_NAMES)
    return made


def test_the_pack_names_its_nodes(pack: Any) -> None:
    assert pack.NODE_DISPLAY_NAME_MAPPINGS.keys() == pack.NODE_CLASS_MAPPINGS.keys()
    for node in pack.NODE_CLASS_MAPPINGS.values():
        assert node.RETURN_TYPES == ("IMAGE", "MASK")
        assert callable(getattr(node, node.FUNCTION))
        assert node.VALIDATE_INPUTS(region="1,2,30,40") is True
        assert "must be auto, full or" in node.VALIDATE_INPUTS(region="middle")


def test_a_batch_gives_what_a_stream_gives(pack: Any, images: torch.Tensor) -> None:
    node = pack.NODE_CLASS_MAPPINGS["RematteCutOutPeople"]()
    foreground, alpha = execute(node, images=images, device="cpu")
    assert foreground.shape == images.shape
    assert alpha.shape == images.shape[:3]
    assert foreground.dtype == alpha.dtype == torch.float32
    stream = rematte.Matter(device="cpu", edge_colour="clean").stream()
    for image, colours, matte in zip(images, foreground, alpha, strict=True):
        matted = stream(image.numpy())
        assert torch.equal(colours, torch.from_numpy(matted.foreground))
        assert torch.equal(matte, torch.from_numpy(matted.alpha))


def test_memory_goes_on_over_batches_where_it_should(
    pack: Any, images: torch.Tensor
) -> None:
    node = pack.NODE_CLASS_MAPPINGS["RematteCutOutPeople"]()
    whole = execute(node, images=images, device="cpu")[1]
    first = execute(node, images=images[:4], device="cpu")[1]
    rest = execute(node, images=images[4:], device="cpu", continue_video=True)[1]
    again = execute(node, images=images[4:], device="cpu")[1]
    assert torch.equal(torch.cat([first, rest]), whole)
    assert not torch.equal(again, rest)
    assert node.IS_CHANGED(continue_video=True) != node.IS_CHANGED(continue_video=True)
