"""The network: golden cases of the reference, and the laws it must obey."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import formula_network
from safetensors.torch import load_file
from torch import Tensor, nn

from rematte import Matte, MattingNetwork, Segmentation
from rematte.network.guided_filter import shrink
from rematte.network.matting_network import REFINERS, VARIANTS, ShuffleBlock

HERE = Path(__file__).parents[1] / "golden"
SHARED = Path(os.environ.get("REMATTE_SHARED", HERE.parents[2] / "shared"))
CASES = json.loads((HERE / "cases.json").read_text())


@pytest.fixture(scope="module", params=["mobilenetv3", "mobilenetv3_fast"])
def network(request: pytest.FixtureRequest) -> MattingNetwork:
    return formula_network(request.param, "deep_guided_filter")


def compare(network: nn.Module, case: dict[str, Any], path: Path) -> None:
    """Replay a case's calls and hold every output against the reference's."""
    arrays = np.load(path)
    names = [f"_t{i}" for i in range(case["calls"])] if "src_t0" in arrays else [""]
    filtered = case["refiner"] == "fast_guided_filter" and case["downsample_ratio"] != 1
    state: list[Tensor | None] = [None] * 4
    for suffix in names:
        out = network(
            torch.from_numpy(arrays["src" + suffix].astype(np.float32) / 255),
            *state,
            downsample_ratio=case["downsample_ratio"],
            segmentation_pass=case["segmentation_pass"],
        )
        state = list(out[-4:])
        for name, value in out._asdict().items():
            error = np.abs(value.numpy() - arrays[name + suffix])
            if filtered and name in ("fgr", "pha"):
                # It divides by var + 1e-5, which float32 resolves badly.
                assert error.max() < 3e-3, (name, suffix)
                assert error.mean() < 1e-5, (name, suffix)
            else:
                assert error.max() < 1e-4, (name, suffix)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["file"])
def test_golden_case(case: dict[str, Any]) -> None:
    network = formula_network(case["variant"], case["refiner"])
    compare(network, case, HERE / case["file"])


REAL = [
    *("real_a_144x256_r1", "real_b_288x512_r05_t0", "real_d_145x255_r0375"),
    *("real_d_145x255_r1", "real_e_96x160_r1_B2"),
]


@pytest.mark.parametrize("name", REAL)
def test_golden_case_with_the_reference_weights(name: str) -> None:
    weights = SHARED / "weights/rvm_mobilenetv3_fgf_dequantized.safetensors"
    if not weights.exists():
        pytest.skip(f"the reference's weights are not in this project ({weights})")
    network = MattingNetwork("mobilenetv3", "fast_guided_filter").eval()
    network.load_state_dict(load_file(weights))
    manifest = json.loads((SHARED / "golden/manifest.json").read_text())
    case = next(c for c in manifest["cases"] if c["file"] == f"{name}.npz")
    with torch.no_grad():
        compare(network, case, SHARED / "golden" / case["file"])


@pytest.mark.parametrize("variant", ["mobilenetv3", "resnet50"])
@pytest.mark.parametrize("refiner", REFINERS)
def test_keys_and_shapes_of_published_checkpoints(variant: str, refiner: str) -> None:
    expected = {}
    for line in (HERE / f"state_dict_{variant}.txt").read_text().splitlines():
        key, shape = line.split()
        if not (key.startswith("refiner.") and refiner == "fast_guided_filter"):
            expected[key] = shape
    state = MattingNetwork(variant, refiner).state_dict()
    got = {key: "x".join(map(str, v.shape)) or "-" for key, v in state.items()}
    assert got == expected


def assert_close(left: Any, right: Any, within: float = 1e-4) -> None:
    for a, b in zip(left, right, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() < within


def run_one_by_one(network: nn.Module, clip: Tensor, ratio: float) -> list[Any]:
    """Matte (B, T, 3, H, W) frame by frame; gives fgr, pha (with T) and the states."""
    state: list[Tensor | None] = [None] * 4
    outs = []
    for frame in clip.unbind(1):
        out = network(frame, *state, downsample_ratio=ratio)
        state = list(out[2:])
        outs.append(out)
    fgr = torch.stack([out[0] for out in outs], 1)
    pha = torch.stack([out[1] for out in outs], 1)
    return [fgr, pha, *state]


@pytest.mark.parametrize("ratio", [1, 0.6])
def test_a_chunk_equals_single_calls(network: MattingNetwork, ratio: float) -> None:
    clip = torch.rand(2, 5, 3, 65, 98)
    expected = run_one_by_one(network, clip, ratio)
    assert_close(network(clip, downsample_ratio=ratio), expected)
    first = network(clip[:, :2], downsample_ratio=ratio)
    second = network(clip[:, 2:], *first[2:], downsample_ratio=ratio)
    joined = [torch.cat([first[i], second[i]], 1) for i in (0, 1)]
    assert_close([*joined, *second[2:]], expected)


def test_clips_of_a_batch_do_not_mix(network: MattingNetwork) -> None:
    clip = torch.rand(3, 2, 3, 64, 96)
    together = network(clip, downsample_ratio=0.5)
    for index in range(3):
        alone = network(clip[index : index + 1], downsample_ratio=0.5)
        assert_close([out[index : index + 1] for out in together], alone)


def test_results_have_names_and_the_documented_order(network: MattingNetwork) -> None:
    frame = torch.rand(1, 3, 64, 96)
    out = network(frame, downsample_ratio=0.5)
    assert isinstance(out, Matte)
    fgr, pha, *rec = out
    assert fgr is out.fgr
    assert pha is out.pha
    assert fgr.shape == frame.shape
    assert pha.shape == (1, 1, 64, 96)
    fast = isinstance(network.decoder.decode0, ShuffleBlock)
    channels = [4, 8, 24, 64] if fast else [16, 20, 40, 64]
    assert [r.shape[1] for r in rec] == channels
    assert [r.shape[2] for r in rec] == [16, 8, 4, 2]
    assert fgr.min() >= 0
    assert fgr.max() <= 1
    seg = network(frame, downsample_ratio=0.5, segmentation_pass=True)
    assert isinstance(seg, Segmentation)
    assert seg.seg.shape == (1, 1, 32, 48)
    assert network(frame[None], segmentation_pass=True).seg.shape == (1, 1, 1, 64, 96)


def test_states_may_be_none_zeros_or_one_zero(network: MattingNetwork) -> None:
    frame = torch.rand(2, 3, 64, 96)
    expected = network(frame, downsample_ratio=0.5)
    full = [torch.zeros_like(r) for r in expected[2:]]
    documented = [torch.zeros(1, 1, 1, 1)] * 4
    scalars = [torch.tensor(0.0)] * 4
    for state in (full, documented, scalars):
        assert_close(network(frame, *state, downsample_ratio=0.5), expected, 1e-9)


@pytest.mark.parametrize(("other", "ratio"), [
    ((1, 3, 64, 128), 0.5), ((1, 3, 64, 96), 1.0), ((2, 3, 64, 96), 0.5)],
    ids=["resolution", "ratio", "batch",
])  # fmt: skip
def test_states_of_another_size_are_refused(
    network: MattingNetwork, other: tuple[int, ...], ratio: float
) -> None:
    state = network(torch.rand(1, 3, 64, 96), downsample_ratio=0.5)[2:]
    message = r"state r4 is \[1, 64, 2, 3\].*need \[.*start again with None"
    with pytest.raises(ValueError, match=message):
        network(torch.rand(other), *state, downsample_ratio=ratio)


@pytest.mark.parametrize(("src", "ratio", "message"), [
    (torch.rand(3, 64, 64), 1.0, r"got \[3, 64, 64\].*src\[None\]"),
    (torch.rand(1, 4, 64, 64), 1.0, r"got \[1, 4, 64, 64\]"),
    (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 1.0, "divide 8-bit frames by 255"),
    (torch.rand(1, 3, 64, 64), 2.5, r"must be in \(0, 2\], got 2.5"),
    (torch.rand(1, 3, 4, 64), 0.2, "leaves nothing of a frame of 64x4"),
])  # fmt: skip
def test_wrong_input_is_explained(
    network: MattingNetwork, src: Tensor, ratio: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        network(src, downsample_ratio=ratio)


@pytest.mark.parametrize("size", [(1, 1), (3, 17), (2, 2), (33, 31)])
def test_any_size_gives_mattes_of_that_size(network: MattingNetwork, size: Any) -> None:
    out = network(torch.rand(1, 3, *size))
    assert out.pha.shape[-2:] == size
    again = network(torch.rand(1, 3, *size), *out[2:])
    assert again.fgr.shape[-2:] == size


def test_unknown_variant_and_refiner_are_refused() -> None:
    with pytest.raises(ValueError, match=r"variant must be one of .* got 'resnet18'"):
        MattingNetwork("resnet18")
    with pytest.raises(ValueError, match=r"refiner must be one of .* got 'none'"):
        MattingNetwork(refiner="none")


# The variant and the refiner do not know of each other: each is tried once.
@pytest.mark.parametrize(
    ("variant", "refiner"), [*zip(VARIANTS, (*REFINERS, REFINERS[0]), strict=True)]
)
def test_scripted_and_frozen_equal_eager(variant: str, refiner: str) -> None:
    network = formula_network(variant, refiner)
    script = torch.jit.script(network)
    clip = torch.rand(1, 2, 3, 65, 98)
    expected = network(clip, downsample_ratio=0.6)
    again = network(clip, *expected[2:], downsample_ratio=0.6)
    # The guided filter without a network divides by var + 1e-5.
    within = 1e-4 if refiner == "deep_guided_filter" else 3e-3
    for module in (script, torch.jit.freeze(script)):
        out = module(clip, None, None, None, None, 0.6)
        assert_close(out, expected, within)
        assert_close(module(clip, *expected[2:], 0.6), again, within)
        assert_close(module(clip[0]), network(clip[0]))
        assert module(clip, segmentation_pass=True).seg.shape == (1, 2, 1, 65, 98)
    with pytest.raises(torch.jit.Error, match="start again with"):
        script(torch.rand(1, 3, 32, 32), *expected[2:])


def test_compiled_in_one_graph_equals_eager(
    network: MattingNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = torch.rand(1, 3, 64, 96)
    expected = network(frame, downsample_ratio=0.5)
    if isinstance(network.decoder.decode0, ShuffleBlock):  # its encoder is the other's
        features = network.backbone(shrink(frame, 0.5))
        monkeypatch.setitem(vars(network.backbone), "forward", lambda _: features)
    # The "eager" backend tests the capture; code generation takes minutes.
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    assert_close(compiled(frame, downsample_ratio=0.5), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_run(dtype: torch.dtype) -> None:
    network = formula_network("mobilenetv3", "deep_guided_filter").to(dtype)
    frame = torch.rand(1, 3, 64, 96, dtype=dtype)
    out = network(frame, downsample_ratio=0.5)
    out = network(frame, *out[2:], downsample_ratio=0.5)
    assert all(value.dtype == dtype for value in out)
    assert all(value.isfinite().all() for value in out)


def test_gradients_reach_every_parameter() -> None:
    network = MattingNetwork("mobilenetv3").train()
    clip = torch.rand(2, 2, 3, 64, 64)
    out = network(clip, downsample_ratio=0.5)
    seg = network(clip, segmentation_pass=True)
    # Unclamped parts: a random network's alpha may lie wholly outside [0, 1].
    loss = sum(value.square().sum() for value in (*out, *seg))
    assert isinstance(loss, Tensor)
    loss.backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None]
    assert not idle


def test_imagenet_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The public checkpoint is asked for by name and hash, its classifier dropped."""
    asked: dict[str, Any] = {}

    def fetch(address: str, **options: Any) -> dict[str, Tensor]:
        asked.update(options, address=address)
        state = MattingNetwork("mobilenetv3").backbone.state_dict()
        filled = {key: torch.full_like(value, 1) for key, value in state.items()}
        return {**filled, "classifier.0.weight": torch.zeros(1)}

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fetch)
    network = MattingNetwork("mobilenetv3", pretrained_backbone=True)
    assert network.backbone.features[0][0].weight.eq(1).all()  # type: ignore[index, union-attr]
    assert asked["address"].endswith("mobilenet_v3_large-8738ca79.pth")
    assert asked["check_hash"]
    assert asked["weights_only"]
