"""Actors: what a policy climbs when it is trained through a critic."""

from __future__ import annotations

from torch import Tensor


def normalised(q: Tensor) -> Tensor:
    """E[Q] / E|Q| with the denominator as a number: one weight beside it fits every reward scale.

    TD3+BC (Fujimoto, Gu 2021, arXiv 2106.06860). The value itself says little: it is 1 or -1 where
    all of Q (B,) has one sign.
    """
    return q.mean() / q.detach().abs().mean()


def ddpg_bc(q: Tensor, log_prob: Tensor, bc: float) -> Tensor:
    """Climb Q (B,) and imitate: -E[Q] / (E|Q| + 1e-6) - bc * E[log pi(a|s)], log_prob (B,).

    As in OGBench (arXiv 2410.20092); the denominator is a number.
    """
    return -q.mean() / (q.detach().abs().mean() + 1e-6) - bc * log_prob.mean()
