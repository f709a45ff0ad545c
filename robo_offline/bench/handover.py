"""The handover from offline to online: naive finetuning against ours, seed by seed.

Naive: updates begin with the first episode, actor and all. Ours: a warm-up with the policy as it
came, critics before the actor, and a guard who lets the certified policy act until the learner has
shown to be as good. The same seed has the same offline policy in both. Hours on two cores, so what
it found last is kept and printed; `--run` measures anew, and goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robo_offline.analysis.handover import Handover, handover
from robo_offline.analysis.intervals import Interval, finite, mean_bootstrap
from robo_offline.bench import jobs, scores
from robo_offline.bench.tasks import MEDIUM, REAL_DATA, TASKS, ready
from robo_offline.config import choices
from robo_offline.listing import without_goals

NAME = "handover"
LIFT, LIFT_DATA = "lift_human", "lift/human-v0"
LIFT_FILES = ("panda_32_demos_v1.3.1.hdf5", "panda_10_demos_v1.3.1.hdf5")
WAYS = {
    "naive": (
        "acting=own",
        "phase.online.warmup=0",
        "phase.online.critic_only=0",
    ),
    "ours": (
        "acting=guard",
        "phase.online.warmup=2000",
        "phase.online.critic_only=2000",
        "phase.online.rewarm=2000",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tasks", default=f"{LIFT},{MEDIUM}", help="default: both")
    parser.add_argument("--methods", default="iql", help="algorithms with an offline phase")
    jobs.add_arguments(parser, "runs/handover", "0,1,2,3,4")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run what is missing, or print what was found last."""
    if not options.run:
        return jobs.found_or_refused(NAME)
    known = [LIFT, *(name for name, task in TASKS.items() if task.by_success)]
    tasks = jobs.chosen(options.tasks, known, "task that is judged by success")
    every = without_goals()
    methods = jobs.chosen(options.methods, every, "algorithm")
    tasks = [task for task in tasks if _ready(task, options)]
    items = [
        (task, method, way, seed)
        for seed in jobs.seeds(options)
        for task in tasks
        for method in methods
        for way in WAYS
    ]
    done, failed = jobs.each(items, lambda item: _run(options, *item), options.jobs)
    runs = jobs.earlier(NAME, options)
    for (task, method, way, seed), result in done.items():
        ways = runs.setdefault(task, {}).setdefault(method, {})
        ways.setdefault(way, {})[str(seed)] = result
    found = {
        "ways": {way: " ".join(overrides) for way, overrides in WAYS.items()},
        "interval": "mean over seeds, 95 % bootstrap; final: IQM over seeds and episodes",
        "summary": {
            task: {
                method: {way: _summary(list(seeds.values())) for way, seeds in ways.items()}
                for method, ways in methods_.items()
            }
            for task, methods_ in runs.items()
        },
        "runs": runs,
    }
    found = jobs.record(NAME, found, options)
    jobs.refuse(failed)
    return found


def arguments(task: str, method: str, way: str) -> list[str]:
    """Overrides of a training: the task's experiment, evaluated often, and the way of handing over.

    The values of a way come last, so that no experiment's stand against them.
    """
    if task == LIFT:
        own = f"{LIFT}/{method}"
        found = [f"experiment={own}"]
        if own not in choices("experiment"):
            found = [f"experiment={LIFT}/finetune", f"algo={method}"]
    else:
        found = TASKS[task].arguments(method)
    return [
        *found,
        "phase=offline_to_online",
        "phase.online.steps=30000",
        "phase.online.evaluate_every=2500",
        "phase.online.second_process=false",
        *WAYS[way],
    ]


def _ready(task: str, options: argparse.Namespace) -> bool:
    if task != LIFT:
        return bool(ready([task], options))
    from robo_offline.datasets.store import local_ids

    if LIFT_DATA in local_ids():
        return True
    folder = options.data or os.environ.get(REAL_DATA)
    places = [Path(folder or "") / "robosuite_lift_human" / file for file in LIFT_FILES]
    if not folder or not all(path.exists() for path in places):
        where = folder or f"--data FOLDER or {REAL_DATA}"
        jobs.say(f"skipped: {LIFT}: the demonstrations are not here ({where})")
        return False
    sources = [str(path) for path in places]
    jobs.call(["data", "import", *sources, "--to", LIFT_DATA], options.out / "lift-import.log")
    return True


def _run(
    options: argparse.Namespace, task: str, method: str, way: str, seed: int
) -> dict[str, Any]:
    overrides = [*arguments(task, method, way), *_lengths(options), f"seed={seed}"]
    directory = jobs.train(options.out / task / f"{method}-{way}-{seed}", overrides, "online")
    rows = jobs.evaluations(directory)
    return {"curve": scores.curve(rows), **told(handover(rows)), **jobs.timing(directory)}


def _lengths(options: argparse.Namespace) -> list[str]:
    """The same as elsewhere, but a warm-up belongs to a way."""
    return [o for o in jobs.lengths(options) if not o.startswith("phase.online.warmup")]


def told(found: Handover | None) -> dict[str, Any]:
    """Write a run's handover, in points of 100; what cannot be known is None."""
    if found is None:
        return dict.fromkeys(("offline", "worst", "final", "dip", "recovery_steps", "regret"))

    def percent(interval: Interval | None) -> list[float | None] | None:
        return scores.rounded(Interval(*(100 * x for x in interval)) if interval else None)

    return {
        "offline": percent(found.offline),
        "worst": percent(found.worst),
        "worst_step": found.worst_step,
        "final": percent(found.final),
        "dip": percent(found.dip),
        "recovery_steps": found.recovery_steps,
        "regret": found.regret,
    }


def _summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    random = np.random.default_rng(scores.SEED)

    def over(key: str) -> list[float | None] | None:
        known = finite([run[key][0] for run in runs if run[key]])
        return scores.rounded(mean_bootstrap(known, random)) if known else None

    rows = [row for run in runs if (row := scores.last(run["curve"], "online")) is not None]
    regrets = finite([run["regret"] for run in runs])
    return {
        "seeds": len(runs),
        "offline": over("offline"),
        "dip": over("dip"),
        "worst": over("worst"),
        "final": scores.rounded(scores.over_seeds(rows, True)) if rows else None,
        "dip_by_seed": [run["dip"][0] if run["dip"] else None for run in runs],
        "final_by_seed": [row["score"] for row in rows],
        "recovery_steps_by_seed": [run["recovery_steps"] for run in runs],
        "regret": round(math.fsum(regrets) / len(regrets), 3) if regrets else None,
    }
