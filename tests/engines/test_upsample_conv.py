"""Convolving maps that were doubled, without doubling them: what torch's way gives."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fakes import formula_network

from rematte.engines.cpu import folded
from rematte.engines.kernels.upsample_conv import convolve_doubled, scales
from rematte.engines.parts import Products, Staged, of_picture
from rematte.network.matting_network import Coarse, UpsamplingBlock

SIZES = [(1, 1), (2, 3), (1, 8), (36, 51), (37, 50)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["decode3", "decode2", "decode1"])
def test_it_is_upsampling_joining_and_convolving(
    size: tuple[int, int], name: str
) -> None:
    """At the edges too, and where a row or column of the doubled maps is cropped."""
    decoder = formula_network("mobilenetv3", "deep_guided_filter").decoder
    block: UpsamplingBlock = getattr(decoder, name)
    conv = torch.nn.Conv2d(2 * block.gru.channels + 3, 16, 3, padding=1)
    picture = torch.rand(2, 3, *size)
    half = [(side + 1) // 2 for side in size]
    maps = torch.randn(2, 2 * block.gru.channels, *half)
    doubled = F.interpolate(maps, scale_factor=2.0, mode="bilinear")
    joined = torch.cat([doubled[..., : size[0], : size[1]], picture], 1)
    with torch.no_grad():
        expected = conv(joined).movedim(1, -1).numpy()
        products = Products(block, conv)(maps).movedim(1, -1).contiguous()
    pixels = picture.movedim(1, -1).contiguous().numpy()
    out = np.full((2, *size, 16), np.nan, np.float32)
    convolve_doubled(products.numpy(), pixels, of_picture(conv), -np.inf, out)
    assert np.abs(out - expected).max() < 1e-5
    convolve_doubled(products.numpy(), pixels, of_picture(conv), 0, out)
    assert np.abs(out - expected.clip(0)).max() < 1e-5
    # In bfloat16 what comes in and what goes out is rounded, and nothing between.
    rounded = products.bfloat16()
    convolve_doubled(rounded.float().numpy(), pixels, of_picture(conv), 0, out)
    bits = np.empty(out.shape, np.int16)
    convolve_doubled(
        rounded.view(torch.int16).numpy(), pixels, of_picture(conv), 0, bits
    )
    assert np.array_equal(
        torch.from_numpy(out).bfloat16().view(torch.int16).numpy(), bits
    )


@pytest.mark.parametrize("size", SIZES)
def test_the_scales_are_the_networks(size: tuple[int, int]) -> None:
    shrink = formula_network("mobilenetv3", "deep_guided_filter").decoder.shrink
    picture = torch.rand(2, 3, *size)
    for made in scales(picture.movedim(1, -1).contiguous().numpy()):
        assert np.abs(made - picture.movedim(1, -1).numpy()).max() < 1e-6
        picture = shrink(picture)


@pytest.mark.parametrize("variant", ["mobilenetv3", "resnet50"])
def test_the_parts_leave_no_weight_of_a_merge_out(variant: str) -> None:
    coarse = folded(Coarse(formula_network(variant, "deep_guided_filter"), True))
    staged = Staged(coarse)
    decoder = coarse.decoder.decoder
    blocks = decoder.decode3, decoder.decode2, decoder.decode1
    products = staged.bottom.products, *(stage.products for stage in staged.stages)
    for block, stage, before in zip(blocks, staged.stages, products, strict=False):
        total = before.weight.numel() + stage.skip.weight.numel()
        assert total + 27 * stage.skip.out_channels == block.conv[0].weight.numel()
