"""AWAC: an actor-critic whose policy imitates the data, weighted by its own advantage.

Nair, Gupta, Dalal, Levine. AWAC: Accelerating Online RL with Offline Datasets, 2020
(arXiv 2006.09359). Two sources differ: the network and the policy (mean bounded by tanh, log-std
within [-6, 0] whatever the state) follow the authors' rlkit code; the weights min(exp(beta A), max)
and the order critic, actor, targets follow CORL, since they do not depend on the batch as the
authors' softmax does.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robo_offline.algorithm import Algorithm, Config, EncoderFactory, Loss, target
from robo_offline.losses.advantage import exponential
from robo_offline.losses.td import bootstrap, squared
from robo_offline.nets.critic import Critic
from robo_offline.policies.gaussian import RescaledGaussian
from robo_offline.schema import Batch
from robo_offline.spec import Spec


@dataclass
class AWACConfig(Config):
    beta: float  # inverse temperature of the advantage weights (1 / lambda of the paper)
    max_weight: float
    hidden: tuple[int, ...]


class AWAC(Algorithm):
    """Advantage-weighted actor-critic."""

    Config = AWACConfig
    order = ("critic", "actor")
    targets = {"target_critic": "critic"}

    def build(self, spec: Spec, encoder: EncoderFactory) -> None:
        c = self.cfg
        self.critic = Critic(encoder(), spec.action_shape, c.hidden, num=2)
        self.actor = RescaledGaussian(encoder(), spec.action_shape, c.hidden, log_std=(-6.0, 0.0))
        self.target_critic = target(self.critic)

    def loss_critic(self, batch: Batch) -> Loss:
        next_observation = batch["next", "observation"]
        next_action = self.actor.sample(next_observation).clamp(-1, 1)
        y = bootstrap(batch, self.target_critic(next_observation, next_action).amin(0))
        q = self.critic(batch["observation"], batch["action"])  # (E, B)
        return squared(q, y), {"q": q.mean()}

    def advantage(self, batch: Batch) -> Tensor:
        observation = batch["observation"]
        own = self.actor.sample(observation).clamp(-1, 1)
        value = self.critic(observation, own).amin(0)
        return self.critic(observation, batch["action"]).amin(0) - value

    def loss_actor(self, batch: Batch) -> Loss:
        adv = self.advantage(batch)
        weight = exponential(adv, self.cfg.beta, self.cfg.max_weight)
        log_prob = self.actor.log_prob(
            batch["observation"], batch["action"], batch.get("mask", None)
        )
        return -(weight * log_prob).mean(), {"advantage": adv.mean(), "log_prob": log_prob.mean()}
