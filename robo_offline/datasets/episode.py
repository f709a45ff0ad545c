"""Episode: what every importer and collector hands to the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Observation = Any  # an array, or a tree of them


@dataclass
class Episode:
    """One logged episode of T steps, in the units of its source.

    Shapes: `observation` leaves (T + 1, ...), `action` (T, A), the rest (T,). `terminated` marks
    the end of the task itself, `truncated` a cut from outside (a time limit, the end of a
    recording).
    """

    observation: Observation
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    success: np.ndarray | None = None
    seed: int | None = None
    extra: dict[str, np.ndarray] = field(default_factory=dict)  # (T, ...) leaves kept as infos

    def __len__(self) -> int:
        return len(self.action)
