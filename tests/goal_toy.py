"""A plane small enough to learn in seconds: from the middle to any point of a square, and there."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict

HORIZON = 12
STEP = 0.3
TOLERANCE = 0.25


class Plane(gymnasium.Env):
    """Observes its place and what it last did; a goal is a place. Arrival ends the episode."""

    goal_made_of = {"state": (0, 1)}

    def __init__(self, goals: bool = True):
        self.action_space = Box(-1.0, 1.0, (2,), np.float32)
        self.goals = goals
        leaves: dict[str, gymnasium.Space] = {"state": Box(-np.inf, np.inf, (4,), np.float32)}
        if goals:
            leaves["goal"] = Dict({"state": Box(-np.inf, np.inf, (2,), np.float32)})
        self.observation_space = Dict(leaves)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.place, self.last, self.time = np.zeros(2), np.zeros(2), 0
        self.goal = self.np_random.uniform(-1.5, 1.5, 2)
        return self._see(), {"success": False}

    def step(self, action):
        self.last = STEP * np.clip(action, -1, 1)
        self.place = self.place + self.last
        self.time += 1
        success = bool(np.linalg.norm(self.place - self.goal) < TOLERANCE)
        over = self.time >= HORIZON and not success
        return self._see(), float(success), success, over, {"success": success}

    def _see(self) -> dict[str, Any]:
        seen: dict[str, Any] = {"state": np.concatenate([self.place, self.last])}
        if self.goals:
            seen["goal"] = {"state": self.goal.astype(np.float32)}
        return {**seen, "state": seen["state"].astype(np.float32)}


def make(tolerance: float = TOLERANCE, success_ends: bool = True, **ignored: Any) -> Plane:
    """Build from a configuration; what others know of it is `tolerance` and `success_ends`."""
    return Plane()
