"""The arm's own controller, above its motors: where it aims between ticks, and when it stops.

It behaves like a vendor's: it bridges one missing tick with the last speed and slows down when more
are missing, and after the time that it is told it stops for good; it refuses what it could not
follow; and after a stop of its own it takes nothing until that is acknowledged.
"""

from __future__ import annotations

from enum import Enum

import numpy as np

from real_robot.clock import ns
from real_robot.descriptor import RobotDescriptor
from real_robot.driver import DriverCommand

BRAKE_S = 0.1  # from the highest speed to standing
BRIDGED = 2  # ticks of time that one tick is enough for
FASTER = 1.5  # than the limit, to catch up with ticks that came late


class Mode(Enum):
    """What the servo does."""

    STANDING = "standing"
    FOLLOWING = "following"
    BRAKING = "braking"  # along the way, to a stand
    LOCKED = "locked"  # brakes on the motors, until acknowledged


class Servo:
    """Aims of the joints: `q` and `v`, each (dof,)."""

    def __init__(self, robot: RobotDescriptor, hold_after_s: float):
        self.tick_ns, self.hold_after_ns = robot.tick_ns, ns(hold_after_s)
        self.slowing = np.array(robot.limits.v_max_rad_s) / BRAKE_S
        self.fastest = FASTER * np.array(robot.limits.v_max_rad_s)
        # Farther than this no arm gets while it waits for a tick: nobody can mean it.
        self.leap = np.array(robot.limits.v_max_rad_s) * (hold_after_s + self.tick_ns / 1e9)
        self.beside = np.array(robot.limits.v_max_rad_s) * 2 * self.tick_ns / 1e9
        self.mode = Mode.STANDING
        self.fault = ""
        self.q = np.array(robot.home_rad)
        self.v = np.zeros(robot.dof)
        self._last_ns = 0  # when the last tick came
        self._then = self.v  # the speed after it

    def follow(self, command: DriverCommand, now_ns: int) -> None:
        """Take a tick: be at its position one period from now."""
        if self.mode in (Mode.BRAKING, Mode.LOCKED) or self.fault:
            return
        if not (np.isfinite(command.q).all() and np.isfinite(command.dq).all()):
            return self.lock(self.q, "a tick is not finite")
        away = np.abs(command.q - self.q)
        if self.mode is Mode.STANDING and (away > self.beside).any():
            return  # a motion begins where the arm stands: this belongs to one that is over
        if (away > self.leap).any():
            return self.lock(self.q, "a tick leaps")
        self.mode, self._last_ns = Mode.FOLLOWING, now_ns
        speed = (command.q - self.q) / (self.tick_ns / 1e9)
        self.v = np.minimum(np.maximum(speed, -self.fastest), self.fastest)
        self._then = command.dq

    def step(self, now_ns: int, dt_s: float) -> None:
        """Move the aim by one step of the physics, which begins at `now_ns`."""
        if self.mode is Mode.FOLLOWING:
            waited = now_ns - self._last_ns
            if waited >= self.hold_after_ns:
                self.fault = f"no tick for {self.hold_after_ns / 1e9:g} s"
                self.mode = Mode.BRAKING
            elif waited >= BRIDGED * self.tick_ns:
                self._slow(dt_s)
            elif waited >= self.tick_ns:
                self.v = self._then
        if self.mode is Mode.BRAKING:
            self._slow(dt_s)
            if not self.v.any():
                self.mode = Mode.STANDING
        self.q = self.q + self.v * dt_s

    def _slow(self, dt_s: float) -> None:
        self.v = np.sign(self.v) * (np.abs(self.v) - self.slowing * dt_s).clip(0)

    def brake(self) -> None:
        """Come to a stand along the way (category 1)."""
        if self.mode is Mode.FOLLOWING:
            self.mode = Mode.BRAKING

    def lock(self, q: np.ndarray, why: str) -> None:
        """Put the brakes on the motors, wherever they are (category 0)."""
        self.fault = self.fault or why
        self.stand(q)
        self.mode = Mode.LOCKED

    def stand(self, q: np.ndarray) -> None:
        """Aim at where the arm is, at rest."""
        self.q, self.v, self.mode = np.array(q, float), np.zeros(len(q)), Mode.STANDING

    def clear(self, q: np.ndarray) -> None:
        """Acknowledge what stopped it."""
        if self.mode is not Mode.BRAKING:
            self.stand(q)
        self.fault = ""
