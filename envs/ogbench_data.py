"""How OGBench's data is made: its own controllers, let loose without a task.

Park, Frans, Eysenbach, Levine. OGBench. ICLR 2025 (arXiv 2410.20092), its data generation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import gymnasium
import numpy as np

from envs.ogbench import OGBench, numpy_stream
from robo_offline.errors import UserError

Act = Callable[[Any], np.ndarray]  # observation -> action
Cell = tuple[int, int]
STITCH_CELLS = 4  # how far away the one goal of a stitch episode is
PLANS = "ogbench.manipspace.oracles.plan"
# Of each table: who plans for it, and the least and largest share of stacks where there are several
# cubes, which is drawn per episode.
STACKING = {1: (0.0, 0.0), 2: (0.0, 0.25), 3: (0.05, 0.35), 4: (0.1, 0.5), 8: (0.0, 0.35)}


@dataclass
class _Walk:
    """Through a maze from cell to cell, along OGBench's own waypoints, as noisily as asked."""

    noise: float  # std of the Gaussian on every action

    def begin(self, env: gymnasium.Env, index: int, rng: np.random.Generator) -> Act:
        """Return what acts in an episode of data; the environment starts it anywhere."""
        maze = _collecting(env, "maze_map", "a maze such as env=ogbench/pointmaze_medium")
        if maze.action_space.shape != (2,):
            raise UserError(
                "only a point follows waypoints by itself",
                found=f"{maze.action_space.shape[0]} joints",
                remedy="a pointmaze; data of other bodies comes as npz files: data import",
            )
        self._send(maze, rng, first=True)

        def act(observation: Any) -> np.ndarray:
            if maze.compute_success():
                self._send(maze, rng, first=False)
            waypoint, _ = maze.get_oracle_subgoal(maze.get_xy(), maze.cur_goal_xy)
            towards = waypoint - maze.get_xy()
            towards = towards / (np.linalg.norm(towards) + 1e-6)
            return towards + rng.normal(0.0, self.noise, 2)

        return act

    def extra(self, index: int) -> dict[str, float]:
        """Return the noise."""
        return {"noise": self.noise}

    def _send(self, maze: Any, rng: np.random.Generator, *, first: bool) -> None:
        """Set where to go, at the beginning and where the last goal is reached."""
        raise NotImplementedError

    @staticmethod
    def _go(maze: Any, rng: np.random.Generator, cells: list[Cell]) -> None:
        with numpy_stream(np.random.RandomState(rng.integers(2**31))):
            cell = cells[np.random.randint(len(cells))]
            maze.set_goal(goal_xy=maze.add_noise(maze.ij_to_xy(cell)))


class Navigate(_Walk):
    """From one random goal to the next: OGBench's `navigate`."""

    def _send(self, maze: Any, rng: np.random.Generator, *, first: bool) -> None:
        self._go(maze, rng, corners(maze.maze_map))


class Stitch(_Walk):
    """To one goal four cells away, and there it stays: OGBench's `stitch`."""

    def _send(self, maze: Any, rng: np.random.Generator, *, first: bool) -> None:
        if first:
            here = maze.xy_to_ij(maze.get_xy())
            self._go(maze, rng, at_distance(maze.maze_map, here, STITCH_CELLS) or [here])


@dataclass
class Play:
    """On a table from one random target to the next, by noisy plans: OGBench's `play`."""

    noise: float  # of the plan, as a share of what one step may move
    noise_smoothing: float  # std of the filter over it, in steps

    kinds: ClassVar[dict[str, tuple[str, str, dict[str, Any]]]] = {
        "CubeEnv": ("cube", "CubePlanOracle", {}),
        "PuzzleEnv": ("button", "ButtonPlanOracle", {"gripper_always_closed": True}),
    }

    def begin(self, env: gymnasium.Env, index: int, rng: np.random.Generator) -> Act:
        """Return what acts in an episode of data; the environment scatters the objects."""
        table = _collecting(env, "set_new_target", "a table such as env=ogbench/cube_single")
        kind = self.kinds.get(type(table).__name__)
        if kind is None:
            raise UserError(
                f"nobody plays with {type(table).__name__} here",
                expected="one of " + ", ".join(self.kinds),
                remedy="its data comes as npz files: data import",
            )
        name, oracle, options = kind
        made = getattr(import_module(f"{PLANS}.{name}_plan"), oracle)
        planner = made(
            env=env.unwrapped, noise=self.noise, noise_smoothing=self.noise_smoothing, **options
        )
        target = {}
        if name == "cube":
            target = {"p_stack": rng.uniform(*STACKING[table._num_cubes])}
        stream = np.random.RandomState(rng.integers(2**31))  # planners draw from the global one
        with numpy_stream(stream):
            planner.reset(None, table.get_reset_info())

        def act(observation: Any) -> np.ndarray:
            with numpy_stream(stream):
                if planner.done:
                    planner.reset(*table.set_new_target(**target))
                return planner.select_action(None, table.compute_ob_info())

        return act

    def extra(self, index: int) -> dict[str, float]:
        """Return the noise."""
        return {"noise": self.noise}


def corners(maze: np.ndarray) -> list[Cell]:
    """Return the free cells (row, column) that are no straight corridor."""
    found = []
    for row, column in np.argwhere(maze == 0):
        free = {
            side
            for side, (down, right) in enumerate(((-1, 0), (1, 0), (0, -1), (0, 1)))
            if maze[row + down, column + right] == 0
        }
        if free not in ({0, 1}, {2, 3}):
            found.append((int(row), int(column)))
    return found


def at_distance(maze: np.ndarray, start: Cell, cells: int) -> list[Cell]:
    """Return the free cells to which the shortest way from `start` is this many cells long."""
    front, seen = [start], {start}
    for _ in range(cells):
        around = [(r + d, c + e) for r, c in front for d, e in ((-1, 0), (1, 0), (0, -1), (0, 1))]
        front = [cell for cell in dict.fromkeys(around) if cell not in seen and maze[cell] == 0]
        seen.update(front)
    return front


def _collecting(env: gymnasium.Env, needs: str, expected: str) -> Any:
    """Return OGBench's own environment, which must have what is needed to make data."""
    task: Any = env.unwrapped
    if not isinstance(env, OGBench) or not hasattr(task, needs):
        raise UserError(
            "this way of making data is for another environment",
            expected=expected,
            found=type(task).__name__,
        )
    if not env.collecting:
        raise UserError(
            "the environment is set up to be solved, not to make data",
            remedy="say env.collecting=true",
        )
    return task
