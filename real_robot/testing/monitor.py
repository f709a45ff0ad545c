"""An independent judge of what reaches the arm: its own kinematics, finite differences, the file.

It shares nothing with what it judges but the robot's file: the daemon plans with velocities and
accelerations that it keeps, the monitor sees positions and times alone and differentiates them. A
motion whose q, v and a are continuous and whose derivatives are limited has finite differences
within the same limits (they are means of the derivatives), so no tolerance hides anything beyond
rounding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from real_robot.clock import Clock
from real_robot.descriptor import Box, Limits, RobotDescriptor
from real_robot.driver import DriverCommand, DriverState, RobotDriver

ROUNDING = 1e-6  # relative, and absolute in the unit of what is looked at
ENDS_RAD = 1e-9
OUTSIDE_M = 1e-3  # that the tool may be out of its box
SILENCE_S = 0.1  # longer than this an arm does not wait for a tick: it brakes by itself
BLOCK = 4096  # commands that are judged at once
HISTORY = 3  # commands that a third difference looks back


@dataclass(frozen=True, slots=True)
class Violation:
    """One limit that was left, at one tick."""

    now_ns: int
    kind: str
    found: float
    allowed: float
    where: str = ""  # the joint, or the axis

    def __str__(self) -> str:
        place = f" of {self.where}" if self.where else ""
        return f"{self.now_ns} ns: {self.kind}{place} {self.found:.9g}, allowed {self.allowed:.9g}"


class Monitor:
    """Takes the commands and the stops that an arm was given; says which limits were left."""

    def __init__(self, robot: RobotDescriptor, limits: Limits | None = None):
        self.robot, self.limits = robot, limits or robot.limits
        self.tick_s = robot.tick_ns / 1e9
        self.judged = 0
        self._found: list[Violation] = []
        self._times: list[int] = []
        self._commands: list[DriverCommand] = []
        self._new: list[int] = []  # times of what is judged now
        self._known = 0  # rows at the front that have been judged already

    def command(self, now_ns: int, command: DriverCommand) -> None:
        """Take note of one command."""
        if self._times and now_ns - self._times[-1] > SILENCE_S * 1e9:
            self._end(now_ns, "silence")
        if not _finite(command, self.robot.dof):
            self._found.append(Violation(now_ns, "finite", float("nan"), 0.0))
            self._end(now_ns, "")
            return
        self._times.append(now_ns)
        self._commands.append(command)
        self.judged += 1
        if len(self._times) >= BLOCK:
            self._judge()

    def controlled_stop(self, now_ns: int) -> None:
        """Take note of a controlled stop: the motion before it must have come to rest."""
        self._end(now_ns, "stopped while it moved")

    def protective_stop(self, now_ns: int) -> None:
        """Take note of a protective stop, which may come at any moment."""
        self._end(now_ns, "")

    def violations(self) -> list[Violation]:
        """Return what was found in everything noted so far."""
        self._judge()
        return list(self._found)

    def _end(self, now_ns: int, moving: str) -> None:
        """End a motion; name it a violation where it moved, if it has a name."""
        self._judge()
        if self._commands and moving and (speed := float(np.abs(self._commands[-1].dq).max())):
            self._found.append(Violation(now_ns, moving, speed, 0.0))
        self._times, self._commands, self._known = [], [], 0

    def _judge(self) -> None:
        if len(self._times) == self._known:
            return
        # What comes first was at rest before: the arm is armed where it stands.
        before = HISTORY - self._known
        q = np.stack([self._commands[0].q] * before + [c.q for c in self._commands])
        gripper = np.array(
            [self._commands[0].gripper] * before + [c.gripper for c in self._commands]
        )
        dq = np.stack([c.dq for c in self._commands[self._known :]])
        self._new = self._times[self._known :]
        self._joints(q, dq)
        self._tool(q)
        self._gripper(gripper)
        del self._times[:-HISTORY], self._commands[:-HISTORY]
        self._known = len(self._times)

    def _joints(self, q: np.ndarray, dq: np.ndarray) -> None:
        limits, t = self.limits, self.tick_s
        new = q[HISTORY:]
        low = np.array(limits.q_min_rad) + limits.q_margin_rad
        high = np.array(limits.q_max_rad) - limits.q_margin_rad
        self._compare("lower end", low - new, np.full(len(low), ENDS_RAD), 0)
        self._compare("upper end", new - high, np.full(len(high), ENDS_RAD), 0)
        speed = np.diff(q, axis=0)[HISTORY - 1 :] / t
        self._compare("velocity", np.abs(speed), limits.v_max_rad_s)
        self._compare("velocity sent", np.abs(dq), limits.v_max_rad_s)
        gain = np.diff(q, 2, axis=0)[HISTORY - 2 :] / t**2
        self._compare("acceleration", np.abs(gain), limits.a_max_rad_s2)
        jerk = np.diff(q, 3, axis=0) / t**3
        self._compare("jerk", np.abs(jerk), limits.j_max_rad_s3)
        # The velocity at a tick's end is at most half a tick of acceleration from its mean.
        self._compare(
            "velocity sent against the way", np.abs(dq - speed), np.array(limits.a_max_rad_s2) * t / 2  # noqa: E501
        )  # fmt: skip

    def _tool(self, q: np.ndarray) -> None:
        limits = self.limits
        tool = tool_position(self.robot, q[HISTORY - 1 :])
        before, new = tool[:-1], tool[1:]
        speed = np.linalg.norm(new - before, axis=1) / self.tick_s
        self._compare("tool speed", speed[:, None], [limits.tcp_v_max_m_s], names=("",))
        allowed = np.full(3, OUTSIDE_M)
        self._compare("below the box", limits.box_m.low_m - new, allowed, 0, names="xyz")
        self._compare("above the box", new - limits.box_m.high_m, allowed, 0, names="xyz")
        for box in limits.keepouts_m:
            depth = crossed(before, new, box)
            self._compare("keep-out", depth[:, None], [0.0], 0, names=("",))

    def _gripper(self, gripper: np.ndarray) -> None:
        new = gripper[HISTORY:, None]
        self._compare("gripper's end", np.abs(new - 0.5), [0.5], names=("",))
        speed = np.abs(np.diff(gripper))[HISTORY - 1 :, None] / self.tick_s
        self._compare("gripper's speed", speed, [self.limits.gripper_v_max_s], names=("",))

    def _compare(
        self,
        kind: str,
        found: np.ndarray,
        allowed: Iterable[float],
        slack: float = ROUNDING,
        names: Iterable[str] | None = None,
    ) -> None:
        """Note where `found` (N, K) is more than `allowed` (K,)."""
        most = np.asarray(allowed, float)
        named = list(names) if names is not None else [joint.name for joint in self.robot.joints]
        for row, column in np.argwhere(found > most * (1 + slack) + slack):
            self._found.append(
                Violation(
                    self._new[row],
                    kind,
                    float(found[row, column]),
                    float(most[column]),
                    named[column],
                )
            )


class Watched:
    """A driver that a monitor looks at: it sees every call, whether that succeeds or not."""

    def __init__(self, driver: RobotDriver, clock: Clock, monitor: Monitor):
        self.descriptor, self.driver = driver.descriptor, driver
        self.clock, self.monitor = clock, monitor

    def connect(self, timeout_s: float) -> None:
        self.driver.connect(timeout_s)

    def read(self) -> DriverState:
        return self.driver.read()

    def write(self, command: DriverCommand) -> None:
        self.monitor.command(self.clock.now_ns(), command)
        self.driver.write(command)

    def controlled_stop(self) -> None:
        self.monitor.controlled_stop(self.clock.now_ns())
        self.driver.controlled_stop()

    def protective_stop(self) -> None:
        self.monitor.protective_stop(self.clock.now_ns())
        self.driver.protective_stop()

    def clear_fault(self) -> None:
        self.driver.clear_fault()

    def close(self) -> None:
        self.driver.close()


def tool_position(robot: RobotDescriptor, q: np.ndarray) -> np.ndarray:
    """Return where the tool is (N, 3), for angles (N, dof), by a product of quaternions."""
    position, turn = np.zeros((len(q), 3)), np.tile([1.0, 0.0, 0.0, 0.0], (len(q), 1))
    for joint, angle in zip(robot.joints, q.T, strict=True):
        position = position + _rotate(turn, np.array(joint.xyz_m))
        half = np.concatenate(
            [np.cos(angle / 2)[:, None], np.sin(angle / 2)[:, None] * joint.axis], axis=1
        )
        turn = _times(_times(turn, np.array([joint.wxyz])), half)
    return position + _rotate(turn, np.array(robot.tool_xyz_m))


def crossed(a: np.ndarray, b: np.ndarray, box: Box) -> np.ndarray:
    """Return the length (N,) of the straight ways from `a` to `b` (N, 3) within a box.

    A point that stands inside counts with its depth.
    """
    low, high = np.array(box.low_m), np.array(box.high_m)
    way = b - a
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = (low - a) / way, (high - a) / way
    between = (a > low) & (a < high)
    # Along an axis without movement the whole way lies between the faces, or none of it.
    enters = np.where(way == 0, np.where(between, -np.inf, np.inf), np.minimum(first, second))
    leaves = np.where(way == 0, np.where(between, np.inf, -np.inf), np.maximum(first, second))
    share = np.minimum(leaves.min(1), 1.0) - np.maximum(enters.max(1), 0.0)
    depth = np.minimum(b - low, high - b).min(1)
    return np.maximum(share.clip(0) * np.linalg.norm(way, axis=1), depth.clip(0))


def _times(p: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Return Hamilton's product (N, 4), real part first."""
    a, u, b, v = p[:, :1], p[:, 1:], r[:, :1], r[:, 1:]
    real = a * b - (u * v).sum(1, keepdims=True)
    return np.concatenate([real, a * v + b * u + np.cross(u, v)], axis=1)


def _rotate(turn: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Return a vector (3,) turned by unit quaternions (N, 4)."""
    twice = 2 * np.cross(turn[:, 1:], vector)
    return vector + turn[:, :1] * twice + np.cross(turn[:, 1:], twice)


def _finite(command: DriverCommand, dof: int) -> bool:
    fits = np.shape(command.q) == np.shape(command.dq) == (dof,)
    return fits and bool(
        np.isfinite(command.q).all()
        and np.isfinite(command.dq).all()
        and np.isfinite(command.gripper)
    )
