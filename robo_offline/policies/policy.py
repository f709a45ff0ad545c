"""Policy: what acts. An algorithm with its normaliser, a chunk under way, its own randomness."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor

from robo_offline.algorithm import Algorithm
from robo_offline.policies.history import History
from robo_offline.policies.select import Own


class Policy(TensorDictModuleBase):
    """Acts in one environment, step by step, whatever the chunk.

    A chunk is decided at the episode's start and whenever the last one is used up, and executed
    open loop. Exploration draws from a stream of its own, seeded by (seed, episode), so what it
    does depends on nothing that the learner drew in between, nor on the process it runs in. Where
    the networks see several images of a camera, they are those of this episode's last steps.
    """

    in_keys = ["observation", "is_init", "episode"]
    out_keys = ["action", "guided"]

    def __init__(
        self,
        algo: Algorithm,
        *,
        seed: int = 0,
        explore: bool = False,
        acting: Own | None = None,
    ):
        super().__init__()
        # Acts on the CPU wherever it is trained: one observation at a time is no work for a GPU.
        self.algo = copy.deepcopy(algo).cpu().eval().requires_grad_(False)
        self.acting = Own() if acting is None else copy.deepcopy(acting).cpu()
        self.explore, self.seed = explore, seed
        # A buffer, so that it travels with the weights to a collector in another process.
        self.register_buffer("random", torch.tensor(False))  # uniform actions, for a cold start
        self.reset()

    def reset(self, episode: int = 0) -> None:
        """Forget chunk and images, and start the random stream of this episode."""
        self.queue: list[Tensor] = []
        self.history = History(self.algo.spec.frames)
        self.time, self.guided = 0, False
        generator = torch.Generator().manual_seed(_mix(self.seed, episode))
        self.stream = generator.get_state()

    def publish(self, algo: Algorithm, acting: Own) -> None:
        """Take over the weights of a learner, and what its acting choice knows."""
        self.algo.load_state_dict(algo.state_dict())
        self.acting.load_state_dict(acting.state_dict())

    def act(self, observation: Any, explore: bool | None = None) -> np.ndarray:
        """Choose the next action (A,) for one raw observation: an array, or a dict of arrays."""
        explore = self.explore if explore is None else explore
        return self._next(tensors(observation), explore).numpy()

    def see(self, observation: Any) -> None:
        """Take note of a raw observation in which something else acts."""
        self.history.add(tensors(observation))

    def forward(self, td: TensorDictBase) -> TensorDictBase:
        """Write `action` for TorchRL's collectors; one environment, no batch axis."""
        if td["is_init"].item():
            self.reset(int(td["episode"].item()))
        td.set("action", self._next(td["observation"], self.explore))
        return td.set("guided", torch.tensor([self.guided]))

    @torch.no_grad()
    def _next(self, observation: Any, explore: bool) -> Tensor:
        observation = self.history.add(observation)
        if not self.queue:
            with _stream(self):
                if self.time == 0:
                    self.acting.begin_episode()
                chunk = self._decide(observation.unsqueeze(0), explore)
            steps = chunk.reshape(-1, self.algo.spec.step_dim)  # (H, A')
            self.queue = list(self.algo.action_range.to_environment(steps))
        self.time += 1
        return self.queue.pop(0)

    def _decide(self, observation: Any, explore: bool) -> Tensor:
        if self.random and explore:
            return 2 * torch.rand(self.algo.spec.action_shape) - 1
        action, self.guided = self.acting.decide(self.algo, observation, explore, self.time)
        return action[0]


class _stream:
    """Run with a policy's own random stream and leave the global one as it was."""

    def __init__(self, policy: Policy):
        self.policy = policy

    def __enter__(self) -> None:
        self.outer = torch.get_rng_state()
        torch.set_rng_state(self.policy.stream)

    def __exit__(self, *_: object) -> None:
        self.policy.stream = torch.get_rng_state()
        torch.set_rng_state(self.outer)


def _mix(seed: int, episode: int) -> int:
    return int(np.random.SeedSequence((seed, episode)).generate_state(1, np.uint64)[0]) >> 1


def tensors(observation: Any) -> Any:
    """Make tensors of a raw observation: an array, or a dict of arrays."""
    if isinstance(observation, dict):
        leaves = {key: tensors(value) for key, value in observation.items()}
        return TensorDict(leaves, [])
    return torch.as_tensor(observation)
