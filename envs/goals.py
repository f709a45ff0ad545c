"""Goal tasks of Gymnasium-Robotics, the goal a leaf of the observation and not a part of a vector.

Plappert et al. Multi-Goal Reinforcement Learning (arXiv 1802.09464): Fetch; Fu et al. D4RL
(arXiv 2004.07219): mazes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict

from envs.gymnasium import GOAL_KEYS, Continuous, registered
from robo_offline.errors import UserError


def make_goals(
    id: str,
    horizon: int,
    tolerance: float,
    goal_entries: Sequence[int],
    success_ends: bool,
    reset_options: Mapping[str, Any],
    **kwargs: Any,
) -> gymnasium.Env:
    """Make the goal task registered as `id`, with `kwargs` for its constructor.

    `goal_entries` are the entries of what it observes that make a goal; without any, what the task
    calls the achieved goal is put behind its observation. `reset_options` are what every reset is
    told: whatever the task knows, and `goal`, the numbers of one goal for all episodes.
    """
    env = registered(id, horizon, **kwargs)
    return Goals(env, tolerance, goal_entries, success_ends, reset_options)


class Goals(Continuous):
    """Observes `state`, and `goal` of the entries of a state that shall be reached.

    Success is a distance under `tolerance`, of which the reward is 1 and any other 0, whatever the
    task itself pays.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        tolerance: float,
        goal_entries: Sequence[int] = (),
        success_ends: bool = False,
        reset_options: Mapping[str, Any] | None = None,
    ):
        space = env.observation_space
        if not isinstance(space, Dict) or set(space.keys()) != GOAL_KEYS:
            raise UserError(
                "this environment has no goals",
                expected="observations of " + ", ".join(sorted(GOAL_KEYS)),
                found=space,
            )
        super().__init__(env, False, reset_options)  # the task's own success is not ours
        self.tolerance, self.ends = tolerance, success_ends
        self._appended = not goal_entries
        seen, numbers = (_size(space[key]) for key in ("observation", "desired_goal"))
        size = seen + (numbers if self._appended else 0)
        entries = tuple(goal_entries) or tuple(range(seen, size))
        if len(entries) != numbers or not all(0 <= entry < size for entry in entries):
            raise UserError(
                "env.goal_entries does not fit the task",
                expected=f"{numbers} entries of the {seen} that are observed",
                found=list(entries),
            )
        self.goal_made_of = {"state": entries}
        goal = Dict({"state": Box(-np.inf, np.inf, (numbers,), np.float32)})
        state = Box(-np.inf, np.inf, (size,), np.float32)
        self.observation_space = Dict({"state": state, "goal": goal})
        self._check_entries()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; the same seed begins the same one."""
        options = {**self.reset_options, **(options or {})}
        given = options.pop("goal", None)
        observation, info = self.env.reset(seed=seed, options=options or None)
        if given is not None:
            observation = {**observation, "desired_goal": self._command(given)}
        seen = self._read(observation)
        return seen, {**info, "success": self.reached(seen)}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Execute an action, clipped to [-1, 1]; never both terminated and truncated."""
        seen, _, terminated, truncated, info = super().step(action)
        success = self.reached(seen)
        over = terminated or (success and self.ends)
        return seen, float(success), over, truncated and not over, {**info, "success": success}

    def reached(self, seen: Any) -> bool:
        """Say whether an observation is within the tolerance of its goal."""
        offset = seen["state"][list(self.goal_made_of["state"])] - seen["goal"]["state"]
        return bool(np.linalg.norm(offset) < self.tolerance)

    def _read(self, observation: Any) -> Any:
        parts = [observation["observation"]]
        parts += [observation["achieved_goal"]] if self._appended else []
        state, goal = np.concatenate(parts), observation["desired_goal"]
        return {"state": state.astype(np.float32), "goal": {"state": goal.astype(np.float32)}}

    def _command(self, goal: Sequence[float]) -> np.ndarray:
        """Give the present episode this goal."""
        task: Any = self.env.unwrapped
        numbers = np.array(goal, np.float64)
        if numbers.shape != np.shape(task.goal):
            raise UserError(
                "a goal of env.reset_options has the wrong size",
                expected=f"{np.size(task.goal)} numbers",
                found=numbers.tolist(),
            )
        task.goal = numbers
        if hasattr(task, "update_target_site_pos"):  # where a maze shows it
            task.update_target_site_pos()
        return numbers

    def _check_entries(self) -> None:
        observation, _ = self.env.reset(seed=0)
        achieved = np.asarray(observation["achieved_goal"], np.float32)
        found = self._read(observation)["state"][list(self.goal_made_of["state"])]
        if not np.allclose(found, achieved, atol=1e-6):
            raise UserError(
                "env.goal_entries are not what the task calls achieved",
                expected=achieved.tolist(),
                found=found.tolist(),
                remedy="env.goal_entries=[] puts the achieved goal behind the observation",
            )


def _size(space: gymnasium.Space) -> int:
    assert space.shape is not None and len(space.shape) == 1, "goal tasks observe vectors"
    return space.shape[0]
