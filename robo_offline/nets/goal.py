"""Networks towards goals: a goal is a leaf of the observation, and one may put another there.

Shapes are those of OGBench (Park, Frans, Eysenbach, Levine, ICLR 2025, arXiv 2410.20092).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from robo_offline.encoders import Encoder
from robo_offline.nets.layers import fan_avg, mlp, xavier
from robo_offline.spec import GOAL

GELU = partial(nn.GELU, approximate="tanh")  # JAX's default form
# LayerNorm behind the activation, and in what estimates values alone.
VALUE: dict[str, Any] = {
    "layer_norm": True,
    "norm_after": True,
    "init": xavier,
    "activation": GELU,
}
ACTOR: dict[str, Any] = {"init": xavier, "last": fan_avg(1e-2), "activation": GELU}


def toward(observation: Any, goal: Any) -> Any:
    """Return the same observations with another goal in them; nothing is copied."""
    return observation.copy().set(GOAL, goal)


def on_sphere(x: Tensor) -> Tensor:
    """Give vectors (..., D) the length sqrt(D), as if their entries had a variance of one."""
    return normalize(x, dim=-1) * math.sqrt(x.shape[-1])


class Representation(nn.Module):
    """What a goal means from where one is: (B, dim), of length sqrt(dim)."""

    def __init__(self, encoder: Encoder, hidden: Sequence[int], dim: int):
        super().__init__()
        self.encoder, self.dim = encoder, dim
        self.net = mlp(encoder.dim, hidden, dim, **VALUE)

    def forward(self, observation: Any) -> Tensor:
        return on_sphere(self.net(self.encoder(observation)))


class Beside(Encoder):
    """A feature of the observation beside a vector that is given together with it."""

    def __init__(self, encoder: Encoder, dim: int):
        super().__init__()
        self.encoder = encoder
        self.dim = encoder.dim + dim

    def forward(self, both: tuple[Any, Tensor]) -> Tensor:
        observation, given = both
        return torch.cat([self.encoder(observation), given], -1)


class RepresentedValue(nn.Module):
    """V(s, z) of `num` members, (E, B), where z represents the goal."""

    def __init__(
        self, encoder: Encoder, representation: Representation, hidden: Sequence[int], num: int
    ):
        super().__init__()
        self.encoder = encoder = encoder.privileged()
        self.representation = representation
        self.net = mlp(encoder.dim + representation.dim, hidden, 1, members=num, **VALUE)

    def forward(self, observation: Any) -> Tensor:
        return self.at(observation, self.representation(observation))

    def at(self, observation: Any, z: Tensor) -> Tensor:
        """V of states and goals whose representations (B, dim) are given."""
        return self.net(torch.cat([self.encoder(observation), z], -1)).squeeze(-1)
