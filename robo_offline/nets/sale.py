"""SALE: learned embeddings of state and of state and action, and networks that read them.

Fujimoto et al. 2023 (arXiv 2306.02451). Who reads an embedding does not own it: its weights are
neither among the reader's parameters nor in its state.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from robo_offline.encoders import Encoder
from robo_offline.nets.layers import Dense, mlp

M = TypeVar("M", bound=nn.Module)


def avg_l1_norm(x: Tensor) -> Tensor:
    """Divide by the mean magnitude over the last axis."""
    return x / x.abs().mean(-1, keepdim=True).clamp(min=1e-8)


class SALE(nn.Module):
    """Embeddings f(s) and g(f(s), a), each (B, dim)."""

    def __init__(
        self, encoder: Encoder, action_shape: Sequence[int], hidden: Sequence[int], dim: int
    ):
        super().__init__()
        self.encoder, self.dim = encoder, dim
        size = torch.Size(action_shape).numel()
        self.of_state = mlp(encoder.dim, hidden, dim, activation=nn.ELU)
        self.of_action = mlp(dim + size, hidden, dim, activation=nn.ELU)

    def state(self, observation: Any) -> Tensor:
        return avg_l1_norm(self.of_state(self.encoder(observation)))

    def state_action(self, z: Tensor, action: Tensor) -> Tensor:
        """Embed flat actions (B, A) together with the state's own embedding (B, dim)."""
        return self.of_action(torch.cat([z, action], -1))


class Embedded(Encoder):
    """A feature of one's own beside the embedding of the state, for a policy head."""

    def __init__(self, encoder: Encoder, sale: SALE, width: int):
        super().__init__()
        self.encoder, self.first = encoder, Dense(encoder.dim, width)
        self.sale = (sale,)  # in a tuple: read, not owned
        self.dim = width + sale.dim

    def forward(self, observation: Any) -> Tensor:
        own = avg_l1_norm(self.first(self.encoder(observation)))
        return torch.cat([own, self.sale[0].state(observation)], -1)


class EmbeddedCritic(nn.Module):
    """Q(s, a) from (s, a) and both embeddings, of `num` members: (E, B), or (E, B, K)."""

    def __init__(
        self,
        encoder: Encoder,
        sale: SALE,
        action_shape: Sequence[int],
        hidden: Sequence[int],
        num: int,
    ):
        super().__init__()
        self.encoder = encoder = encoder.privileged()
        self.sale = (sale,)  # in a tuple: read, not owned
        self.action_shape = torch.Size(action_shape)
        self.first = Dense(encoder.dim + self.action_shape.numel(), hidden[0], num)
        self.net = mlp(hidden[0] + 2 * sale.dim, hidden, 1, members=num, activation=nn.ELU)

    def forward(self, observation: Any, action: Tensor) -> Tensor:
        sale, action = self.sale[0], action.flatten(-len(self.action_shape))  # (B, A), (B, K, A)
        feature, z = self.encoder(observation), sale.state(observation)  # (B, D), (B, Z)
        if action.dim() == 3:
            feature, z = (x.unsqueeze(1).expand(-1, action.shape[1], -1) for x in (feature, z))
        rows, lead = torch.cat([feature, action], -1).flatten(0, -2), action.shape[:-1]
        z, action = z.flatten(0, -2), action.flatten(0, -2)
        own = avg_l1_norm(self.first(rows))  # (E, B, D)
        both = torch.cat([sale.state_action(z, action), z], -1)  # (B, 2 Z)
        inputs = torch.cat([own, both.expand(len(own), -1, -1)], -1)
        return self.net(inputs).squeeze(-1).unflatten(1, lead)


def target_that_reads(module: M, sale: SALE, instead: SALE) -> M:
    """Return the slow copy of a module that reads another embedding than the module does."""
    return copy.deepcopy(module, {id(sale): instead}).requires_grad_(False)
