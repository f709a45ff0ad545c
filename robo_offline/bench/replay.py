"""Replay: what it costs to draw goals in hindsight, and what images and stacks of them take.

Batches are drawn in turns with and without relabelling from the same rows, which hold the goals
they were collected with; a ratio of 1.1 is a tenth slower. Each figure is the least of many single
draws, which is what remains of it on a machine that does other things too.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from tensordict import TensorDict

from robo_offline.bench import frames
from robo_offline.build import goals
from robo_offline.config import compose
from robo_offline.replay.buffer import Replay, Window
from robo_offline.schema import ACTOR_GOAL, SUBGOALS
from robo_offline.spec import MadeOf

STEPS, ACTION = 1000, 8  # of an episode; numbers
DISCOUNT = 0.99
POSITION = 2  # numbers of a goal that is a place
CASES: dict[str, tuple[list[str], MadeOf, tuple[str, ...]]] = {
    "ogbench": (["goals=ogbench"], {"state": None}, ()),
    "ogbench, actor goals": (["goals=ogbench"], {"state": None}, (ACTOR_GOAL,)),
    "ogbench, subgoals": (["goals=ogbench"], {"state": None}, (SUBGOALS,)),
    "her": (["goals=her", "env=goal/point_maze_umaze"], {"state": tuple(range(POSITION))}, ()),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=500_000, help="of the replay without images")
    parser.add_argument("--state", type=int, default=29, help="numbers per observation")
    parser.add_argument("--batch-size", type=int, default=1024, help="of batches with goals")
    parser.add_argument("--draws", type=int, default=2000, help="of batches with goals")
    frames.add_arguments(parser)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Draw batches with and without hindsight, then measure what images take."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = {name: relabelling(options, *case) for name, case in CASES.items()}
    finally:
        torch.set_num_threads(threads)
    return {
        "rows": options.rows,
        "batch_size": options.batch_size,
        "hindsight": found,
        "frames": frames.measure(options),
    }


def relabelling(
    options: argparse.Namespace, overrides: list[str], made_of: MadeOf, extras: tuple[str, ...]
) -> dict[str, float]:
    """Return microseconds per batch as it was collected and relabelled, and their ratio."""
    entries = made_of["state"]
    steps = _rows(options.rows, options.state, len(entries) if entries else options.state)
    told = goals(compose(overrides))
    replays = {
        "as collected": Replay.of_steps(steps, Window(DISCOUNT)),
        "relabelled": Replay.of_steps(
            steps, Window(DISCOUNT, hindsight=told, goal=made_of, extras=extras)
        ),
    }
    least = dict.fromkeys(replays, float("inf"))
    for _ in range(options.draws):
        for name, replay in replays.items():
            began = time.perf_counter()
            replay.sample(options.batch_size)
            least[name] = min(least[name], time.perf_counter() - began)
    found = {f"{name}, us": round(1e6 * value, 1) for name, value in least.items()}
    return found | {"ratio": round(least["relabelled"] / least["as collected"], 3)}


def _rows(rows: int, state: int, goal: int) -> TensorDict:
    """Episodes of random numbers, each row with a commanded goal."""
    final = torch.arange(rows) % (STEPS + 1) == STEPS
    final[-1] = True
    never = torch.zeros(rows, dtype=torch.bool)
    commanded = TensorDict({"state": torch.randn(rows, goal)}, [rows])
    return TensorDict(
        {
            "observation": {"state": torch.randn(rows, state), "goal": commanded},
            "action": 2 * torch.rand(rows, ACTION) - 1,
            "reward": torch.zeros(rows),
            "terminated": never,
            "truncated": never,
            "success": never,
            "final": final,
        },
        [rows],
    )
