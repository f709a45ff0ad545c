"""What a person asks for at a moment, and what every teleoperation device gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, slots=True)
class TeleopSample:
    """One poll of a device. Whatever is not enabled is at rest, whatever the device says.

    ValueError for velocities that are not finite, or that move while nothing is enabled.
    """

    stamp_ns: int
    # (6,) of the tool in the base frame, m/s and rad/s; or (dof,) of the joints, rad/s.
    velocity: np.ndarray
    joints: bool = False  # which of the two
    gripper: float = 0.0  # -1 closes, 1 opens, 0 leaves it as it is
    enable: bool = False  # the dead-man is held
    success: bool = False  # pressed since the last poll
    failure: bool = False
    rerecord: bool = False
    lost: bool = False  # the device is gone
    stop: str = ""  # why everything must stop, where it must

    def __post_init__(self):
        numbers = np.asarray(self.velocity, np.float64)
        if numbers.ndim != 1 or not (self.joints or numbers.shape == (6,)):
            raise ValueError(f"a twist has shape (6,), joint velocities (dof,): {numbers.shape}")
        if not (np.isfinite(numbers).all() and -1 <= self.gripper <= 1):
            raise ValueError(f"not finite or out of range: {numbers}, gripper {self.gripper}")
        if not self.enable and (numbers.any() or self.gripper):
            raise ValueError(f"moves without being enabled: {numbers}, gripper {self.gripper}")
        object.__setattr__(self, "velocity", numbers)


class Teleoperator(Protocol):
    """What a person, or a script in a person's place, moves the robot with."""

    def poll(self) -> TeleopSample:
        """Return what is asked for now. Never waits, and never raises for what a device does."""

    def close(self) -> None:
        """Let go of the device."""
