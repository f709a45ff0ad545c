"""robosuite's Lift with goals: where the cube shall be, or what that looks like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict

from envs.experts import LiftExpert
from envs.robosuite import Robosuite
from robo_offline.errors import UserError

OBJECT = "object-state"  # begins with the cube's position
AXES = 3
EXPERT_STEPS = 100  # in which an expert that shows a goal has lifted the cube


class LiftGoals(Robosuite):
    """Observes `state`, cameras, and `goal`: of the cube's position, or an image of each camera.

    Goals lie between the two `heights` above where the cube lies, and up to `aside` beside it, all
    in metres. `axes` are those of the position that make a goal: [2] is the height alone. With
    cameras a goal is what they see when a scripted expert has lifted the cube as high; it lies
    straight above. Success is a distance under `tolerance`.
    """

    def __init__(
        self,
        heights: Sequence[float] = (0.06, 0.2),
        aside: float = 0.1,
        axes: Sequence[int] = (0, 1, 2),
        tolerance: float = 0.02,
        success_ends: bool = True,
        **kwargs: Any,
    ):
        if (
            not set(axes) <= set(range(AXES))
            or len(heights) != 2
            or not 0 < heights[0] <= heights[1]
        ):
            raise UserError(
                "the goals of env do not make sense",
                expected="axes out of 0, 1, 2 and two heights above 0, the lower one first",
                found=f"axes {list(axes)}, heights {list(heights)}",
            )
        super().__init__(task="Lift", **kwargs)
        self.heights, self.aside, self.tolerance = tuple(heights), aside, tolerance
        self.axes, self.success_ends = list(axes), success_ends
        self.goal_position = np.full(AXES, np.inf)
        first = self._first_of_cube()
        self.goal_made_of = (
            dict.fromkeys(self.cameras)
            if self.cameras
            else {"state": tuple(first + axis for axis in axes)}
        )
        seen = self.observation_space
        leaves = dict(seen.items()) if isinstance(seen, Dict) else {"state": seen}
        goal = {name: leaves[name] for name in self.cameras}
        goal = goal or {"state": Box(-np.inf, np.inf, (len(axes),), np.float32)}
        self.observation_space = Dict({**leaves, "goal": Dict(goal)})
        self._shown: dict[str, np.ndarray] = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode that is a function of `seed` alone; `options` may hold a `goal` (3,)."""
        seed = int(self.np_random.integers(2**31)) if seed is None else seed
        self.goal_position = np.full(AXES, np.inf)
        super().reset(seed=seed)
        draw = np.random.default_rng(seed)
        offset = [
            *draw.uniform(-self.aside, self.aside, 2),
            draw.uniform(self.heights[0], self.heights[1]),
        ]
        goal = np.asarray((options or {}).get("goal", self._cube() + offset), np.float64)
        if self.cameras:
            goal = self._show(goal[2])
            super().reset(seed=seed)
        self.goal_position = goal
        return self.observe(), {"success": self.success()}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Execute one action, clipped to [-1, 1], for one control period."""
        seen, reward, terminated, _, info = super().step(action)
        terminated = terminated and (self.success_ends or not info["success"])
        return seen, reward, terminated, self._steps >= self.horizon and not terminated, info

    def observe(self) -> Any:
        """Return the observation of the simulation's present state, and the goal."""
        seen = super().observe()
        leaves = seen if isinstance(seen, dict) else {"state": seen}
        goal = self._shown or {"state": self.goal_position[self.axes].astype(np.float32)}
        return {**leaves, "goal": dict(goal)}

    def success(self) -> bool:
        """Say whether the cube is where it shall be."""
        axes = range(AXES) if self.cameras else self.axes
        offset = (self._cube() - self.goal_position)[list(axes)]
        return bool(np.linalg.norm(offset) < self.tolerance)

    def _cube(self) -> np.ndarray:
        sim = self.simulation.sim
        return sim.data.body_xpos[self.simulation.cube_body_id].copy()

    def _first_of_cube(self) -> int:
        """Return the entry of the state where the cube's position begins."""
        values = self.simulation._get_observations(force_update=True)
        if OBJECT not in self.observation_keys:
            raise UserError(
                "the state holds no cube, of which goals are made",
                expected=f"{OBJECT} among env.observation_keys",
                found=", ".join(self.observation_keys),
            )
        before = self.observation_keys[: self.observation_keys.index(OBJECT)]
        return sum(np.size(values[key]) for key in before)

    def _show(self, height: float) -> np.ndarray:
        """Let an expert lift the cube, look at it, and return where it is then (3,)."""
        expert = LiftExpert(self)
        for _ in range(EXPERT_STEPS):
            if self._cube()[2] >= height:
                break
            self.simulation.step(expert(None))
        size = self.image_size
        self._shown = {
            name: np.ascontiguousarray(self._image(name, size, size).transpose(2, 0, 1))
            for name in self.cameras
        }
        return self._cube()
