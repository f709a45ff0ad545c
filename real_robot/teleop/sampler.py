"""The part of every device that keeps people safe: dead-man, stuck button, lost device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from real_robot.clock import Clock, ns
from real_robot.teleop.mapping import Mapping
from real_robot.teleop.sample import TeleopSample

STUCK_AFTER_S = 600.0  # nobody holds a dead-man for ten minutes


@dataclass(frozen=True)
class Buttons:
    """Which of a device's buttons does what; None where it has none to spare.

    A held `toggle` closes, when pressed again opens, and so on.
    """

    enable: int | None = None
    close: int | None = None
    open: int | None = None
    toggle: int | None = None
    success: int | None = None
    failure: int | None = None
    rerecord: int | None = None
    stop: int | None = None


@dataclass(frozen=True)
class Controls:
    """A device's axes and buttons."""

    axes: tuple[float, ...] = (0.0,) * 6  # in [-1, 1]
    held: frozenset[int] = frozenset()


class DeadMan:
    """Says whether motion is enabled; pure over the times that it is given."""

    def __init__(self, stuck_after_s: float = STUCK_AFTER_S):
        self.stuck_after_ns = ns(stuck_after_s)
        self._since: int | None = None

    def update(self, held: bool, now_ns: int) -> tuple[bool, str]:
        """Return whether motion is enabled, and why everything must stop.

        One that is held for longer than the limit stops everything until it is released.
        """
        if not held:
            self._since = None
            return False, ""
        if self._since is None:
            self._since = now_ns
        if now_ns - self._since > self.stuck_after_ns:
            return False, f"the dead-man has been held for {self.stuck_after_ns / 1e9:g} s: stuck?"
        return True, ""


class Sampler:
    """Turns what a device says into what is asked for."""

    def __init__(
        self,
        clock: Clock,
        mapping: Mapping,
        buttons: Buttons,
        stuck_after_s: float = STUCK_AFTER_S,
    ):
        self.clock, self.mapping, self.buttons = clock, mapping, buttons
        self._dead_man = DeadMan(stuck_after_s)
        self._held: frozenset[int] = frozenset()
        self._opens = True  # what the toggle did last
        self._stop = ""

    def sample(
        self,
        axes: Sequence[float],
        held: frozenset[int],
        pressed: frozenset[int] = frozenset(),
        stop: str = "",
    ) -> TeleopSample:
        """Return one poll's sample. `pressed` may be shorter than the time between two polls."""
        now, buttons = self.clock.now_ns(), self.buttons
        new = pressed | (held - self._held)
        self._held = held
        if buttons.toggle in new:
            self._opens = not self._opens
        if buttons.stop in new:
            stop = "the stop button was pressed"
        # It stands until hands are off, so that who misses the one poll does not move on.
        if stop or not held & {buttons.enable, buttons.stop}:
            self._stop = stop
        enabled, stuck = self._dead_man.update(buttons.enable in held, now)
        stop = self._stop or stuck
        enabled = enabled and not stop
        return TeleopSample(
            stamp_ns=now,
            velocity=self.mapping.twist(axes) if enabled else np.zeros(6),
            gripper=self._gripper(held) if enabled else 0.0,
            enable=enabled,
            success=buttons.success in new,
            failure=buttons.failure in new,
            rerecord=buttons.rerecord in new,
            stop=stop,
        )

    def lost(self) -> TeleopSample:
        """Return the sample of a device that is gone."""
        return TeleopSample(self.clock.now_ns(), np.zeros(6), lost=True)

    def _gripper(self, held: frozenset[int]) -> float:
        """Only while a button is held: taking over must not drop what the gripper holds."""
        buttons = self.buttons
        if buttons.toggle in held:
            return 1.0 if self._opens else -1.0
        return float(buttons.open in held) - float(buttons.close in held)
