"""Robots as `env=robot/...`: rehearsed in this process, or over the wire to a cell that runs.

A rehearsal is the whole robot but for its sockets: daemon, limits, motion and physics on a clock
that waits for the policy. So it is as fast as the processor, the same every time, and what learns
on it has met every limit that the robot has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from real_robot import descriptor
from real_robot.actions import ActionMap
from real_robot.client import Client
from real_robot.daemon import Daemon
from real_robot.descriptor import RobotDescriptor
from real_robot.env import RealRobotEnv
from real_robot.keys import client_key
from real_robot.requests import Role
from real_robot.tasks import Reach
from real_robot.testing.lockstep import Lockstep
from robo_offline.errors import UserError

SIMULATED = ("sim",)  # drivers whose arm hurts nobody


class Attended(gymnasium.Wrapper):
    """Somebody sees to it that the robot is armed before each episode.

    Only for arms that hurt nobody: at a real one, that somebody is a person at the console.
    """

    def __init__(self, env: gymnasium.Env, attend: Callable[[], None]):
        super().__init__(env)
        self.attend = attend

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.attend()
        return self.env.reset(seed=seed, options=options)


def rehearsal(
    robot: str,
    task: Reach,
    actions: Callable[[RobotDescriptor], ActionMap],
    keys: Sequence[str],
    rate_hz: float,
    horizon: int,
) -> gymnasium.Env:
    """Build a robot that is rehearsed with, in this process."""
    from envs.graphics import mujoco
    from real_robot.sim.arm import SimArm
    from real_robot.sim.models import capsules

    known = descriptor.load(robot)
    scene, clock = capsules(known), Lockstep()

    def begin() -> None:
        """Take a new arm, so that an episode is a function of its seed."""
        scene.bind(scene.model, mujoco.MjData(scene.model))
        scene.place(np.array(known.home_rad))
        arm = SimArm(known, scene)
        clock.after_tick = lambda: arm.step(known.tick_ns / 1e9)
        clock.serve(Daemon(arm, clock, watched=False, attended=False))

    begin()
    env = _environment(clock, known, task, actions, keys, rate_hz, horizon, clock, None)
    return Attended(env, begin)


def connected(
    address: str,
    key: str,
    robot: str,
    task: Reach,
    actions: Callable[[RobotDescriptor], ActionMap],
    keys: Sequence[str],
    rate_hz: float,
    horizon: int,
    operator_key: str | None,
) -> gymnasium.Env:
    """Connect to a cell that runs (`robo-offline robot up`); UserError where there is none.

    With an operator's key, episodes after a stop begin by themselves: simulated arms only.
    """
    known = descriptor.load(robot)
    if operator_key and known.driver not in SIMULATED:
        raise UserError(
            "a real arm is armed by a person who sees it",
            found=f"operator_key for {known.name}",
            remedy="leave env.operator_key away; press a at the console",
        )
    link = Client(address, client_key(Path(key)))
    env = _environment(link, known, task, actions, keys, rate_hz, horizon, None, 0.04)
    if not operator_key:
        return env
    operator = client_key(Path(operator_key))
    if operator.role is not Role.OPERATOR:
        raise UserError("this is not an operator's key", where=operator_key)
    return Attended(env, lambda: _attend(Client(address, operator), known))


def _environment(
    link: Any,
    robot: RobotDescriptor,
    task: Reach,
    actions: Callable[[RobotDescriptor], ActionMap],
    keys: Sequence[str],
    rate_hz: float,
    horizon: int,
    clock: Any,
    keep_s: float | None,
) -> RealRobotEnv:
    return RealRobotEnv(
        link,
        robot,
        actions(robot),
        task.outcome,
        task,
        keys=keys,
        task={"goal": task.goal},
        rate_hz=rate_hz,
        horizon=horizon,
        clock=clock,
        keep_s=keep_s,
    )


def _attend(client: Client, robot: RobotDescriptor) -> None:
    """Acknowledge the stop that there is, and arm."""
    with client:
        state = client.state(1.0)
        if state["state"] in ("stopped", "estop", "fault"):
            client.request({"type": "reset", "stop_id": state["stop_id"]})
            state = client.state(1.0)
        if state["state"] in ("idle", "stopped", "fault"):
            reply = client.request({"type": "arm", "descriptor": robot.hash})
            if not reply["ok"]:
                raise UserError("the robot cannot be armed", found=reply.get("why"))
