"""Entropy: how random a policy is asked to be."""

from __future__ import annotations

from torch import Tensor


def temperature(alpha: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """Loss that raises alpha while the entropy is under its target; log_prob (B,), alpha ().

    The gradient goes through exp(log alpha), as in RLPD's code; SAC's own multiplies log alpha.
    """
    return -(alpha * (log_prob.detach() + target_entropy)).mean()
