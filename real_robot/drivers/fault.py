"""A driver that fails when it is told to: what an arm, its controller and its cable can do.

```python
arm = Faulty(driver, clock, [no_answer(begin, end), wrong(begin, end, q=np.full(7, np.nan))])
```
Times are the clock's, in ns; a fault holds from its beginning up to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from real_robot.clock import Clock, ns
from real_robot.driver import DriverCommand, DriverLost, DriverState, RobotDriver

Read = Callable[[DriverState], DriverState]
Write = Callable[[DriverCommand], DriverCommand]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done, while it holds, to what is read, to what is written, and before other calls."""

    begin_ns: int
    end_ns: int
    read: Read = lambda state: state
    write: Write = lambda command: command
    call: Callable[[str], None] = lambda name: None


class Faulty:
    """A driver with a plan of faults; without any it is the driver itself."""

    def __init__(self, driver: RobotDriver, clock: Clock, plan: Sequence[Fault] = ()):
        self.driver, self.descriptor, self.clock = driver, driver.descriptor, clock
        self.plan = list(plan)

    def connect(self, timeout_s: float) -> None:
        self._call("connect")
        self.driver.connect(timeout_s)

    def read(self) -> DriverState:
        self._call("read")
        state = self.driver.read()
        for fault in self._present():
            state = fault.read(state)
        return state

    def write(self, command: DriverCommand) -> None:
        self._call("write")
        for fault in self._present():
            command = fault.write(command)
        self.driver.write(command)

    def controlled_stop(self) -> None:
        self._call("controlled_stop")
        self.driver.controlled_stop()

    def protective_stop(self) -> None:
        self._call("protective_stop")
        self.driver.protective_stop()

    def clear_fault(self) -> None:
        self._call("clear_fault")
        self.driver.clear_fault()

    def close(self) -> None:
        self.driver.close()

    def _present(self) -> list[Fault]:
        now = self.clock.now_ns()
        return [fault for fault in self.plan if fault.begin_ns <= now < fault.end_ns]

    def _call(self, name: str) -> None:
        for fault in self._present():
            fault.call(name)


def no_answer(begin_ns: int, end_ns: int, *calls: str) -> Fault:
    """These calls raise DriverLost; all but `close` where none is named."""

    def call(name: str) -> None:
        if not calls or name in calls:
            raise DriverLost(f"no answer to {name}")

    return Fault(begin_ns, end_ns, call=call)


def hang(begin_ns: int, end_ns: int, clock: Clock, seconds: float, *calls: str) -> Fault:
    """These calls, or `read`, take so long. With a clock that stands still it moves instead."""

    def call(name: str) -> None:
        if name in (calls or ("read",)):
            clock.sleep_until_ns(clock.now_ns() + ns(seconds))

    return Fault(begin_ns, end_ns, call=call)


def wrong(begin_ns: int, end_ns: int, **values: Any) -> Fault:
    """The state has these values: not finite, of another shape, `estop=True`, `fault="..."`."""
    return Fault(begin_ns, end_ns, read=lambda state: replace(state, **values))


def frozen(begin_ns: int, end_ns: int) -> Fault:
    """The state is the first one again and again: the arm's own time stands still."""
    kept: list[DriverState] = []

    def read(state: DriverState) -> DriverState:
        kept[1:] = []
        kept.append(state)
        return kept[0]

    return Fault(begin_ns, end_ns, read=read)


def stopped_clock(begin_ns: int, end_ns: int) -> Fault:
    """The arm's own time stands still, and everything else goes on."""
    kept: list[int] = []

    def read(state: DriverState) -> DriverState:
        kept.append(state.device_time_ns)
        return replace(state, device_time_ns=kept[0])

    return Fault(begin_ns, end_ns, read=read)


def stuck(begin_ns: int, end_ns: int, *joints: int) -> Fault:
    """These joints stay where they are, whatever they are told."""
    kept: list[DriverCommand] = []

    def write(command: DriverCommand) -> DriverCommand:
        kept[1:] = []
        kept.append(command)
        q, dq = command.q.copy(), command.dq.copy()
        q[list(joints)], dq[list(joints)] = kept[0].q[list(joints)], 0
        return replace(command, q=q, dq=dq)

    return Fault(begin_ns, end_ns, write=write)


def touched(begin_ns: int, end_ns: int, wrench: Sequence[float]) -> Fault:
    """The measured wrench (6,) has this on top, N and Nm."""

    def read(state: DriverState) -> DriverState:
        present = np.zeros(6) if state.wrench is None else state.wrench
        return replace(state, wrench=present + wrench)

    return Fault(begin_ns, end_ns, read=read)
