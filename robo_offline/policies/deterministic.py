"""Deterministic: tanh(f(s)), with Gaussian noise for exploration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robo_offline.encoders import Encoder
from robo_offline.nets.layers import Init, mlp, uniform


class Deterministic(nn.Module):
    """One action (or chunk) per observation; `noise` is the std of what exploration adds."""

    def __init__(
        self,
        encoder: Encoder,
        action_shape: Sequence[int],
        hidden: Sequence[int],
        *,
        noise: float = 0.1,
        layer_norm: bool = False,
        dropout: float = 0.0,
        init: Init = uniform,
        last: Init | None = None,
        bias: float = 0.0,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ):
        super().__init__()
        self.encoder, self.noise = encoder, noise
        self.action_shape = torch.Size(action_shape)
        n_out = self.action_shape.numel()
        self.net = mlp(
            encoder.dim,
            hidden,
            n_out,
            layer_norm=layer_norm,
            dropout=dropout,
            init=init,
            last=last,
            bias=bias,
            activation=activation,
        )

    def mode(self, observation: Any) -> Tensor:  # (B, *action_shape)
        return self.net(self.encoder(observation)).tanh().unflatten(-1, self.action_shape)

    def sample(self, observation: Any) -> Tensor:
        action = self.mode(observation)
        return (action + self.noise * torch.randn_like(action)).clamp(-1, 1)
