"""Critics and values: an observation (and an action) in, one number per member out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robo_offline.encoders import Encoder
from robo_offline.nets.layers import Init, mlp, uniform


class Value(nn.Module):
    """V(s): (B,)."""

    def __init__(
        self,
        encoder: Encoder,
        hidden: Sequence[int],
        *,
        layer_norm: bool = False,
        init: Init = uniform,
    ):
        super().__init__()
        self.encoder = encoder
        self.net = mlp(encoder.dim, hidden, 1, layer_norm=layer_norm, init=init)

    def forward(self, observation: Any) -> Tensor:
        return self.net(self.encoder(observation)).squeeze(-1)


class Critic(nn.Module):
    """Q(s, a) of `num` members: (E, B), or (E, B, K) for K candidate actions per observation.

    An action of the spec's shape, (A,) or a chunk (H, A), is one flat input.
    """

    def __init__(
        self,
        encoder: Encoder,
        action_shape: Sequence[int],
        hidden: Sequence[int],
        num: int,
        *,
        layer_norm: bool = False,
        init: Init = uniform,
    ):
        super().__init__()
        self.encoder = encoder
        self.action_shape = torch.Size(action_shape)
        n_in = encoder.dim + self.action_shape.numel()
        self.net = mlp(n_in, hidden, 1, members=num, layer_norm=layer_norm, init=init)

    def forward(self, observation: Any, action: Tensor) -> Tensor:
        event = len(self.action_shape)
        action = action.flatten(-event)  # (B, A) or (B, K, A)
        feature = self.encoder(observation)  # (B, D)
        if action.dim() == 3:
            feature = feature.unsqueeze(1).expand(-1, action.shape[1], -1)
        rows = torch.cat([feature, action], -1)
        q = self.net(rows.flatten(0, -2)).squeeze(-1)  # (E, B * K)
        return q.unflatten(1, rows.shape[:-1])
