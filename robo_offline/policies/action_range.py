"""Action range: how far the data goes in each dimension, as the policy's own [-1, 1]."""

from __future__ import annotations

import torch
from torch import Tensor, nn

UNUSED = 1e-3  # a dimension that the data never moves further than this stays at zero


class ActionRange(nn.Module):
    """Map a policy's actions (..., A) to the environment's and back, one scale per dimension.

    Without a range it is the identity. Scaled by the data's largest magnitudes, exploration stays
    where the data is: a dimension that nobody used is pinned, one that was used a little moves a
    little. The scale is symmetric, since a way that no demonstration had to take back may be needed
    to correct an overshoot. It is a buffer, so it is saved and exported with the policy.
    """

    scale: Tensor

    def __init__(self, step_dim: int):
        super().__init__()
        self.register_buffer("scale", torch.ones(step_dim))

    def fit(self, action: Tensor) -> None:
        """Take the range of the data's actions (N, A)."""
        largest = action.abs().amax(0)
        self.scale.copy_(torch.where(largest > UNUSED, largest, 0.0))

    def to_policy(self, action: Tensor) -> Tensor:
        """Environment units -> [-1, 1] of the policy; what lies outside of the range is clipped."""
        used = self.scale > 0
        return torch.where(used, action / self.scale.where(used, 1.0), 0.0).clamp(-1, 1)

    def to_environment(self, action: Tensor) -> Tensor:
        """[-1, 1] of the policy -> environment units."""
        return action.clamp(-1, 1) * self.scale
