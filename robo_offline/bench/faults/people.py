"""Stops that people give, resets that they must not get, and devices that leave their hands."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Any

import numpy as np

from real_robot.actions import PoseDelta
from real_robot.clock import VirtualClock, ns
from real_robot.daemon import Daemon
from real_robot.descriptor import load
from real_robot.drivers.arithmetic import ArithmeticArm
from real_robot.env import RealRobotEnv
from real_robot.machine import State
from real_robot.person import Teleoperated
from real_robot.teleop.intervention import Intervention, TwistAction
from real_robot.teleop.sampler import STUCK_AFTER_S
from real_robot.teleop.spacemouse import FULL, SpaceMouse
from real_robot.testing.driven import patient
from real_robot.testing.lockstep import Lockstep
from real_robot.testing.processes import Cell
from real_robot.testing.still import OPERATOR, POLICY, TELEOP, VIEWER
from real_robot.testing.still import Cell as Rehearsal
from real_robot.testing.terminal import Terminal
from real_robot.verdict import REFUSING
from robo_offline.bench.faults import Fault, Measured
from robo_offline.bench.faults.spread import figures_ms, spread

KINDS = (State.STOPPING, State.ESTOP, State.FAULT)
SLACK_S, BUSY_S = 0.005, 0.5  # of the machine: whole, quick
DEAD_SLACK_S = 0.1  # of a console's death, whose last heartbeat came at any time before

# ---- 15: the console -----------------------------------------------------------------------------


def console(folder: Path, whole: bool) -> Measured:
    """Type e at a console in a terminal, then kill it; the arm tells when it was stopped."""
    presses, deaths, latched = [], [], True
    robot = load("sim") if whole else patient(load("sim"))
    with Cell(folder, robot) as cell:
        cell.attended = False  # that is the console's
        cell.start("watch", "robotd")
        terminal = _open(cell)
        try:
            for i in range(20 if whole else 3):
                _becomes(cell, terminal, b"a", "armed")
                if i == 0:  # moving
                    cell.start("policy")
                    cell.wait(lambda: cell.state() == "active")
                began, before = time.monotonic_ns(), len(cell.lines("stops_ns"))
                terminal.type(b"e")
                presses.append(_stopped(cell, before, began))
                cell.wait(lambda: cell.state() == "estop")
                latched = latched and cell.lines("stops")[before] == "protective"
                if i == 0:
                    cell.attend(0.2)  # the policy goes on talking
                    cell.processes["policy"].kill()
                latched = latched and cell.state() == "estop"
                cell.reset()
                terminal.read()
            for _ in range(5 if whole else 1):
                _becomes(cell, terminal, b"a", "armed")
                began, before = time.monotonic_ns(), len(cell.lines("stops_ns"))
                terminal.process.kill()
                deaths.append(_stopped(cell, before, began))
                cell.wait(lambda: cell.state() == "stopped")
                cell.reset()
                terminal.close()
                terminal = _open(cell)
        finally:
            terminal.close()
    tick_ms, slack = cell.robot.tick_ns / 1e6, 1e3 * (SLACK_S if whole else BUSY_S)
    dead_ms = 1e3 * (cell.robot.timing.operator_timeout_s + DEAD_SLACK_S) + slack
    return Measured(
        f"from key to protective stop {spread(presses)}; in the tick that hears it; a killed "
        f"console stops the arm after {spread(deaths)}",
        latched and _same_tick() and max(presses) <= 2 * tick_ms + slack and max(deaths) <= dead_ms,
        {**figures_ms("press", presses), **figures_ms("death", deaths)},
    )


def _stopped(cell: Cell, before: int, began_ns: int) -> float:
    """Return the ms until the arm is stopped again, by its own record."""
    cell.wait(lambda: len(cell.lines("stops_ns")) > before)
    return (int(cell.lines("stops_ns")[before]) - began_ns) / 1e6


def _open(cell: Cell) -> Terminal:
    terminal = Terminal(cell)
    cell.wait(lambda: b"IDLE" in terminal.read(), 60)
    return terminal


def _becomes(cell: Cell, terminal: Terminal, key: bytes, state: str) -> None:
    terminal.type(key)
    cell.wait(lambda: cell.state() == state and (terminal.read() or True), 20)


def _same_tick() -> bool:
    cell = Rehearsal()
    cell.ready()
    cell.drive(cell.home + 0.1, 0.3)
    tick = cell.tick((OPERATOR, {"type": "estop"}))
    return cell.arm.stops[-1] == (tick.now_ns, "protective") and tick.sent is None


# ---- 16: resets ----------------------------------------------------------------------------------


def resets(folder: Path, whole: bool) -> Measured:
    """Ask for resets that must not be given, while a commander talks on; then for one that may."""
    random, times = np.random.default_rng(0), 1_000 if whole else 30
    given = refused = motions = answered = 0
    for _ in range(times):
        cell = Rehearsal()
        cell.ready()
        away = cell.home + random.uniform(-0.2, 0.2, 7)
        cell.drive(away, random.uniform(0.1, 0.4))
        cell.daemon.stop("test", KINDS[random.integers(len(KINDS))])
        number = cell.daemon.machine.stop_id
        wrong: list[dict[str, Any]] = [
            {},
            {"stop_id": number + 1},
            {"stop_id": number - 1},
            {"stop_id": True},
            {"stop_id": str(number)},
        ]
        asked = [cell.ask(OPERATOR, "reset", **fields) for fields in wrong]  # some while it brakes
        cell.run(1.0)
        asked += [cell.ask(OPERATOR, "reset", **fields) for fields in wrong]
        asked += [cell.ask(who, "reset", stop_id=number) for who in (POLICY, TELEOP, VIEWER)]
        cell.arm.dq = np.full(7, 0.1)
        asked.append(cell.ask(OPERATOR, "reset", stop_id=number))
        cell.arm.dq = np.zeros(7)
        given += sum(reply["ok"] for reply in asked)
        refused += sum(not reply["ok"] for reply in asked)
        answered += cell.ask(OPERATOR, "reset", stop_id=number)["ok"]
        where, sent = cell.arm.q.copy(), len(cell.arm.sent)
        for _ in range(50):  # and nothing begins by itself
            tick = cell.send(away)
            motions += not tick.judgements[0].reason & REFUSING
        motions += bool((cell.arm.q != where).any()) + (len(cell.arm.sent) != sent)
    return Measured(
        f"{given} of {refused + given:,} wrong resets given; {motions} motions in {50 * times:,} "
        f"commands after {answered} right ones",
        given == 0 and motions == 0 and answered == times,
        {"given": given, "refused": refused, "motions": motions, "resets": answered},
    )


# ---- 17: devices ---------------------------------------------------------------------------------


class Reports:
    """A SpaceMouse's HID reports: buttons and a deflection, again for each poll."""

    def __init__(self) -> None:
        self.held = self.gone = False
        self._left = 2

    def read(self) -> bytes:
        if self.gone:
            raise OSError("read error")
        self._left = (self._left - 1) % 3
        if self._left == 1:
            return bytes([3, int(self.held), 0])
        return struct.pack("<B6h", 1, FULL, 0, 0, 0, 0, 0) if self._left == 0 else b""

    def close(self) -> None:
        """There is nothing to let go of."""


def let_go(folder: Path, whole: bool) -> Measured:
    """Let go of a dead-man, unplug its device, and hold it for too long, at any step."""
    random, times = np.random.default_rng(0), 100 if whole else 2
    periods, on_time, stops = [], True, 0
    for how in ("released", "unplugged", "stuck"):
        for _ in range(times):
            steps, stopped = _teleoperate(how, int(random.integers(3, 20)))
            periods.append(steps)
            stops += stopped
    for _ in range(times):
        on_time = on_time and _stuck_exactly(int(random.integers(10**9)))
    return Measured(
        f"at rest or stopped by the command {max(periods)} period after, in all of {len(periods)} "
        f"runs; a dead-man held for {STUCK_AFTER_S:g} s is good and a nanosecond longer is not: "
        f"{'always' if on_time else 'NOT always'}; {stops} stops",
        max(periods) <= 1 and on_time and stops == times,
        {"periods": max(periods), "runs": len(periods), "stops": stops},
    )


def _teleoperate(how: str, after: int) -> tuple[int, bool]:
    """Push for `after` steps, then let it happen; return the steps until standing was asked for."""
    robot, clock, reports = load("sim"), Lockstep(), Reports()
    daemon = Daemon(ArithmeticArm(robot, clock), clock, watched=False, attended=False)
    clock.serve(daemon)
    stuck_s = (after - 0.5) / 20 if how == "stuck" else STUCK_AFTER_S
    device = SpaceMouse(reports, clock, stuck_after_s=stuck_s)
    rule = Intervention(TwistAction(0.4, 4.0, gripper=(1.0, -1.0)))
    actions: Any = PoseDelta(robot, 0.02, 0.2)
    env = RealRobotEnv(
        clock,
        robot,
        actions,
        lambda state, observation: (0.0, False, False),
        lambda env, random: None,
        person=Teleoperated(device, rule, clock),
        clock=clock,
        keep_s=None,
        horizon=10**6,
    )
    env.reset(seed=0)
    reports.held = True
    for step in range(after + 100):
        if step == after:
            reports.held, reports.gone = how == "stuck", how == "unplugged"
        *_, truncated, info = env.step(np.zeros(7))
        pushed = bool(np.abs(info["executed"][:6]).max() > 1e-6)
        if step < after and how != "stuck" and not pushed:
            return 10**6, False  # the person did not have the arm at all
        if truncated or (step >= after and not pushed):
            for _ in range(250):
                clock.tick()
            fine = daemon.setpoint.resting
            return (step - after + 1 if fine else 10**6), truncated
    return 10**6, False


def _stuck_exactly(start: int) -> bool:
    clock, reports = VirtualClock(start), Reports()
    device, reports.held = SpaceMouse(reports, clock), True
    device.poll()
    clock.advance(ns(STUCK_AFTER_S))
    good = device.poll()
    clock.advance(1)
    late = device.poll()
    return good.enable and not good.stop and not late.enable and bool(late.stop)


PEOPLE = (
    Fault(
        15,
        "e pressed at the console in a terminal while the arm moves; the console killed",
        "protective stop, latched; without the console's heartbeat a controlled stop",
        "virtual: the same tick; real: two ticks and 5 ms (quick: 500 ms) from key to stop; "
        "killed: the heartbeat's 1 s and 0.1 s (quick: of 3 s)",
        console,
    ),
    Fault(
        16,
        "resets without the stop's number, with a wrong one, by other roles, while the arm brakes "
        "or moves, with a commander that talks on",
        "refused; after the right one nothing moves until a person arms",
        "0 given, 0 motions",
        resets,
    ),
    Fault(
        17,
        "a SpaceMouse's dead-man let go, its cable pulled, its button stuck (byte reports, as "
        "there is no device here)",
        "the next command asks to stand; a stuck one stops the arm",
        "one period of teleoperation; stuck: exact to the nanosecond",
        let_go,
    ),
)
