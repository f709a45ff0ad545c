"""Commands that are late, wrong, wild or no commands: what of them reaches the arm."""

from __future__ import annotations

import heapq
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from real_robot.clock import ns
from real_robot.descriptor import RobotDescriptor, load
from real_robot.machine import State
from real_robot.messages import Source, pack
from real_robot.requests import Peer
from real_robot.testing.monitor import Monitor, Watched
from real_robot.testing.still import OPERATOR, POLICY, Cell
from real_robot.verdict import REFUSING, Reason
from robo_offline.bench.faults import Fault, Measured
from robo_offline.bench.faults.hostile import hostile

LOST, JITTER_S, DOUBLED = 0.3, 0.05, 0.1
FARTHER_RAD, BACK_RAD = 2e-4, 1e-6  # from target to target; what a stop's last tick rounds off
LEASE = 7  # that rehearsals draw each time
SAID_AT_ONCE = 4  # messages of one tick


def watched(robot: RobotDescriptor) -> tuple[Cell, Monitor]:
    """Return a daemon whose arm a monitor looks at."""
    monitor = Monitor(robot)
    cell = Cell(robot, driver=lambda arm: Watched(arm, arm.clock, monitor), draw=lambda: LEASE)
    cell.tick()
    return cell, monitor


def ready(cell: Cell) -> list[tuple[Peer, bytes]]:
    """Return what a person and a commander say to begin again, in one tick."""
    stop: dict[str, Any] = {"type": "reset", "stop_id": cell.daemon.machine.stop_id}
    arm = {"type": "arm", "descriptor": cell.daemon.hash}
    lease = {"type": "lease", "source": int(Source.POLICY)}
    cell.lease, cell.seq = LEASE, 0
    said = [(OPERATOR, stop)] if cell.daemon.machine.state.latched else []
    return [(who, pack(message)) for who, message in (*said, (OPERATOR, arm), (POLICY, lease))]


# ---- 3: the link -------------------------------------------------------------------------------


def link_in_trouble(folder: Path, whole: bool) -> Measured:
    """Send targets that lie ever further on through a bad link: the arm must never go back."""
    random, wanted = np.random.default_rng(0), 100_000 if whole else 500
    cell, monitor = watched(load("sim"))
    found = dict.fromkeys(("sent", "accepted", "refused", "back", "outages", "held", "stopped"), 0)
    while found["sent"] < wanted:
        _spell(
            cell, int(random.integers(5, 400)), float(random.choice([20, 50, 125])), random, found
        )
    broken = len(monitor.violations())
    good = found["back"] == 0 and broken == 0 and found["outages"] == found["held"]
    return Measured(
        f"{found['back']} out-of-order executions of {found['sent']:,} commands "
        f"({found['refused']:,} refused as overtaken, repeated or stale); held first and stopped "
        f"then in {found['held']} of {found['outages']} outages",
        good and found["refused"] > 0 and found["outages"] > 0,
        {**found, "violations": broken},
    )


def _spell(
    cell: Cell, commands: int, hz: float, random: np.random.Generator, found: dict[str, int]
) -> None:
    """Command until the link is cut, or the daemon has refused too much."""
    cell.tick(*ready(cell))
    begin = cell.daemon.setpoint.q.copy()
    way = np.eye(7)[6] * (1 if begin[6] < cell.home[6] else -1)
    line: list[tuple[int, int, bytes]] = []
    numbers, newest, sent, every = count(), -1, 0, round(cell.robot.timing.servo_hz / hz)
    states = []
    cell.arm.sent.clear()
    for tick in count():
        now = cell.clock.now_ns()
        if tick % every == 0 and sent < commands:
            sent += 1
            raw = cell.command(begin + FARTHER_RAD * sent * way).encode()
            for _ in range(1 + (random.random() < DOUBLED)):
                if random.random() > LOST:
                    due = now + ns(JITTER_S * random.random())
                    heapq.heappush(line, (due, next(numbers), raw))
        if sent == commands:  # cut
            line = []
        arrived: list[tuple[Peer, bytes]] = []
        while line and line[0][0] <= now and len(arrived) < SAID_AT_ONCE:
            arrived.append((POLICY, heapq.heappop(line)[2]))
        done = cell.tick(*arrived)
        states.append(done.state)
        for judgement in done.judgements:
            found["refused"] += bool(judgement.reason & REFUSING)
            if not judgement.reason & REFUSING:
                found["accepted"] += 1
                found["back"] += judgement.reply["seq"] <= newest
                newest = max(newest, judgement.reply["seq"])
        if done.state.latched:
            break
    made = np.array([command.q[6] for _, command in cell.arm.sent]) * way[6]
    found["back"] += int((np.diff(made) < -BACK_RAD).sum())
    found["sent"] += sent
    found["stopped"] += 1
    if "watchdog" in cell.daemon.machine.stop_reason and State.ACTIVE in states:
        stopping = (State.STOPPING, State.STOPPED)
        first = next(i for i, state in enumerate(states) if state in stopping)
        found["outages"] += 1
        found["held"] += states[first - 1] is State.HOLD


# ---- 4: numbers --------------------------------------------------------------------------------


def not_numbers(folder: Path, whole: bool) -> Measured:
    """Put what no number is into every field of good commands, while the arm moves and stands."""
    random, goal = np.random.default_rng(0), 1_000_000 if whole else 3_000
    cell, monitor = watched(load("sim"))
    said = must = taken = unexplained = stops = 0
    while said < goal:
        done = cell.tick(*ready(cell))
        if stops % 20 == 0:  # moving: from here on a stop takes its time
            cell.drive(cell.home + random.uniform(-0.2, 0.2, 7), 0.2)
        for _ in range(250):
            batch = [hostile(cell.command(cell.home), random) for _ in range(SAID_AT_ONCE)]
            done = cell.tick(*((POLICY, raw) for raw, _ in batch))
            for (_, bad), judgement in zip(batch, done.judgements, strict=True):
                said, must = said + 1, must + bad
                refused = bool(judgement.reason & REFUSING)
                ok = judgement.reply["ok"]
                taken += bad and ok and judgement.reason is not Reason.NONE
                unexplained += bad and not ok and not refused and "why" not in judgement.reply
            if done.state.latched:
                break
        stops += "refused" in cell.daemon.machine.stop_reason
        cell.arm.sent.clear()
        cell.arm.stops.clear()
    violations = monitor.violations()
    reached = sum(violation.kind == "finite" for violation in violations)
    return Measured(
        f"{reached} non-finite values reached the arm in {said:,} commands, {must:,} of them with "
        f"such values; {taken} of these accepted; {stops:,} stops after ten refusals; "
        f"{len(violations)} limits left of {monitor.judged:,} ticks sent",
        not (reached or taken or unexplained or violations) and stops > 0,
        {"commands": said, "bad": must, "reached": reached, "accepted": taken, "stops": stops,
         "violations": len(violations)},
    )  # fmt: skip


# ---- 8: old observations -----------------------------------------------------------------------


def old_observations(folder: Path, whole: bool) -> Measured:
    """Send commands whose observation is exactly as old as it may be, and a nanosecond older."""
    random, wrong, times = np.random.default_rng(0), 0, 2_000 if whole else 50
    for _ in range(times):
        robot = load(str(random.choice(["sim", "ur5e", "franka", "robosuite_panda"])))
        age = ns(robot.timing.observation_max_age_s)
        for extra, expected in ((0, Reason.NONE), (1, Reason.STALE)):
            cell = Cell(robot)
            cell.ready()
            cell.clock.advance(int(random.integers(1, 10**6)))
            cell.tick()
            seq, taken = cell.daemon.seq, cell.clock.now_ns()
            while cell.clock.now_ns() + 2 * robot.tick_ns < taken + age:
                cell.tick()
            cell.clock.advance(taken + age + extra - robot.tick_ns - cell.clock.now_ns())
            wrong += cell.reason(cell.home, obs_seq=seq, valid_ns=ns(1)) != expected
    return Measured(
        f"{wrong} of {2 * times:,} judged wrongly at the nanosecond of the limit and one later",
        wrong == 0,
        {"wrong": wrong, "judged": 2 * times},
    )


COMMANDS = (
    Fault(
        3,
        "on the virtual clock: 30 % of the commands lost, 10 % doubled, 0 to 50 ms of jitter that "
        "reorders them, then the link cut; packets are what is lost, as a TCP connection only "
        "delays",
        "nothing overtaken or repeated is executed; the cut link means hold, then the watchdog",
        "0 out-of-order executions",
        link_in_trouble,
    ),
    Fault(
        4,
        "not-a-numbers, infinities, 1e308, denormals, other types, shapes and byte order in every "
        "field of commands of the one who holds the lease",
        "refused with the reason; ten within a second stop the arm",
        "0 non-finite values reach the arm",
        not_numbers,
    ),
    Fault(
        8,
        "commands computed from an observation as old as it may be, and one nanosecond older",
        "the first is accepted, the second refused",
        "exact to the nanosecond",
        old_observations,
    ),
)
