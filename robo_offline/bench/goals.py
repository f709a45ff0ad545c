"""Methods towards goals on data made here by OGBench's recipe, beside the published figures.

The points of OGBench's mazes walk from junction to junction, or in short pieces that must be
stitched together; every method is scored over the environment's five tasks. Not the same as what
was published: fewer updates, smaller batches and networks, as the figures say. So what is compared
is the order of the methods, and only where intervals allow it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from robo_offline.bench import jobs, scores
from robo_offline.bench.mazes import PUBLISHED, TASKS, Maze, pieces

NAME = "goals"
ALGOS = ("gcbc", "gcivl", "gciql", "qrl", "crl", "hiql")  # those with published figures
OTHERS = ("actionable_models",)
ARRIVAL = ("goals=arrival",)  # what it needs besides an experiment of the family
APART = 10.0  # points between published scores that their spread over seeds cannot explain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tasks", default="pointmaze_medium_navigate", help=", ".join(TASKS))
    parser.add_argument("--algos", default=",".join(ALGOS))
    parser.add_argument("--batch-size", type=int, default=256, help="OGBench: 1024")
    parser.add_argument("--hidden", default="256,256,256", help="OGBench: 512,512,512")
    parser.add_argument("--data-episodes", type=int, help="of a data set (default: the recipe's)")
    jobs.add_arguments(parser, "runs/goals", "0")
    parser.set_defaults(steps=20_000, episodes=50, jobs=1)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Make what data is missing, run what is missing, or print what was found last."""
    if not options.run:
        return jobs.found_or_refused(NAME)
    tasks = jobs.chosen(options.tasks, list(TASKS), "task")
    algos = jobs.chosen(options.algos, [*ALGOS, *OTHERS], "algorithm")
    seeds = jobs.seeds(options)
    for task in tasks:
        TASKS[task].prepare(options)
    items = [(task, algo, seed) for seed in seeds for task in tasks for algo in algos]
    done, failed = jobs.each(items, lambda item: _run(options, *item), options.jobs)
    runs = jobs.earlier(NAME, options)
    for (task, algo, seed), result in done.items():
        runs.setdefault(task, {}).setdefault(algo, {})[str(seed)] = result
    found = {
        "score": "100 x success rate, over five tasks",
        "interval": "IQM over seeds, 95 % bootstrap over seeds and episodes",
        "summary": {task: summary(task, runs[task]) for task in runs},
        "runs": runs,
    }
    found = jobs.record(NAME, found, options)
    jobs.refuse(failed)
    return found


def arguments(task: Maze, algo: str, options: argparse.Namespace) -> list[str]:
    """Overrides of a training."""
    return [
        *task.arguments(algo, options.data_episodes),
        *(ARRIVAL if algo in OTHERS else ()),
        f"algo.hidden=[{options.hidden}]",
        f"phase.offline.steps={options.steps}",
        f"phase.offline.batch_size={options.batch_size}",
        f"phase.offline.evaluate_every={options.steps}",
        f"phase.offline.save_every={max(1, options.steps // 10)}",
        "phase.offline.log_every=500",
        "evaluation.episodes=5",  # what counts is evaluated behind it, task by task
        "evaluation.workers=1",
    ]


def _run(options: argparse.Namespace, name: str, algo: str, seed: int) -> dict[str, Any]:
    task = TASKS[name]
    overrides = [*arguments(task, algo, options), f"seed={seed}"]
    directory = jobs.train(options.out / name / f"{algo}-{seed}", overrides, "offline")
    rows = episodes(directory, options.episodes)
    return {
        "episodes": len(rows),
        "successes": sum(row["success"] for row in rows),
        "by_task": by_task(rows),
        "updates": options.steps,
        "batch_size": options.batch_size,
        "hidden": options.hidden,
        "data_episodes": options.data_episodes or task.episodes,
    } | jobs.timing(directory)


def episodes(directory: Path, wanted: int) -> list[dict[str, Any]]:
    """Score the last checkpoint of a run, unless that was done; one row per episode."""
    if not _scored(directory, wanted):
        jobs.call(
            ["evaluate", str(directory), "--episodes", str(wanted), "--workers", "1"],
            directory.with_name(directory.name + "-evaluate.log"),
        )
    return _scored(directory, wanted)


def _scored(directory: Path, wanted: int) -> list[dict[str, Any]]:
    for path in sorted((directory / "evaluations").glob("last-*.json"), reverse=True):
        rows = json.loads(path.read_text())["per_episode"]
        if len(rows) == wanted:
            return rows
    return []


def by_task(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Count successes and episodes of each task; an episode's index says which it was."""
    found: dict[str, list[int]] = {}
    for row in rows:
        count = found.setdefault(str(row["index"] % 5 + 1), [0, 0])
        count[0] += bool(row["success"])
        count[1] += 1
    return dict(sorted(found.items()))


def summary(name: str, algos: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Scores beside those that were published, the order of both, and what needed stitching."""
    ours = {algo: scored(list(seeds.values())) for algo, seeds in algos.items()}
    theirs = dict(zip(ALGOS, PUBLISHED[name], strict=True))
    length = {run["data_episodes"] for seeds in algos.values() for run in seeds.values()}
    data = {n: pieces(TASKS[name], n) for n in sorted(length)}
    return {
        "algos": {
            algo: {
                "ours": scores.rounded(interval),
                "published": theirs.get(algo),
                "seeds": len(algos[algo]),
                "by_task": together([run["by_task"] for run in algos[algo].values()]),
            }
            for algo, interval in ours.items()
        },
        "order": order({algo: scores.rounded(x) or [] for algo, x in ours.items()}, theirs),
        "differs": differs([run for seeds in algos.values() for run in seeds.values()]),
        "stitching": {
            str(n): found | {"success": stitched(algos, n, found["apart"])}
            for n, found in data.items()
        },
    }


def scored(runs: Sequence[Mapping[str, Any]]) -> Any:
    """IQM over seeds with its interval."""
    rows = [
        {"score": 100 * run["successes"] / run["episodes"], "episodes": run["episodes"]}
        for run in runs
    ]
    return scores.over_seeds(rows, True)


def together(parts: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, list[int]]:
    """Add up successes and episodes of each task over seeds."""
    keys = sorted({key for part in parts for key in part})
    return {
        key: [sum(part[key][n] for part in parts if key in part) for n in (0, 1)] for key in keys
    }


def differs(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Name what is not as it was published: values found here, of all runs."""
    published = {"updates": 1_000_000, "batch_size": 1024, "hidden": "512,512,512"}
    found = {key: sorted({run[key] for run in runs}) for key in (*published, "data_episodes")}
    told = {
        key: {"here": values, "published": published[key]}
        for key, values in found.items()
        if key in published and values != [published[key]]
    }
    return told | {
        "data": {"here": found["data_episodes"], "published": "their own file, 1M transitions"}
    }


def order(
    ours: Mapping[str, Sequence[float | None]], theirs: Mapping[str, float]
) -> dict[str, list[str]]:
    """Hold the order of each pair against the published one, where both are certain of theirs."""
    found: dict[str, list[str]] = {"same": [], "reversed": [], "open": []}
    for first, second in combinations(sorted(ours.keys() & theirs.keys()), 2):
        if abs(theirs[first] - theirs[second]) < APART:
            continue
        better, worse = sorted((first, second), key=lambda algo: -theirs[algo])
        where = scores.verdict(ours[better], ours[worse])
        kind = {"above": "same", "below": "reversed"}.get(where, "open")
        found[kind].append(f"{better} > {worse}")
    return found


def stitched(
    algos: Mapping[str, Mapping[str, Any]], episodes: int, apart: Sequence[str]
) -> dict[str, list[int]]:
    """Successes and episodes of tasks that no single trajectory of the data connects."""
    add = partial(_over, set(apart))
    return {
        algo: add([run for run in seeds.values() if run["data_episodes"] == episodes])
        for algo, seeds in algos.items()
        if apart
    }


def _over(tasks: set[str], runs: Sequence[Mapping[str, Any]]) -> list[int]:
    counts = [run["by_task"][task] for run in runs for task in tasks]
    return [sum(count[n] for count in counts) for n in (0, 1)]
