"""An arm made of arithmetic: it goes where it is told, at once or a little late. For tests."""

from __future__ import annotations

import numpy as np

from real_robot.clock import Clock
from real_robot.descriptor import RobotDescriptor
from real_robot.driver import DriverCommand, DriverLost, DriverState
from real_robot.drivers.gate import Gate
from robo_offline.errors import UserError


class ArithmeticArm:
    """Follows each command by a share of the way per tick; remembers everything it was sent."""

    def __init__(self, descriptor: RobotDescriptor, clock: Clock, follows: float = 1.0):
        self.descriptor, self.clock, self.follows = descriptor, clock, follows
        self.q = np.array(descriptor.home_rad)
        self.dq = np.zeros(descriptor.dof)
        self.gripper = 0.0
        self.fault, self.estop = "", False
        self.sent: list[tuple[int, DriverCommand]] = []  # (time, command)
        self.stops: list[tuple[int, str]] = []
        self.connected = False
        self._gate = Gate()

    def connect(self, timeout_s: float) -> None:
        if self.connected:
            raise UserError("this driver is connected already")
        self.connected = True

    def read(self) -> DriverState:
        if not self.connected:
            raise DriverLost("not connected")
        return DriverState(
            q=self.q.copy(),
            dq=self.dq.copy(),
            device_time_ns=self.clock.now_ns(),
            gripper=self.gripper,
            wrench=np.zeros(6) if self.descriptor.has_wrench else None,
            fault=self.fault,
            estop=self.estop,
        )

    def write(self, command: DriverCommand) -> None:
        if not self.connected:
            raise DriverLost("not connected")
        self._gate.admit(command, self.q)
        self.sent.append((self.clock.now_ns(), command))
        move = self.follows * (command.q - self.q)
        self.dq = move * self.descriptor.timing.servo_hz
        self.q = self.q + move
        self.gripper = command.gripper

    def controlled_stop(self) -> None:
        self._stopped("controlled")

    def protective_stop(self) -> None:
        self._stopped("protective")

    def clear_fault(self) -> None:
        self.fault = ""

    def close(self) -> None:
        self.connected = False
        self._gate.close()

    def _stopped(self, how: str) -> None:
        self.stops.append((self.clock.now_ns(), how))
        self._gate.close()
        self.dq = np.zeros(self.descriptor.dof)
