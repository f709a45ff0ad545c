"""Data sets: fixed logged experience, held in one layout whatever format it came from."""

from __future__ import annotations

from typing import NamedTuple

from tensordict import TensorDict

from robo_offline.spec import Spec


class Dataset(NamedTuple):
    """Logged episodes as rows, ready for a replay.

    `steps` has one row per time step, episodes contiguous and in order, and each episode of T
    actions is followed by one more row that holds its last observation: T + 1 rows. So the
    successor of row i is always row i + 1, and no observation is stored twice. Leaves:

    - `observation`: (N, D) float32, or nested leaves (images uint8, channel first)
    - `action`: (N, A) float32 in [-1, 1]; zero in the closing row
    - `reward`: (N,) float32; `terminated`, `truncated`, `success`: (N,) bool. They describe the
      step *after* the action of their row; zero and False in the closing row
    - `episode`: (N,) int64; `final`: (N,) bool, True in the closing row, which is no transition
    """

    name: str
    steps: TensorDict
    spec: Spec
    score_range: tuple[float, float] | None  # random and expert return, for normalised scores


def load(name: str) -> Dataset:
    """Load a data set by its Minari id through the memory-mapped cache."""
    from robo_offline.datasets.cache import load as load_cached

    return load_cached(name)
