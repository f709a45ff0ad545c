"""Robots as `env=robot/...`: rehearsed in this process, or over the wire to a cell that runs.

A rehearsal is the whole robot but for its sockets: daemon, limits, motion and physics on a clock
that waits for the policy. So it is as fast as the processor, the same every time, and what learns
on it has met every limit that the robot has.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from real_robot import descriptor
from real_robot.actions import ActionMap
from real_robot.cameras.camera import Camera
from real_robot.client import Client
from real_robot.clock import Clock, MonotonicClock
from real_robot.daemon import Daemon
from real_robot.descriptor import RobotDescriptor
from real_robot.env import MOVING, RealRobotEnv
from real_robot.episodes import Kept
from real_robot.keys import client_key
from real_robot.link import KEEP_S, StaleState
from real_robot.person import Person
from real_robot.requests import Role
from real_robot.tasks import Task
from real_robot.testing.lockstep import Lockstep
from robo_offline.errors import UserError

STOPPING_S = 10.0  # longer than any stop takes
ASKED_S = 0.05  # between two attempts
ATTEMPTS = 5  # to begin an episode
SIMULATED = ("sim",)  # drivers whose arm hurts nobody
# Somebody beside the policy, as `real_robot.tasks.intervener.Intervener`.
Companion = Callable[[Task, ActionMap, Clock], Person]
Cameras = Mapping[str, Callable[[Clock], Camera]]  # by the name of their leaf


class Attended(gymnasium.Wrapper):
    """Somebody sees to it that the robot is armed before each episode.

    Only for arms that hurt nobody: at a real one, that somebody is a person at the console.
    """

    def __init__(self, env: gymnasium.Env, attend: Callable[[], None]):
        super().__init__(env)
        self.attend = attend

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin an episode; where a stop or silence comes in between, begin it again."""
        for _ in range(ATTEMPTS - 1):
            with contextlib.suppress(UserError, StaleState):
                self.attend()
                return self.env.reset(seed=seed, options=options)
        self.attend()
        return self.env.reset(seed=seed, options=options)


def rehearsal(
    robot: str,
    task: Task,
    actions: Callable[[RobotDescriptor], ActionMap],
    keys: Sequence[str],
    rate_hz: float,
    horizon: int,
    person: Companion | None = None,
    cameras: Cameras | None = None,
) -> gymnasium.Env:
    """Build a robot that is rehearsed with, in this process."""
    from envs.graphics import mujoco
    from real_robot.sim.arm import SimArm
    from real_robot.sim.models import capsules

    known = descriptor.load(robot)
    scene, clock = capsules(known, **task.scene), Lockstep()

    def begin() -> None:
        """Take a new arm, so that an episode is a function of its seed."""
        scene.bind(scene.model, mujoco.MjData(scene.model))
        scene.place(np.array(known.home_rad))
        arm = SimArm(known, scene)
        clock.after_tick = lambda: arm.step(known.tick_ns / 1e9)
        clock.serve(Daemon(arm, clock, watched=False, attended=False))

    begin()
    env = _environment(
        clock, known, task, actions, keys, rate_hz, horizon, person, clock, None, cameras
    )  # fmt: skip
    return Attended(env, begin)


def connected(
    address: str,
    key: str,
    robot: str,
    task: Task,
    actions: Callable[[RobotDescriptor], ActionMap],
    keys: Sequence[str],
    rate_hz: float,
    horizon: int,
    operator_key: str | None,
    person: Companion | None = None,
    keep: str | None = None,
    cameras: Cameras | None = None,
) -> gymnasium.Env:
    """Connect to a cell that runs (`robo-offline robot up`); UserError where there is none.

    With an operator's key, episodes after a stop begin by themselves: simulated arms only. With a
    folder to `keep`, every episode is stored there for `robo-offline data import`.
    """
    known = descriptor.load(robot)
    if operator_key and known.driver not in SIMULATED:
        raise UserError(
            "a real arm is armed by a person who sees it",
            found=f"operator_key for {known.name}",
            remedy="leave env.operator_key away; press a at the console",
        )
    link = Client(address, client_key(Path(key)))
    clock = MonotonicClock()
    real = _environment(
        link, known, task, actions, keys, rate_hz, horizon, person, clock, KEEP_S, cameras
    )  # fmt: skip
    env: gymnasium.Env = Kept(real, Path(keep)) if keep else real
    if not operator_key:
        return env
    operator = client_key(Path(operator_key))
    if operator.role is not Role.OPERATOR:
        raise UserError("this is not an operator's key", where=operator_key)
    return Attended(env, lambda: _attend(Client(address, operator), known))


def _environment(
    link: Any,
    robot: RobotDescriptor,
    task: Task,
    actions: Callable[[RobotDescriptor], ActionMap],
    keys: Sequence[str],
    rate_hz: float,
    horizon: int,
    person: Companion | None,
    clock: Clock,
    keep_s: float | None,
    cameras: Cameras | None,
) -> RealRobotEnv:
    moves = actions(robot)
    seen = {name: camera(clock) for name, camera in (cameras or {}).items()}
    for camera in seen.values():
        camera.open()
    return RealRobotEnv(
        link,
        robot,
        moves,
        task.outcome,
        task,
        keys=keys,
        cameras=seen,
        task={"goal": task.goal},
        person=person(task, moves, clock) if person is not None else None,
        rate_hz=rate_hz,
        horizon=horizon,
        clock=clock,
        keep_s=keep_s,
    )


def _attend(client: Client, robot: RobotDescriptor) -> None:
    """Acknowledge the stop that there is, once the arm stands, and arm."""
    with client:
        until, why = time.monotonic() + STOPPING_S, ""
        while (state := client.state(1.0))["state"] not in MOVING:
            if time.monotonic() > until:
                raise UserError("the robot cannot be armed", found=why or state["state"])
            request: dict[str, Any] = {"type": "arm", "descriptor": robot.hash}
            if state["state"] in ("stopped", "estop", "fault"):
                request = {"type": "reset", "stop_id": state["stop_id"]}
            why = client.request(request).get("why", "")
            time.sleep(ASKED_S)
