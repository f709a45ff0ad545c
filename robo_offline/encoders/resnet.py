"""ResNet: residual networks of any depth, with group norm, or batch norm where weights have it.

He et al. 2016 (arXiv 1512.03385). Weights have torchvision's names, as have R3M's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

Norm = Callable[[int], nn.Module]


def groups_of(channels: int) -> Norm:
    """Group norm with groups of so many channels: 16 in Diffusion Policy."""
    return partial(_groups_of, channels)


def _groups_of(channels: int, width: int) -> nn.Module:
    return nn.GroupNorm(max(1, width // channels), width)


def groups(num: int) -> Norm:
    """Group norm with so many groups: 4 in SERL's ResNet-10."""
    return partial(nn.GroupNorm, num)


def batch() -> Norm:
    """Batch norm, for weights that were trained with it."""
    return nn.BatchNorm2d


class ResNet(nn.Module):
    """From images (B, C, H, W) to the map behind the last stage, or its mean."""

    def __init__(
        self,
        channels: int,
        *,
        blocks: Sequence[int],
        width: int,
        bottleneck: bool,
        norm: Norm,
        average: bool = False,
    ):
        super().__init__()
        self.average = average
        self.conv1 = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = norm(width)
        make, n_in = (Bottleneck if bottleneck else Basic), width
        self.stages = len(blocks)
        for stage, num in enumerate(blocks):
            out = width * 2**stage
            layers: list[nn.Module] = []
            for block in range(num):
                layers.append(make(n_in, out, 2 if stage and not block else 1, norm))
                n_in = out * make.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        x = nn.functional.max_pool2d(x, 3, stride=2, padding=1)
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return x.mean((-2, -1), keepdim=True) if self.average else x


class Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, n_in: int, width: int, stride: int, norm: Norm):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = norm(width)
        self.downsample = _shortcut(n_in, width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(y)) + self.downsample(x)).relu()


class Bottleneck(nn.Module):
    """A 3x3 convolution between two of 1x1, and a shortcut."""

    expansion = 4

    def __init__(self, n_in: int, width: int, stride: int, norm: Norm):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = norm(4 * width)
        self.downsample = _shortcut(n_in, 4 * width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        return (self.bn3(self.conv3(y)) + self.downsample(x)).relu()


def _shortcut(n_in: int, n_out: int, stride: int, norm: Norm) -> nn.Module:
    if stride == 1 and n_in == n_out:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride=stride, bias=False), norm(n_out))
