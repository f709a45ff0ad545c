"""GCBC: imitate every action, given a goal that its own episode reached later.

Lynch et al. 2019 (arXiv 1903.01973); Ghosh et al. 2019 (arXiv 1912.06088). Followed: OGBench's code
(Park, Frans, Eysenbach, Levine, ICLR 2025, arXiv 2410.20092), as in all methods towards goals here:
GELU, Glorot's initialisation, a Gaussian of constant std whose mean nothing bounds. Ours in all of
them: observations are normalised, and online exploration has a std of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from robo_offline.algorithm import Algorithm, Config, EncoderFactory, Loss
from robo_offline.nets.goal import ACTOR, toward
from robo_offline.policies.gaussian import UnitGaussian
from robo_offline.schema import ACTOR_GOAL, Batch
from robo_offline.spec import Spec


@dataclass
class GCBCConfig(Config):
    hidden: tuple[int, ...]
    exploration_noise: float  # std of the noise on online actions


class GCBC(Algorithm):
    """Goal-conditioned behaviour cloning."""

    Config = GCBCConfig
    order = ("actor",)
    needs = (ACTOR_GOAL,)

    def build(self, spec: Spec, encoder: EncoderFactory) -> None:
        c = self.cfg
        self.actor = UnitGaussian(
            encoder(), spec.action_shape, c.hidden, noise=c.exploration_noise, **ACTOR
        )

    def loss_actor(self, batch: Batch) -> Loss:
        observation = toward(batch["observation"], batch["actor_goal"])
        log_prob = self.actor.log_prob(observation, batch["action"], batch.get("mask", None))
        return -log_prob.mean(), {"log_prob": log_prob.mean()}
