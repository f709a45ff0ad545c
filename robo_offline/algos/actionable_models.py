"""Actionable Models: Q is the chance of reaching a goal; actions that nobody took have none.

Chebotar et al. Actionable Models: Unsupervised Offline RL of Robotic Skills. ICML 2021
(arXiv 2104.07749). Reaching the goal is worth 1 and ends, whatever the reward is, so Q is within
[0, 1] and what pushes unseen actions down has a floor: 0 and not minus infinity. Goals of other
episodes are chained: nothing is labelled 0 there, the cut episode's end bootstraps like any other
step, and values stitch. No code was published. Ours: an actor learns the best action, where theirs
is searched by the cross-entropy method at every query; unseen actions are uniform ones, drawn anew
and weighted by exp Q; both of two critics are pushed, and the lower one is the target.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robo_offline.algorithm import Algorithm, Config, EncoderFactory, Loss, target
from robo_offline.losses.actor import normalised
from robo_offline.losses.td import squared
from robo_offline.nets.critic import Critic
from robo_offline.nets.goal import GELU, VALUE, toward
from robo_offline.nets.layers import fan_avg, xavier
from robo_offline.policies.deterministic import Deterministic
from robo_offline.schema import ACTOR_GOAL, Batch
from robo_offline.spec import Spec


@dataclass
class ActionableModelsConfig(Config):
    conservatism: float  # weight of the squared Q of unseen actions in the loss of every critic
    num_candidates: int  # unseen actions per row
    hidden: tuple[int, ...]
    exploration_noise: float  # std of the noise on online actions


class ActionableModels(Algorithm):
    """Conservative Q-learning of reaching goals."""

    Config = ActionableModelsConfig
    order = ("critic", "actor")
    targets = {"target_critic": "critic"}
    needs = (ACTOR_GOAL,)
    simultaneous = True

    def build(self, spec: Spec, encoder: EncoderFactory) -> None:
        c, shape = self.cfg, spec.action_shape
        self.critic = Critic(encoder(), shape, c.hidden, num=2, **VALUE)
        self.actor = Deterministic(
            encoder(),
            shape,
            c.hidden,
            noise=c.exploration_noise,
            init=xavier,
            last=fan_avg(1e-2),
            activation=GELU,
        )
        self.target_critic = target(self.critic)

    def chance(self, batch: Batch) -> Tensor:
        """What the target says of reaching the goal, (B,): certain where it is reached."""
        following = batch["next", "observation"]
        q = self.target_critic(following, self.actor.mode(following)).amin(0)
        return torch.where(batch["next", "terminated"], 1.0, batch["discount"] * q)

    def loss_critic(self, batch: Batch) -> Loss:
        observation, action = batch["observation"], batch["action"]
        y = self.chance(batch)
        unseen = 2 * torch.rand_like(action.repeat_interleave(self.cfg.num_candidates, 0)) - 1
        unseen = unseen.unflatten(0, (-1, self.cfg.num_candidates))  # (B, K, *action_shape)
        q = self.critic(observation, torch.cat([action.unsqueeze(1), unseen], 1))  # (E, B, 1 + K)
        q, q_unseen = q[..., 0], q[..., 1:]
        likely = q_unseen.detach().softmax(-1)  # draws of exp Q, out of uniform ones
        unlearned = (likely * q_unseen.square()).sum(-1).mean(1).sum()
        loss = squared(q, y) + self.cfg.conservatism * unlearned
        return loss, {"q": q.mean(), "unseen": q_unseen.mean()}

    def loss_actor(self, batch: Batch) -> Loss:
        observation = toward(batch["observation"], batch["actor_goal"])
        q = self.critic(observation, self.actor.mode(observation)).amin(0)
        return -normalised(q), {"q": q.mean()}
