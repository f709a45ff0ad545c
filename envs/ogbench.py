"""OGBench's mazes and tables: five goals to be judged by, the goal a leaf of the observation.

Park, Frans, Eysenbach, Levine. OGBench: Benchmarking Offline Goal-Conditioned RL. ICLR 2025
(arXiv 2410.20092).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict

from envs import graphics
from envs.gymnasium import Continuous, registered, settled_warnings
from robo_offline.errors import UserError

TASKS = 5  # of every environment
VISUAL = "visual-"  # in front of the ids of those that are seen by a camera
RENDERERS = ("custom_renderer", "_renderer")  # what mazes and tables call theirs
STATE, PIXELS = "state", "pixels"


class OGBench(Continuous):
    """One environment of OGBench: `state`, or `pixels` (3, 64, 64), and the same of the goal.

    `task_id` is one of its tasks, from 1 on; 0 is each in turn, by the episode's index where there
    is one. With `goal_entries` these entries of the state are the goal, without any the whole of
    it. `collecting` starts anywhere, without goal and without end, for those who make data.
    """

    def __init__(
        self,
        id: str,
        horizon: int,
        task_id: int = 0,
        goal_entries: Sequence[int] = (),
        success_ends: bool = True,
        collecting: bool = False,
        **kwargs: Any,
    ):
        if not 0 <= task_id <= TASKS:
            raise UserError(
                "env.task_id does not fit", expected=f"1 to {TASKS}, or 0 for all", found=task_id
            )
        _import()
        if id.startswith(VISUAL):
            _serve_images()
        self._random = np.random.RandomState(0)
        with numpy_stream(self._random), settled_warnings():
            env = registered(
                id,
                horizon,
                terminate_at_goal=success_ends and not collecting,
                **({"mode": "data_collection"} if collecting and "maze" not in id else {}),
                **kwargs,
            )
            _fix_actions(env.unwrapped)
            super().__init__(env)
        self.task_id, self.collecting = task_id, collecting
        seen: Any = env.observation_space
        self._images = isinstance(seen, Box) and seen.dtype == np.uint8
        self._leaf = PIXELS if self._images else STATE
        entries = tuple(goal_entries) or None
        if entries and (self._images or not max(entries) < seen.shape[0]):
            raise UserError(
                "env.goal_entries does not fit",
                expected="none for images" if self._images else f"entries below {seen.shape[0]}",
                found=list(entries),
            )
        leaf, goal = _box(seen, None), _box(seen, entries)
        self.observation_space = Dict({self._leaf: leaf})
        if not collecting:
            self.goal_made_of = {self._leaf: entries}
            self.observation_space = Dict({self._leaf: leaf, "goal": Dict({self._leaf: goal})})
        self._goal: Any = None

    def episode_options(self, episode: int) -> dict[str, int] | None:
        """Return the options that a reset is told for the episode of this index."""
        return None if self.collecting else {"task_id": self.task_id or episode % TASKS + 1}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; the same seed and task begin the same one."""
        if seed is not None:
            self._random.seed(seed)
            self.env.unwrapped.action_space.seed(seed)
        with numpy_stream(self._random):
            chosen = self._place() if self.collecting else self._choose(options or {})
            observation, info = self.env.reset(seed=seed, options=chosen)
        if not self.collecting:
            self._goal = self._only_goal(self._leaf_of(info["goal"]))
        task = {"task": chosen["task_id"]} if "task_id" in chosen else {}
        return self._read(observation), {"success": False, **task}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Execute an action, clipped to [-1, 1]; never both terminated and truncated."""
        with numpy_stream(self._random):
            return super().step(action)

    def render(self) -> Any:
        """Return an RGB image (H, W, 3) of the scene."""
        _serve_images()
        return super().render()

    def close(self) -> None:
        """Release the simulation and its graphics."""
        for name in RENDERERS:
            renderer = getattr(self.env.unwrapped, name, None)
            if renderer is not None:
                renderer.close()
                setattr(self.env.unwrapped, name, None)
        super().close()

    def _choose(self, options: dict[str, Any]) -> dict[str, Any]:
        drawn = int(np.random.randint(TASKS)) + 1
        return {"task_id": options.get("task_id", self.task_id or drawn)}

    def _place(self) -> dict[str, Any]:
        """Say where an episode of data begins; tables scatter their objects by themselves."""
        maze = getattr(self.env.unwrapped, "maze_map", None)
        if maze is None:
            return {}
        free = np.argwhere(maze == 0)
        init, goal = (tuple(free[np.random.randint(len(free))]) for _ in range(2))
        return {"task_info": {"init_ij": init, "goal_ij": goal}}

    def _only_goal(self, leaf: np.ndarray) -> np.ndarray:
        entries = self.goal_made_of[self._leaf]
        return leaf if entries is None else leaf[list(entries)]

    def _leaf_of(self, observation: Any) -> np.ndarray:
        if self._images:
            return np.ascontiguousarray(np.asarray(observation).transpose(2, 0, 1))
        return np.asarray(observation, np.float32)

    def _read(self, observation: Any) -> Any:
        seen = {self._leaf: self._leaf_of(observation)}
        return seen if self.collecting else {**seen, "goal": {self._leaf: self._goal}}

    def _info(self, info: dict[str, Any]) -> dict[str, Any]:
        return {"success": bool(info.get("success", False))}


@contextmanager
def numpy_stream(random: np.random.RandomState) -> Iterator[None]:
    """Let what draws from NumPy's global stream draw from another, and leave that one as it was."""
    outer = np.random.get_state()
    np.random.set_state(random.get_state())
    try:
        yield
    finally:
        random.set_state(np.random.get_state())
        np.random.set_state(outer)


def _box(space: Any, entries: tuple[int, ...] | None) -> Box:
    if space.dtype == np.uint8:
        height, width, channels = space.shape
        return Box(0, 255, (channels, height, width), np.uint8)
    return Box(-np.inf, np.inf, space.shape if entries is None else (len(entries),), np.float32)


def _fix_actions(task: Any) -> None:
    """Keep one action space: a table makes one at every look, from which no seed draws the same."""
    fixed = type(task.__class__.__name__, (task.__class__,), {"action_space": task.action_space})
    task.__class__ = fixed


def _import() -> None:
    try:
        importlib.import_module("ogbench")
    except ModuleNotFoundError as error:
        raise UserError(
            "OGBench is not installed",
            found=error,
            remedy="pip install 'robo-offline[goals]'",
        ) from error


def _serve_images() -> None:
    """Let MuJoCo's own renderer start; without a window it would not find the way by itself."""
    module = importlib.import_module(graphics.BACKENDS[graphics.backend()][0])
    renderer: Any = importlib.import_module(graphics.mujoco.Renderer.__module__)
    renderer.gl_context.GLContext = module.GLContext
