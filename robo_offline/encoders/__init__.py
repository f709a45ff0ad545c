"""Encoders: observation in, feature (B, D) out. Each knows its own `dim` and its normaliser."""

from torch import nn


class Encoder(nn.Module):
    """A module that turns an observation into a feature (B, dim)."""

    dim: int
