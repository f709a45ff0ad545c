"""Critics and values: an observation (and an action) in, one number per member out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from robo_offline.encoders import Encoder
from robo_offline.nets.layers import Init, mlp, uniform


class Value(nn.Module):
    """V(s): (B,), or (E, B) of `num` members."""

    def __init__(
        self,
        encoder: Encoder,
        hidden: Sequence[int],
        *,
        num: int | None = None,
        layer_norm: bool = False,
        norm_after: bool = False,
        init: Init = uniform,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ):
        super().__init__()
        self.encoder = encoder = encoder.privileged()
        self.net = mlp(
            encoder.dim,
            hidden,
            1,
            members=num,
            layer_norm=layer_norm,
            norm_after=norm_after,
            init=init,
            activation=activation,
        )

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
        norm_after: bool = False,
        dropout: float = 0.0,
        init: Init = uniform,
        last: Init | None = None,
        bias: float = 0.0,
        n_out: int = 1,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ):
        super().__init__()
        self.encoder = encoder = encoder.privileged()
        self.action_shape = torch.Size(action_shape)
        n_in = encoder.dim + self.action_shape.numel()
        self.net = mlp(
            n_in,
            hidden,
            n_out,
            members=num,
            layer_norm=layer_norm,
            norm_after=norm_after,
            dropout=dropout,
            init=init,
            last=last,
            bias=bias,
            activation=activation,
        )

    def forward(self, observation: Any, action: Tensor) -> Tensor:
        return self._evaluate(self.net, observation, action)

    def each(self, observation: Any, action: Tensor) -> Tensor:
        """Evaluate every member at an action of its own: (E, B, *action_shape) -> (E, B)."""
        action = action.flatten(-len(self.action_shape))
        feature = self.encoder(observation).expand(action.shape[0], -1, -1)
        return self.net(torch.cat([feature, action], -1)).squeeze(-1)

    def first(self, observation: Any, action: Tensor) -> Tensor:
        """Evaluate the first member and no other: (B,), or (B, K) for K candidates."""
        weights = {name: value[:1] for name, value in self.net.named_parameters()}
        return self._evaluate(
            lambda rows: functional_call(self.net, weights, (rows,)), observation, action
        )[0]

    def _evaluate(
        self, net: Callable[[Tensor], Tensor], observation: Any, action: Tensor
    ) -> Tensor:
        return self._outputs(net, observation, action).squeeze(-1)

    def _outputs(self, net: Callable[[Tensor], Tensor], observation: Any, action: Tensor) -> Tensor:
        event = len(self.action_shape)
        action = action.flatten(-event)  # (B, A) or (B, K, A)
        feature = self.encoder(observation)  # (B, D)
        if action.dim() == 3:
            feature = feature.unsqueeze(1).expand(-1, action.shape[1], -1)
        rows = torch.cat([feature, action], -1)
        return net(rows.flatten(0, -2)).unflatten(1, rows.shape[:-1])  # (E, B * K, n_out), unfolded
