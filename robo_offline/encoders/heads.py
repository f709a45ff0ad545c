"""Heads: from a map of features (B, C, h, w) to one feature (B, dim)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Trunk(nn.Sequential):
    """Flatten, Linear, LayerNorm, tanh: DrQ-v2's trunk and the end of SAC-AE's encoder."""

    def __init__(self, shape: Sequence[int], *, dim: int):
        linear = nn.Linear(math.prod(shape), dim)
        nn.init.orthogonal_(linear.weight)
        nn.init.zeros_(linear.bias)
        super().__init__(nn.Flatten(), linear, nn.LayerNorm(dim), nn.Tanh())
        self.dim = dim


class Wide(nn.Sequential):
    """Flatten, then layers of Linear, GELU and where asked for LayerNorm: IMPALA's, in OGBench."""

    def __init__(self, shape: Sequence[int], *, hidden: Sequence[int], layer_norm: bool):
        layers: list[nn.Module] = [nn.Flatten()]
        dim = math.prod(shape)
        for width in hidden:
            linear = nn.Linear(dim, width)
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.GELU(), *([nn.LayerNorm(width)] if layer_norm else [])]
            dim = width
        super().__init__(*layers)
        self.dim = dim


class Keypoints(nn.Module):
    """Where in the image each of `num` learned filters looks: spatial softmax, then a Linear.

    Levine et al. 2016 (arXiv 1504.00702) with the sizes of robomimic (arXiv 2108.03298). A keypoint
    is the expected place (x, y) in [-1, 1] under a softmax over the map.
    """

    places: Tensor

    def __init__(self, shape: Sequence[int], *, num: int, dim: int):
        super().__init__()
        channels, height, width = shape
        self.filters, self.dim = nn.Conv2d(channels, num, 1), dim
        self.out = nn.Linear(2 * num, dim)
        y, x = torch.meshgrid(_ends(height), _ends(width), indexing="ij")
        self.register_buffer("places", torch.stack([x, y], -1).flatten(0, 1), persistent=False)

    def keypoints(self, x: Tensor) -> Tensor:
        """Return the expected places: (B, num, 2) as (x, y)."""
        return self.filters(x).flatten(2).softmax(-1) @ self.places

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.keypoints(x).flatten(1))


class Embeddings(nn.Module):
    """Weigh the places of each channel by `num` learned kernels: SERL's spatial embeddings.

    Luo et al. 2024 (arXiv 2401.16013, 2410.21845): dropout, Linear, LayerNorm and tanh behind.
    """

    def __init__(self, shape: Sequence[int], *, num: int, dropout: float, dim: int):
        super().__init__()
        channels, height, width = shape
        self.kernel = nn.Parameter(torch.empty(channels, num, height * width))
        fan_in = height * width
        nn.init.normal_(self.kernel, std=1 / math.sqrt(fan_in))
        self.out = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(channels * num, dim), nn.LayerNorm(dim), nn.Tanh()
        )
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        weighed = torch.einsum("bcp,ckp->bck", x.flatten(2), self.kernel)  # (B, C, K)
        return self.out(weighed.flatten(1))


def _ends(num: int) -> Tensor:
    return torch.linspace(-1, 1, num) if num > 1 else torch.zeros(1)
