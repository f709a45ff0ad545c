"""Movable: a feature moved by given offsets, to ask what a network says about states near by."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from robo_offline.encoders import Encoder


class Moved(NamedTuple):
    """Observations together with offsets, each of which moves all of them."""

    observation: Any  # B rows
    offset: Tensor  # (K, dim), in units of the normalised feature


class Movable(Encoder):
    """Another encoder that takes `Moved` as well as plain observations.

    An offset is added to the normalised feature. For a vector that is the same as adding offset
    times the data's deviation to the raw observation; the observation is encoded once, and one
    made of several leaves needs nothing more.
    """

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder
        self.dim = encoder.dim

    def forward(self, observation: Any) -> Tensor:  # (B, dim), or (K * B, dim) where K leads
        if not isinstance(observation, Moved):
            return self.encoder(observation)
        feature = self.encoder(observation.observation)
        return (feature + observation.offset.unsqueeze(1)).flatten(0, 1)

    def privileged(self) -> Encoder:
        instead = self.encoder.privileged()
        return self if instead is self.encoder else Movable(instead)
