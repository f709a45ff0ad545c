"""A daemon with a simulated arm in lock-step: time passes for both of them in `tick`."""

from __future__ import annotations

from real_robot.daemon import Tick
from real_robot.sim.arm import SimArm
from real_robot.testing.still import Cell


class SimCell(Cell):
    """Everything of a robot but its sockets, and physics."""

    def __init__(self, arm: SimArm, **daemon):
        super().__init__(arm.descriptor, driver=lambda _: arm, **daemon)
        self.arm = arm
        self.last: Tick | None = None

    def tick(self, *said, late_ns: int = 0) -> Tick:
        self.last = super().tick(*said, late_ns=late_ns)
        self.arm.step(self.robot.tick_ns / 1e9)
        return self.last
