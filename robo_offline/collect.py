"""Collect: make a data set by letting a policy act in an environment.

    robo-offline collect env=robosuite/lift policy=scripted policy.noise=0.3 episodes=50 seed=0 \\
        name=lift/scripted

`policy` is `scripted` (a hand-written expert), `wandering` (the same towards goals of its own),
`random`, or `checkpoint policy.path=RUN_DIR`.
`policy.noise=[0,0.3,1.0]` cycles over the episodes and so makes data of mixed quality. The same
configuration gives the same arrays, on however many `workers`.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import numpy as np
from omegaconf import DictConfig, OmegaConf

import envs
from envs.experts import expert_for, wanderer_for
from envs.torchrl import episode_seed
from robo_offline.datasets import store
from robo_offline.datasets.episode import Episode
from robo_offline.datasets.tree import stacked
from robo_offline.errors import UserError
from robo_offline.processes import become_worker

Act = Callable[[Any], np.ndarray]  # observation -> action
Progress = Callable[[int, int], None]  # (episodes done, of how many)

MAX_STEPS = 100_000  # of an episode; more means that it has no end
POLICY_STREAM = 1  # keeps the policy's random numbers apart from the environment's


class Behaviour(Protocol):
    """What acts while data is collected."""

    def begin(self, env: gymnasium.Env, index: int, rng: np.random.Generator) -> Act:
        """Return what acts in episode `index`; all its randomness comes from `rng` and `index`."""

    def extra(self, index: int) -> dict[str, float]:
        """Return what is stored with every step of episode `index`."""


@dataclass
class Scripted:
    """The environment's scripted expert with Gaussian noise on its actions."""

    noise: float | Sequence[float]  # std; a list is cycled over the episodes

    def begin(self, env: gymnasium.Env, index: int, rng: np.random.Generator) -> Act:
        """Return the expert, its memory empty."""
        return expert_for(env, _cycled(self.noise, index), rng)

    def extra(self, index: int) -> dict[str, float]:
        """Return the noise."""
        return {"noise": _cycled(self.noise, index)}


@dataclass
class Wandering(Scripted):
    """The scripted expert's skill towards random goals of its own, not towards the task's."""

    def begin(self, env: gymnasium.Env, index: int, rng: np.random.Generator) -> Act:
        """Return the wanderer, its memory empty."""
        return wanderer_for(env, _cycled(self.noise, index), rng)


@dataclass
class Random:
    """Uniform actions."""

    def begin(self, env: gymnasium.Env, index: int, rng: np.random.Generator) -> Act:
        """Return uniform actions."""
        shape = env.action_space.shape
        return lambda observation: rng.uniform(-1.0, 1.0, shape)

    def extra(self, index: int) -> dict[str, float]:
        """Return nothing."""
        return {}


@dataclass
class Checkpoint:
    """The policy of a run."""

    path: str  # folder of the run
    checkpoint: str  # last, best, or a checkpoint's name
    explore: bool  # sample actions as the run's own collection does
    noise: float | Sequence[float]  # std of Gaussian noise; a list is cycled over the episodes

    def begin(self, env: gymnasium.Env, index: int, rng: np.random.Generator) -> Act:
        """Return the policy, its memory empty."""
        policy = self._load()
        policy.reset(index)
        noise = _cycled(self.noise, index)

        def act(observation: Any) -> np.ndarray:
            action = policy.act(observation, explore=self.explore)
            return action + rng.normal(0.0, noise, action.shape) if noise > 0 else action

        return act

    def extra(self, index: int) -> dict[str, float]:
        """Return the noise."""
        return {"noise": _cycled(self.noise, index)}

    def _load(self) -> Any:
        if not hasattr(self, "_policy"):
            from robo_offline.saved import load_policy

            if not self.path:
                raise UserError(
                    "which policy shall act is missing", remedy="say policy.path=RUN_DIR"
                )
            self._policy = load_policy(Path(self.path), self.checkpoint)
        return self._policy


def collect(
    make: Callable[[], gymnasium.Env],
    policy: Behaviour,
    episodes: int,
    seed: int,
    name: str,
    *,
    workers: int = 1,
    overwrite: bool = False,
    metadata: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Store `episodes` episodes of `policy` as the data set `name`; return a report.

    Episode i starts with `episode_seed(seed, i)`, whatever was played before it and wherever.
    """
    if episodes < 1:
        raise UserError("a data set needs at least one episode", found=f"episodes={episodes}")
    with closing(make()) as env:
        observation_space, action_space = env.observation_space, env.action_space
    outcomes: list[tuple[int, float, bool]] = []

    def counted() -> Iterator[Episode]:
        for episode in _played(make, policy, episodes, seed, workers):
            success = episode.success is not None and bool(episode.success.any())
            outcomes.append((len(episode), float(episode.reward.sum()), success))
            if progress is not None:
                progress(len(outcomes), episodes)
            yield episode

    kind = type(policy).__name__.lower()
    path = store.write(
        name,
        counted(),
        action_space=action_space,
        observation_space=observation_space,
        algorithm=kind,
        extra_metadata={"policy": kind, "seed": seed, **(metadata or {})},
        overwrite=overwrite,
    )
    lengths, returns, successes = zip(*outcomes, strict=True)
    return {
        "dataset": store.full_id(name),
        "path": str(path),
        "episodes": episodes,
        "steps": sum(lengths),
        "success_rate": sum(successes) / episodes,
        "return_mean": float(np.mean(returns)),
    }


def play(env: gymnasium.Env, policy: Behaviour, seed: int, index: int) -> Episode:
    """Play episode `index` of the stream `seed` to its end."""
    env_seed = episode_seed(seed, index)
    observation, _ = env.reset(seed=env_seed)
    act = policy.begin(env, index, np.random.default_rng((seed, index, POLICY_STREAM)))
    observations, over = [observation], False
    steps: list[dict[str, Any]] = []
    while not over:
        if len(steps) == MAX_STEPS:
            raise UserError(
                "an episode does not end",
                found=f"{MAX_STEPS} steps",
                remedy="give the environment a horizon: env.horizon=...",
            )
        action = np.clip(act(observation), -1.0, 1.0).astype(np.float32)
        observation, reward, terminated, truncated, info = env.step(action)
        observations.append(observation)
        steps.append(
            {
                "action": np.asarray(info.get("executed", action), np.float32),
                "reward": np.float32(reward),
                "terminated": np.bool_(terminated),
                "truncated": np.bool_(truncated),
                "success": np.bool_(info["success"]),
            }
        )
        over = terminated or truncated
    extra = {k: np.full(len(steps), v, np.float32) for k, v in policy.extra(index).items()}
    return Episode(observation=stacked(observations), seed=env_seed, extra=extra, **stacked(steps))


def run(cfg: DictConfig, progress: Progress | None = None) -> dict[str, Any]:
    """Collect what `configs/collect.yaml` describes."""
    from hydra.utils import instantiate

    if not cfg.name:
        raise UserError("the new data set has no name", remedy="say name=lift/scripted")
    values = OmegaConf.to_container(cfg.env, resolve=True)
    chosen = OmegaConf.to_container(cfg.policy, resolve=True)
    return collect(
        partial(envs.build, values),
        instantiate(chosen, _convert_="all"),
        cfg.episodes,
        cfg.seed,
        cfg.name,
        workers=cfg.workers,
        overwrite=cfg.overwrite,
        metadata={"environment": values, "policy": chosen},
        progress=progress,
    )


def _played(
    make: Callable[[], gymnasium.Env], policy: Behaviour, episodes: int, seed: int, workers: int
) -> Iterator[Episode]:
    if workers <= 1:
        with closing(make()) as env:
            for index in range(episodes):
                yield play(env, policy, seed, index)
        return
    with ProcessPoolExecutor(
        min(workers, episodes),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin_worker,
        initargs=(make, policy, seed),
    ) as pool:
        yield from pool.map(_play_here, range(episodes))


def _begin_worker(make: Callable[[], gymnasium.Env], policy: Behaviour, seed: int) -> None:
    become_worker()
    _here.update(env=make(), policy=policy, seed=seed)


def _play_here(index: int) -> Episode:
    return play(_here["env"], _here["policy"], _here["seed"], index)


_here: dict[str, Any] = {}  # what a worker process plays with


def _cycled(values: float | Sequence[float], index: int) -> float:
    if isinstance(values, (int, float)):
        return float(values)
    if not values:
        raise UserError("the list of noises is empty", remedy="say policy.noise=0 for none")
    return float(values[index % len(values)])
