"""The two image encoders, with the key names of the usual ImageNet checkpoints.

Both give four feature maps at 1/2, 1/4, 1/8 and 1/16 of the picture they are shown.
They know nothing of time, mattes or files.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _InvertedResidual(NamedTuple):
    """One row of the MobileNetV3-Large table (Howard et al. 2019, table 1)."""

    kernel: int
    expanded: int
    out: int
    squeezed: int  # 0: without squeeze and excitation
    activation: type[nn.Module]
    stride: int
    dilation: int


_HS, _RE = nn.Hardswish, nn.ReLU
# The last stage keeps its resolution: where the paper's table has stride 2 (row 13)
# the depthwise convolutions of rows 13 to 15 are dilated by 2 instead.
_MOBILENETV3_LARGE = (
    _InvertedResidual(3, 16, 16, 0, _RE, 1, 1),
    _InvertedResidual(3, 64, 24, 0, _RE, 2, 1),
    _InvertedResidual(3, 72, 24, 0, _RE, 1, 1),
    _InvertedResidual(5, 72, 40, 24, _RE, 2, 1),
    _InvertedResidual(5, 120, 40, 32, _RE, 1, 1),
    _InvertedResidual(5, 120, 40, 32, _RE, 1, 1),
    _InvertedResidual(3, 240, 80, 0, _HS, 2, 1),
    _InvertedResidual(3, 200, 80, 0, _HS, 1, 1),
    _InvertedResidual(3, 184, 80, 0, _HS, 1, 1),
    _InvertedResidual(3, 184, 80, 0, _HS, 1, 1),
    _InvertedResidual(3, 480, 112, 120, _HS, 1, 1),
    _InvertedResidual(3, 672, 112, 168, _HS, 1, 1),
    _InvertedResidual(5, 672, 160, 168, _HS, 2, 2),
    _InvertedResidual(5, 960, 160, 240, _HS, 1, 2),
    _InvertedResidual(5, 960, 160, 240, _HS, 1, 2),
)


def _conv_norm(
    channels: int,
    out: int,
    kernel: int,
    activation: type[nn.Module] | None,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    """Convolution, batch norm with MobileNetV3's constants, activation."""
    layers: list[nn.Module] = [
        nn.Conv2d(
            channels, out, kernel, stride, padding=(kernel - 1) // 2 * dilation,
            dilation=dilation, groups=groups, bias=False,
        ),
        nn.BatchNorm2d(out, eps=1e-3, momentum=0.01),
    ]  # fmt: skip
    if activation is not None:
        layers.append(activation(inplace=True))
    return nn.Sequential(*layers)


class SqueezeExcitation(nn.Module):
    """Reweights channels by a global summary of the picture.

    Source:
        Hu et al., Squeeze-and-Excitation Networks, 2018; the hard sigmoid is
        MobileNetV3's.
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scale each channel of (N, C, H, W) by its gate in [0, 1]."""
        gate = F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))
        return x * F.hardsigmoid(self.fc2(gate))


class InvertedResidual(nn.Module):
    """Expand, filter per channel, project; with a shortcut where shapes allow."""

    def __init__(self, channels: int, row: _InvertedResidual) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if row.expanded != channels:
            layers.append(_conv_norm(channels, row.expanded, 1, row.activation))
        stride = 1 if row.dilation > 1 else row.stride
        filtered = _conv_norm(
            row.expanded, row.expanded, row.kernel, row.activation, stride,
            row.dilation, groups=row.expanded,
        )  # fmt: skip
        layers.append(filtered)
        if row.squeezed:
            layers.append(SqueezeExcitation(row.expanded, row.squeezed))
        layers.append(_conv_norm(row.expanded, row.out, 1, None))
        self.block = nn.Sequential(*layers)
        # Judged by the table's stride: the dilated row 13 has no shortcut.
        self.shortcut = row.stride == 1 and channels == row.out

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H', W')."""
        y: Tensor = self.block(x)
        return x + y if self.shortcut else y


class Encoder(nn.Module):
    """An image encoder, which engines cut in two."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Map (N, 3, H, W), RGB in [0, 1], to features at 1/2, 1/4, 1/8 and 1/16."""
        f1, f2, f3 = self.shallow(x)
        return f1, f2, f3, self.deep(f3)

    def shallow(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features at 1/2, 1/4 and 1/8."""
        raise NotImplementedError

    def deep(self, f3: Tensor) -> Tensor:
        """Return the features at 1/16 of those at 1/8."""
        raise NotImplementedError


class MobileNetV3Encoder(Encoder):
    """MobileNetV3-Large with a dilated last stage.

    Source:
        Howard et al., Searching for MobileNetV3, 2019.
    """

    mean: Tensor
    std: Tensor
    channels = (16, 24, 40, 960)
    imagenet_file = "mobilenet_v3_large-8738ca79.pth"

    def __init__(self) -> None:
        super().__init__()
        features: list[nn.Module] = [_conv_norm(3, 16, 3, nn.Hardswish, stride=2)]
        channels = 16
        for row in _MOBILENETV3_LARGE:
            features.append(InvertedResidual(channels, row))
            channels = row.out
        features.append(_conv_norm(channels, 960, 1, nn.Hardswish))
        self.features = nn.Sequential(*features)
        # Buffers, so that they follow the module's device and dtype; not persistent,
        # since the published checkpoints do not hold them.
        mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def shallow(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalise pictures, and return their features at 1/2, 1/4 and 1/8."""
        x = (x - self.mean) / self.std
        taps: list[Tensor] = []
        for index, layer in enumerate(self.features):
            if index <= 6:
                x = layer(x)
                if index in (1, 3, 6):
                    taps.append(x)
        return taps[0], taps[1], taps[2]

    def deep(self, f3: Tensor) -> Tensor:
        """Return the features at 1/16 of those at 1/8."""
        for index, layer in enumerate(self.features):
            if index > 6:
                f3 = layer(f3)
        return f3


class Bottleneck(nn.Module):
    """ResNet v1.5 bottleneck: the 3x3 convolution carries the stride."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        out = width * self.expansion
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(
            width, width, 3, stride, padding=dilation, dilation=dilation, bias=False
        )
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H', W')."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def _layer(
    channels: int, width: int, blocks: int, stride: int, dilation: int
) -> nn.Sequential:
    """A ResNet stage; its first block is never dilated."""
    layers = [Bottleneck(channels, width, stride, 1)]
    for _ in range(1, blocks):
        layers.append(Bottleneck(width * Bottleneck.expansion, width, 1, dilation))
    return nn.Sequential(*layers)


class ResNet50Encoder(Encoder):
    """ResNet-50 v1.5 with a dilated last stage. It does not normalise its input.

    Source:
        He et al., Deep Residual Learning for Image Recognition, 2016.
    """

    channels = (64, 256, 512, 2048)
    imagenet_file = "resnet50-0676ba61.pth"

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _layer(64, 64, 3, 1, 1)
        self.layer2 = _layer(256, 128, 4, 2, 1)
        self.layer3 = _layer(512, 256, 6, 2, 1)
        self.layer4 = _layer(1024, 512, 3, 1, 2)

    def shallow(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features at 1/2, 1/4 and 1/8."""
        f1 = F.relu(self.bn1(self.conv1(x)))
        f2 = self.layer1(F.max_pool2d(f1, 3, 2, padding=1))
        return f1, f2, self.layer2(f2)

    def deep(self, f3: Tensor) -> Tensor:
        """Return the features at 1/16 of those at 1/8."""
        y: Tensor = self.layer4(self.layer3(f3))
        return y


def load_imagenet(encoder: MobileNetV3Encoder | ResNet50Encoder) -> None:
    """Start an encoder from the public ImageNet classification checkpoint.

    It is fetched into `torch.hub`'s folder on first use, and its hash is checked. The
    classifier in it is dropped.
    """
    address = f"https://download.pytorch.org/models/{encoder.imagenet_file}"
    weights = torch.hub.load_state_dict_from_url(
        address, map_location="cpu", check_hash=True, weights_only=True
    )
    heads = ("classifier.", "fc.")
    encoder.load_state_dict(
        {key: value for key, value in weights.items() if not key.startswith(heads)}
    )
