"""What must hold on a CUDA GPU; skipped without one (see conftest.py)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import make_clip
from fakes import as_frames, convert, open_image, read_all

import rematte
from rematte.engines.cuda_graph import RecordedNetwork, finish
from rematte.engines.tensors import download, upload
from rematte.matting.loop import matte
from rematte.network.guided_filter import refine

pytestmark = pytest.mark.cuda


def mattes(device: str, dtype: torch.dtype, chunk: int) -> torch.Tensor:
    """Alpha of six frames of a drawn gradient, on the CPU as float32."""
    model = rematte.load_model(device=device, dtype=dtype)
    clip = torch.linspace(0, 1, 6 * 3 * 96 * 160).reshape(1, 6, 3, 96, 160)
    state: list[torch.Tensor | None] = [None] * 4
    alphas = []
    with torch.inference_mode():
        for piece in clip.to(device, dtype).split(chunk, 1):
            _, alpha, *state = model(piece, *state, 0.5)
            alphas.append(alpha.float().cpu())
    return torch.cat(alphas, 1)


@pytest.mark.parametrize("chunk", [1, 3])
def test_the_gpu_gives_the_cpus_mattes(chunk: int) -> None:
    expected = mattes("cpu", torch.float32, 1)
    assert (mattes("cuda", torch.float32, chunk) - expected).abs().max() < 1e-2
    assert (mattes("cuda", torch.float16, chunk) - expected).abs().mean() < 1e-2


def test_conversion_on_the_gpu(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", sound=True)
    model = rematte.load_model(device="cuda", dtype=torch.float16)
    report = convert(clip, tmp_path / "out.mov", model, seq_chunk="auto")
    assert report.frames == 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_recorded_step_gives_the_same(dtype: torch.dtype, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4")
    model = rematte.load_model(device="cuda", dtype=dtype)
    alphas = []
    for engine in ("plain", "torch"):
        out = tmp_path / engine
        report = convert(
            clip, model=model, output_type="png_sequence", output_alpha=out,
            downsample_ratio=0.5, engine=engine,
        )  # fmt: skip
        assert report.engine.split()[0] == engine
        alphas.append(np.stack([open_image(p) for p in sorted(out.iterdir())]))
    off = np.abs(np.subtract(*alphas, dtype=int))
    assert off.mean() < (0.1 if dtype == torch.float32 else 2)


@pytest.mark.parametrize("ratio", [1.0, 0.4])
def test_a_recorded_network_equals_the_network(
    ratio: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    model = rematte.load_model(device="cuda")
    recorded = RecordedNetwork(model)
    clip = torch.rand(
        2, 5, 3, 70, 98, generator=torch.Generator().manual_seed(0)
    ).cuda()
    with torch.inference_mode():
        expected = model(clip, downsample_ratio=ratio)
    state: list[torch.Tensor | None] = [None] * 4
    alphas = []
    for piece in clip.split([1, 3, 1], 1):
        _, pha, *state = recorded(piece, *state, ratio)  # type: ignore[arg-type]
        alphas.append(pha)
    off = (torch.cat(alphas, 1) - expected.pha).abs()
    assert off.max() < 1e-3
    assert off.mean() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("sizes", [(36, 64, 9, 16), (37, 61, 11, 19), (20, 30, 20, 1)])
def test_one_kernel_equals_the_plain_path(dtype: torch.dtype, sizes: Any) -> None:
    seed = torch.Generator().manual_seed(0)
    frame = torch.rand(2, 3, *sizes[:2], generator=seed).to(dtype)
    maps = torch.randn(2, 8, *sizes[2:], generator=seed) / 2
    plain = refine(frame.float(), maps[:, :4], maps[:, 4:])
    fgr, pha = finish(frame.cuda(), maps.cuda(), True)
    least = 1e-5 if dtype == torch.float32 else 5e-4
    assert (pha.cpu().float() - plain[:, 3:].clamp(0, 1)).abs().max() < least
    expected = (frame.float() + plain[:, :3]).clamp(0, 1)
    assert (fgr.cpu().float() - expected).abs().max() < least


def test_the_chunk_is_halved_when_memory_runs_out() -> None:
    model = rematte.load_model(device="cuda", dtype=torch.float16)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (1080, 1920, 3), np.uint8)
    frames = as_frames([pixels] * 32)
    told: list[str] = []

    def alphas(chunk: int) -> list[np.ndarray]:
        mattes = matte(
            model, frames, seq_chunk=chunk, downsample_ratio=0.25, device="cuda",
            dtype=torch.float16, report=told.append,
        )  # fmt: skip
        return [matted.pha.float().cpu().numpy() for matted in mattes]

    expected = alphas(1)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(1.5e9 / total)
    try:
        found = alphas(32)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert told
    assert "out of memory" in told[0]
    assert len(found) == len(expected)
    assert np.abs(np.subtract(found, expected)).mean() < 2e-3


def test_copies_beside_what_is_computed() -> None:
    seed = torch.Generator().manual_seed(0)
    square = torch.rand(2048, 2048, generator=seed).cuda()
    for size in range(1, 60):
        given = torch.rand(size, 1000, 997, generator=seed)
        there = upload(given, "cuda")
        busy = square
        for _ in range(3):
            busy = (busy @ square).mul_(1e-3)
        there = there * 2 + busy[0, 0] * 0
        again = download(there.movedim(0, -1)[::2])
        del there
        assert torch.equal(again, (given * 2).movedim(0, -1)[::2])


def test_nvdec_gives_the_processors_frames(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", size=(320, 240), options={"crf": "20"})
    expected, _ = read_all(clip)
    found, notes = read_all(clip, hwaccel="cuda")
    assert not notes
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one.pixels, other.pixels)
