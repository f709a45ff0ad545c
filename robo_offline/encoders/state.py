"""State: flatten, concatenate and normalise the vector leaves of an observation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from robo_offline.encoders import Encoder
from robo_offline.errors import UserError
from robo_offline.spec import Spec

EPSILON = 1e-3  # added to the deviation, as TD3+BC and CORL do; keeps constant entries finite
Statistics = Mapping[str, tuple[Tensor, Tensor]]  # leaf name -> (mean, std)


class State(Encoder):
    """(B, D) or nested vector leaves -> normalised feature (B, dim).

    The statistics live here as buffers, so they are saved, exported and moved with every network:
    outside of an encoder observations are always raw.
    """

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, spec: Spec, statistics: Statistics | None = None):
        super().__init__()
        leaves = {
            name: (key, leaf.shape.numel())
            for name, (key, leaf) in _named(spec).items()
            if leaf.dtype.is_floating_point
        }
        if not leaves:
            raise UserError(
                "there is no vector among what is observed",
                found=", ".join(_named(spec)),
                remedy="encoder=impala, or another that looks at images",
            )
        self.keys = [key for key, _ in leaves.values()]
        self.dim = sum(size for _, size in leaves.values())
        mean, std = torch.zeros(self.dim), torch.ones(self.dim) - EPSILON
        if statistics is not None:
            mean = torch.cat([statistics[name][0].float().flatten() for name in leaves])
            std = torch.cat([statistics[name][1].float().flatten() for name in leaves])
        self.register_buffer("mean", mean)
        self.register_buffer("inverse_std", 1 / (std + EPSILON))

    def forward(self, observation: Any) -> Tensor:
        if isinstance(observation, TensorDictBase):
            leaves = [observation[key[1:]] for key in self.keys]
            observation = torch.cat([leaf.flatten(1) for leaf in leaves], -1)
        return (observation - self.mean) * self.inverse_std


def _named(spec: Spec) -> dict[str, tuple[Any, Any]]:
    leaves = spec.observation.items(include_nested=True, leaves_only=True)
    return {".".join(k) if isinstance(k, tuple) else k: (k, leaf) for k, leaf in leaves}
