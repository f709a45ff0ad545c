"""Finetuning on a robot in real time, with a person's help: is it the help, is it the pretraining?

A simulated arm behind robotd, over the encrypted wire, at 20 actions a second; a scripted person
who sees late, takes over where nothing gets better and hands back. Three ways, seed by seed: from
a pretrained policy with that person, without them, and from nothing. What was found last is kept
and printed; `--run` measures anew (real time: hours), and goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from robo_offline.analysis.intervals import finite, mean_bootstrap, wilson
from robo_offline.bench import jobs, scores
from robo_offline.errors import UserError

NAME = "intervention"
REACHED = 0.8  # of the episodes of an evaluation
WINDOW = 10  # episodes of the training that a rate of interventions is told of
STARTING_S = 120.0
CELLS = 6  # that one run may take: a robotd that is silent for a tenth of a second is ended
PERSON = (
    "env.person={_target_: real_robot.tasks.intervener.Intervener, _partial_: true, "
    "patience_s: 0.6, share: 0.25}"
)
# Of 4000 steps 1500 only imitate; then the imitation keeps more weight than in longer runs.
LEARNER = ("algo.imitate_until=1500", "algo.bc=5.0", "phase.online.utd=2")
PRETRAINED = ("phase=offline_to_online", "phase.offline.evaluate_every=0")
WAYS = {
    "ours": (*PRETRAINED, PERSON),
    "no_interventions": PRETRAINED,
    # Nothing offline, nobody helps: the same learner begins with random motions.
    "scratch": ("phase=online", "algo.data_range=false", "phase.online.random_steps=500"),
}


@dataclass(frozen=True)
class Task:
    """Where a task is rehearsed and where it is played, and who shows it how badly."""

    rehearsal: str  # of configs/env
    cell: str
    scene: str  # of `robot up`
    horizon: int  # steps
    noise: str  # of the demonstrations
    episodes: int

    def demonstrations(self, name: str) -> list[str]:
        """Arguments of `collect`."""
        return [
            f"env={self.rehearsal}",
            f"env.horizon={self.horizon}",
            "policy=scripted",
            f"policy.noise={self.noise}",
            f"episodes={self.episodes}",
            "seed=0",
            f"name={name}",
        ]


TASKS = {
    "reach": Task("robot/rehearsal", "robot/cell", "capsules", 80, "[0.2,0.5]", 18),
    "peg": Task("robot/peg", "robot/peg_cell", "peg/0.5,0,0.2", 80, "[0.1,0.5]", 12),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tasks", default=",".join(TASKS), help="default: both")
    parser.add_argument("--ways", default=",".join(WAYS), help="default: all")
    jobs.add_arguments(parser, "runs/intervention", "0,1,2")
    parser.set_defaults(jobs=1, steps=1000, online_steps=4000, episodes=40)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run what is missing, or print what was found last."""
    if not options.run:
        return jobs.found_or_refused(NAME)
    tasks = jobs.chosen(options.tasks, list(TASKS), "task")
    ways = jobs.chosen(options.ways, list(WAYS), "way")
    for task in tasks:
        _demonstrated(task, options)
    # Seeds outermost: a stopped benchmark has whole comparisons rather than whole tasks.
    items = [(task, way, seed) for seed in jobs.seeds(options) for task in tasks for way in ways]
    done: dict[tuple[str, str, int], Any] = {}
    found: dict[str, Any] = {}
    lock = threading.Lock()

    def work(item: tuple[str, str, int]) -> None:
        """Record after every run: each takes a quarter of an hour of robot."""
        nonlocal found
        result = _run(options, *item)
        with lock:
            done[item] = result
            runs = jobs.earlier(NAME, options)  # anew: others may have measured meanwhile
            for (task, way, seed), one in done.items():
                runs.setdefault(task, {}).setdefault(way, {})[str(seed)] = one
            found = jobs.record(NAME, _found(runs), options)
            _draw(found, options.out)

    _, failed = jobs.each(items, work, options.jobs)
    jobs.refuse(failed)
    return found


def arguments(task: str, way: str, seed: int, options: argparse.Namespace) -> list[str]:
    """Overrides of a training, but for where its robot is."""
    known = TASKS[task]
    data = [] if way == "scratch" else [f"dataset={_dataset(task)}"]
    phases = [f"phase.online.steps={options.online_steps}", "phase.online.warmup=250"]
    if way != "scratch":
        phases.append(f"phase.offline.steps={options.steps}")
    every = max(1, options.online_steps // 4)
    return [
        f"env={known.cell}",
        f"env.horizon={known.horizon}",
        "algo=td3_sil",
        *data,
        *WAYS[way],
        *phases,
        *LEARNER,
        f"phase.online.evaluate_every={every}",
        "phase.online.save_every=500",
        f"evaluation.episodes={options.episodes}",
        "evaluation.workers=1",
        "evaluation.video_episodes=0",
        f"seed={seed}",
    ]


def told(
    evaluations: Sequence[dict[str, Any]], episodes: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Say how a run went: its curve, when it was good, how often it was helped, how it kept time.

    Minutes are those of the robot: of the training's episodes, resets included.
    """
    evaluated = [row for row in episodes if "evaluation" in row]
    episodes = [row for row in episodes if "evaluation" not in row]
    curve: list[dict[str, Any]] = [
        {
            "step": row["step"] if row["phase"] == "online" else 0,
            "minutes": round(_minutes(episodes, row["env_step"]), 2),
            "success": _percent(row["successes"], row["episodes"]),
        }
        for row in evaluations
    ]
    good = [row["step"] for row in curve if row["success"][0] >= 100 * REACHED]
    helped = [
        {
            "minutes": round(_minutes(episodes, part[-1]["env_step"]), 2),
            "intervention": round(float(np.mean([e["intervention"] for e in part])), 3),
            "success": round(float(np.mean([e["success"] for e in part])), 3),
        }
        for part in (episodes[i : i + WINDOW] for i in range(0, len(episodes), WINDOW))
    ]
    steps = sum(e["steps"] for e in episodes)
    return {
        "curve": curve,
        "steps_to_80": good[0] if good else None,
        "final": curve[-1]["success"],
        "helped": helped,
        "robot_minutes": round(_minutes(episodes), 2),
        "rate_hz": _spread([e["rate_hz"] for e in episodes]),
        "late_share": round(sum(e["late"] for e in episodes) / max(1, steps), 5),
        "latest_ms": max((e["latest_ms"] for e in episodes), default=None),
        "stops": _stops(episodes),
        "stops_in_evaluations": _stops(evaluated),
        "episodes": len(episodes),
    }


def _stops(episodes: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Count the stops by why: what the policy did, or a machine that was too busy for its robot."""
    why = Counter(e["stop"].split(":")[0] for e in episodes if e["stop"])
    return dict(why.most_common())


def _minutes(episodes: Sequence[dict[str, Any]], until: float = math.inf) -> float:
    return sum(e["seconds"] + e["reset_s"] for e in episodes if e["env_step"] <= until) / 60


def _percent(successes: int, episodes: int) -> list[float]:
    return [round(100 * x, 1) for x in wilson(successes, episodes)]


def _spread(values: Sequence[float]) -> list[float] | None:
    return [round(float(np.percentile(values, p)), 2) for p in (5, 50, 95)] if values else None


def _found(runs: dict[str, Any]) -> dict[str, Any]:
    return {
        "ways": {way: " ".join(values) for way, values in WAYS.items()},
        "interval": "over seeds: mean, 95 % bootstrap; one seed: Wilson over its episodes",
        "summary": {
            task: {way: _summary(list(seeds.values())) for way, seeds in ways.items()}
            for task, ways in runs.items()
        },
        "runs": runs,
    }


def _summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    random = np.random.default_rng(scores.SEED)
    final = finite([run["final"][0] for run in runs])
    reached = [run["steps_to_80"] for run in runs]
    known = finite([steps for steps in reached if steps is not None])
    whole = len(known) == len(runs)  # of some that never arrived no mean can be said
    rates = finite([run["rate_hz"][1] for run in runs if run["rate_hz"]])
    return {
        "seeds": len(runs),
        "final": scores.rounded(mean_bootstrap(final, random)),
        "final_by_seed": [run["final"][0] for run in runs],
        "steps_to_80": scores.rounded(mean_bootstrap(known, random)) if whole else None,
        "steps_to_80_by_seed": reached,
        "robot_minutes": round(float(np.mean([run["robot_minutes"] for run in runs])), 1),
        "rate_hz": round(float(np.median(rates)), 2) if rates else None,
        "late_share": round(float(np.mean([run["late_share"] for run in runs])), 4),
        "stops": _added([run["stops"] for run in runs]),
        "stops_in_evaluations": _added([run["stops_in_evaluations"] for run in runs]),
    }


def _added(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    return dict(sum((Counter(one) for one in counts), Counter()))


# ---- the work -----------------------------------------------------------------------------------


def _dataset(task: str) -> str:
    return f"suite/robot_{task}-v0"


def _demonstrated(task: str, options: argparse.Namespace) -> None:
    from robo_offline.datasets.store import local_ids

    if _dataset(task) not in local_ids():
        log = options.out / f"{task}-collect.log"
        jobs.call(["collect", *TASKS[task].demonstrations(_dataset(task))], log)


def _run(options: argparse.Namespace, task: str, way: str, seed: int) -> dict[str, Any]:
    directory = options.out / task / f"{way}-{seed}"
    overrides = arguments(task, way, seed, options)
    cells = 0
    while not _is_done(directory, overrides):
        cells += 1
        try:
            with cell(directory.parent / f"cell-{way}-{seed}", TASKS[task].scene) as where:
                _train(directory, [*overrides, *where])
        except UserError as error:  # a cell that has ended is followed by another
            if cells == CELLS:
                raise
            jobs.say(f"goes on in another cell: {directory}\n{error}")
    from robo_offline.bench.loops.finetune import EPISODES

    lines = (directory / EPISODES).read_text().splitlines()
    return told(jobs.evaluations(directory), [json.loads(line) for line in lines])


def _is_done(directory: Path, overrides: list[str]) -> bool:
    """Say whether this very job has ended. UserError where the folder holds another one."""
    job, summary = directory.with_suffix(".job.json"), directory / "summary.json"
    known = json.loads(job.read_text()) if job.exists() else overrides
    if known != overrides:
        raise UserError(
            "the folder holds the run of another job",
            where=directory,
            expected=" ".join(overrides),
            found=" ".join(known),
            remedy="--out OTHER",
        )
    job.parent.mkdir(parents=True, exist_ok=True)
    job.write_text(json.dumps(overrides))
    return summary.exists() and "online" in json.loads(summary.read_text())["finished"]


def _train(directory: Path, overrides: Sequence[str]) -> None:
    jobs.say(f"begins: {directory}")
    log = directory.with_suffix(".log")
    command = [sys.executable, "-m", "robo_offline.bench.loops.finetune", str(directory)]
    with log.open("ab") as file:
        code = subprocess.run([*command, *overrides], stdout=file, stderr=file).returncode
    if code:
        tail = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise UserError("the training failed", where=log, found=" ".join(tail))
    jobs.say(f"done: {directory}")


@contextlib.contextmanager
def cell(folder: Path, scene: str) -> Iterator[list[str]]:
    """Bring a cell up with a name and a port of its own; give what `env` needs to be there."""
    from real_robot import cell as cells
    from real_robot.descriptor import dump, load

    folder.mkdir(parents=True, exist_ok=True)
    name = f"{folder.parent.name}_{folder.name}_{os.getpid()}".replace("-", "_")
    robot = folder / "robot.json"
    robot.write_text(dump(replace(load("sim"), name=name)))
    command = [sys.executable, "-m", "robo_offline.cli", "robot", "up", f"robot={robot}"]
    command += [f"keys={folder / 'keys'}", f"out={folder}", f"scene={scene}"]
    command += ["bind=tcp://127.0.0.1:0", "--plain", "--first"]
    log = folder / "cell.log"
    with log.open("ab") as file:
        # Its console reads keys from a pipe: when this process goes, so does the cell.
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, stderr=file)
    try:
        notice, until = None, time.monotonic() + STARTING_S
        while notice is None:
            if process.poll() is not None or time.monotonic() > until:
                raise UserError("the cell does not come up", where=log)
            with contextlib.suppress(UserError):
                notice = cells.running(name)
            time.sleep(0.2)
        keys = Path(notice.keys)
        yield [
            f"env.robot={robot}",
            f"env.address={notice.address}",
            f"env.key={keys / 'policy.key'}",
            f"env.operator_key={keys / 'operator.key'}",
        ]
    finally:
        process.terminate()
        process.wait(60)
        assert process.stdin is not None
        process.stdin.close()


def _draw(found: dict[str, Any], folder: Path) -> None:
    from robo_offline.bench.drawings import finetuning

    for task in found["runs"]:
        drawn = finetuning(task, found["runs"][task])
        partial = folder / f"{NAME}-{task}.partial"
        partial.write_bytes(drawn.png)
        partial.replace(folder / f"{NAME}-{task}.png")
