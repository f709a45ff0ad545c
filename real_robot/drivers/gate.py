"""No tick that is left over from before a stop may move the arm."""

from __future__ import annotations

import numpy as np

from real_robot.driver import DriverCommand, DriverLost

BEGIN_RAD = 0.02  # a measurement and the next one differ by noise


class Gate:
    """Closed at first and after every stop; a tick at rest, where the arm stands, opens it.

    Who arms an arm begins with such a tick. One that is away from it was meant for a motion that
    has ended.
    """

    def __init__(self) -> None:
        self.open = False

    def admit(self, command: DriverCommand, q: np.ndarray) -> bool:
        """Say whether this tick opened the gate; DriverLost for one that must not pass."""
        if self.open:
            return False
        away = float(np.abs(command.q - q).max())
        if command.dq.any() or not away <= BEGIN_RAD:
            raise DriverLost(
                "a tick of a motion came after a stop: one begins at rest, where the arm stands, "
                f"not {away:.3f} rad away with {np.abs(command.dq).max():.3f} rad/s"
            )
        self.open = True
        return True

    def close(self) -> None:
        """Take no more ticks."""
        self.open = False
