"""Peg in hole: a peg that the gripper holds fast goes into a hole wider than itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from real_robot.env import RealRobotEnv
from real_robot.kinematics import Chain, matrix
from robo_offline.errors import UserError

ALIGNED_M = 0.0015  # beside the hole's middle, where a person begins to push
CLEAR_M = 0.012  # of the tip above the plate, where they move sideways
SINKS_M = 0.003  # of the tip under the plate's face: it is in the hole, or presses the plate down
PUSH_M = 0.02  # how far ahead of the tip a person aims in the hole
OPENING = 0.5  # of the gripper: the peg is fast, and an action of 0 leaves it so


class Peg:
    """Push the peg into the hole. Reset and outcome in one; reward 1 and the end at `depth_m`.

    The plate lies where `hole_m` says, the middle of the hole in its upper face, and gives way on
    springs; a scene that tells the pose of its `plate` is believed. An episode begins with the
    tip at a random place above the plate, which the arm moves to by itself.
    """

    def __init__(
        self,
        hole_m: Sequence[float],
        tip_m: float,
        hole_half_m: float,
        depth_m: float = 0.012,
        aside_m: float = 0.1,
        above_m: Sequence[float] = (0.03, 0.08),
        timeout_s: float = 15.0,
    ):
        """Take the scene's measures: `tip_m` of the peg's end beyond the tool's point."""
        self.goal = np.array([*hole_m], float)
        self.tip_m, self.hole_half_m, self.depth_m = tip_m, hole_half_m, depth_m
        self.aside_m, self.timeout_s = aside_m, timeout_s
        self.above_m = float(above_m[0]), float(above_m[1])
        self.scene = {"hole_m": self.goal.tolist()}

    def __call__(self, env: RealRobotEnv, random: np.random.Generator) -> None:
        env.task["goal"] = self.goal
        chain, limits = Chain(env.robot), env.robot.limits.arrays()
        home = np.array(env.robot.home_rad)
        (_, [down]) = chain.tool(home)

        def go(tip: np.ndarray) -> None:
            ends = limits["low"], limits["high"]
            q = chain.inverse(tip + [0, 0, self.tip_m], down, home, *ends)
            if q is None:
                raise UserError("the hole is out of the arm's reach", found=self.goal.tolist())
            env.go(q, OPENING, self.timeout_s)

        env.look()
        tip = self._tip(env.state)
        over = self.goal[2] + self.above_m[0]
        if tip[2] < over:  # out of the hole before aside
            go(np.append(tip[:2], over))
        aside = random.uniform(-self.aside_m, self.aside_m, 2)
        go(self.goal + np.append(aside, random.uniform(self.above_m[0], self.above_m[1])))

    def outcome(self, state: Mapping[str, Any], observation: Any) -> tuple[float, bool, bool]:
        """Judge a state by where the peg's end is in the plate."""
        inside, aside = self._inside(state), np.abs(self._aside(state)).max()
        success = bool(inside >= self.depth_m and aside < self.hole_half_m)
        return float(success), success, False

    def way(self, state: Mapping[str, Any]) -> np.ndarray:
        """Return over the hole first, then down into it (3,), m."""
        aside, inside = self._aside(state), self._inside(state)
        distance = float(np.linalg.norm(aside))
        if self._missed(distance, inside):  # on the plate: up before aside
            return np.array([0.0, 0.0, CLEAR_M + inside])
        if distance > ALIGNED_M and inside < SINKS_M:
            return np.append(aside, inside + CLEAR_M)
        return np.append(aside, -PUSH_M)

    def left(self, state: Mapping[str, Any]) -> float:
        """Return the length of that way, m."""
        inside, distance = self._inside(state), float(np.linalg.norm(self._aside(state)))
        if self._missed(distance, inside):
            return inside + CLEAR_M + distance + CLEAR_M + self.depth_m
        return distance + max(0.0, self.depth_m - inside)

    def _missed(self, distance: float, inside: float) -> bool:
        """Say whether the peg stands on the plate beside the hole."""
        return distance > self.hole_half_m / 2 and inside > -CLEAR_M / 4

    def _aside(self, state: Mapping[str, Any]) -> np.ndarray:
        """Return the way from the tip to the hole's middle in the plane of the plate (2,)."""
        return (self._plate(state) - self._tip(state))[:2]

    def _inside(self, state: Mapping[str, Any]) -> float:
        """Return how far under the plate's upper face the tip is."""
        return float((self._plate(state) - self._tip(state))[2])

    def _plate(self, state: Mapping[str, Any]) -> np.ndarray:
        told = state.get("extra", {}).get("plate")
        return self.goal if told is None else np.array(told[:3])

    def _tip(self, state: Mapping[str, Any]) -> np.ndarray:
        tool = np.array(state["tool"])
        return tool[:3] + self.tip_m * matrix(tool[3:])[:, 2]
