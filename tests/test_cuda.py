"""What must hold on a CUDA GPU; skipped without one (see conftest.py)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import rematte

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


def test_conversion_on_the_gpu(tmp_path: Path, make_clip: Callable[..., Path]) -> None:
    clip = make_clip(tmp_path / "in.mp4", sound=True)
    model = rematte.load_model(device="cuda", dtype=torch.float16)
    report = rematte.convert_video(
        model, clip, output=tmp_path / "out.mov", seq_chunk="auto", progress=False
    )
    assert report.frames == 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_recorded_step_gives_the_same_frames(
    dtype: torch.dtype, tmp_path: Path, make_clip: Callable[..., Path]
) -> None:
    clip = make_clip(tmp_path / "in.mp4")
    model = rematte.load_model(device="cuda", dtype=dtype)
    alphas = []
    for engine in ("plain", "torch"):
        out = tmp_path / engine
        report = rematte.convert_video(
            model, clip, output_type="png_sequence", output_alpha=out,
            downsample_ratio=0.5, engine=engine, progress=False,
        )  # fmt: skip
        assert report.engine == engine
        alphas.append(np.stack([Image.open(p) for p in sorted(out.iterdir())]))
    off = np.abs(np.subtract(*alphas, dtype=int))
    assert off.mean() < (0.1 if dtype == torch.float32 else 2)
