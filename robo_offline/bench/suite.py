"""The suite that the project makes itself: data sets with a fixed seed, methods, seeds, intervals.

PointMaze by D4RL's recipe, Lift by a scripted expert, Hopper from our own SAC, and Adroit's door
from people where their file is at hand. All methods on PointMaze-medium; the five that are meant to
go from offline to online, and RLPD, on all. Days on two cores, so what it found last is kept in a
file, and printed with its date; `--run` measures anew, and goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from typing import Any

from robo_offline import listing
from robo_offline.bench import jobs, scores
from robo_offline.bench.tasks import MEDIUM, TASKS, Task, ready

NAME = "suite"
BRIDGING = ("iql", "awac", "cal_ql", "spot", "adaptive_bc")  # these go online, on every task
OWN_SUCCESS = ("td3_sil", "so2")  # these do nothing of their own before they are online
EVERYWHERE = (*BRIDGING, "rlpd")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tasks", default=",".join(TASKS), help="default: all")
    parser.add_argument("--methods", default="", help=f"default: all on {MEDIUM}, six elsewhere")
    jobs.add_arguments(parser, "runs/suite", "0,1,2")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Make what data is missing, run what is missing, or print what was found last."""
    if not options.run:
        return jobs.found_or_refused(NAME)
    wanted = jobs.chosen(options.tasks, list(TASKS), "task")
    every = listing.without_goals()
    methods = jobs.chosen(options.methods, every, "algorithm")
    tasks = ready(wanted, options)
    # Seeds outermost: a stopped suite has whole seeds rather than whole tasks.
    items = [
        (task, method, seed)
        for seed in jobs.seeds(options)
        for task in tasks
        for method in methods or (every if task == MEDIUM else EVERYWHERE)
    ]
    done, failed = jobs.each(items, lambda item: _run(options, *item), options.jobs)
    runs = jobs.earlier(NAME, options)
    for (task, method, seed), result in done.items():
        runs.setdefault(task, {}).setdefault(method, {})[str(seed)] = result
    found = {
        "score": "100 x success rate; on hopper and door the return, D4RL-normalised",
        "interval": "IQM over seeds, 95 % bootstrap over seeds and episodes",
        "summary": {task: _summary(runs[task]) for task in runs},
        "over_tasks": _over_tasks(runs),
        "runs": runs,
    }
    found = jobs.record(NAME, found, options)
    jobs.refuse(failed)
    return found


def arguments(task: Task, method: str) -> tuple[list[str], str]:
    """Overrides of a training, and the phase that it ends with."""
    kind = listing.phases(method)
    found = task.arguments(method, "online" if kind == "online" else "task")
    if kind == "online":
        return [*found, "phase=online"], "online"
    if method in BRIDGING + OWN_SUCCESS:
        return [*found, "phase=offline_to_online"], "online"
    return [*found, "phase=offline"], "offline"


def _run(options: argparse.Namespace, name: str, method: str, seed: int) -> dict[str, Any]:
    task = TASKS[name]
    overrides, last = arguments(task, method)
    overrides += [f"seed={seed}", *jobs.lengths(options)]
    directory = jobs.train(options.out / name / f"{method}-{seed}", overrides, last)
    rows = jobs.evaluations(directory)
    return {"by_success": task.by_success, "curve": scores.curve(rows, task.span)} | jobs.timing(
        directory
    )


def _summary(methods: dict[str, Any]) -> dict[str, Any]:
    return {method: summary(list(seeds.values())) for method, seeds in methods.items()}


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the last and the best score of each phase over seeds; no seed is left out."""
    found: dict[str, Any] = {"seeds": len(runs)}
    for phase in ("offline", "online"):
        for pick in (scores.last, scores.best):
            rows = [row for run in runs if (row := pick(run["curve"], phase)) is not None]
            if rows:
                interval = scores.over_seeds(rows, runs[0]["by_success"])
                found.setdefault(phase, {})[pick.__name__] = scores.rounded(interval)
                found[phase][f"{pick.__name__}_by_seed"] = [round(row["score"], 1) for row in rows]
    return found


def _over_tasks(runs: dict[str, Any]) -> dict[str, Any]:
    """Last scores of the methods that ran on every task that anything ran on, over all of them."""
    if len(runs) < 2:
        return {}
    common = set.intersection(*(set(methods) for methods in runs.values()))
    found = {}
    for method in sorted(common):
        finals = [
            [run["curve"][-1]["score"] for run in methods[method].values()]
            for methods in runs.values()
        ]
        found[method] = scores.rounded(scores.over_tasks(finals))
    return found
