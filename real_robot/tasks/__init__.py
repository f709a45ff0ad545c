"""Tasks for an arm: where an episode begins, when it is won, and how a person would do it.

One object is reset, outcome and knowledge of a task. `left` and `way` are what a scripted person
goes by who shows the task or helps with it; a policy sees neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from real_robot.env import RealRobotEnv
from real_robot.tasks.peg import Peg
from real_robot.tasks.reach import Reach

__all__ = ["Peg", "Reach", "Task"]


class Task(Protocol):
    """What can be done with an arm."""

    goal: np.ndarray  # (3,) m in the base; can be observed
    scene: Mapping[str, Any]  # what stands around a simulated arm: arguments of `models.capsules`

    def __call__(self, env: RealRobotEnv, random: np.random.Generator) -> None:
        """Bring the arm to the beginning of an episode."""

    def outcome(self, state: Mapping[str, Any], observation: Any) -> tuple[float, bool, bool]:
        """Return the reward, whether it succeeded, and whether it failed for good."""

    def way(self, state: Mapping[str, Any]) -> np.ndarray:
        """Return where a person would bring the tool from here, (3,) m relative to it."""

    def left(self, state: Mapping[str, Any]) -> float:
        """Return how far it is to the end, in m; less is progress."""
