"""Reaching with an arm made of arithmetic, in lock-step: a whole robot but for sockets and physics.

A monitor that knows nothing of the daemon looks at everything that the arm is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from real_robot.actions import PoseDelta
from real_robot.clock import ns
from real_robot.contract import contract_of
from real_robot.daemon import Daemon
from real_robot.descriptor import RobotDescriptor, load
from real_robot.drivers.arithmetic import ArithmeticArm
from real_robot.env import RealRobotEnv
from real_robot.ood import Gate
from real_robot.runtime.contract import Normaliser
from real_robot.runtime.policy import ActionChunk
from real_robot.tasks import Reach
from real_robot.testing.lockstep import Lockstep
from real_robot.testing.monitor import Monitor, Watched

LOW_M, HIGH_M = (0.3, -0.1, 0.45), (0.4, 0.1, 0.55)  # where goals are drawn
STEP_M = 0.03  # of a full action


@dataclass
class Rig:
    """Everything of the robot, in reach."""

    env: RealRobotEnv
    clock: Lockstep
    arm: ArithmeticArm
    task: Reach
    monitor: Monitor

    @property
    def daemon(self) -> Daemon:
        assert self.clock.daemon is not None
        return self.clock.daemon

    def attend(self) -> None:
        """Do what somebody at the console does before an episode: arm again after a stop."""
        self.clock.sleep_until_ns(self.clock.now_ns() + ns(1.0))
        if self.daemon.machine.state.latched:
            self.clock.arm()


def reaching(
    actions: Callable[[RobotDescriptor], Any] | None = None,
    robot: RobotDescriptor | None = None,
    roams: bool = False,
    clock: Lockstep | None = None,
    **options: Any,
) -> Rig:
    """Build the environment, armed; with `roams`, episodes begin where the one before ended.

    `options` are those of `RealRobotEnv`.
    """
    robot = robot or load("sim")
    clock = clock or Lockstep()
    arm, monitor = ArithmeticArm(robot, clock), Monitor(robot)
    clock.serve(Daemon(Watched(arm, clock, monitor), clock, watched=False, attended=False))
    task = (Roam if roams else Reach)(LOW_M, HIGH_M)
    given: dict[str, Any] = {
        "task": {"goal": task.goal},
        "outcome": task.outcome,
        "reset": task,
    } | options
    moves: Any = actions(robot) if actions else PoseDelta(robot, STEP_M, 0.2, turns=False)
    env = RealRobotEnv(
        clock,
        robot,
        moves,
        clock=clock,
        keep_s=None,
        **given,
    )
    return Rig(env, clock, arm, task, monitor)


def towards(rig: Rig) -> np.ndarray:
    """Return the action (4,) that brings the tool straight to the goal."""
    way = rig.task.goal - np.array(rig.env.state["tool"][:3])
    return np.append(np.clip(way / STEP_M, -1, 1), 0.0)


class Roam(Reach):
    """Draws the next point where the arm is: episodes without a way home, for many of them."""

    def __call__(self, env: RealRobotEnv, random: np.random.Generator) -> None:
        self.goal = random.uniform(self.low, self.high)
        env.task["goal"] = self.goal


class Acting:
    """A function in the place of a bundle, with the contract of the robot that it acts on."""

    def __init__(self, env: RealRobotEnv, act: Callable[[Any], np.ndarray], name: str = "a"):
        offered = contract_of(env)
        leaves = tuple(
            replace(leaf, normaliser=Normaliser((0.0,) * leaf.size, (1.0,) * leaf.size, leaf.size))
            for leaf in offered.observation
        )
        files = {"weights.safetensors": SimpleNamespace(sha256=name)}
        self.manifest = SimpleNamespace(contract=replace(offered, observation=leaves), files=files)
        self.function, self.name, self.calls = act, name, 0

    def begin(self) -> None:
        """Forget nothing: a function has no memory."""

    def see(self, observation: Any) -> None:
        """Take note of nothing."""

    def act(self, observation: Any, *, deadline_ns: int | None = None) -> ActionChunk:
        self.calls += 1
        [only] = observation.values()
        return ActionChunk(np.atleast_2d(self.function(only)), 0, self.name)


class Never(Gate):
    """Finds nothing unusual."""

    def __init__(self) -> None:
        super().__init__(np.zeros(1), np.eye(1), np.inf, 1)

    def fires(self, observation: np.ndarray) -> bool:
        return False
