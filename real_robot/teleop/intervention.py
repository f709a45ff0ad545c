"""Who acts now: the policy, the person, or nobody. Pure over the times that it is given.

The action that is returned is the one to execute and to store, and the label is the label of that
action: there is no other place where the two are brought together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from real_robot.clock import ns
from real_robot.teleop.sample import TeleopSample

LEAVE_AFTER_S = 0.3  # people pause between two pushes


class Who(Enum):
    """Whose action it is."""

    POLICY = "policy"
    TELEOP = "teleop"
    HOLD = "hold"  # nobody's: the device is gone or silent, or somebody said stop


@dataclass(frozen=True, slots=True)
class Executed:
    """What to do in this step, and whose it is."""

    action: np.ndarray  # (A,)
    requested: np.ndarray  # (A,) what the policy asked for
    source: Who
    stop: str = ""  # why everything must stop, where it must

    @property
    def intervened(self) -> bool:
        return self.source is Who.TELEOP


# The environment's action (A,) for a sample; where the sample leaves something as it is, the action
# takes it from the one that was executed last.
ToAction = Callable[[TeleopSample, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class TwistAction:
    """Actions that are a scaled twist in [-1, 1], with the gripper's state behind it or without."""

    linear_m_s: float  # what 1 means
    angular_rad_s: float
    gripper: tuple[float, float] | None = (-1.0, 1.0)  # the action's values of closed and of open

    def __call__(self, sample: TeleopSample, last: np.ndarray) -> np.ndarray:
        if sample.joints:
            raise ValueError("these actions are twists, and the device gives joint velocities")
        full = np.repeat([self.linear_m_s, self.angular_rad_s], 3)
        twist = (sample.velocity / full).clip(-1, 1)
        if self.gripper is None:
            return twist
        closed, opened = self.gripper
        grip = {0: last[-1], -1: closed, 1: opened}[int(np.sign(sample.gripper))]
        return np.append(twist, grip)


class Intervention:
    """Between a policy and a person.

    The person takes over with a held dead-man and a motion of some size, or the gripper, and keeps
    the robot until nothing has moved for `leave_after_s`; in pauses it stands still. The first
    step without the device, or without a recent sample of it, holds: nobody could take over.
    """

    def __init__(
        self,
        to_action: ToAction,
        enter_m_s: float = 0.005,
        enter_rad_s: float = 0.02,
        leave_after_s: float = LEAVE_AFTER_S,
        max_age_s: float = 0.15,
    ):
        self.to_action = to_action
        self.enter_m_s, self.enter_rad_s = enter_m_s, enter_rad_s
        self.leave_after_ns, self.max_age_ns = ns(leave_after_s), ns(max_age_s)
        self.reset()

    def reset(self) -> None:
        """Begin an episode with the policy."""
        self._moved_ns: int | None = None  # last motion of the person who has the robot
        self._last: np.ndarray | None = None

    def step(self, now_ns: int, requested: np.ndarray, sample: TeleopSample) -> Executed:
        """Return what to execute now. ValueError where the two actions differ in shape."""
        recent = 0 <= now_ns - sample.stamp_ns <= self.max_age_ns
        present = recent and not (sample.lost or sample.stop)
        if present:
            self._decide(now_ns, sample)
        if present and self._moved_ns is None:
            source, action = Who.POLICY, requested
        else:
            rest = TeleopSample(now_ns, np.zeros_like(sample.velocity), joints=sample.joints)
            last = requested if self._last is None else self._last
            action = self.to_action(sample if present else rest, last)
            if action.shape != requested.shape:
                raise ValueError(
                    f"the policy's action has shape {requested.shape}, the person's {action.shape}"
                )
            source = Who.TELEOP if present else Who.HOLD
        self._last = action.copy()
        return Executed(self._last.copy(), requested.copy(), source, sample.stop)

    def _decide(self, now_ns: int, sample: TeleopSample) -> None:
        # A slow motion keeps the robot, though it would not be enough to take it.
        mine = self._moved_ns is not None
        moves = sample.velocity.any() if mine else self._large(sample)
        if sample.enable and (moves or sample.gripper):
            self._moved_ns = now_ns
        elif self._moved_ns is not None and now_ns - self._moved_ns >= self.leave_after_ns:
            self._moved_ns = None

    def _large(self, sample: TeleopSample) -> bool:
        if sample.joints:
            return bool(np.abs(sample.velocity).max() > self.enter_rad_s)
        linear, angular = np.linalg.norm(sample.velocity.reshape(2, 3), axis=1)
        return bool(linear > self.enter_m_s or angular > self.enter_rad_s)
