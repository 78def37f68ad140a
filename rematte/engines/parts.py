"""The coarse part of a network, cut where the decoder doubles its maps.

`doubling.convolve_doubled` does what lies between the parts, so that the doubled maps
are never made, and a third of the decoder's arithmetic is saved. The parts share
parameters where they can; batch norm has to be folded into the convolutions before.
"""

from typing import Any

import torch
from torch import Tensor, nn

from rematte.engines.kernels.upsample_conv import Floats
from rematte.network.matting_network import BottleneckBlock, Coarse, UpsamplingBlock

Block = BottleneckBlock | UpsamplingBlock


class Products(nn.Conv2d):
    """A block's result times each weight of the convolution that it is doubled for.

    Args:
        block: The block.
        conv: The convolution, of the doubled result and of others after it.
    """

    def __init__(self, block: Block, conv: nn.Conv2d) -> None:
        count, out = 2 * block.gru.channels, conv.out_channels
        super().__init__(count, 9 * out, 1, bias=False)
        weight = conv.weight[:, :count].permute(2, 3, 0, 1)
        self.weight = nn.Parameter(weight.reshape(9 * out, count, 1, 1))


class Bottom(nn.Module):
    """The encoder's last stages, LR-ASPP and the deepest block of the decoder.

    Args:
        coarse: Whose they are.
        conv: The first convolution of the block above.
    """

    def __init__(self, coarse: Coarse, conv: nn.Conv2d) -> None:
        super().__init__()
        self.backbone, self.aspp = coarse.decoder.backbone, coarse.decoder.aspp
        self.block = coarse.decoder.decoder.decode4
        self.products = Products(self.block, conv)

    def forward(self, r4: Tensor | None, f3: Tensor) -> tuple[Tensor, Tensor]:
        """Map a state and features at 1/8, (B, S, h, w), to a state and products."""
        x, state = self.block(self.aspp(self.backbone.deep(f3)), r4, 1)
        return state, self.products(x)


class Stage(nn.Module):
    """An upsampling block, but for what `doubling.convolve_doubled` does of it.

    Args:
        below: The block whose result is doubled.
        block: The block itself.
        conv: The first convolution of the block above.
    """

    def __init__(self, below: Block, block: UpsamplingBlock, conv: nn.Conv2d) -> None:
        super().__init__()
        merge: Any = block.conv[0]
        weight = merge.weight[:, 2 * below.gru.channels : -3]
        self.skip = nn.Conv2d(weight.shape[1], len(weight), 3, padding=1, bias=False)
        self.skip.weight = nn.Parameter(weight)
        self.gru = block.gru
        self.products = Products(block, conv)

    def forward(
        self, state: Tensor | None, skip: Tensor, sums: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run one step.

        Args:
            state: See `MattingNetwork.forward`.
            skip: Encoder features, (B, S, h, w).
            sums: Of doubled maps and picture, (B, C, h, w).

        Returns:
            The next state and products.
        """
        a, b = torch.relu(sums + self.skip(skip)).chunk(2, 1)
        b, state = self.gru(b, state, 1)
        return state, self.products(torch.cat([a, b], 1))


def of_picture(conv: nn.Conv2d) -> Floats:
    """What `convolve_doubled` needs of a convolution that takes the picture last."""
    weight = conv.weight[:, -3:].permute(2, 3, 1, 0).flatten(0, 2)
    added: Any = conv.bias
    return torch.cat([weight, added[None]]).detach().numpy()


class Staged(nn.Module):
    """All parts, from the deepest to the largest.

    Args:
        coarse: With batch norm folded away.

    Attributes:
        encoder: See `network.CoarseEncoder`.
        bottom: Gives r4, of the encoder's last features.
        stages: Give r3, r2 and r1.
        last: From the sums of the last block to hidden features.
        channels: Of r4, r3, r2 and r1.
        skips: Channels of the features that each stage takes.
        merges: What `convolve_doubled` needs before each of the stages, and `last`.
    """

    def __init__(self, coarse: Coarse) -> None:
        super().__init__()
        decoder = coarse.decoder.decoder
        blocks: list[Any] = [
            decoder.decode4, decoder.decode3, decoder.decode2, decoder.decode1
        ]  # fmt: skip
        convs = [block.conv[0] for block in (*blocks[1:], decoder.decode0)]
        self.encoder = coarse.encoder
        self.bottom = Bottom(coarse, convs[0])
        stages = [
            Stage(below, block, conv)
            for below, block, conv in zip(blocks, blocks[1:], convs[1:], strict=False)
        ]
        self.stages = nn.ModuleList(stages)
        self.skips = [stage.skip.in_channels for stage in stages]
        self.last = decoder.decode0.conv[3:]
        self.channels = [block.gru.channels for block in blocks]
        self.merges = [of_picture(conv) for conv in convs]
