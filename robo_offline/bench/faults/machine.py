"""Faults of the machine: no time, no memory, no disk, a clock that jumps, a loop that is slow."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from real_robot.clock import ns
from real_robot.daemon import MISSES
from real_robot.deploy import FULL, Deployment
from real_robot.descriptor import RobotDescriptor, load
from real_robot.machine import State
from real_robot.testing import stepped
from real_robot.testing.flight import Flight
from real_robot.testing.hogs import hogs
from real_robot.testing.reaching import Acting, Never, reaching
from real_robot.testing.still import Cell
from real_robot.testing.strained import Strained
from robo_offline.bench.faults import Fault, Measured

HZ = 250
SOAKED = 10_000_000  # ticks: eleven hours of a robot
JUDGED = 500  # ticks at once
SHARE = 0.6  # of its rate that a slowed loop has
FIRST, ORDINARY = "first", "ordinary"
# Takes memory, and touches every page again and again.
GREEDY = """
import os, sys
pages = bytearray(int(sys.argv[2]) << 20)
while os.getppid() == int(sys.argv[1]):
    pages[::4096] = bytes(len(pages) >> 12)
"""


def strained_machine(folder: Path, whole: bool) -> Measured:
    """Take cores, memory, disk and fsync from a robotd that is first, and from an ordinary one."""
    seconds, mib = (15.0, 2048) if whole else (3.0, 256)
    found = {how: _strained(folder / how, how, seconds, mib) for how in (FIRST, ORDINARY)}
    first, ordinary = found[FIRST], found[ORDINARY]
    fifth = _holds_at()
    allowed = 0.001 if whole else 0.01
    held = (
        first["missed"] <= allowed * first["ticks"]
        and fifth == MISSES
        and all(f["records_lost"] >= 1 and f["after_stop"] > 0 for f in found.values())
    )
    return Measured(
        f"SCHED_FIFO: {first['missed']:.0f} of {first['ticks']:.0f} ticks missed, latest by "
        f"{first['latest_ms']:.1f} ms; like others: {ordinary['missed']:.0f} of "
        f"{ordinary['ticks']:.0f}; it holds at the {fifth}th late tick in a row; records lost: "
        f"{first['records_lost']:.0f}, and the loop went on",
        held,
        {f"{how}_{name}": value for how, one in found.items() for name, value in one.items()}
        | {"holds_at_late_tick": fifth},
    )


def stepped_clock(folder: Path, whole: bool) -> Measured:
    """Let the wall clock of a process jump by an hour ten times a second; compare decisions."""
    ticks, found = 100_000 if whole else 1_500, []
    jumping = stepped.environment(folder)
    for name, environment in (("straight", {**os.environ}), ("jumping", jumping)):
        (folder / name).mkdir()
        command = [sys.executable, "-m", "real_robot.testing.writing", str(folder / name)]
        said = subprocess.run(
            [*command, str(ticks)], env=environment, capture_output=True, text=True, check=True
        )
        digest, away = said.stdout.split()
        found.append((digest, float(away)))
    (straight, still), (other, jumped) = found
    return Measured(
        f"the clock jumped by {jumped:.0f} s, and {ticks} ticks decided "
        f"{'the same to the bit' if straight == other else 'OTHERWISE'}",
        straight == other and jumped >= stepped.STEP_S and still < 60,
        {"ticks": ticks, "jumped_s": jumped, "changed_runs": int(straight != other)},
    )


def soak(folder: Path, whole: bool) -> Measured:
    """Torment a robot in lock-step, with a fault every ten seconds (quick: every second)."""
    ticks, every_s = (SOAKED, 10.0) if whole else (4_000, 1.0)
    flight = Flight(folder, every_s=every_s)
    begin = moving = 0
    try:
        for number in range(ticks):
            moving += not flight.tick().setpoint.resting
            if number % JUDGED == 0:
                flight.monitor.violations()  # which lets it forget what it has looked at
            if number == ticks // 2:
                begin = _resident()
        growth = (_resident() - begin) / begin
    finally:
        flight.close()
    violations = flight.monitor.violations()
    return Measured(
        f"{ticks} ticks, {moving} of them moving, {flight.faults} faults: {len(violations)} "
        f"limits left, memory {growth:+.2%}",
        not violations and growth < 0.01 and moving > ticks // 10 and flight.faults > 0,
        {"ticks": ticks, "faults": flight.faults, "violations": len(violations), "growth": growth},
    )


def slowed_loop(folder: Path, whole: bool) -> Measured:
    """Let a policy think so long that the loop has 60 % of its rate; read what is stamped."""
    worst, steps, episodes = 0.0, *((200, 10) if whole else (60, 2))
    on = reaching(robot=_patient(), horizon=steps)
    think = ns(1 / on.env.rate_hz / SHARE)
    began: list[int] = []

    def act(_: np.ndarray) -> np.ndarray:
        began.append(on.clock.now_ns())
        on.clock.sleep_until_ns(began[-1] + think)
        return np.array([0.1, 0.0, 0.0, 0.0]) * (-1) ** len(began)

    deployment = Deployment(on.env, Acting(on.env, act), FULL, gate=Never())
    for _ in range(episodes):
        began.clear()
        deployment.run(1)
        true = (len(began) - 1) / ((began[-1] - began[0]) / 1e9)
        worst = max(worst, abs(deployment.outcomes[-1].rate_hz / true - 1))
    told = len(deployment.report()["slow"])
    return Measured(
        f"{deployment.outcomes[-1].rate_hz:.2f} Hz are stamped, {true:.2f} Hz were true (nominal "
        f"{on.env.rate_hz:g}), off by {worst:.1%} at most; {told} of {episodes} episodes flagged",
        worst <= 0.03 and told == episodes,
        {"stamped_hz": deployment.outcomes[-1].rate_hz, "true_hz": true, "flagged": told},
    )


def _strained(folder: Path, how: str, seconds: float, mib: int) -> dict[str, float]:
    """Strain one robotd; return what its arm saw and what became of its records."""
    cell = Strained(folder, how, robot=_patient())
    with cell:
        cell.start("watch", "robotd")
        cell.move()
        cell.fill_disk()
        first = len(cell.reads())
        with hogs(2), _greedy(mib):
            cell.attend(seconds * 0.7)
            cell.ask("stop")
            stopped = len(cell.reads())
            cell.wait(lambda: cell.told()["loop"]["records"]["records lost"] > 0, 60)
            cell.attend(seconds * 0.3)
            last = len(cell.reads())
        lost = cell.told()["loop"]["records"]["records lost"]
        reads = cell.reads()[first:last]
    gaps = np.diff(reads) / (1e9 / HZ)
    missed = round(float((reads[-1] - reads[0]) / (1e9 / HZ))) - (len(reads) - 1)
    return {
        "ticks": len(reads),
        "missed": max(0, missed),
        "latest_ms": float((gaps.max() - 1) * 1e3 / HZ),
        "records_lost": lost,
        "after_stop": last - stopped,
    }


def _patient() -> RobotDescriptor:
    """Return the robot with times that its commander can keep beside hogs."""
    robot = load("sim")
    timing = replace(
        robot.timing,
        command_timeout_s=20.0,
        operator_timeout_s=20.0,
        watcher_timeout_s=5.0,
        lease_s=20.0,
        observation_max_age_s=5.0,
    )
    return replace(robot, timing=timing)


def _holds_at() -> int:
    """Return at which late tick in a row an arm that moves is told to hold."""
    cell = Cell()
    cell.ready()
    cell.drive(cell.home + 0.1, 0.2)
    late = cell.robot.tick_ns // 2 + 1
    for number in range(1, 20):
        if cell.tick(late_ns=late).state is State.HOLD:
            return number
    return 0


@contextmanager
def _greedy(mib: int) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", GREEDY, str(os.getpid()), str(mib)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _resident() -> int:
    """Return the bytes that this process alone has in memory; files, such as the ring, left out."""
    gc.collect()
    _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


MACHINE = (
    Fault(
        20,
        "2 busy processes, one that takes memory, a disk that is full for robotd (by its limit "
        "of a file's size) and an fsync of 2 s; once under SCHED_FIFO, once like others",
        "the loop goes on, the record stays in memory; five late ticks in a row are a hold",
        "SCHED_FIFO: at most 0.1 % of ticks missed (quick: 1 %)",
        strained_machine,
    ),
    Fault(
        21,
        "a wall clock that jumps by an hour ten times a second, for one process",
        "nothing: no decision knows what time it is",
        "0 changed decisions",
        stepped_clock,
    ),
    Fault(
        34,
        "ten million ticks in lock-step with a fault every 10 s (quick: 4000, every second)",
        "every limit is kept, and nothing piles up",
        "0 limits left, memory grows by less than 1 %",
        soak,
    ),
    Fault(
        37,
        "a policy that slows its loop to 60 % of the rate, on a virtual clock",
        "the episode is stamped with its true rate and flagged",
        "within 3 % of the true rate, never the nominal one",
        slowed_loop,
    ),
)
