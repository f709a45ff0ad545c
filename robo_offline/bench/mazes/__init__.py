"""OGBench's point mazes: data made by its recipe, what was published, what must be stitched."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from robo_offline.bench import jobs
from robo_offline.config import choices

SEED = 0  # of every data set
FAMILY = "ogbench/pointmaze"  # folder under configs/experiment
HALF = 0.5  # of a cell: who was as near to a task's start was there


@dataclass(frozen=True)
class Maze:
    """A data set of a maze: who walks in it, how often and for how long."""

    environment: str  # of configs/env/ogbench
    policy: str  # of configs/policy
    episodes: int
    horizon: int
    discount: float = 0.99
    goals: tuple[str, ...] = ()  # overrides for those that do more than clone

    def dataset(self, episodes: int | None) -> str:
        """Name the data set of so many episodes; of the recipe's number unless told."""
        return f"goals/{self.environment}_{self.policy}_{episodes or self.episodes}-v0"

    def prepare(self, options: argparse.Namespace) -> None:
        """Make the data set where it is not on this machine yet."""
        from robo_offline.datasets.store import local_ids

        name = self.dataset(options.data_episodes)
        if name in local_ids():
            return
        arguments = [
            f"env=ogbench/{self.environment}",
            "env.collecting=true",
            f"env.horizon={self.horizon}",
            f"policy={self.policy}",
            f"episodes={options.data_episodes or self.episodes}",
            f"seed={SEED}",
            f"name={name}",
            f"workers={options.jobs}",
        ]
        jobs.call(["collect", *arguments], options.out / "data" / f"{name.split('/')[-1]}.log")

    def arguments(self, algo: str, episodes: int | None) -> list[str]:
        """Overrides of a training: the method's own experiment, or the family's."""
        own = f"{FAMILY}/{algo}"
        chosen = [f"experiment={own}"]
        if own not in choices("experiment"):
            chosen = [f"experiment={FAMILY}/task", f"algo={algo}"]
        return [
            *chosen,
            f"env=ogbench/{self.environment}",
            f"dataset={self.dataset(episodes)}",
            f"algo.discount={self.discount}",
            *(() if algo == "gcbc" else self.goals),
        ]


def pieces(task: Maze, episodes: int) -> dict[str, Any]:
    """Count for each task the trajectories that pass its start and later its goal.

    `apart` are the tasks that none connects: whoever solves them has stitched.
    """
    import envs
    from robo_offline.datasets import load

    steps = load(task.dataset(episodes)).steps
    position = steps["observation", "state"][:, :2].numpy()
    trajectories = np.split(position, np.flatnonzero(steps["final"].numpy())[:-1] + 1)
    with closing(envs.make(f"ogbench/{task.environment}")) as env:
        maze: Any = env.unwrapped
        near, arrived, tasks = HALF * maze._maze_unit, maze._goal_tol, maze.task_infos
    found = {
        str(number): sum(
            connects(walk, np.array(each["init_xy"]), near, np.array(each["goal_xy"]), arrived)
            for walk in trajectories
        )
        for number, each in enumerate(tasks, 1)
    }
    return {
        "trajectories": len(trajectories),
        "connecting": found,
        "apart": [number for number, count in found.items() if not count],
    }


def connects(
    walk: np.ndarray, start: np.ndarray, near: float, goal: np.ndarray, arrived: float
) -> bool:
    """Whether a walk (T, 2) passes within `near` of a start and later within reach of a goal."""
    begins = np.flatnonzero(np.linalg.norm(walk - start, axis=1) <= near)
    ends = np.flatnonzero(np.linalg.norm(walk - goal, axis=1) <= arrived)
    return bool(len(begins) and len(ends) and begins[0] < ends[-1])


SHORT = ("goals.actor.uniform=0.5", "goals.actor.random=0.5")  # actors need goals of elsewhere too
TASKS: Mapping[str, Maze] = {
    "pointmaze_medium_navigate": Maze("pointmaze_medium", "navigate", 1000, 1000),
    "pointmaze_large_navigate": Maze("pointmaze_large", "navigate", 1000, 1000),
    "pointmaze_giant_navigate": Maze("pointmaze_giant", "navigate", 500, 2000, 0.995),
    "pointmaze_medium_stitch": Maze("pointmaze_medium", "stitch", 5000, 200, 0.99, SHORT),
    "pointmaze_large_stitch": Maze("pointmaze_large", "stitch", 5000, 200, 0.99, SHORT),
    "pointmaze_giant_stitch": Maze("pointmaze_giant", "stitch", 5000, 200, 0.995, SHORT),
}
# Success in per cent, mean over seeds: gcbc, gcivl, gciql, qrl, crl, hiql.
PUBLISHED: Mapping[str, tuple[float, ...]] = {
    "pointmaze_medium_navigate": (9, 63, 53, 82, 29, 79),
    "pointmaze_large_navigate": (29, 45, 34, 86, 39, 58),
    "pointmaze_giant_navigate": (1, 0, 0, 68, 27, 46),
    "pointmaze_medium_stitch": (23, 70, 21, 80, 0, 74),
    "pointmaze_large_stitch": (7, 12, 31, 84, 0, 13),
    "pointmaze_giant_stitch": (0, 0, 0, 50, 0, 0),
}
