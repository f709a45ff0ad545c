"""Encoders: observation in, feature (B, D) out. Each knows its own `dim` and its normaliser."""

from __future__ import annotations

from torch import nn


class Encoder(nn.Module):
    """A module that turns an observation into a feature (B, dim)."""

    dim: int

    def privileged(self) -> Encoder:
        """What a critic sees instead, where the user lets it see more than the policy."""
        return self
