"""The one place where the network is cut into parts, for engines and exports."""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rematte.network.matting_network import ConvGRU, MattingNetwork

Module = TypeVar("Module", bound=nn.Module)


class CoarseEncoder(nn.Module):
    """The encoder of a network without its last stages; shares the parameters."""

    def __init__(self, network: MattingNetwork) -> None:
        super().__init__()
        self.backbone = network.backbone

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map (B, 3, h, w) in [0, 1] to features at 1/2, 1/4 and 1/8."""
        return self.backbone.shallow(picture)


class CoarseDecoder(nn.Module):
    """The encoder's last stages, LR-ASPP and the decoder, for one frame.

    It comes after `CoarseEncoder` and shares the network's parameters.
    """

    def __init__(self, network: MattingNetwork) -> None:
        super().__init__()
        self.backbone = network.backbone
        self.aspp = network.aspp
        self.decoder = network.decoder

    def forward(
        self,
        picture: Tensor,
        f1: Tensor,
        f2: Tensor,
        f3: Tensor,
        r1: Tensor | None,
        r2: Tensor | None,
        r3: Tensor | None,
        r4: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Run one step over downsampled frames (B, 3, h, w) in [0, 1].

        `f1` to `f3` are the encoder's features; states are None at the start.

        Returns:
            Hidden features (B, 16, h, w) and the new states.
        """
        f4 = self.aspp(self.backbone.deep(f3))
        y: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] = self.decoder(
            picture, (f1, f2, f3, f4), (r1, r2, r3, r4), 1
        )
        return y


class CoarseHead(nn.Module):
    """The projection and the fit of the guided filter, after `CoarseDecoder`.

    It is a separate part, since the filter subtracts nearly equal numbers, for which
    half precision does not suffice; it does for everything else.

    Args:
        network: The network that it shares parameters with.
        refined: Whether the frame is larger than the picture, so that the guided
            filter is needed.
    """

    def __init__(self, network: MattingNetwork, refined: bool) -> None:
        super().__init__()
        self.project_mat = network.project_mat
        self.refiner = network.refiner
        self.refined = refined

    def forward(self, picture: Tensor, hidden: Tensor) -> Tensor:
        """Fit the filter to the picture and the decoder's features, both (B, C, h, w).

        Returns:
            The slopes and intercepts of `refine`, (B, 8, h, w); without the guided
            filter, the foreground residual and alpha themselves, (B, 4, h, w).
        """
        maps: Tensor = self.project_mat(hidden)
        if self.refined:
            maps = torch.cat(self.refiner(picture, maps, hidden), 1)
        return maps


class Coarse(nn.Module):
    """The part of a network that runs at the downsampled size, for one frame.

    The rest, `refine` and clamping, is a line of arithmetic per pixel. This is the part
    that runtimes get: its input is small, and nothing in it depends on the ratio. The
    arguments are those of `CoarseHead`; `states` holds the channels of r1 to r4.
    """

    def __init__(self, network: MattingNetwork, refined: bool) -> None:
        super().__init__()
        self.encoder = CoarseEncoder(network)
        self.decoder = CoarseDecoder(network)
        self.head = CoarseHead(network, refined)
        self.states = [unit.channels for unit in recurrent_units(network)]

    def forward(
        self,
        picture: Tensor,
        r1: Tensor | None,
        r2: Tensor | None,
        r3: Tensor | None,
        r4: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Run one step; arguments as in `CoarseDecoder`.

        Returns:
            The maps of `CoarseHead` and the new states.
        """
        f1, f2, f3 = self.encoder(picture)
        hidden, r1, r2, r3, r4 = self.decoder(picture, f1, f2, f3, r1, r2, r3, r4)
        return self.head(picture, hidden), r1, r2, r3, r4


def recurrent_units(network: MattingNetwork) -> list[ConvGRU]:
    """Return the units whose states are r1 to r4."""
    decoder = network.decoder
    blocks = decoder.decode1, decoder.decode2, decoder.decode3, decoder.decode4
    return [block.gru for block in blocks]


def folded(module: Module) -> Module:
    """Copy a module, with every batch norm folded into the convolution before it."""
    module = copy.deepcopy(module).eval()
    for parent in module.modules():
        before: tuple[str, nn.Module] | None = None
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d) and before is not None:
                position, conv = before
                if isinstance(conv, nn.Conv2d):
                    setattr(parent, position, fuse_conv_bn_eval(conv, child))
                    setattr(parent, name, nn.Identity())
            before = name, child
    return module
