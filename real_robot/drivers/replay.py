"""Recorded ticks, run again: the same daemon with a driver that answers as the arm did then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from real_robot import messages
from real_robot.clock import VirtualClock
from real_robot.daemon import Daemon, Tick
from real_robot.descriptor import RobotDescriptor
from real_robot.driver import DriverCommand, DriverLost, DriverState
from real_robot.messages import Malformed
from real_robot.record import Recorded
from real_robot.snapshot import restore, robot_of
from real_robot.verdict import Reason

# Refused for the number of the lease, or before anybody looked at it.
UNREAD = Reason.LEASE | Reason.MALFORMED | Reason.NOT_FINITE | Reason.ROLE | Reason.STATE
UNMET = 2**64  # no message can carry it


@dataclass
class Driver:
    """Answers what the arm answered in one recorded tick; nothing is moved."""

    descriptor: RobotDescriptor
    measured: DriverState | None = None
    lost: list[str] = field(default_factory=list)  # "call: why"

    def begin(self, tick: Recorded) -> None:
        """Take the answers of a tick."""
        self.measured, self.lost = tick.measured, list(tick.lost)

    def connect(self, timeout_s: float) -> None:
        """There is nothing to open."""

    def read(self) -> DriverState:
        self._answer("read")
        if self.measured is None:
            raise DriverLost("the record holds no state of this tick")
        return self.measured

    def write(self, command: DriverCommand) -> None:
        self._answer("write")

    def controlled_stop(self) -> None:
        self._answer("controlled_stop")

    def protective_stop(self) -> None:
        self._answer("protective_stop")

    def clear_fault(self) -> None:
        self._answer("clear_fault")

    def close(self) -> None:
        """There is nothing to let go of."""

    def _answer(self, call: str) -> None:
        for i, entry in enumerate(self.lost):
            name, _, why = entry.partition(": ")
            if name == call:
                del self.lost[i]
                raise DriverLost(why)


def rerun(frame: Mapping[str, Any], ticks: Sequence[Recorded]) -> list[Tick]:
    """Run recorded ticks again, from a snapshot that was taken after the tick before them."""
    at = 0

    def draw() -> int:
        """Find the number of a lease, which the record does not hold, where a command carried it.

        One that no command carried decided nothing, and any other does as well.
        """
        for tick in ticks[at:]:
            for (_, raw), reason in zip(tick.inbox, tick.reasons, strict=True):
                number = None if reason & UNREAD else _lease(raw)
                if number not in (None, daemon.lease.number):
                    return number
        return UNMET

    robot = robot_of(frame)
    driver, clock = Driver(robot), VirtualClock(frame["now_ns"])
    daemon = Daemon(driver, clock, draw=draw)
    restore(daemon, frame)
    found = []
    for at, recorded in enumerate(ticks):  # noqa: B007 - read by `draw`
        clock.sleep_until_ns(recorded.now_ns)
        driver.begin(recorded)
        daemon.beat(recorded.watcher_ns)
        for reason in recorded.stops:
            daemon.stop(reason)
        found.append(daemon.tick(recorded.inbox, recorded.late_ns))
    return found


def difference(recorded: Recorded, again: Tick) -> str:
    """Return what came out otherwise than it was recorded; nothing where all bits are the same."""
    pairs = {
        "seq": (recorded.seq, again.seq),
        "state": (recorded.state, again.state),
        "reasons": (list(recorded.reasons), [j.reason for j in again.judgements]),
        "motion": (recorded.motion, again.motion),
        "setpoint": (_bits(recorded.setpoint, "qva"), _bits(again.setpoint, "qva")),
        "sent": (
            _bits(recorded.sent, ("q", "dq", "gripper")),
            _bits(again.sent, ("q", "dq", "gripper")),
        ),
    }
    return ", ".join(name for name, (before, now) in pairs.items() if before != now)


def _lease(raw: bytes) -> int | None:
    """Return the number of the lease that a command carries."""
    try:
        message = messages.unpack(raw)
    except Malformed:
        return None
    return message.get("lease") if message["type"] == "command" else None


def _bits(record: Any, names: Sequence[str]) -> bytes | None:
    if record is None:
        return None
    return b"".join(np.asarray(getattr(record, name), "<f8").tobytes() for name in names)
