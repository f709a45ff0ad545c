"""Statistics of a data set, in double precision and without ever holding a copy of it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from tensordict import TensorDict
from torch import Tensor

from robo_offline.datasets import Dataset
from robo_offline.spec import GOAL

CHUNK_ROWS = 65536


def observation_statistics(dataset: Dataset) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and standard deviation (ddof 0) per vector leaf, over all rows, closing rows included.

    Keys are leaf names as in `Spec`: `observation`, or `observation.state` when nested. A goal has
    the statistics of what it is made of, so that it is on one scale with it.
    """
    found = {
        name: _mean_and_std(leaf)
        for name, leaf in _leaves(dataset.steps)
        if leaf.dtype.is_floating_point
    }
    for key, entries in (dataset.spec.goal or {}).items():
        if f"observation.{key}" in found:
            mean, std = found[f"observation.{key}"]
            part = slice(None) if entries is None else list(entries)
            found[f"observation.{GOAL}.{key}"] = mean[part], std[part]
    return found


def reward_range(dataset: Dataset) -> tuple[float, float]:
    """Smallest and largest reward of a transition."""
    reward = dataset.steps["reward"][~dataset.steps["final"]]
    return float(reward.min()), float(reward.max())


def returns(dataset: Dataset) -> Tensor:
    """Undiscounted return of every episode: (episodes,) float64."""
    episode = dataset.steps["episode"]
    total = torch.zeros(int(episode[-1]) + 1, dtype=torch.float64)
    return total.index_add_(0, episode[:], dataset.steps["reward"].double())


def _leaves(steps: TensorDict) -> Iterator[tuple[str, Tensor]]:
    for key, leaf in steps.items(include_nested=True, leaves_only=True):
        path = key if isinstance(key, tuple) else (key,)
        if path[0] == "observation":
            yield ".".join(path), leaf


def _mean_and_std(leaf: Tensor) -> tuple[Tensor, Tensor]:
    # Two passes: the one-pass formula loses all digits where the mean dwarfs the spread.
    mean = torch.zeros(leaf.shape[1:], dtype=torch.float64)
    square = torch.zeros_like(mean)
    for chunk in leaf.split(CHUNK_ROWS):
        mean += chunk.double().sum(0)
    mean /= len(leaf)
    for chunk in leaf.split(CHUNK_ROWS):
        square += (chunk.double() - mean).square().sum(0)
    return mean.float(), (square / len(leaf)).sqrt().float()
