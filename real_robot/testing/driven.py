"""A daemon turned by the real clock, with an operator and a policy that talk to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from real_robot.clock import MonotonicClock, ns
from real_robot.daemon import Daemon, Tick
from real_robot.descriptor import RobotDescriptor
from real_robot.driver import DriverState, RobotDriver
from real_robot.messages import Command, Mode, Source, pack, unpack
from real_robot.requests import Peer, Role

OPERATOR, POLICY = Peer("operator", Role.OPERATOR), Peer("policy", Role.POLICY)
COMMAND_S = 0.05


def patient(
    robot: RobotDescriptor, state_s: float = 0.15, following_rad: float = 0.3
) -> RobotDescriptor:
    """Return the robot with times that a machine busy with other work can keep."""
    timing = replace(robot.timing, state_timeout_s=state_s, command_timeout_s=1.0, lease_s=2.0)
    timing = replace(timing, observation_max_age_s=1.0, operator_timeout_s=3.0)
    limits = replace(robot.limits, following_max_rad=following_rad)
    return replace(robot, timing=timing, limits=limits)


class Driven:
    """Everything of a robot but its sockets, in real time."""

    def __init__(self, driver: RobotDriver):
        self.clock = MonotonicClock()
        self.daemon = Daemon(driver, self.clock, watched=False, attended=False)
        self.daemon.connect(10.0)
        self.robot = driver.descriptor
        self.said: list = []  # for the next tick
        self.ticks: list[Tick] = []
        self.reads_s: list[float] = []  # how long each tick took
        self._deadline, self._seq, self._lease = self.clock.now_ns(), 0, 0
        self._sent = 0.0

    def turn(self) -> Tick:
        """Do one tick on time."""
        self._deadline = max(self._deadline + self.robot.tick_ns, self.clock.now_ns())
        late = self.clock.sleep_until_ns(self._deadline)
        said, self.said = self.said, []
        began = time.perf_counter()
        tick = self.daemon.tick([(who, pack(message)) for who, message in said], late)
        self.reads_s.append(time.perf_counter() - began)
        self.ticks.append(tick)
        return tick

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> float:
        """Turn for so long, or until something is so; return the time that took."""
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds and not until():
            self.turn()
        return passed

    @property
    def q(self) -> np.ndarray:
        """Where the arm is (dof,)."""
        assert self.daemon.measured is not None
        return self.daemon.measured.q

    def fails(self) -> bool:
        """Say whether the daemon is in its fault."""
        return self.state() == "fault"

    def state(self) -> str:
        return self.daemon.machine.state.value

    def ask(self, who: Peer, type: str, **fields: Any) -> dict:
        """Say one thing; return the reply."""
        self.said.append((who, {"type": type, **fields}))
        return self.turn().judgements[-1].reply

    def arm(self) -> None:
        """Arm, and give the policy the lease."""
        self.run(0.1)
        reply = self.ask(OPERATOR, "arm", descriptor=self.daemon.hash)
        assert reply["ok"], (reply, self.daemon.machine)
        reply = self.ask(POLICY, "lease", source=int(Source.POLICY))
        assert reply["ok"], reply
        self._lease = reply["lease"]

    def reset(self) -> dict:
        return self.ask(OPERATOR, "reset", stop_id=self.daemon.machine.stop_id)

    def follow(
        self, target: Any, seconds: float, until: Callable[[], bool] = lambda: False
    ) -> float:
        """Command a joint target at 20 Hz for so long, or until something is so."""

        def step() -> bool:
            if time.monotonic() - self._sent >= COMMAND_S and not until():
                self._sent = time.monotonic()
                self.said.append((POLICY, self._command(np.asarray(target))))
            return until()

        return self.run(seconds, step)

    def _command(self, target: np.ndarray) -> dict:
        self._seq += 1
        command = Command(
            lease=self._lease, seq=self._seq, obs_seq=self.daemon.seq, source=Source.POLICY,
            mode=Mode.JOINT, targets=target[None], gripper=np.array([self.daemon.gripper]),
            t_rel_ns=(0,), valid_ns=ns(1.0), speed_scale=0.5, policy="test",
            descriptor=self.daemon.hash,
        )  # fmt: skip
        return unpack(command.encode())


def stands(states: Sequence[DriverState]) -> bool:
    """Say whether the joints of these states stay where they are, to a thousandth of a radian."""
    rows = np.stack([state.q for state in states])
    return all(np.abs(b - a).max() < 1e-3 for a, b in pairwise(rows)) and bool(
        np.ptp(rows, axis=0).max() < 5e-3
    )
