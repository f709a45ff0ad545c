"""What every driver has to do, as checks that any driver can be put to.

```python
report = run(lambda: Driver(load("ur5e"), "192.168.1.7"))
print(report)
```

A check connects by itself, moves the last joint by some 0.1 rad, slowly, and closes. It judges
by what the driver says of the arm, so a person watches where the arm is a real one. With pytest,
`CHECKS` are the values of a parameter.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from real_robot.driver import DriverCommand, DriverLost, DriverState, RobotDriver
from real_robot.testing.exercise import (
    NEAR_RAD,
    WENT_RAD,
    Bench,
    NotConforming,
    children,
    connected,
    expect,
    hold,
    move,
    rest,
    settle,
    stopped,
    tick_of,
    ticks,
    towards,
    wait,
)  # fmt: skip
from robo_offline.errors import UserError

Check = Callable[[Bench], None]


@dataclass(frozen=True)
class Report:
    """What each check found; nothing where it passed."""

    found: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not any(self.found.values())

    def __str__(self) -> str:
        return "\n".join(f"{'no ' if why else 'yes'}  {name}  {why}".rstrip() for name, why in self.found.items())  # noqa: E501  # fmt: skip


def run(
    make: Callable[[], RobotDriver],
    nowhere: Callable[[], RobotDriver] | None = None,
    slow: float = 1.0,
) -> Report:
    """Put a driver to every check that applies; a check that raises has not passed."""
    bench, found = Bench(make, nowhere, slow), {}
    for check in applicable(bench):
        try:
            check(bench)
            found[check.__name__] = ""
        except Exception as error:
            found[check.__name__] = f"{type(error).__name__}: {error}"
    return Report(found)


def applicable(bench: Bench) -> list[Check]:
    """Return the checks that can be made of it."""
    return [c for c in CHECKS if bench.nowhere is not None or c is not refuses_nothing]


# ---- the checks -------------------------------------------------------------------------------


def reads_without_waiting(bench: Bench) -> None:
    """A read takes a small part of a tick."""
    with connected(bench) as driver:
        tick_s, taken = tick_of(driver), []
        for _ in ticks(driver, 0.5):
            began = time.perf_counter()
            driver.read()
            taken.append(time.perf_counter() - began)
        middle, most = np.percentile(taken, [50, 95])
        expect(
            middle < tick_s / 4 and most < tick_s,
            f"reads take {middle * 1e3:.2f} ms, 95 % less than {most * 1e3:.2f} ms, of a tick of "
            f"{tick_s * 1e3:.1f} ms",
        )


def device_time_moves_on(bench: Bench) -> None:
    """The arm's own clock goes forward and does not stand still."""
    with connected(bench) as driver:
        last, moved, longest = driver.read().device_time_ns, time.monotonic(), 0.0
        until = moved + 0.5 * bench.slow
        while (now := time.monotonic()) < until:
            stamp = driver.read().device_time_ns
            expect(stamp >= last, f"device time went back from {last} to {stamp}")
            if stamp > last:
                last, moved = stamp, now
            longest = max(longest, now - moved)
            time.sleep(tick_of(driver) / 2)
        most = driver.descriptor.timing.state_timeout_s * bench.slow
        expect(longest < most, f"device time stood still for {longest:.3f} s, {most:g} s are fine")


def says_finite_numbers(bench: Bench) -> None:
    """A state has the robot's shapes, finite numbers and no fault at the beginning."""
    with connected(bench) as driver:
        state, dof = driver.read(), driver.descriptor.dof
        for name in ("q", "dq"):
            value = getattr(state, name)
            expect(value.shape == (dof,), f"{name} has shape {value.shape}, not ({dof},)")
            expect(bool(np.isfinite(value).all()), f"{name} is not finite: {value}")
        wrench = state.wrench
        if driver.descriptor.has_wrench:
            fine = wrench is not None and wrench.shape == (6,) and np.isfinite(wrench).all()
            expect(fine, f"the wrench is not 6 finite numbers: {wrench}")
        expect(0 <= state.gripper <= 1, f"the gripper is at {state.gripper}, not in [0, 1]")
        expect(not state.fault and not state.estop, f"the arm is not ready: {state.fault}")
        expect(
            float(np.abs(state.q).max()) < 4 * math.pi, f"are these degrees? q = {state.q.tolist()}"
        )


def follows_a_small_motion(bench: Bench) -> None:
    """The joint that is told to goes there, the others stay, and dq is the derivative of q."""
    with connected(bench) as driver:
        begin = hold(bench, driver)
        seen: list[DriverState] = []
        move(bench, driver, begin, 1.0, seen)
        way = towards(driver, begin)
        target = begin + way
        settle(bench, driver, target)
        stamps = np.array([s.device_time_ns for s in seen]) / 1e9
        speeds = np.array([s.dq[-1] for s in seen])
        summed = float((np.diff(stamps) * (speeds[1:] + speeds[:-1]) / 2).sum())
        moved = float(seen[-1].q[-1] - seen[0].q[-1])
        expect(
            abs(summed - moved) < 0.5 * abs(moved),
            f"dq sums up to {summed:.3f} rad where q went {moved:.3f} rad: other units or clocks?",
        )


def stops_end_motion(bench: Bench) -> None:
    """Soon after a stop the arm stands, near where it was; a protective one is no slower."""
    controlled, way = stopped(bench, lambda driver: driver.controlled_stop())
    expect(controlled < 1.5 * bench.slow, f"the arm moved on for {controlled:.2f} s")
    expect(way < WENT_RAD, f"the arm went on for {way:.3f} rad")
    protective, way = stopped(bench, lambda driver: driver.protective_stop())
    expect(
        protective <= controlled + 0.05 * bench.slow,
        f"a protective stop took {protective:.3f} s, a controlled one {controlled:.3f} s",
    )
    expect(way < WENT_RAD, f"after a protective stop the arm went on for {way:.3f} rad")


def a_stop_is_not_undone_by_a_late_tick(bench: Bench) -> None:
    """After a stop no tick moves the arm but a motion that begins where it stands."""
    with connected(bench) as driver:
        begin = hold(bench, driver)
        driver.controlled_stop()
        stands = wait(driver, 0.3 * bench.slow)
        late = begin + towards(driver, begin)
        for _ in ticks(driver, 0.1 * bench.slow):
            state = driver.read()
            try:
                driver.write(DriverCommand(late, np.zeros(len(late)), state.gripper))
            except DriverLost:
                break
        moved = float(np.abs(wait(driver, 0.2 * bench.slow) - stands).max())
        expect(moved < NEAR_RAD, f"a tick after the stop moved the arm by {moved:.3f} rad")
        begin = hold(bench, driver)
        move(bench, driver, begin, 1.0)
        settle(bench, driver, begin + towards(driver, begin))


def closes_twice(bench: Bench) -> None:
    """Closing twice is fine; a closed driver says that it is lost."""
    driver = bench.make()
    driver.connect(bench.connect_s)
    driver.read()
    driver.close()
    driver.close()
    for name, use in (("read", driver.read), ("write", lambda: driver.write(rest(driver)))):
        try:
            use()
        except DriverLost:
            continue
        raise NotConforming(f"{name} of a closed driver raises no DriverLost")


def connects_once(bench: Bench) -> None:
    """A second connect is refused, and the first connection goes on."""
    with connected(bench) as driver:
        try:
            driver.connect(bench.connect_s)
        except UserError:
            driver.read()
            return
        raise NotConforming("a second connect raises no UserError")


def refuses_nothing(bench: Bench) -> None:
    """Connecting to an address where nobody answers fails in time, saying so."""
    assert bench.nowhere is not None, "not applicable"
    driver, began = bench.nowhere(), time.monotonic()
    try:
        driver.connect(1.0)
    except UserError as error:
        taken = time.monotonic() - began
        expect(taken < 2.0, f"it took {taken:.1f} s to say so, 1 s was given")
        expect(bool(error.where or error.found), f"it does not say where or what: {error}")
        driver.close()
        return
    raise NotConforming("connecting to nobody raises no UserError")


def leaves_nothing_behind(bench: Bench) -> None:
    """After closing there are no more threads and processes than before."""

    def cycle() -> None:
        with connected(bench) as driver:
            hold(bench, driver)

    before = {thread.ident for thread in threading.enumerate()}
    cycle()  # once, so that what a library makes for good is there
    tasks, processes = len(os.listdir("/proc/self/task")), children()
    cycle()
    until = time.monotonic() + 3.0 * bench.slow
    while True:
        left = {thread.ident for thread in threading.enumerate()} - before
        more = len(os.listdir("/proc/self/task")) - tasks
        if time.monotonic() > until or (not left and more <= 0):
            break
        time.sleep(0.02)
    expect(not left, f"{len(left)} Python threads are left")
    expect(more <= 0, f"{more} threads of a library are left")
    expect(children() <= processes, f"{children() - processes} processes are left")


CHECKS: tuple[Check, ...] = (
    reads_without_waiting,
    device_time_moves_on,
    says_finite_numbers,
    follows_a_small_motion,
    stops_end_motion,
    a_stop_is_not_undone_by_a_late_tick,
    closes_twice,
    connects_once,
    refuses_nothing,
    leaves_nothing_behind,
)
