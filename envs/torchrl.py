"""Gymnasium environments as TorchRL sees them, each episode fixed by a seed and its index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Dict
from torchrl.data import Binary, Unbounded
from torchrl.envs import EnvBase, GymWrapper, InitTracker, TransformedEnv
from torchrl.envs.gym_like import default_info_dict_reader

from robo_offline.schema import OWN
from robo_offline.spec import Spec


def episode_seed(seed: int, index: int) -> int:
    """Return the seed of episode `index` of a run: NumPy's SeedSequence over both, as 31 bits."""
    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0] >> 1)


class EpisodeSeeds(gymnasium.Wrapper):
    """Begin episode n with `episode_seed(seed, n)`, n counting up from `first_episode`.

    An episode begins with its first step: a reset right after a reset begins the same one again,
    because collectors reset once or more before they start. `info["episode"]` is the index. An
    environment with several tasks may say by `episode_options(index)` which one it is.
    """

    def __init__(self, env: gymnasium.Env, seed: int, first_episode: int = 0):
        super().__init__(env)
        self.seed, self.episode = seed, first_episode
        self._begun = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin the next episode; a `seed` given here is ignored, the index decides."""
        self.episode += self._begun
        self._begun = False
        chosen = episode_seed(self.seed, self.episode)
        if options is None and self.env.has_wrapper_attr("episode_options"):
            options = self.env.get_wrapper_attr("episode_options")(self.episode)
        observation, info = self.env.reset(seed=chosen, options=options)
        return observation, {**info, "episode": self.episode}

    def step(self, action: Any) -> Any:
        """Execute an action in the present episode."""
        self._begun = True
        *outcome, info = self.env.step(action)
        return *outcome, {**info, "episode": self.episode}


class _Leaves(gymnasium.Wrapper):
    """Present a dict observation as TorchRL's nested `observation`, and infos as arrays.

    What was executed and who acted are the environment's to say; one that does not say so executes
    what it is given, within [-1, 1].
    """

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        space = env.observation_space
        # Left alone, TorchRL puts the leaves of a dict at the top and renames `state`.
        self._nested = isinstance(space, Dict)
        self.observation_space = Dict({"observation": space}) if self._nested else space

    def reset(self, **kwargs: Any) -> Any:
        observation, info = self.env.reset(**kwargs)
        nothing = np.zeros(self.env.action_space.shape or (), np.float32)
        return self._nest(observation), _arrays(info, nothing)

    def step(self, action: Any) -> Any:
        observation, *outcome, info = self.env.step(action)
        given = np.clip(np.asarray(action, np.float32), -1, 1)
        return self._nest(observation), *outcome, _arrays(info, given)

    def _nest(self, observation: Any) -> Any:
        return {"observation": observation} if self._nested else observation


class _Wrapper(GymWrapper):
    """TorchRL's wrapper, told the observation's spec, in which it would rename a leaf `state`."""

    def _make_specs(self, env: gymnasium.Env, batch_size: Any = None) -> None:
        super()._make_specs(env, batch_size)
        if isinstance(env.observation_space, Dict):
            inner = env.observation_space["observation"]
            self.observation_spec = Spec.from_spaces(inner, env.action_space).observation


def _arrays(info: dict[str, Any], given: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "success": np.array([info["success"]], np.bool_),
        "episode": np.array([info["episode"]], np.int64),
        "executed": np.asarray(info.get("executed", given), np.float32),
        "source": np.array([info.get("source", OWN)], np.int64),
    }


def as_torchrl(
    make: Callable[[], gymnasium.Env], seed: int, first_episode: int = 0
) -> TransformedEnv:
    """Wrap what `make` returns; the first episode collected from it is number `first_episode`.

    Keys: `observation` (a leaf, or nested for dict observations), `action`, `reward`, `terminated`,
    `truncated`, `done`, `is_init`, and for every step `success`, the `episode` it belongs to, the
    action that was `executed` and its `source` (see `robo_offline.schema`).
    """
    env: EnvBase = _Wrapper(_Leaves(EpisodeSeeds(make(), seed, first_episode)))
    reader = default_info_dict_reader(
        ["success", "episode", "executed", "source"],
        spec={
            "success": Binary(n=1, dtype=torch.bool),
            "episode": Unbounded((1,), dtype=torch.int64),
            "executed": Unbounded(env.action_spec.shape, dtype=torch.float32),
            "source": Unbounded((1,), dtype=torch.int64),
        },
    )
    return TransformedEnv(env.set_info_dict_reader(reader), InitTracker())
