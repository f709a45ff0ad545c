"""Divergence: values that no reward can explain stop a run, with the cause that fits.

The criterion for the cause is SEEM (Yue, Lu, Kang, Song, Huang 2023, arXiv 2310.04411): whether one
step towards the bootstrapped target raises the target by more than the value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from robo_offline.algorithm import Algorithm
from robo_offline.errors import UserError
from robo_offline.schema import Batch

FACTOR = 10.0  # over-estimation beyond this many times the largest return is no accident
ROWS = 64  # of the batch that the criterion looks at; its cost grows with their square


class Diverged(UserError):
    """The run has left what can be learned from; its last checkpoint has not."""


def largest_return(rewards: Tensor, discount: float) -> float:
    """What rewards of this size can add up to at most; infinite without a discount.

    One is added to the size, for methods that count entropy as reward.
    """
    size = float(rewards.abs().max()) if len(rewards) else 0.0
    return (size + 1) / (1 - discount) if discount < 1 else math.inf


def problem(metrics: Mapping[str, float], bound: float) -> str | None:
    """Name the first metric that shows divergence, or None."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            return f"{name} is {value}"
    for name, value in metrics.items():
        if name.endswith("critic/q") and abs(value) > FACTOR * bound:
            return f"{name} is {value:.4g}; all rewards together can be {bound:.4g} at most"
    return None


def explain(algo: Algorithm, batch: Batch, found: str, where: str) -> Diverged:
    """Make the error that says what happened, why, and what to try."""
    batch = batch.to(next(algo.parameters()).device)
    finite = all(bool(value.isfinite().all()) for value in batch.values(True, True))
    score = seem(algo, batch) if finite else None
    if not finite:
        why = "the batch itself holds non-finite numbers: robo-offline data doctor DATASET"
    elif score is not None and score > 0:
        why = (
            f"the critic feeds on its own extrapolation (SEEM {score:.2g} > 0): LayerNorm in the "
            "critics (algo.layer_norm=true where there is that knob, or algo=rlpd, algo=rebrac), "
            "or a method that stays nearer to the data"
        )
    elif score is not None:
        why = (
            f"bootstrapping by itself contracts (SEEM {score:.2g}): look at the learning rate "
            "(algo.lr), the scale of the rewards (replay.reward_scale) and fewer updates per step"
        )
    else:
        why = "a lower learning rate (algo.lr), or smaller rewards (replay.reward_scale)"
    return Diverged("the run diverged", where=where, found=found, remedy=why)


def seem(algo: Algorithm, batch: Batch) -> float | None:
    """Return SEEM's normalised largest eigenvalue; None where there is no critic to look at.

    Gradients of the first member's Q by its parameters at (s, a) and at (s', pi(s')) give the
    kernels; positive means that a step towards the target moves the target further away.
    """
    critic: Any = getattr(algo, "critic", None)
    observation, following = batch["observation"], batch["next", "observation"]
    if not hasattr(critic, "first") or not isinstance(observation, Tensor):
        return None
    weights = {name: value.detach() for name, value in critic.named_parameters()}

    def value(weights: dict[str, Tensor], s: Tensor, a: Tensor) -> Tensor:
        return functional_call(_First(critic), weights, (s.unsqueeze(0), a.unsqueeze(0)))

    def slopes(s: Tensor, a: Tensor) -> Tensor:
        found = vmap(grad(value), in_dims=(None, 0, 0))(
            {f"critic.{name}": each for name, each in weights.items()}, s, a
        )
        # Members but the first have no slope.
        first = [each[:, :1] if each.dim() > 3 else each for each in found.values()]
        return torch.cat([each.flatten(1) for each in first], 1).double()

    rows = slice(0, ROWS)
    with torch.random.fork_rng(devices=[]):
        action = algo.act(following[rows], False).detach()
    here = slopes(observation[rows], batch["action"][rows])
    there = slopes(following[rows], action) * batch["discount"][rows].unsqueeze(1)
    kernel = (there - here) @ here.T
    if not bool(kernel.isfinite().all()):
        return None
    size = float(kernel.norm())
    return float(torch.linalg.eigvals(kernel).real.max()) / size if size else None


class _First(torch.nn.Module):
    """The first member as a module, to be called with parameters of its own."""

    def __init__(self, critic: Any):
        super().__init__()
        self.critic = critic

    def forward(self, s: Tensor, a: Tensor) -> Tensor:
        return self.critic.first(s, a)[0]
