"""TD3+SIL: TD3 whose actor also imitates the demonstrations and its own successes.

TD3+BC (Fujimoto, Gu 2021, arXiv 2106.06860) with the cloning term of self-imitation (Oh et al.
2018, arXiv 1806.05635): it covers what is worth imitating, data-set rows and own episodes that
succeeded, so the anchor of the policy grows with what the policy has learnt. Critics as in RLPD
(arXiv 2302.02948): LayerNorm and a random subset of an ensemble. Demonstrations alone hold no
failures and teach a critic nothing but optimism, so offline the actor imitates and the critics wait
for own experience, and the actor for the critics (WSRL's warm-up, arXiv 2412.07762). Ours is the
combination; it is meant for sparse success and short action chunks. The slow copy of the actor is
what is evaluated and deployed, the actor itself explores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robo_offline.algorithm import Algorithm, Config, EncoderFactory, Loss, target
from robo_offline.encoders.noisy import Noisy
from robo_offline.losses.imitation import mean_of, mean_squared
from robo_offline.losses.td import bootstrap, min_of_random, squared
from robo_offline.nets.critic import Critic
from robo_offline.policies.deterministic import Deterministic
from robo_offline.schema import Batch
from robo_offline.spec import Spec


@dataclass
class TD3SILConfig(Config):
    num_critics: int
    num_min: int  # members, drawn anew for every update, whose minimum is the target
    bc: float  # weight of the imitation term against Q, which lies within `return_bounds`
    return_bounds: tuple[float, float]  # what a discounted return can be; targets are clipped
    imitate_until: int  # environment steps of the online phase before the actor climbs Q
    exploration_noise: float  # std on executed actions
    target_noise: float  # std of the smoothing noise on target actions
    noise_clip: float
    observation_noise: float  # std on what the actor sees while it only imitates, normalised
    actor_period: int  # updates of the critics per update of a climbing actor
    hidden: tuple[int, ...]


class TD3SIL(Algorithm):
    """TD3 with self-imitation."""

    Config = TD3SILConfig
    order = ("critic", "actor")
    targets = {"target_critic": "critic", "target_actor": "actor"}

    def build(self, spec: Spec, encoder: EncoderFactory) -> None:
        c = self.cfg
        self.critic = Critic(encoder(), spec.action_shape, c.hidden, c.num_critics, layer_norm=True)
        self.blur = Noisy(encoder(), c.observation_noise)
        self.actor = Deterministic(
            self.blur, spec.action_shape, c.hidden, noise=c.exploration_noise
        )
        self.target_critic, self.target_actor = target(self.critic), target(self.actor)
        self.target_actor.eval()
        self.online, self.climb = True, True

    def period(self, name: str) -> int:
        if name == "critic":
            return int(self.online)
        return self.cfg.actor_period if self.climb else 1

    def schedule(self, step: int, phase: str) -> None:
        self.online = phase == "online"
        self.climb = self.online and step >= self.cfg.imitate_until
        self.blur.std = 0.0 if self.climb else self.cfg.observation_noise

    def loss_critic(self, batch: Batch) -> Loss:
        c, next_observation = self.cfg, batch["next", "observation"]
        noise = c.target_noise * torch.randn_like(batch["action"])
        next_action = self.target_actor.mode(next_observation)
        next_action = (next_action + noise.clamp(-c.noise_clip, c.noise_clip)).clamp(-1, 1)
        value = min_of_random(self.target_critic(next_observation, next_action), c.num_min)
        q = self.critic(batch["observation"], batch["action"])  # (E, B)
        return squared(q, bootstrap(batch, value.clamp(*c.return_bounds))), {"q": q.mean()}

    def loss_actor(self, batch: Batch) -> Loss:
        action = self.actor.mode(batch["observation"])
        error = mean_squared(action, batch["action"], batch.get("mask", None))
        bc = mean_of(error, batch["demonstration"])
        if not self.climb:
            return self.cfg.bc * bc, {"bc": bc}
        q = self.critic(batch["observation"], action).mean()
        return self.cfg.bc * bc - q, {"bc": bc, "q": q}

    def act(self, observation: Any, explore: bool) -> Tensor:
        if explore:
            return self.actor.sample(observation)
        return self.target_actor.mode(observation)
