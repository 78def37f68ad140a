"""A recorded step is the network's. Without a GPU it is called instead of replayed."""

import pytest
import torch

import rematte
from rematte.engines import cuda_graph as cuda
from rematte.network.matting_network import MattingNetwork


@pytest.fixture
def recorded(
    bundled: MattingNetwork, monkeypatch: pytest.MonkeyPatch
) -> cuda.RecordedNetwork:
    monkeypatch.setattr(cuda, "_capture", lambda step, device: step)
    return cuda.RecordedNetwork(bundled)


def clip(height: int, width: int, length: int = 4) -> torch.Tensor:
    seed = torch.Generator().manual_seed(0)
    return torch.rand(2, length, 3, height, width, generator=seed)


@pytest.mark.parametrize("ratio", [1.0, 0.4])
@pytest.mark.parametrize("chunk", [1, 3])
def test_it_gives_the_networks_frames(
    bundled: MattingNetwork, recorded: cuda.RecordedNetwork, ratio: float, chunk: int
) -> None:
    with torch.inference_mode():
        expected = bundled(clip(45, 70), downsample_ratio=ratio)
    state: list[torch.Tensor | None] = [None] * 4
    alphas, colours = [], []
    for piece in clip(45, 70).split(chunk, 1):
        fgr, pha, *state = recorded(piece, *state, ratio)
        alphas.append(pha)
        colours.append(fgr)
    made = torch.cat(colours, 1), torch.cat(alphas, 1), *state
    for found, given in zip(made, expected, strict=True):
        torch.testing.assert_close(found, given, atol=2e-4, rtol=0)


def test_states_can_be_kept_and_gone_on_from(recorded: cuda.RecordedNetwork) -> None:
    frames = clip(48, 80).unbind(1)
    first = recorded(frames[0], downsample_ratio=0.5)
    second = recorded(frames[1], *first[2:], 0.5)
    recorded(clip(32, 64)[:, 0], downsample_ratio=0.5)  # another clip, another size
    again = recorded(frames[1], *first[2:], 0.5)
    assert torch.equal(again.pha, second.pha)
    assert not torch.equal(recorded(frames[1], downsample_ratio=0.5).pha, second.pha)


def test_a_state_of_another_size_is_refused(recorded: cuda.RecordedNetwork) -> None:
    small = recorded(clip(32, 64)[:, 0])
    with pytest.raises(ValueError, match="cannot be carried over"):
        recorded(clip(48, 80)[:, 0], *small[2:])


def test_without_a_gpu_it_says_so(bundled: MattingNetwork) -> None:
    with pytest.raises(ValueError, match="can only be recorded on a CUDA GPU"):
        cuda.RecordedNetwork(bundled)(clip(32, 64)[:, 0])


def test_the_network_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_capture", lambda step, device: step)
    model = rematte.load_model(dtype=torch.float16)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cuda.RecordedNetwork(model)(clip(32, 64)[:, 0].half())
    for name, value in model.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])
