"""Pictures that stop, repeat, or go black: what a policy's step does without eyes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from real_robot.actions import JointDelta
from real_robot.cameras.camera import CameraSpec, Frame, StaleFrame
from real_robot.cameras.camerad import ProcessCamera
from real_robot.cameras.faulty import Faulty, Plan
from real_robot.cameras.synthetic import Synthetic
from real_robot.clock import MonotonicClock, ns
from real_robot.descriptor import load
from real_robot.env import RealRobotEnv
from real_robot.testing.driven import patient
from real_robot.testing.processes import Cell, connect
from robo_offline.bench.faults import Fault, Measured
from robo_offline.bench.faults.spread import figures_ms, spread

SPEC = CameraSpec("fault_table", width=64, height=48, rate_hz=60.0)
RATE_HZ = 20.0
AGE_S = 1.5 / RATE_HZ  # that an environment takes
GOOD_S, SPAN_S = 1.0, 0.5  # of the stream, in turns
BROKEN_AT = 8  # step
BUSY_S = 1.0  # that a machine with other things to do may add


@dataclass(frozen=True)
class Blind:
    """What an episode was that lost its eyes."""

    after_ms: float  # from the last good picture to the end of the episode
    slowest_ms: float  # step
    why: str
    holds: bool


def blind(folder: Path, whole: bool) -> Measured:
    """Play an episode at 20 Hz on a robotd, and let its camera fail in each of its ways."""
    ways = {
        "same picture": (Plan(freeze=_spans()), 0),
        "is black": (Plan(black=_spans()), 0),
        "stopped": (Plan(), signal.SIGSTOP),
        "dead": (Plan(), signal.SIGKILL),
    }
    every, said = [], True
    with Cell(folder, patient(load("sim"), 0.5)) as cell:
        cell.start("watch", "robotd")
        for reason, (plan, number) in ways.items():
            for _ in range(10 if whole else 1):
                with _camera(plan, folder) as camera:
                    every.append(_episode(cell, camera, number))
                said = said and reason in every[-1].why
    after = [one.after_ms for one in every]
    slowest = max(one.slowest_ms for one in every)
    slack = 0.02 if whole else BUSY_S
    limit = 1e3 * (AGE_S + 1 / RATE_HZ + slack)
    return Measured(
        f"episodes ended {spread(after)} after the last good picture; longest step {slowest:.1f} ms"
        f" of {1e3 / RATE_HZ:.0f}; the arm held in {sum(one.holds for one in every)} of "
        f"{len(every)}",
        max(after) <= limit
        and slowest <= 1e3 * (1.5 / RATE_HZ + slack)
        and all(one.holds for one in every)
        and said,
        {**figures_ms("after", after), "longest_step_ms": round(slowest, 3)},
    )


def _spans() -> list[tuple[int, int]]:
    period = GOOD_S + SPAN_S
    return [(ns(i * period + GOOD_S), ns((i + 1) * period)) for i in range(1000)]


@contextmanager
def _camera(plan: Plan, folder: Path) -> Iterator[ProcessCamera]:
    clock = MonotonicClock()
    camera = ProcessCamera(Faulty(Synthetic(SPEC, clock), plan, clock), folder=folder)
    camera.open()
    try:
        yield camera
    finally:
        camera.close()


class _Seen:
    """A camera of the environment; remembers when the newest picture came."""

    def __init__(self, camera: ProcessCamera):
        self.camera, self.spec, self.stamp_ns = camera, camera.spec, 0

    def latest(self, max_age_ns: int) -> Frame:
        frame = self.camera.latest(max_age_ns)
        self.stamp_ns = frame.stamp_ns
        return frame

    def close(self) -> None:
        """Leave it to who opened it."""


def _episode(cell: Cell, camera: ProcessCamera, number: int) -> Blind:
    """Step until the episode ends; send a signal to the camera's process, if there is one."""
    if cell.state() == "stopped":
        cell.reset()
    cell.arm()
    if not number:
        cell.wait(lambda: not _sees(camera), 30)
    cell.wait(lambda: _sees(camera), 30)
    client, eyes, robot = connect(cell.folder, "policy"), _Seen(camera), cell.robot
    client.state(10)
    line: Any = client
    actions: Any = JointDelta(robot, 0.01)
    env = RealRobotEnv(
        line,
        robot,
        actions,
        lambda state, observation: (0.0, False, False),
        lambda env, random: None,
        cameras={SPEC.name: eyes},
        rate_hz=RATE_HZ,
        horizon=10**6,
    )
    with closing(env):
        env.reset(seed=0)
        slowest, truncated, step = 0.0, False, 0
        while not truncated:
            cell.beat()
            if step == BROKEN_AT and number:
                os.kill(camera.reader.pid, number)
            way = np.zeros(actions.size)
            way[-2] = 0.5 * (-1) ** (step // 5)
            began = time.monotonic()
            *_, truncated, info = env.step(way)
            ended = time.monotonic()
            slowest, step = max(slowest, 1e3 * (ended - began)), step + 1
        cell.attend(0.3)  # so that it comes to rest
        holds = cell.state() == "hold"
    cell.wait(lambda: cell.state() in ("armed", "stopped"))
    if cell.state() == "armed":
        cell.ask("disarm")
    return Blind(1e3 * (ended - eyes.stamp_ns / 1e9), slowest, info["stop"], holds)


def _sees(camera: ProcessCamera) -> bool:
    try:
        return bool(camera.latest(ns(AGE_S / 3)).image.any())
    except StaleFrame:
        return False


CAMERAS = (
    Fault(
        9,
        "a camera's process that repeats its last picture, turns black, is stopped, is killed, "
        "while an environment steps at 20 Hz on a robotd",
        "the episode is truncated with the camera's name and the reason, the arm holds",
        "75 ms, the age that is taken, and a step of 50 ms after the last good picture; no step "
        "longer than 75 ms (each and 20 ms of the machine's; quick: 1 s)",
        blind,
    ),
)
