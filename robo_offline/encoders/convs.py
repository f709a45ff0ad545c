"""Convs: the small convolutional networks that learn from scratch beside a policy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robo_offline.errors import UserError


class DrQ(nn.Sequential):
    """Four 3x3 convolutions of 32 filters, the first of stride 2, each with a ReLU.

    DrQ-v2 (Yarats et al. 2021, arXiv 2107.09645), and before it SAC-AE (arXiv 1910.01741), whose
    encoder differs in how pixels are scaled alone: `view.mean`. Weights begin orthogonal.
    """

    def __init__(self, channels: int, *, width: int, layers: int):
        convs = [
            nn.Conv2d(width if layer else channels, width, 3, stride=1 if layer else 2)
            for layer in range(layers)
        ]
        for conv in convs:
            nn.init.orthogonal_(conv.weight, gain=math.sqrt(2))
            _zero(conv)
        super().__init__(*(part for conv in convs for part in (conv, nn.ReLU())))


class Impala(nn.Module):
    """Stacks of convolution, pooling and residual blocks; a ReLU at the end.

    Espeholt et al. 2018 (arXiv 1802.01561), in the sizes of OGBench: the small one has one block in
    each of three stacks of 16, 32 and 32 filters. It pads as JAX does; weights begin as Glorot's.
    """

    def __init__(self, channels: int, *, widths: Sequence[int], blocks: int):
        super().__init__()
        stacks = []
        for width in widths:
            stacks.append(Stack(channels, width, blocks))
            channels = width
        self.stacks = nn.Sequential(*stacks)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.xavier_uniform_(part.weight)
                _zero(part)

    def forward(self, image: Tensor) -> Tensor:
        return self.stacks(image).relu()


class Stack(nn.Module):
    """A convolution, pooling to half the size, and residual blocks."""

    def __init__(self, channels: int, width: int, blocks: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1),
            )
            for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, width, ceil(H / 2), ceil(W / 2))
        x = halved(self.conv(x))
        for block in self.blocks:
            x = x + block(x)
        return x


def halved(x: Tensor) -> Tensor:
    """Take the maximum of 3x3 at every second pixel, padded as `SAME`: more behind than before."""
    before = (x.shape[-2] % 2, x.shape[-1] % 2)
    return nn.functional.max_pool2d(x, 3, stride=2, padding=before, ceil_mode=True)


def shape_after(network: nn.Module, shape: Sequence[int]) -> tuple[int, int, int]:
    """Return (C, H, W) of what a network makes of an image. Raises UserError for one too small."""
    mode = network.training
    try:
        with torch.no_grad():  # evaluating: a probe must leave no trace in running statistics
            found = network.eval()(torch.zeros(1, *shape)).shape
    except RuntimeError as error:
        raise UserError(
            f"images are too small for {type(network).__name__}",
            expected="larger images, or fewer layers that make them smaller",
            found=f"{tuple(shape)}: {str(error).splitlines()[0]}",
        ) from error
    finally:
        network.train(mode)
    return found[1], found[2], found[3]


def _zero(conv: nn.Conv2d) -> None:
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
