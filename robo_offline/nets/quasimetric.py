"""Quasimetrics: distances that obey the triangle inequality and need not be the same both ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robo_offline.encoders import Encoder
from robo_offline.nets.goal import VALUE
from robo_offline.nets.layers import mlp


class IQE(nn.Module):
    """Interval quasimetric embedding: d(x, y) of latents (..., D), in `components` equal parts.

    A part's distance is the length that the intervals [x_i, max(x_i, y_i)] cover together; the
    whole is a learned mixture of the parts' mean and maximum. Wang, Isola 2022 (arXiv 2211.15120).
    """

    def __init__(self, components: int):
        super().__init__()
        self.components = components
        self.mixture = nn.Parameter(torch.zeros(()))  # logit of the mean's share

    def forward(self, x: Tensor, y: Tensor) -> Tensor:  # (...,)
        start, end = (part.unflatten(-1, (self.components, -1)) for part in (x, x.maximum(y)))
        point, order = torch.cat([start, end], -1).sort(-1)
        begins = order < start.shape[-1]
        open_after = torch.where(begins, 1, -1).cumsum(-1)  # intervals open behind each point
        covered = (point.diff(dim=-1) * (open_after[..., :-1] > 0)).sum(-1)  # (..., components)
        share = self.mixture.sigmoid()
        return share * covered.mean(-1) + (1 - share) * covered.amax(-1)


class Quasimetric(nn.Module):
    """d(s, g) by embedding both in one latent space, and where an action leads in it."""

    def __init__(
        self,
        encoder: Encoder,
        action_size: int,
        hidden: Sequence[int],
        dim: int,
        components: int,
    ):
        """`encoder` sees a state, and a goal as if it were one; latents have `dim` numbers."""
        super().__init__()
        self.encoder = encoder = encoder.privileged()
        self.net = mlp(encoder.dim, hidden, dim, **VALUE)
        self.dynamics = mlp(dim + action_size, hidden, dim, **VALUE)
        self.distance = IQE(components)

    def forward(self, observation: Any, goal: Any) -> Tensor:
        """Distances (B,) to goals that are whole observations."""
        return self.distance(self.embed(observation), self.embed(goal))

    def embed(self, observation: Any) -> Tensor:  # (B, D)
        return self.net(self.encoder(observation))

    def predict(self, z: Tensor, action: Tensor) -> Tensor:
        """Return the latent that actions (B, *action_shape) lead to from latents (B, D)."""
        return z + self.dynamics(torch.cat([z, action.flatten(1)], -1))
