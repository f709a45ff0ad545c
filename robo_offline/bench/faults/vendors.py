"""What arms and their controllers do by themselves: end, stop, reflexes, people's buttons.

Franka arms are the vendor's library before franky-sim, UR arms the vendor's library before a fake
controller; what neither of them can do is said with the fault.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from real_robot.descriptor import load
from real_robot.drivers import franka, ur
from real_robot.machine import State
from real_robot.record import Record
from real_robot.testing.driven import Driven, patient
from real_robot.testing.fake_ur import FakeUR
from real_robot.testing.franka_sim import FrankaSim, Reflexive
from real_robot.testing.processes import Cell
from robo_offline.bench.faults import Fault, Measured
from robo_offline.bench.faults.spread import figures_ms, spread

SIM_STATE_S = 0.25  # a simulation that shares its processors makes pauses
TRIES = 20
SLACK_S, BUSY_S = 0.01, 0.15  # of the machine: whole, quick

# ---- 12, 13: Franka ------------------------------------------------------------------------------


@contextmanager
def _driven(address: str) -> Iterator[Driven]:
    """A daemon on a vendor's driver, turned by this thread; no garbage is collected meanwhile."""
    driver = franka.Driver(patient(load("franka"), SIM_STATE_S), address)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        driven = Driven(driver)
        driven.arm()
        yield driven
    finally:
        gc.enable()
        gc.unfreeze()
        driver.close()


def _moving(driven: Driven) -> bool:
    """Set the first joint in motion; say whether the arm is fine."""
    driven.follow(driven.q + 0.3 * np.eye(driven.robot.dof)[0], 0.4)
    return driven.state() in ("active", "hold")


def dead_controller(folder: Path, whole: bool) -> Measured:
    """Kill the simulated controller in a motion; measure from the last fresh state to the fault."""
    state_s = load("franka").timing.state_timeout_s if whole else SIM_STATE_S
    late: list[float] = []
    tries, stays = 0, True
    while len(late) < (5 if whole else 1) and tries < TRIES:
        tries += 1
        with (
            FrankaSim() as sim,
            Cell(folder / f"{tries}", patient(load("franka"), state_s), sim.address) as cell,
        ):
            cell.start("watch", "robotd")
            if not _goes(cell):
                continue  # the simulation made a pause of its own: that is none of ours
            sim.kill()
            cell.wait(lambda: cell.state() == "fault")
            record = cell.incident()
            fault = next(t.now_ns for t in record.ticks if t.state is State.FAULT)
            late.append((fault - _fresh(record)) / 1e6)
            cell.attend(1.5)  # the library notices by itself after a second
            refused = not cell.ask("reset", stop_id=cell.told()["stop_id"])["ok"]
            stays = stays and cell.state() == "fault" and refused
    return Measured(
        f"fault {spread(late or [math.inf])} after the last fresh state, with a limit of "
        f"{1e3 * state_s:.0f} ms; it {'stays' if stays else 'does NOT stay'}; "
        f"{tries - len(late)} runs begun again, as the simulation paused by itself",
        bool(late) and max(late) <= 1e3 * (state_s + (SLACK_S if whole else BUSY_S)) and stays,
        {**figures_ms("fault", late or [-1]), "limit_ms": 1e3 * state_s, "tries": tries},
    )


def _goes(cell: Cell) -> bool:
    """Arm and let a policy move the arm; say whether it does, for a while."""
    if cell.state() != "idle":
        return False
    cell.arm()
    cell.start("policy")
    cell.wait(lambda: cell.state() in ("active", "fault"), 20)
    cell.attend(0.3)
    return cell.state() == "active"


def _fresh(record: Record) -> int:
    """Return when the arm's own time last moved on."""
    return [
        b.now_ns
        for a, b in pairwise(record.ticks)
        if a.measured and b.measured and b.measured.device_time_ns > a.measured.device_time_ns
    ][-1]


def reflex(folder: Path, whole: bool) -> Measured:
    """Put the vendor's reflex into what the library says; wait, talk on, then acknowledge."""
    waited_s, restarts, after, begun = 10.0 if whole else 1.0, 0, [], True
    for _ in range(3 if whole else 1):
        with FrankaSim() as sim, _driven(sim.address) as driven:
            begun = begun and _moving(driven)
            driver: Any = driven.daemon.driver
            driver._robot = arm = Reflexive(driver._robot)
            began = time.monotonic()
            driven.follow(driven.robot.home_rad, 5.0, driven.fails)
            after.append(1e3 * (time.monotonic() - began))
            driven.follow(driven.robot.home_rad, waited_s)  # the commander talks on
            restarts += len(arm.recovered) + (driven.state() != "fault")
            begun = begun and driven.reset()["ok"]
            driven.follow(driven.robot.home_rad, 0.5)
            begun = begun and len(arm.recovered) == 1
            restarts += driven.state() != "idle"
    return Measured(
        f"fault {spread(after)} after the reflex; {restarts} restarts in {waited_s:g} s and after "
        "the acknowledgement, which ran the vendor's recovery once",
        restarts == 0 and begun,
        {**figures_ms("fault", after), "restarts": restarts},
    )


# ---- 14: UR --------------------------------------------------------------------------------------

PRESSED = {"protective": (True, "fault"), "estop": (True, "estop"), "program": (False, "fault")}
LOCAL = ("remote", False, "fault")  # which no package tells


def stopped_by_controller(folder: Path, whole: bool) -> Measured:
    """Let the controller stop the arm in each of its ways; measure until robotd has stopped."""
    known, local, stays = [], [], True
    robot = patient(load("ur5e"))
    with FakeUR(list(robot.home_rad)) as fake, Cell(folder, robot, fake.address) as cell:
        fake.tell(patience=4.0, unlock_after_s=0.2)
        cell.start("watch", "robotd")
        for i in range(20 if whole else 1):
            for name, (value, state) in PRESSED.items():
                ms, stayed = _stop(cell, fake, name, value, state)
                known.append(ms)
                stays = stays and stayed
            if i < 5:
                ms, stayed = _stop(cell, fake, *LOCAL)
                local.append(ms)
                stays = stays and stayed
    bound = 2e3 / robot.timing.servo_hz + 1e3 * (SLACK_S if whole else BUSY_S)
    return Measured(
        f"known {spread(known)} after the controller's stop, {spread(local)} after remote control "
        f"was taken; {'none' if stays else 'SOME'} went on by itself",
        max(known) <= bound and max(local) <= 1e3 * ur.REMOTE_S + 100 + bound and stays,
        {**figures_ms("known", known), **figures_ms("local", local)},
    )


def _stop(cell: Cell, fake: FakeUR, name: str, value: bool, state: str) -> tuple[float, bool]:
    """Return the ms until it is known, and whether it stays when it is taken back at the arm."""
    cell.move()
    cell.attend(0.2)
    began = time.monotonic_ns()
    fake.tell(**{name: value})
    cell.wait(lambda: cell.state() == state, 20)
    tick = next(t for t in cell.incident().ticks if t.now_ns > began and t.state.value == state)
    fake.tell(**{name: not value})
    cell.attend(0.4)  # the commander talks on
    stays = cell.state() == state and not fake.tell()["servoing"]
    cell.processes["policy"].kill()
    cell.processes["policy"].wait()
    cell.wait(lambda: cell.ask("reset", stop_id=cell.told()["stop_id"])["ok"], 20)
    cell.wait(lambda: fake.tell()["runtime_state"] == 2, 20)  # the program runs again
    cell.attend(1.2)
    return (tick.now_ns - began) / 1e6, stays and cell.state() == "idle"


VENDORS = (
    Fault(
        12,
        "SIGKILL of franky-sim in a motion",
        "fault, latched, long before the library's own second",
        "the state's limit, a tick and 10 ms after the last fresh state; the limit is 50 ms "
        "(quick: 250 ms, and 150 ms of the machine's)",
        dead_controller,
    ),
    Fault(
        13,
        "a reflex in what Franka's library says, in a motion before franky-sim, which has no "
        "reflexes of its own",
        "fault; only the operator's acknowledgement runs the vendor's recovery",
        "0 restarts",
        reflex,
    ),
    Fault(
        14,
        "protective stop, emergency stop, the program's end and remote control taken away, at a "
        "fake UR controller",
        "fault or emergency stop, latched, whatever is taken back at the arm",
        "two packages of 8 ms and 10 ms (quick: 150 ms); remote control, which no package tells: "
        "0.6 s more",
        stopped_by_controller,
    ),
)
