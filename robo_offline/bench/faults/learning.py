"""Faults of learning apart: whoever is killed, the actor goes on, and everything arrives once.

The truth is not what the programs under test say of themselves: the world numbers its own steps
(fault 22), and a run that nobody killed, in one process and without Ray, says what must come out
(fault 36).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, load_file

from robo_offline.actors.folders import Follower, last_record
from robo_offline.actors.records import AFTER
from robo_offline.bench.faults import Fault, Measured
from robo_offline.train import main as train

PATIENCE_S = 300.0
CLOCKS = ("time", "rate/")
APART = "staleness_"  # in the metrics of a run with an actor of its own alone


class Training:
    """A training in processes of its own, which one may kill one by one."""

    def __init__(self, directory: Path, overrides: list[str]):
        self.directory, self.overrides = directory, overrides
        self.learner: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Training:
        self.begin()
        return self

    def __exit__(self, *_: object) -> None:
        """End the learner, and what else there is even where no learner is left to do it."""
        self.end()
        for who in ("actor", "service"):
            with suppress(ProcessLookupError, FileNotFoundError):
                os.kill(self.companion(who), signal.SIGKILL)

    def begin(self) -> None:
        """Start the training, or go on with it."""
        there = (self.directory / "config.yaml").exists()
        what = [f"resume={self.directory}"] if there else self.overrides
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        with self.directory.with_suffix(".log").open("ab") as log:
            self.learner = subprocess.Popen(
                [sys.executable, "-m", "robo_offline.cli", "train", *what],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def end(self) -> None:
        """Stop as Ctrl-C does: save, tell the actor to stop, end."""
        assert self.learner is not None
        if self.learner.poll() is None:
            self.learner.send_signal(signal.SIGINT)
        try:
            self.learner.wait(60)
        except subprocess.TimeoutExpired:
            self.learner.kill()
            self.learner.wait()

    def until(self, there: Callable[[], object], what: str) -> None:
        """Wait for something. Raises RuntimeError with the learner's last words where it fails."""
        ends = time.monotonic() + PATIENCE_S
        while not there():
            assert self.learner is not None
            if self.learner.poll() not in (None, 0, -signal.SIGKILL) or time.monotonic() > ends:
                told = self.directory.with_suffix(".log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"waited in vain for {what}\n{told}")
            time.sleep(0.02)

    def kill(self, who: str) -> None:
        """SIGKILL one process and nothing else."""
        assert self.learner is not None
        if who == "learner":
            self.learner.kill()
            self.learner.wait()
        else:
            pid = self.companion("actor") if who == "actor" else self._under_ray(who)
            os.kill(pid, signal.SIGKILL)

    def companion(self, name: str) -> int:
        return int((self.directory / name / "pid").read_text().split()[0])

    def _under_ray(self, who: str) -> int:
        """Find a process of this training's Ray: `service` or `head`."""
        mark = {"service": "ray::Service", "head": "gcs/gcs_server"}[who]
        for pid in _descendants(self.companion("service")):
            with suppress(OSError):
                if mark in Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0]:
                    return pid
        raise RuntimeError(f"Ray has no {who}")

    def recorded(self) -> int:
        """Count the transitions on the actor's disk."""
        return last_record(self.directory / "actor" / "spool")[0] + 1

    def arrived(self) -> int:
        """Count the transitions on the learner's disk."""
        return last_record(self.directory / "service" / "inbox")[0] + 1


def _descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(path.parent.name))
    found, left = [], [pid]
    while left:
        children = parents.get(left.pop(), [])
        found += children
        left += children
    return found


# -- 22: everything but the actor dies -------------------------------------------------------


def outage(folder: Path, whole: bool) -> Measured:
    """Kill the service, Ray's head and the learner under an actor in real time."""
    rate_hz, wanted = (20.0, 10_000) if whole else (10.0, 0)
    overrides = [
        "algo=sac",
        "algo.hidden=[16,16]",
        "env=gymnasium",
        "env._target_=robo_offline.bench.faults.paced.paced",
        f"env.id='{rate_hz:g}'",
        "env.horizon=25",
        "phase=online",
        "phase.online.steps=1000000",
        "phase.online.warmup=50",
        "phase.online.utd=0.2",
        "phase.online.batch_size=16",
        "phase.online.save_every=50",
        "phase.online.evaluate_every=1000000",
        "evaluation={episodes: 1, workers: 1, video_episodes: 0}",
        "replay.capacity=40000",
        "logger.console=false",
        "collector=ray",
        "collector.wait_s=0",
        f"run_dir={folder / 'run'}",
    ]
    with Training(folder / "run", overrides) as training:
        beyond = _more_than(training.arrived)
        training.until(beyond(60), "the first transitions")
        unheard = 0
        for _ in range(3 if whole else 1):
            training.kill("service")
            training.until(beyond(10), "transitions after the service was killed")
            training.kill("head")
            if whole:
                training.until(beyond(10), "transitions after Ray's head was killed")
            training.kill("learner")
            outward = _more_than(training.recorded)
            training.until(outward(20), "the actor to go on alone")
            unheard = max(unheard, training.recorded() - training.arrived())
            training.begin()
            training.until(beyond(unheard + 10), "transitions after the learner was killed")
        training.until(lambda: training.arrived() > wanted, "enough transitions")
        training.end()
        numbers, ticks = _steps(training)
    expected = list(range(1, len(numbers) + 1))
    lost = len(set(expected) - set(numbers))
    twice = len(numbers) - len(set(numbers))
    rate = len(ticks) / ticks[-1]
    longest = max(b - a - 1 for a, b in pairwise(ticks))
    return Measured(
        f"{len(numbers)} transitions, {lost} lost, {twice} twice; "
        f"the actor kept {rate:.2%} of its ticks, {unheard} records ahead at most",
        lost == 0 and twice == 0 and numbers == expected and rate >= 0.99,
        {
            "transitions": len(numbers),
            "lost": lost,
            "twice": twice,
            "tick_rate": rate,
            "ticks_missed_in_a_row": longest,
            "records_ahead": unheard,
        },
    )


def _more_than(count: Callable[[], int]) -> Callable[[int], Callable[[], bool]]:
    """Return what asks whether a count has grown by so many since it was asked."""

    def by(more: int) -> Callable[[], bool]:
        before = count()
        return lambda: count() >= before + more

    return by


def _steps(training: Training) -> tuple[list[int], list[int]]:
    """Return the world's numbers and ticks of all steps, in order: learned, waiting, not sent."""
    run = training.directory
    state = json.loads((run / "checkpoints" / "last" / "state.json").read_text())
    after = []
    for path in sorted((run / "checkpoints" / "replay").glob("*.safetensors")):
        tensors = load_file(path)
        for episode in tensors["observation"].split(tensors["lengths"].tolist()):
            after.append(episode[1:])
    received = state["counters"]["extra"]["received"]
    for waiting in (run / "service" / "inbox", run / "actor" / "spool"):
        follower = Follower(waiting, received)
        after += [load(payload)[AFTER][None] for _, payload in follower]
        received = follower.after
    rows = torch.cat(after).long()
    return rows[:, 0].tolist(), rows[:, 1].tolist()


# -- 36: everybody dies, and the run is the run ----------------------------------------------


def killed_in_lockstep(folder: Path, whole: bool) -> Measured:
    """Kill actor, learner and service again and again; compare with a run in one process."""
    kills = ["actor", "learner", "service"] * (20 if whole else 1)
    episodes = 3 * len(kills) + 4
    overrides = [
        "algo=sac",
        "algo.hidden=[16,16]",
        "env=gymnasium",
        "env.id=Pendulum-v1",
        "env.horizon=20",
        "phase=online",
        f"phase.online.steps={20 * episodes}",
        "phase.online.warmup=20",
        "phase.online.random_steps=40",
        "phase.online.utd=0.5",
        "phase.online.batch_size=16",
        "phase.online.save_every=40",
        "phase.online.log_every=40",
        f"phase.online.evaluate_every={10 * episodes}",
        "evaluation={episodes: 1, workers: 1, video_episodes: 0}",
        "replay.capacity=4000",
        "logger.console=false",
    ]
    one, other = folder / "one", folder / "killed"
    train([*overrides, f"run_dir={one}"])
    apart = ["collector=ray", "collector.lockstep=true", f"run_dir={other}"]
    moments, in_save = random.Random(0), 0
    with Training(other, [*overrides, *apart]) as training:
        for who in kills:
            training.until(_more_than(training.recorded)(7), f"a moment to kill the {who}")
            if who == "learner":
                in_save += _await_save(training)
            else:
                time.sleep(moments.random() * 0.1)
            training.kill(who)
            if who == "learner":
                training.begin()
        training.until(lambda: (other / "summary.json").exists(), "the end")
        training.end()
    different = differences(one, other)
    return Measured(
        f"{len(kills)} kills, {in_save} in the middle of a save: "
        + ("everything equal" if not different else "different: " + ", ".join(different)),
        not different,
        {"kills": len(kills), "in_save": in_save, "different": len(different)},
    )


def _await_save(training: Training) -> bool:
    """Wait for the middle of a save, not for long; say whether this is one."""
    later = _more_than(training.recorded)(60)
    half: list[Path] = []
    while not half and not later() and training.learner and training.learner.poll() is None:
        half = list((training.directory / "checkpoints").glob(".*.partial"))
        time.sleep(0.0005)
    return bool(half)


def differences(one: Path, other: Path) -> list[str]:
    """Say what a run with an actor of its own does not share with one that collected by itself."""
    found = []
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        if _rows(one / name) != _rows(other / name):
            found.append(name)
    for path in ("last/learner.safetensors", "best/learner.safetensors"):
        ours, theirs = (load_file(run / "checkpoints" / path) for run in (one, other))
        if ours.keys() != theirs.keys() or any(not ours[k].equal(theirs[k]) for k in ours):
            found.append(path)
    ours, theirs = _experience(one), _experience(other)
    if ours.keys() != theirs.keys() or any(not ours[k].equal(theirs[k]) for k in ours):
        found.append("replay")
    ours, theirs = _state(one), _state(other)
    return found + [key for key in ours if ours[key] != theirs[key]]


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        {k: v for k, v in row.items() if not k.startswith(CLOCKS) and APART not in k}
        for row in rows
    ]


def _experience(run: Path) -> dict[str, torch.Tensor]:
    """All episodes end to end: where files are cut depends on when a run was saved."""
    parts = [load_file(p) for p in sorted((run / "checkpoints" / "replay").glob("*.safetensors"))]
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def _state(run: Path) -> dict[str, Any]:
    state = json.loads((run / "checkpoints" / "last" / "state.json").read_text())
    counters = state["counters"]
    counters["extra"] = {k: v for k, v in counters["extra"].items() if k == "updates_owed"}
    del counters["seconds"]
    return counters | {"random": state["random"], "replay": state["replay"]}


LEARNING: tuple[Fault, ...] = (
    Fault(
        22,
        "SIGKILL of service, Ray's head and learner under an actor in real time",
        "the actor goes on with the last good weights, and its spool grows",
        "0 lost, 0 twice of 10,000 transitions, >= 99 % of the policy's ticks",
        outage,
    ),
    Fault(
        36,
        "SIGKILL of actor, learner and service, 20 times each, also in the middle of a save",
        "everybody goes on where they were",
        "weights, optimisers, random stream, counters, replay equal those of one unbroken process",
        killed_in_lockstep,
    ),
)
