"""Optimisers: plain Adam per module, and the cosine decay of a phase."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from robo_offline.errors import UserError, nearest


def adam(parameters: Sequence[nn.Parameter], lr: float) -> torch.optim.Adam:
    """Adam without weight decay, in its fused form where every parameter allows it."""
    return torch.optim.Adam(parameters, lr=lr, fused=all(p.is_floating_point() for p in parameters))


def learning_rates(names: Sequence[str], lr: Mapping[str, float]) -> dict[str, float]:
    """Spread `lr` over modules; `default` serves those not named."""
    for name in lr:
        if name != "default" and name not in names:
            raise UserError(
                f"lr names '{name}', which is not trained",
                remedy=nearest(name, [*names, "default"]),
            )
    try:
        return {name: lr[name] if name in lr else lr["default"] for name in names}
    except KeyError as error:
        raise UserError("lr has no default", expected="default, or one rate per module") from error


def cosine(progress: float) -> float:
    """Factor 1 at the start of a phase, 0 at its end; stays 0 beyond (never climbs back)."""
    return 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
