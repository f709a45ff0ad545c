"""GCIQL: implicit Q-learning towards goals, and an actor that climbs Q while it imitates.

Kostrikov, Nair, Levine. ICLR 2022 (arXiv 2110.06169), with goals and the actor of OGBench, whose
code is followed, see `gcbc`: one V and two Q, of which the slow ones fit V, and DDPG+BC.
"""

from __future__ import annotations

from dataclasses import dataclass

from robo_offline.algorithm import Algorithm, Config, EncoderFactory, Loss, target
from robo_offline.losses.actor import ddpg_bc
from robo_offline.losses.td import bootstrap, squared
from robo_offline.losses.value import expectile
from robo_offline.nets.critic import Critic, Value
from robo_offline.nets.goal import ACTOR, VALUE, toward
from robo_offline.policies.gaussian import UnitGaussian
from robo_offline.schema import ACTOR_GOAL, Batch
from robo_offline.spec import Spec


@dataclass
class GCIQLConfig(Config):
    expectile: float  # 0.5 is SARSA, towards 1 is Q-learning
    bc: float  # weight of the log-likelihood of the data's actions against Q / E|Q|
    hidden: tuple[int, ...]
    exploration_noise: float  # std of the noise on online actions


class GCIQL(Algorithm):
    """Goal-conditioned implicit Q-learning."""

    Config = GCIQLConfig
    order = ("value", "critic", "actor")
    targets = {"target_critic": "critic"}
    needs = (ACTOR_GOAL,)
    simultaneous = True

    def build(self, spec: Spec, encoder: EncoderFactory) -> None:
        c, shape = self.cfg, spec.action_shape
        self.value = Value(encoder(), c.hidden, **VALUE)
        self.critic = Critic(encoder(), shape, c.hidden, num=2, **VALUE)
        self.actor = UnitGaussian(encoder(), shape, c.hidden, noise=c.exploration_noise, **ACTOR)
        self.target_critic = target(self.critic)

    def loss_value(self, batch: Batch) -> Loss:
        q = self.target_critic(batch["observation"], batch["action"]).amin(0)
        v = self.value(batch["observation"])
        return expectile(q - v, self.cfg.expectile).mean(), {"v": v.mean()}

    def loss_critic(self, batch: Batch) -> Loss:
        y = bootstrap(batch, self.value(batch["next", "observation"]))
        q = self.critic(batch["observation"], batch["action"])  # (E, B)
        return squared(q, y), {"q": q.mean()}

    def loss_actor(self, batch: Batch) -> Loss:
        observation = toward(batch["observation"], batch["actor_goal"])
        mean = self.actor.mode(observation)
        q = self.critic(observation, mean.clamp(-1, 1)).amin(0)
        log_prob = self.actor.log_prob_at(mean, batch["action"], batch.get("mask", None))
        loss = ddpg_bc(q, log_prob, self.cfg.bc)
        return loss, {"q": q.mean(), "log_prob": log_prob.mean()}
