"""Motion with limited jerk that always has room to stop.

Ruckig plans from where the arm is told to be to the target, within velocity, acceleration and jerk.
Before a tick is taken, the stop that would follow it is planned too, and looked at: joints, box,
keep-outs and the tool's speed. Only a tick with a clean stop behind it is taken; otherwise the arm
takes the first tick of the stop that was found clean one tick before. So at every moment a stop
within all limits exists, whatever the next command is. (Berscheid, Kroger 2021, arXiv 2105.04830,
is the planner; the argument is the usual one of inevitable collision states.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from ruckig import (
    ControlInterface,
    InputParameter,
    Result,
    Ruckig,
    RuckigError,
    Synchronization,
    Trajectory,
)

from real_robot.descriptor import Limits, RobotDescriptor
from real_robot.kinematics import Chain
from real_robot.safety.stages import KEPT_M, kept_out, outside

PROBE_S = 1e-6  # for the tool's speed
# Shares of the tool's speed limit: aimed at, and allowed where a stop is looked at. The rest is for
# bends of the way, and for what happens between the samples.
GOVERNED, STOPPING = 0.85, 0.95


@dataclass(frozen=True, slots=True)
class Setpoint:
    """Where the arm is told to be: rad, rad/s, rad/s^2, each (dof,)."""

    q: np.ndarray
    v: np.ndarray
    a: np.ndarray

    @property
    def resting(self) -> bool:
        return bool((self.v == 0).all() and (self.a == 0).all())


def rest(q: np.ndarray) -> Setpoint:
    """Return a setpoint that does not move."""
    return Setpoint(np.array(q, float), np.zeros(len(q)), np.zeros(len(q)))


class Motion:
    """From setpoint to setpoint. A pure function of its arguments: it can be replayed."""

    def __init__(self, robot: RobotDescriptor, chain: Chain):
        self.dof, self.chain = robot.dof, chain
        self.tick_s = robot.tick_ns / 1e9
        self._planner = Ruckig(robot.dof)
        self._input = InputParameter(robot.dof)
        self._trajectory = Trajectory(robot.dof)

    def towards(
        self, now: Setpoint, target: np.ndarray, limits: Limits, scale: float = 1.0
    ) -> tuple[Setpoint, bool]:
        """Return the setpoint one tick nearer to a target, and whether it had to brake instead."""
        if now.resting and (target == now.q).all():
            return now, False
        after = self._plan(now, target, self._speeds(now.q, target, limits, scale), limits)
        if after is not None and self.can_stop(after, limits):
            return after, False
        return self.braking(now, limits), True

    def braking(self, now: Setpoint, limits: Limits) -> Setpoint:
        """Return the setpoint one tick nearer to standing still, as soon as the limits allow."""
        if now.resting:
            return now
        if not self._plan_stop(now, limits):
            # Outside of what can be planned: standing is safer than going on.
            return rest(now.q)
        return self._at(self.tick_s)

    def can_stop(self, now: Setpoint, limits: Limits) -> bool:
        """Say whether a stop from here stays within every limit."""
        if not self._plan_stop(now, limits):
            return False
        points = [self._trajectory.at_time(t) for t in self._moments(limits)]
        q, v = np.array([p[0] for p in points]), np.array([p[1] for p in points])
        x = limits.arrays()
        slack = 1e-9
        if (q < x["low"] - slack).any() or (q > x["high"] + slack).any():
            return False
        position, _ = self.chain.tool(np.concatenate([q, q + PROBE_S * v]))
        here, soon = position[: len(q)], position[len(q) :]
        if outside(here, limits.box_m, KEPT_M / 2).any():
            return False
        if kept_out(here, limits.keepouts_m, KEPT_M / 2).any():
            return False
        speed = np.linalg.norm(soon - here, axis=1) / PROBE_S
        return bool((speed <= STOPPING * limits.tcp_v_max_m_s).all())

    def _moments(self, limits: Limits) -> list[float]:
        """Return when to look at the stop that was planned last.

        At every tick that would be sent, and between them so often that the tool goes no farther
        than twice what is kept from a face: no box is so thin that it is not met. Seldom looks
        miss something: a tool can gain speed while its joints brake, one after another.
        """
        duration = self._trajectory.duration
        parts = math.ceil(self.tick_s * limits.tcp_v_max_m_s / KEPT_M - 1e-9)
        step = self.tick_s / parts
        return [*(i * step for i in range(math.ceil(duration / step))), duration]

    def _speeds(
        self, q: np.ndarray, target: np.ndarray, limits: Limits, scale: float
    ) -> np.ndarray:
        """Return joint speeds that keep the tool's within its limit, here and at the target."""
        highest = np.array(limits.v_max_rad_s) * scale
        way = target - q
        longest = (np.abs(way) / highest).max()
        if longest == 0:
            return highest
        nominal = way / longest
        points = np.stack([q, target])
        position, _ = self.chain.tool(np.concatenate([points, points + PROBE_S * nominal]))
        speed = np.linalg.norm(position[2:] - position[:2], axis=1).max() / PROBE_S
        allowed = GOVERNED * limits.tcp_v_max_m_s * scale
        return highest * min(1.0, allowed / max(speed, 1e-9))

    def _plan(
        self, now: Setpoint, target: np.ndarray, speeds: np.ndarray, limits: Limits
    ) -> Setpoint | None:
        self._start(now, limits)
        self._input.control_interface = ControlInterface.Position
        self._input.synchronization = Synchronization.Time
        self._input.target_position = target.tolist()
        self._input.max_velocity = speeds.tolist()
        return self._at(self.tick_s) if self._solve() else None

    def _plan_stop(self, now: Setpoint, limits: Limits) -> bool:
        self._start(now, limits)
        # Each joint by itself, as soon as it can: none waits for another to stop.
        self._input.control_interface = ControlInterface.Velocity
        self._input.synchronization = Synchronization.No
        self._input.max_velocity = list(limits.v_max_rad_s)
        return self._solve()

    def _start(self, now: Setpoint, limits: Limits) -> None:
        p = self._input
        p.current_position = now.q.tolist()
        p.current_velocity, p.current_acceleration = now.v.tolist(), now.a.tolist()
        p.target_velocity = p.target_acceleration = [0.0] * self.dof
        p.max_acceleration, p.max_jerk = list(limits.a_max_rad_s2), list(limits.j_max_rad_s3)

    def _solve(self) -> bool:
        try:
            result = self._planner.calculate(self._input, self._trajectory)
        except RuckigError:
            return False
        return result in (Result.Working, Result.Finished)

    def _at(self, time_s: float) -> Setpoint:
        if time_s >= self._trajectory.duration:  # arrived: nothing is left to rounding
            return rest(self._trajectory.at_time(self._trajectory.duration)[0])
        q, v, a = self._trajectory.at_time(time_s)
        return Setpoint(np.array(q), np.array(v), np.array(a))
