"""QRL: the value is a distance: neighbours one step apart, everything else as far as that allows.

Wang, Torralba, Isola, Zhang. Optimal Goal-Reaching RL via Quasimetric Learning. ICML 2023
(arXiv 2304.01203). Followed: OGBench's code, see `gcbc`, where its constants differ from the
authors': a local constraint held at `slack` by a multiplier, dynamics in the latent space that are
trained together with the embedding, and an actor that climbs minus the distance from where they
lead. No reward and no discount; goals that the distance is stretched to are drawn at random
(`goals=quasimetric`). A goal must be a whole observation, since one network embeds both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from robo_offline.algorithm import Algorithm, Config, EncoderFactory, Loss
from robo_offline.errors import UserError
from robo_offline.losses.actor import ddpg_bc
from robo_offline.nets.goal import ACTOR, toward
from robo_offline.nets.quasimetric import Quasimetric
from robo_offline.nets.temperature import Multiplier
from robo_offline.policies.gaussian import UnitGaussian
from robo_offline.schema import ACTOR_GOAL, Batch
from robo_offline.spec import GOAL, Spec

STRETCH, OFFSET = 100.0, 5.0  # far goals pull less: 100 softplus(5 - d / 100)


@dataclass
class QRLConfig(Config):
    latent: int  # numbers in the embedding of a state
    components: int  # parts of it, each with a distance of its own
    slack: float  # violation of the local constraint that the multiplier holds
    bc: float  # weight of the log-likelihood of the data's actions against d / E|d|
    hidden: tuple[int, ...]
    exploration_noise: float  # std of the noise on online actions


class QRL(Algorithm):
    """Quasimetric reinforcement learning."""

    Config = QRLConfig
    order = ("value", "multiplier", "actor")
    needs = (ACTOR_GOAL,)
    simultaneous = True

    def build(self, spec: Spec, encoder: EncoderFactory) -> None:
        c = self.cfg
        refuse_parts(spec)
        if c.latent % c.components:
            raise UserError(
                "algo.latent does not fall into equal parts",
                expected=f"a multiple of algo.components, {c.components}",
                found=c.latent,
            )
        state = encoder(spec=spec.without_goal())
        self.value = Quasimetric(state, spec.action_dim, c.hidden, c.latent, c.components)
        self.multiplier = Multiplier()
        self.actor = UnitGaussian(
            encoder(), spec.action_shape, c.hidden, noise=c.exploration_noise, **ACTOR
        )

    def loss_value(self, batch: Batch) -> Loss:
        observation = batch["observation"]
        z, following = (self.value.embed(x) for x in (observation, batch["next", "observation"]))
        far = self.value.distance(z, self.value.embed(observation[GOAL]))
        near = self.value.distance(z, following)
        violation = excess(near)
        stretched = STRETCH * softplus(OFFSET - far / STRETCH).mean()
        predicted = self.value.predict(z, batch["action"])
        both = self.value.distance(following, predicted) + self.value.distance(predicted, following)
        dynamics = 0.5 * both.mean()
        loss = stretched + self.multiplier().detach() * violation + dynamics
        metrics = {"far": far.mean(), "near": near.mean(), "dynamics": dynamics}
        return loss, {**metrics, "violation": violation}

    def loss_multiplier(self, batch: Batch) -> Loss:
        with torch.no_grad():  # a number here
            near = self.value(batch["observation"], batch["next", "observation"])
        multiplier = self.multiplier()
        return multiplier * (self.cfg.slack - excess(near)), {"value": multiplier}

    def loss_actor(self, batch: Batch) -> Loss:
        goal = batch["actor_goal"]
        mean = self.actor.mode(toward(batch["observation"], goal))
        z = self.value.predict(self.value.embed(batch["observation"]), mean.clamp(-1, 1))
        q = -self.value.distance(z, self.value.embed(goal))
        log_prob = self.actor.log_prob_at(mean, batch["action"], batch.get("mask", None))
        loss = ddpg_bc(q, log_prob, self.cfg.bc)
        return loss, {"q": q.mean(), "log_prob": log_prob.mean()}


def excess(near: Tensor) -> Tensor:
    """How much further away than one step successors are: squared, the mean over the batch."""
    return (near - 1).relu().square().mean()


def refuse_parts(spec: Spec) -> None:
    """Raise UserError where a goal is less than an observation."""
    state = spec.without_goal().observation["observation"]
    goal = spec.only_goal().observation["observation", GOAL]
    if state != goal:
        raise UserError(
            "QRL measures distances between observations, and a goal here is only a part of one",
            expected=", ".join(f"{key} {tuple(leaf.shape)}" for key, leaf in state.items()),
            found=", ".join(f"{key} {tuple(leaf.shape)}" for key, leaf in goal.items()),
            remedy="algo=hiql, gcivl, gciql or crl; or an env whose goal is a whole observation",
        )
