"""Whoever commands dies, or is stopped and wakes up: the watchdog, and leases that are over."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np

from real_robot.clock import ns
from real_robot.machine import State
from real_robot.record import Record
from real_robot.testing.hogs import hogs
from real_robot.testing.processes import Cell
from real_robot.testing.still import Cell as Rehearsal
from real_robot.verdict import REFUSING
from robo_offline.bench.faults import Fault, Measured
from robo_offline.bench.faults.spread import figures_ms, spread

SLACK_S = 0.015  # of a machine that is ours alone, on top of the watchdog's time
BUSY_S = 0.05  # of one that has other things to do, as in the quick forms


def killed_while_moving(folder: Path, whole: bool) -> Measured:
    """Kill a commander; measure from its last accepted command to the stop, by robotd's record."""
    exact = [_exact(seed) for seed in range(1000 if whole else 20)]
    with Cell(folder) as cell, hogs(2 if whole else 0):
        cell.start("watch", "robotd")
        limit = cell.robot.timing.command_timeout_s
        trips = [_kill(cell) for _ in range(100 if whole else 2)]
    beside = ", two hogs beside" if whole else ""
    late = max(trips) / 1e3 - limit
    return Measured(
        f"stopped after {spread(trips)} kills{beside}; virtual: at most {max(exact)} ticks late",
        max(exact) <= 1 and 0 < late <= (SLACK_S if whole else BUSY_S) and min(trips) > 1e3 * limit,
        {**figures_ms("trip", trips), "virtual_late_ticks": max(exact)},
    )


def _exact(seed: int) -> int:
    """Return how many ticks after the watchdog's time it trips, on a clock that stands still."""
    random = np.random.default_rng(seed)
    cell = Rehearsal()
    cell.ready()
    away = cell.home + random.uniform(-0.1, 0.1, 7)
    cell.drive(away, random.uniform(0.05, 0.4))
    cell.send(away)
    last, limit = cell.clock.now_ns(), ns(cell.robot.timing.command_timeout_s)
    cell.clock.advance(int(random.integers(cell.robot.tick_ns)))  # any phase of the ticks
    while cell.daemon.machine.state in (State.ACTIVE, State.HOLD):
        cell.tick()
    late = cell.clock.now_ns() - last - limit
    cell.run(cell.robot.stop_bound_s)
    latched = cell.daemon.machine.state is State.STOPPED
    return -(-late // cell.robot.tick_ns) if late > 0 and latched else 10**9


def _kill(cell: Cell) -> float:
    """Return the ms from the last accepted command to the first tick of the stop."""
    cell.move()
    cell.attend(0.2)
    cell.processes["policy"].kill()
    cell.processes["policy"].wait()
    cell.wait(lambda: cell.state() == "stopped")
    record = cell.incident()
    last, tripped = _last_accepted(record), _trip(record)
    braked = not record.ticks[-1].setpoint.v.any() and not record.lost
    cell.attend(0.1)
    if not braked or cell.state() != "stopped":
        return float("inf")
    cell.reset()
    return (tripped - last) / 1e6


def _accepted(record: Record, since_ns: int = 0) -> list[int]:
    """Return when commands were accepted."""
    return [
        tick.now_ns
        for tick in record.ticks
        for (_, raw), reason in zip(tick.inbox, tick.reasons, strict=True)
        if tick.now_ns > since_ns and b"command" in raw and not reason & REFUSING
    ]


def _last_accepted(record: Record) -> int:
    return _accepted(record)[-1]


def _trip(record: Record) -> int:
    stopping = (State.STOPPING, State.STOPPED)
    last = _last_accepted(record)
    return next(t.now_ns for t in record.ticks if t.now_ns > last and t.state in stopping)


def stopped_and_continued(folder: Path, whole: bool) -> Measured:
    """Stop a commander for 150 ms; count what of it is accepted after that, and after a reset."""
    accepted = refused = motions = 0
    times = 20 if whole else 2
    with Cell(folder) as cell:
        cell.start("watch", "robotd")
        for _ in range(times):
            cell.move()
            cell.attend(0.2)
            policy = cell.processes["policy"]
            policy.send_signal(signal.SIGSTOP)
            cell.attend(0.15)
            policy.send_signal(signal.SIGCONT)
            cell.wait(lambda: cell.state() in ("stopping", "stopped"))
            before = cell.told()["counts"]
            cell.wait(lambda: cell.state() == "stopped")
            record = cell.incident()
            accepted += len(_accepted(record, _trip(record)))
            cell.attend(0.2)
            cell.reset()
            cell.arm()  # a person starts again, and the old commander still talks
            where = np.array(cell.told()["q_set"])
            cell.attend(0.3)
            told = cell.told()
            motions += told["state"] != "armed" or bool((np.array(told["q_set"]) != where).any())
            accepted += told["counts"]["accepted"] - before["accepted"]
            refused += _refusals(told["counts"]) - _refusals(before)
            policy.kill()
            policy.wait()
            cell.ask("disarm")
    return Measured(
        f"{accepted} of {refused + accepted} commands accepted after the stop in {times} runs, "
        f"{motions} motions",
        accepted == 0 and motions == 0 and refused >= times,
        {"accepted": accepted, "refused": refused, "motions": motions, "runs": times},
    )


def _refusals(counts: dict[str, int]) -> int:
    return sum(n for name, n in counts.items() if name != "accepted")


COMMANDER = (
    Fault(
        1,
        "SIGKILL of the commander while the arm moves; whole: beside two processes that take both "
        "cores",
        "controlled stop by the watchdog, latched, the record frozen",
        "virtual: 100 ms and one tick after the last command; real: 115 ms (quick: 150 ms)",
        killed_while_moving,
    ),
    Fault(
        2,
        "SIGSTOP of the commander for 150 ms, then SIGCONT; then a person resets and arms",
        "controlled stop; whatever the old commander says is refused",
        "0 accepted after the stop",
        stopped_and_continued,
    ),
)
