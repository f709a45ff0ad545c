"""CRL: the value of a goal is how well a classifier can tell that it was reached from here.

Eysenbach, Zhang, Levine, Salakhutdinov. Contrastive Learning as Goal-Conditioned RL. NeurIPS 2022
(arXiv 2206.07568). Followed: OGBench's code, see `gcbc`: binary NCE over all pairs of a batch, two
members, and an actor that climbs the logit itself. No reward, no bootstrapping: goals of the critic
must be drawn geometrically from the same episode (`goals=contrastive`), which is what makes the
logit a discounted probability of arriving; so it values the data's own behaviour, and stitches
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from robo_offline.algorithm import Algorithm, Config, EncoderFactory, Loss
from robo_offline.losses.actor import ddpg_bc
from robo_offline.losses.contrastive import binary_nce
from robo_offline.nets.bilinear import Bilinear
from robo_offline.nets.goal import ACTOR, toward
from robo_offline.policies.gaussian import UnitGaussian
from robo_offline.schema import ACTOR_GOAL, Batch
from robo_offline.spec import Spec


@dataclass
class CRLConfig(Config):
    latent: int  # numbers in the embeddings of a state and action, and of a goal
    bc: float  # weight of the log-likelihood of the data's actions against f / E|f|
    hidden: tuple[int, ...]
    exploration_noise: float  # std of the noise on online actions


class CRL(Algorithm):
    """Contrastive reinforcement learning."""

    Config = CRLConfig
    order = ("critic", "actor")
    needs = (ACTOR_GOAL,)
    simultaneous = True

    def build(self, spec: Spec, encoder: EncoderFactory) -> None:
        c, shape = self.cfg, spec.action_shape
        state, goal = encoder(spec=spec.without_goal()), encoder(spec=spec.only_goal())
        self.critic = Bilinear(state, goal, shape, c.hidden, num=2, dim=c.latent)
        self.actor = UnitGaussian(encoder(), shape, c.hidden, noise=c.exploration_noise, **ACTOR)

    def loss_critic(self, batch: Batch) -> Loss:
        logits = self.critic.pairs(batch["observation"], batch["action"])  # (E, B, B)
        own = logits.diagonal(dim1=-2, dim2=-1).mean()
        return binary_nce(logits), {"own": own, "all": logits.mean()}

    def loss_actor(self, batch: Batch) -> Loss:
        observation = toward(batch["observation"], batch["actor_goal"])
        mean = self.actor.mode(observation)
        f = self.critic(observation, mean.clamp(-1, 1)).amin(0)
        log_prob = self.actor.log_prob_at(mean, batch["action"], batch.get("mask", None))
        loss = ddpg_bc(f, log_prob, self.cfg.bc)
        return loss, {"f": f.mean(), "log_prob": log_prob.mean()}
