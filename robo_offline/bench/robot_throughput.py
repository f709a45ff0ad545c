"""Steps per second through a cell at 20 Hz, beside the same robot in this process at 20 Hz."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from robo_offline.errors import UserError

RATE_HZ = 20.0
GOAL_PERCENT = 2.0  # of the steps may be lost
STEP_RAD = 0.02
STARTED_S = 90.0
FOREVER = 10**9
LOW_M, HIGH_M, NEVER_M = (0.3, -0.1, 0.45), (0.4, 0.1, 0.55), 0.0  # a goal out of reach


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=60.0, help="of each side")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Step for some seconds on either side."""
    with tempfile.TemporaryDirectory() as folder:
        return throughput(Path(folder), options.seconds)


def throughput(folder: Path, seconds: float) -> dict[str, Any]:
    """Return steps per second of both sides, and the share that is lost on the way."""
    from real_robot import building, memory
    from real_robot.descriptor import dump, load
    from real_robot.testing.driven import patient

    robot = folder / "robot.json"
    name = f"throughput{os.getpid()}"
    robot.write_text(dump(replace(patient(load("sim"), 2.0), name=name)))
    inside = _steps(building.rehearsal(str(robot), *_task()), seconds, paced=True)
    try:
        with _cell(folder, robot) as address:
            keys = folder / "keys"
            ours, theirs = str(keys / "policy.key"), str(keys / "operator.key")
            env: Any = building.connected(address, ours, str(robot), *_task(), theirs)
            outside = _steps(env, seconds, paced=False)
            late = np.array(env.unwrapped.lateness_ns) / 1e6
            env.close()
    finally:
        for left in memory.place("x").parent.glob(f"*{name}*"):
            left.unlink(missing_ok=True)
    return {
        "rate_hz": RATE_HZ,
        "seconds_each": seconds,
        "in_process_steps_s": round(inside["steps_s"], 4),
        "robotd_steps_s": round(outside["steps_s"], 4),
        "loss_percent": round(100 * (1 - outside["steps_s"] / inside["steps_s"]), 3),
        "goal_percent": GOAL_PERCENT,
        "stops": outside["stops"],
        "late_p99_ms": round(float(np.percentile(late, 99)), 3),
    }


def _task() -> tuple[Any, Any, Any, Any, Any]:
    from real_robot.actions import JointDelta
    from real_robot.tasks import Reach

    def actions(robot: Any) -> JointDelta:
        return JointDelta(robot, STEP_RAD)

    return Reach(LOW_M, HIGH_M, NEVER_M), actions, ("q", "dq", "tool", "gripper"), RATE_HZ, FOREVER


def _steps(env: Any, seconds: float, paced: bool) -> dict[str, Any]:
    """Step for so long; `paced` is for an environment whose time does not pass by itself."""
    random, size = np.random.default_rng(0), env.action_space.shape
    env.reset(seed=0)
    steps = stops = 0
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        *_, terminated, truncated, _ = env.step(random.uniform(-0.3, 0.3, size))
        steps += 1
        if terminated or truncated:
            stops += 1
            env.reset()
        if paced:
            time.sleep(max(0.0, began + steps / RATE_HZ - time.monotonic()))
    return {"steps_s": steps / passed, "stops": stops}


@contextmanager
def _cell(folder: Path, robot: Path) -> Iterator[str]:
    """Bring up a cell with a simulated arm; yield robotd's address."""
    out = folder / "cell.out"
    command = [sys.executable, "-m", "robo_offline.cli", "robot", "up", f"robot={robot}"]
    command += [f"keys={folder / 'keys'}", f"out={folder / 'run'}", "scene=capsules"]
    command += ["bind=tcp://127.0.0.1:0", "--plain"]
    with out.open("w") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
    try:
        _wait(lambda: re.search(r"^\S+ (idle|fault)", out.read_text(), re.M), process, out)
        found = re.search(r"tcp://\S+", out.read_text())
        assert found is not None
        yield found[0]
    finally:
        assert process.stdin is not None
        process.stdin.close()  # nobody at the keys ends the cell
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(true: Callable[[], Any], process: subprocess.Popen[bytes], out: Path) -> None:
    until = time.monotonic() + STARTED_S
    while not true():
        if process.poll() is not None or time.monotonic() > until:
            raise UserError("the cell does not come up", found=out.read_text()[-600:])
        time.sleep(0.05)
