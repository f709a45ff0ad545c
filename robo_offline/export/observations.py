"""Observations to ask two policies about: recorded, random, and those at the ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import torch
from omegaconf import DictConfig

from envs.torchrl import EpisodeSeeds
from real_robot.runtime.contract import IMAGES, Contract, Leaf
from robo_offline.datasets import load
from robo_offline.datasets.store import full_id, local_ids
from robo_offline.export.leaves import Leaves, flatten, paths
from robo_offline.policies.history import History
from robo_offline.policies.policy import Policy, tensors
from robo_offline.replay.buffer import Replay, Window

ROWS = 1024  # recorded, and random
HUGE = 1e15  # far from any sensor, and its square is a number still
SPREAD = 3.0  # standard deviations of the data
ALONE = 64  # numbers of a leaf that are driven to its ends one by one


def recorded(cfg: DictConfig, policy: Policy, env: gymnasium.Env) -> tuple[Leaves, str]:
    """Return observations that were really made, and where they come from.

    They are drawn from the run's data set. Where there is none on this machine, the policy's own
    evaluation episodes stand in.
    """
    spec = policy.algo.spec
    where = paths(spec)
    if cfg.dataset and full_id(cfg.dataset) in local_ids():
        steps = load(cfg.dataset).steps
        random = np.random.default_rng(0)
        chosen = np.sort(random.choice(len(steps), min(ROWS, len(steps)), replace=False))
        rows = Replay.of_steps(steps, Window(1.0, frames=spec.frames))
        return flatten(rows.observe(torch.from_numpy(chosen)), where), f"data set {cfg.dataset}"
    missing = f", as the data set {cfg.dataset} is not on this machine" if cfg.dataset else ""
    seen = [flatten(observation, where) for observation in _rollouts(policy, env)]
    return _stack(seen), f"evaluation episodes{missing}"


def _rollouts(policy: Policy, env: gymnasium.Env) -> Iterator[Any]:
    episodes, over, count, index = EpisodeSeeds(env, 0), True, 0, 0
    history = History(policy.algo.spec.frames)
    observation: Any = None
    while count < ROWS:
        if over:
            observation, _ = episodes.reset()
            policy.reset(index)
            history.begin()
            index += 1
        yield history.add(tensors(observation))
        count += 1
        action = policy.act(observation, explore=False)
        observation, _, terminated, truncated, _ = episodes.step(action)
        over = bool(terminated or truncated)


def random(contract: Contract, rows: int, seed: int = 0) -> Leaves:
    """Draw observations around the data's mean, wider than the data, and any image."""
    generator = np.random.default_rng(seed)
    return {leaf.key: _random(leaf, rows, generator) for leaf in contract.observation}


def _random(leaf: Leaf, rows: int, generator: np.random.Generator) -> np.ndarray:
    if leaf.dtype == IMAGES:
        return generator.integers(0, 256, (rows, *leaf.shape), np.uint8)
    mean, std = _statistics(leaf)
    value = mean + SPREAD * std * generator.standard_normal((rows, leaf.size))
    low, high = _ends(leaf)
    return np.clip(value, low, high).reshape(rows, *leaf.shape).astype(np.float32)


def edge(contract: Contract, seen: Leaves) -> Leaves:
    """Make observations at the ends: zeros, tiny, huge, at bounds, the data's extremes.

    Vectors are driven to their ends as a whole and number by number; images are black and white.
    """
    rows = [_row(contract, seen, "mean")]
    whole = ("zero", "tiny", "low", "high", "-huge", "huge")
    rows += [_row(contract, seen, kind) for kind in whole]
    for leaf in contract.observation:
        if leaf.dtype == IMAGES:
            continue
        for number in range(min(leaf.size, ALONE)):
            for kind in ("low", "high", "-huge", "huge"):
                changed = {key: value.copy() for key, value in rows[0].items()}
                changed[leaf.key].flat[number] = _edge(leaf, seen, kind).flat[number]
                rows.append(changed)
    return _stack(rows)


def _row(contract: Contract, seen: Leaves, kind: str) -> Leaves:
    return {leaf.key: _edge(leaf, seen, kind) for leaf in contract.observation}


def _edge(leaf: Leaf, seen: Leaves, kind: str) -> np.ndarray:
    if leaf.dtype == IMAGES:
        grey = {"mean": 127, "high": 255, "huge": 255}.get(kind, 0)
        return np.full(leaf.shape, grey, np.uint8)
    lowest, highest = seen[leaf.key].min(0).ravel(), seen[leaf.key].max(0).ravel()
    low, high = _ends(leaf)
    value = {
        "mean": _statistics(leaf)[0],
        "zero": np.zeros(leaf.size),
        "tiny": np.full(leaf.size, 1e-40),  # smaller than a normal float32
        "low": np.where(np.isfinite(low), low, lowest),
        "high": np.where(np.isfinite(high), high, highest),
        "-huge": np.full(leaf.size, -HUGE),
        "huge": np.full(leaf.size, HUGE),
    }[kind]
    return np.asarray(value, np.float32).reshape(leaf.shape)


def _statistics(leaf: Leaf) -> tuple[np.ndarray, np.ndarray]:
    if leaf.normaliser is None:
        return np.zeros(leaf.size), np.ones(leaf.size)
    return np.array(leaf.normaliser.mean), np.array(leaf.normaliser.std)


def _ends(leaf: Leaf) -> tuple[np.ndarray, np.ndarray]:
    low = -np.inf if leaf.low is None else np.array(leaf.low)
    high = np.inf if leaf.high is None else np.array(leaf.high)
    return np.broadcast_to(low, leaf.size), np.broadcast_to(high, leaf.size)


def _stack(rows: list[Leaves]) -> Leaves:
    return {key: np.stack([each[key] for each in rows]) for key in rows[0]}
