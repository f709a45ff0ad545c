"""Reach: bring the tool to a point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from real_robot.env import RealRobotEnv


class Reach:
    """Bring the tool to a point that is drawn anew for every episode. Reset and outcome in one.

    The point is observed as `goal`, relative to the base; reward 1 and the end within `near_m`.
    """

    scene: Mapping[str, Any] = {}

    def __init__(
        self,
        low_m: Sequence[float],
        high_m: Sequence[float],
        near_m: float = 0.02,
        timeout_s: float = 15.0,
    ):
        self.low, self.high = np.array([*low_m], float), np.array([*high_m], float)
        self.near_m, self.timeout_s = near_m, timeout_s
        self.goal = (self.low + self.high) / 2

    def __call__(self, env: RealRobotEnv, random: np.random.Generator) -> None:
        self.goal = random.uniform(self.low, self.high)
        env.task["goal"] = self.goal
        env.go(np.array(env.robot.home_rad), 1.0, self.timeout_s)

    def outcome(self, state: Mapping[str, Any], observation: Any) -> tuple[float, bool, bool]:
        """Judge a state by the tool's measured position."""
        success = self.left(state) < self.near_m
        return float(success), success, False

    def way(self, state: Mapping[str, Any]) -> np.ndarray:
        """Return the straight line to the point (3,), m."""
        return self.goal - np.array(state["tool"][:3])

    def left(self, state: Mapping[str, Any]) -> float:
        """Return the distance to the point, m."""
        return float(np.linalg.norm(self.way(state)))
