"""Behaviour cloning: imitate every action of the data.

Pomerleau 1991; settings of Tarasov et al., CORL, 2022 (arXiv 2210.07105): a deterministic tanh
policy and the squared error averaged over the action's entries.
"""

from __future__ import annotations

from dataclasses import dataclass

from robo_offline.algorithm import Algorithm, Config, EncoderFactory, Loss
from robo_offline.losses.imitation import mean_squared
from robo_offline.policies.deterministic import Deterministic
from robo_offline.schema import Batch
from robo_offline.spec import Spec


@dataclass
class BCConfig(Config):
    hidden: tuple[int, ...]
    exploration_noise: float  # std of the noise on online actions


class BC(Algorithm):
    """Behaviour cloning with a deterministic policy."""

    Config = BCConfig
    order = ("actor",)

    def build(self, spec: Spec, encoder: EncoderFactory) -> None:
        c = self.cfg
        self.actor = Deterministic(
            encoder(), spec.action_shape, c.hidden, noise=c.exploration_noise
        )

    def loss_actor(self, batch: Batch) -> Loss:
        action = self.actor.mode(batch["observation"])
        error = mean_squared(action, batch["action"], batch.get("mask", None))
        return error.mean(), {}
