"""How a check moves an arm: by ticks, softly, and looking at what the arm says of itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from real_robot.driver import DriverCommand, DriverState, RobotDriver

WAY_RAD, WAY_S = 0.1, 0.6  # of a motion, smoothly
NEAR_RAD = 0.02  # where an arm may be from where it is told to be, at rest
STILL_RAD_S, WINDOW_S = 0.02, 0.02
MOVING_RAD_S, WENT_RAD = 0.03, 0.05
RECOVERS_S = 15.0  # the longest that a vendor makes people wait after a stop


class NotConforming(AssertionError):
    """A driver does not do what it has to."""


@dataclass(frozen=True)
class Bench:
    """A driver to be judged."""

    make: Callable[[], RobotDriver]  # a new one each time, not connected, of the same arm
    nowhere: Callable[[], RobotDriver] | None = None  # one whose address nobody answers at
    slow: float = 1.0  # how many times longer than an arm this one may take: simulators
    connect_s: float = 10.0


@contextmanager
def connected(bench: Bench) -> Iterator[RobotDriver]:
    """A driver between connect and close."""
    driver = bench.make()
    driver.connect(bench.connect_s)
    try:
        yield driver
    finally:
        driver.close()


def recovered(driver: RobotDriver) -> None:
    """Acknowledge until the arm is ready, as an operator would."""
    until = time.monotonic() + RECOVERS_S
    while driver.read().fault:
        expect(time.monotonic() < until, f"the arm does not recover: {driver.read().fault}")
        driver.clear_fault()
        wait(driver, 0.25)


def expect(fine: object, otherwise: str) -> None:
    if not fine:
        raise NotConforming(otherwise)


def tick_of(driver: RobotDriver) -> float:
    return driver.descriptor.tick_ns / 1e9


def rest(driver: RobotDriver) -> DriverCommand:
    home = np.array(driver.descriptor.home_rad)
    return DriverCommand(home, np.zeros(len(home)), 0.0)


def towards(driver: RobotDriver, q: np.ndarray) -> np.ndarray:
    """Return the way of the last joint, away from its nearer end."""
    limits, way = driver.descriptor.limits, np.zeros(len(q))
    middle = (limits.q_min_rad[-1] + limits.q_max_rad[-1]) / 2
    way[-1] = WAY_RAD if q[-1] <= middle else -WAY_RAD
    return way


def ticks(driver: RobotDriver, seconds: float) -> Iterator[float]:
    """Yield the time since the beginning, at the servo's rate."""
    began, tick_s, n = time.monotonic(), tick_of(driver), 0
    while (now := time.monotonic() - began) < seconds:
        yield now
        n += 1
        time.sleep(max(0.0, began + n * tick_s - time.monotonic()))


def wait(driver: RobotDriver, seconds: float) -> np.ndarray:
    """Let time pass, reading as a daemon does; return where the arm is."""
    for _ in ticks(driver, seconds):
        state = driver.read()
    return state.q


def fine(driver: RobotDriver) -> DriverState:
    """Read, where no stop is expected."""
    state = driver.read()
    expect(not state.fault and not state.estop, f"the arm stopped by itself: {state.fault}")
    return state


def hold(bench: Bench, driver: RobotDriver) -> np.ndarray:
    """Take hold of the arm where it stands; return where that is."""
    state = driver.read()
    for _ in ticks(driver, 0.2 * bench.slow):
        fine(driver)
        driver.write(DriverCommand(state.q, np.zeros(len(state.q)), state.gripper))
    return state.q


def move(
    bench: Bench,
    driver: RobotDriver,
    begin: np.ndarray,
    share: float,
    seen: list[DriverState] | None = None,
) -> None:
    """Go the first part of the way, which begins and ends softly."""
    way, whole = towards(driver, begin), WAY_S * bench.slow
    for t in ticks(driver, share * whole):
        state = fine(driver)
        if seen is not None:
            seen.append(state)
        angle = math.pi * t / whole
        at, speed = (1 - math.cos(angle)) / 2, math.pi / 2 / whole * math.sin(angle)
        driver.write(DriverCommand(begin + at * way, speed * way, state.gripper))


def settle(bench: Bench, driver: RobotDriver, target: np.ndarray) -> None:
    away = math.inf
    for _ in ticks(driver, 2.0 * bench.slow):
        state = fine(driver)
        away = float(np.abs(state.q - target).max())
        if away < NEAR_RAD:
            return
        driver.write(DriverCommand(target, np.zeros(len(target)), state.gripper))
    raise NotConforming(f"the arm is {away:.3f} rad from where it was told to go")


def stopped(bench: Bench, stop: Callable[[RobotDriver], None]) -> tuple[float, float]:
    """Stop in the middle of a motion; return how long and how far it went on."""
    with connected(bench) as driver:
        begin = hold(bench, driver)
        move(bench, driver, begin, 0.5)
        state = driver.read()
        speed = float(np.abs(state.dq).max())
        expect(speed > MOVING_RAD_S, f"the arm hardly moves: {speed:.3f} rad/s")
        asked = time.monotonic()
        stop(driver)
        moved, until = asked, asked + 3.0 * bench.slow
        before = after = driver.read()
        while (now := time.monotonic()) < min(until, moved + 0.3 * bench.slow):
            # By positions: a joint that is held may tremble, and its dq says so.
            if (passed := (after.device_time_ns - before.device_time_ns) / 1e9) > WINDOW_S:
                if float(np.abs(after.q - before.q).max()) > STILL_RAD_S * passed:
                    moved = now
                before = after
            time.sleep(tick_of(driver))
            after = driver.read()
        way = float(np.abs(after.q - state.q).max())
        recovered(driver)
        return moved - asked, way


def children() -> int:
    pids = Path("/proc/self/task").glob("*/children")
    return sum(len(path.read_text().split()) for path in pids)
