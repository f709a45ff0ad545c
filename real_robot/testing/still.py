"""A daemon with an arithmetic arm on a clock that stands still, and people who talk to it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np

from real_robot.clock import VirtualClock, ns
from real_robot.daemon import Daemon, Tick
from real_robot.descriptor import RobotDescriptor, load
from real_robot.driver import RobotDriver
from real_robot.drivers.arithmetic import ArithmeticArm
from real_robot.messages import Command, Mode, Source, pack
from real_robot.requests import Peer, Role
from real_robot.verdict import Reason

OPERATOR, POLICY = Peer("operator", Role.OPERATOR), Peer("policy", Role.POLICY)
TELEOP, VIEWER = Peer("teleop", Role.TELEOP), Peer("viewer", Role.VIEWER)


class Cell:
    """Everything of a robot but its sockets."""

    def __init__(
        self,
        robot: RobotDescriptor | str = "sim",
        driver: Callable[[ArithmeticArm], RobotDriver] | None = None,
        **daemon: Any,
    ):
        self.robot = load(robot) if isinstance(robot, str) else robot
        self.clock = VirtualClock(ns(100.0))
        self.arm = ArithmeticArm(self.robot, self.clock)
        numbers = count(7)
        options: dict[str, Any] = {
            "watched": False,
            "attended": False,
            "draw": lambda: next(numbers),
        } | daemon
        self.daemon = Daemon(driver(self.arm) if driver else self.arm, self.clock, **options)
        self.daemon.connect(1.0)
        self.home = np.array(self.robot.home_rad)
        self.seq = 0
        self.lease = 0

    def tick(self, *said: tuple[Peer, Any], late_ns: int = 0) -> Tick:
        """Let a tick pass; `said` are (peer, message or bytes)."""
        self.clock.advance(self.robot.tick_ns)
        inbox = [(who, m if isinstance(m, bytes) else pack(m)) for who, m in said]
        return self.daemon.tick(inbox, late_ns)

    def ask(self, who: Peer, type: str, **fields: Any) -> dict:
        """Say one thing in a tick of its own; return the reply."""
        return self.tick((who, {"type": type, **fields})).judgements[0].reply

    def run(self, seconds: float) -> None:
        """Let time pass in silence."""
        for _ in range(round(seconds * self.robot.timing.servo_hz)):
            self.tick()

    def arm_it(self) -> None:
        self.tick()
        assert self.ask(OPERATOR, "arm", descriptor=self.daemon.hash)["ok"]

    def ready(self, who: Peer = POLICY, source: Source = Source.POLICY) -> None:
        """Arm, and give `who` the lease."""
        self.arm_it()
        reply = self.ask(who, "lease", source=int(source))
        assert reply["ok"], reply
        self.lease = reply["lease"]

    def command(self, target: Any, **changed: Any) -> Command:
        """Return a good command for a joint target (dof,) or targets (k, dof), newly numbered."""
        self.seq += 1
        targets = np.atleast_2d(np.asarray(target, float))
        found = {
            "lease": self.lease,
            "seq": self.seq,
            "obs_seq": self.daemon.seq,
            "source": Source.POLICY,
            "mode": Mode.JOINT,
            "targets": targets,
            "gripper": np.zeros(len(targets)),
            "t_rel_ns": tuple(ns(0.05) * i for i in range(len(targets))),
            "valid_ns": ns(0.08),
            "speed_scale": 1.0,
            "policy": "test",
            "descriptor": self.daemon.hash,
        }
        return Command(**{**found, **changed})

    def send(self, target: Any, who: Peer = POLICY, **changed: Any) -> Tick:
        """Send one command in a tick of its own."""
        return self.tick((who, self.command(target, **changed).encode()))

    def reason(self, target: Any, who: Peer = POLICY, **changed: Any) -> Reason:
        """Send one command; return why it was refused or changed."""
        return self.send(target, who, **changed).judgements[0].reason

    def drive(self, target: Any, seconds: float) -> None:
        """Command a target at 20 Hz for a while."""
        period = round(self.robot.timing.servo_hz / 20)
        for i in range(round(seconds * self.robot.timing.servo_hz)):
            if i % period == 0:
                self.send(target)
            else:
                self.tick()
