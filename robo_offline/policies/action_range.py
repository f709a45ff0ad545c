"""Action range: how far the data goes in each dimension, as the policy's own [-1, 1]."""

from __future__ import annotations

import torch
from torch import Tensor, nn

UNUSED = 1e-3  # a dimension that the data never moves further than this stays at zero


def scale_of(action: Tensor) -> Tensor:
    """Return the largest magnitude per dimension of the data's actions (N, A), 0 if unused."""
    largest = action.abs().amax(0)
    return torch.where(largest > UNUSED, largest, 0.0)


class ActionRange(nn.Module):
    """Map the environment's actions (..., A) to a policy's (..., A'), A' of them used, and back.

    Scaled by the data's largest magnitudes, exploration stays where the data is: a dimension that
    was used a little moves a little. One that nobody used is not part of the policy at all: a
    critic that never saw it move would be exploited there. The scale is symmetric, since a way
    that no demonstration had to take back may be needed to correct an overshoot. It is a buffer,
    so it is saved and exported with the policy.
    """

    scale: Tensor
    used: Tensor

    def __init__(self, scale: Tensor):
        super().__init__()
        self.register_buffer("scale", scale.clone())
        self.register_buffer("used", scale.nonzero().squeeze(-1), persistent=False)

    @property
    def step_dim(self) -> int:
        """Numbers per step that the policy decides, A'."""
        return len(self.used)

    def to_policy(self, action: Tensor) -> Tensor:
        """Environment units (..., A) -> [-1, 1] of the policy (..., A'), clipped to it."""
        return (action[..., self.used] / self.scale[self.used]).clamp(-1, 1)

    def to_environment(self, action: Tensor) -> Tensor:
        """[-1, 1] of the policy (..., A') -> environment units (..., A)."""
        whole = action.new_zeros(*action.shape[:-1], len(self.scale))
        whole[..., self.used] = action.clamp(-1, 1) * self.scale[self.used]
        return whole
