"""Bilinear critics: how well a goal fits a state and an action, by the product of embeddings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from robo_offline.encoders import Encoder
from robo_offline.nets.critic import Critic
from robo_offline.nets.goal import VALUE
from robo_offline.nets.layers import mlp


class Bilinear(Critic):
    """f(s, a, g) = phi(s, a) psi(g) / sqrt(D) of `num` members: (E, B), or (E, B, K)."""

    def __init__(
        self,
        encoder: Encoder,
        goal_encoder: Encoder,
        action_shape: Sequence[int],
        hidden: Sequence[int],
        num: int,
        dim: int,
    ):
        """`encoder` sees the state alone, `goal_encoder` the goal alone; D is `dim`."""
        super().__init__(encoder, action_shape, hidden, num, n_out=dim, **VALUE)
        self.goal_encoder = goal_encoder = goal_encoder.privileged()
        self.goal_net = mlp(goal_encoder.dim, hidden, dim, members=num, **VALUE)
        self.scale = 1 / math.sqrt(dim)

    def pairs(self, observation: Any, action: Tensor) -> Tensor:
        """Evaluate every state and action (rows) at the goal of every row: (E, B, B)."""
        return self.scale * self._outputs(self.net, observation, action) @ self.goal(observation).mT

    def goal(self, observation: Any) -> Tensor:
        """psi of the goals within some observations: (E, B, D)."""
        return self.goal_net(self.goal_encoder(observation))

    def _evaluate(
        self, net: Callable[[Tensor], Tensor], observation: Any, action: Tensor
    ) -> Tensor:
        phi = self._outputs(net, observation, action)  # (E, B, D) or (E, B, K, D)
        psi = self.goal(observation)[: phi.shape[0]]
        return self.scale * (phi * (psi if phi.dim() == 3 else psi.unsqueeze(2))).sum(-1)
