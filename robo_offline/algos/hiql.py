"""HIQL: one value of goals, used twice: a high policy says where to be soon, a low one goes there.

Park, Ghosh, Eysenbach, Levine. HIQL: Offline Goal-Conditioned RL with Latent States as Actions.
NeurIPS 2023 (arXiv 2307.11949). Followed: OGBench's code, see `gcbc`. The value is `gcivl`'s, of
the state and a representation phi of the goal as seen from it, which the value alone trains; the
slow value reads the same phi, so only what is behind it follows slowly. The high policy proposes
phi of the state `subgoal_steps` ahead (a knob of the replay's goals), the low one imitates actions
that lead there; both decide anew at every step. Online only the low one explores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from robo_offline.algorithm import Algorithm, Config, EncoderFactory, Loss, target
from robo_offline.losses.advantage import exponential
from robo_offline.losses.td import bootstrap
from robo_offline.losses.value import expectile
from robo_offline.nets.goal import (
    ACTOR,
    Beside,
    Representation,
    RepresentedValue,
    on_sphere,
    toward,
)
from robo_offline.policies.gaussian import UnitGaussian
from robo_offline.schema import ACTOR_GOAL, SUBGOALS, Batch
from robo_offline.spec import Spec


@dataclass
class HIQLConfig(Config):
    expectile: float  # 0.5 is the average behaviour of the data, towards 1 its best
    low_beta: float  # inverse temperature of the weights of actions
    high_beta: float  # the same of subgoals
    max_weight: float
    representation: int  # numbers in phi, the language between the two policies
    low_trains_representation: bool  # the low policy's loss moves phi too; for pixels
    hidden: tuple[int, ...]
    exploration_noise: float  # std of the noise on online actions


class HIQL(Algorithm):
    """Hierarchical implicit Q-learning."""

    Config = HIQLConfig
    order = ("value", "actor", "high_actor")
    targets = {"target_value": "value"}
    needs = (ACTOR_GOAL, SUBGOALS)
    simultaneous = True

    def build(self, spec: Spec, encoder: EncoderFactory) -> None:
        c, state = self.cfg, spec.without_goal()
        phi = Representation(encoder(), c.hidden, c.representation)
        self.value = RepresentedValue(encoder(spec=state), phi, c.hidden, num=2)
        self.actor = UnitGaussian(
            Beside(encoder(spec=state), c.representation),
            spec.action_shape,
            c.hidden,
            noise=c.exploration_noise,
            **ACTOR,
        )
        self.high_actor = UnitGaussian(encoder(), (c.representation,), c.hidden, **ACTOR)
        self.target_value = target(self.value)

    def loss_value(self, batch: Batch) -> Loss:
        slow, phi = self.target_value, self.value.representation
        now, later = batch["observation"], batch["next", "observation"]
        following = slow.at(later, phi(later).detach())  # (E, B); phi is not the slow one
        y = bootstrap(batch, following)
        z = phi(now)
        adv = bootstrap(batch, following.amin(0)) - slow.at(now, z.detach()).mean(0)
        v = self.value.at(now, z)
        loss = expectile(y - v, self.cfg.expectile, adv).mean(1).sum()
        metrics = {"v": v.mean(), "advantage": adv.mean()}
        if self.cfg.low_trains_representation:  # of all that this adds, phi alone is trained here
            loss = loss + self.low_loss(batch, phi(toward(now, batch["low_goal"])))[0]
        return loss, metrics

    def gain(self, before: Any, after: Any, goal: Any) -> Tensor:
        """How much nearer to a goal some observations are than others, (B,)."""
        values = (self.value(toward(x, goal)).mean(0) for x in (after, before))
        return next(values) - next(values)

    def low_loss(self, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
        """Imitate actions towards subgoals represented by z (B, dim): the loss, the weights."""
        now = batch["observation"]
        adv = self.gain(now, batch["next", "observation"], batch["low_goal"])
        weight = exponential(adv, self.cfg.low_beta, self.cfg.max_weight)
        mask = batch.get("mask", None)
        log_prob = self.actor.log_prob((now, z), batch["action"], mask)
        return -(weight * log_prob).mean(), weight

    def loss_actor(self, batch: Batch) -> Loss:
        z = self.value.representation(toward(batch["observation"], batch["low_goal"]))
        loss, weight = self.low_loss(batch, z.detach())
        return loss, {"weight": weight.mean()}

    def loss_high_actor(self, batch: Batch) -> Loss:
        now, later, goal = batch["observation"], batch["high_target"], batch["high_goal"]
        weight = exponential(self.gain(now, later, goal), self.cfg.high_beta, self.cfg.max_weight)
        subgoal = self.value.representation(toward(now, self.spec.achieved(later)))
        log_prob = self.high_actor.log_prob(toward(now, goal), subgoal.detach())
        return -(weight * log_prob).mean(), {"weight": weight.mean()}

    def act(self, observation: Any, explore: bool) -> Tensor:
        both = observation, on_sphere(self.high_actor.mode(observation))
        return (self.actor.sample(both) if explore else self.actor.mode(both)).clamp(-1, 1)
