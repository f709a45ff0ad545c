"""GCIVL: values of states towards goals by expectiles, without any Q; then weighted imitation.

The value-only form of implicit Q-learning (Kostrikov et al. 2021), as in Park, Ghosh, Eysenbach,
Levine. HIQL, NeurIPS 2023 (arXiv 2307.11949), with one level. Followed: OGBench's code, see `gcbc`.
The side that an expectile weighs by is the advantage of the slow values, one for both members,
while each member is fitted to its own target. Taking the best successor that the data shows for the
action's doing, it is optimistic where luck moves the state.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robo_offline.algorithm import Algorithm, Config, EncoderFactory, Loss, target
from robo_offline.losses.advantage import exponential
from robo_offline.losses.td import bootstrap
from robo_offline.losses.value import expectile
from robo_offline.nets.critic import Value
from robo_offline.nets.goal import ACTOR, VALUE, toward
from robo_offline.policies.gaussian import UnitGaussian
from robo_offline.schema import ACTOR_GOAL, Batch
from robo_offline.spec import Spec


@dataclass
class GCIVLConfig(Config):
    expectile: float  # 0.5 is the average behaviour of the data, towards 1 its best
    beta: float  # inverse temperature of the advantage weights
    max_weight: float
    hidden: tuple[int, ...]
    exploration_noise: float  # std of the noise on online actions


class GCIVL(Algorithm):
    """Goal-conditioned implicit V-learning."""

    Config = GCIVLConfig
    order = ("value", "actor")
    targets = {"target_value": "value"}
    needs = (ACTOR_GOAL,)
    simultaneous = True

    def build(self, spec: Spec, encoder: EncoderFactory) -> None:
        c = self.cfg
        self.value = Value(encoder(), c.hidden, num=2, **VALUE)
        self.actor = UnitGaussian(
            encoder(), spec.action_shape, c.hidden, noise=c.exploration_noise, **ACTOR
        )
        self.target_value = target(self.value)

    def loss_value(self, batch: Batch) -> Loss:
        following = self.target_value(batch["next", "observation"])  # (E, B)
        y = bootstrap(batch, following)
        adv = bootstrap(batch, following.amin(0)) - self.target_value(batch["observation"]).mean(0)
        v = self.value(batch["observation"])
        loss = expectile(y - v, self.cfg.expectile, adv).mean(1).sum()
        return loss, {"v": v.mean(), "advantage": adv.mean()}

    def advantage(self, batch: Batch) -> Tensor:
        """How much nearer to the actor's goal the step led, (B,)."""
        goal = batch["actor_goal"]
        following = self.value(toward(batch["next", "observation"], goal)).mean(0)
        return following - self.value(toward(batch["observation"], goal)).mean(0)

    def loss_actor(self, batch: Batch) -> Loss:
        weight = exponential(self.advantage(batch), self.cfg.beta, self.cfg.max_weight)
        observation = toward(batch["observation"], batch["actor_goal"])
        log_prob = self.actor.log_prob(observation, batch["action"], batch.get("mask", None))
        return -(weight * log_prob).mean(), {"log_prob": log_prob.mean(), "weight": weight.mean()}
