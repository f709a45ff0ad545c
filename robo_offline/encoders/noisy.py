"""Noisy: Gaussian noise on a feature while training, so that a policy forgives small deviations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robo_offline.encoders import Encoder


class Noisy(Encoder):
    """Add noise of a given std to another encoder's normalised feature; none when evaluating.

    Demonstrations cover a thin tube around a few paths. With noise a cloned policy learns the same
    action for the tube's surroundings, where its own small errors take it.
    """

    def __init__(self, encoder: Encoder, std: float):
        super().__init__()
        self.encoder, self.std = encoder, std
        self.dim = encoder.dim

    def forward(self, observation: Any) -> Tensor:
        feature = self.encoder(observation)
        if self.training and self.std > 0:
            feature = feature + self.std * torch.randn_like(feature)
        return feature

    def privileged(self) -> Encoder:
        instead = self.encoder.privileged()
        return self if instead is self.encoder else Noisy(instead, self.std)
