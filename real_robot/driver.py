"""What a vendor's arm must be able to do: be read, be told where to be next, and stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from real_robot.descriptor import RobotDescriptor


@dataclass(frozen=True, slots=True)
class DriverState:
    """What the arm says of itself, in SI units."""

    q: np.ndarray  # (dof,) rad, measured
    dq: np.ndarray  # (dof,) rad/s
    device_time_ns: int  # of the arm's own clock: it must move on
    gripper: float = 0.0  # 0 closed, 1 open
    wrench: np.ndarray | None = None  # (6,) N and Nm at the tool, where it is measured
    fault: str = ""  # the vendor's reason, where it has stopped by itself
    estop: bool = False  # its emergency stop is pressed
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)  # what else a scene knows


@dataclass(frozen=True, slots=True)
class DriverCommand:
    """One servo tick, already limited: where to be at its end."""

    q: np.ndarray  # (dof,) rad
    dq: np.ndarray  # (dof,) rad/s, for feed-forward
    gripper: float


class RobotDriver(Protocol):
    """A vendor's adapter: no policy, no limits and no decisions of its own."""

    descriptor: RobotDescriptor

    def connect(self, timeout_s: float) -> None:
        """Open the connection; UserError saying what is missing where it cannot be."""

    def read(self) -> DriverState:
        """Return the newest state; never waits longer than a tick."""

    def write(self, command: DriverCommand) -> None:
        """Send one tick. The first one after connecting, and after every stop, is at rest where the
        arm stands; another is left over from a motion that has ended, and moves nothing."""

    def controlled_stop(self) -> None:
        """End motion with the arm at rest: brakes or the vendor's idle (category 1)."""

    def protective_stop(self) -> None:
        """Stop as fast as the vendor can (category 0)."""

    def clear_fault(self) -> None:
        """Acknowledge a fault, after the operator has asked for it."""

    def close(self) -> None:
        """Let go of the arm; it stays where it is."""


class DriverLost(Exception):
    """The arm does not answer, or not as it should."""
