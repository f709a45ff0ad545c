"""robotd, robotwatch and a commander as processes: a robot's cell, to be injected with faults.

The arm is one of arithmetic that hangs or breaks where a file says so, or any other that an address
leads to. `python -m real_robot.testing.processes robotd|watch|policy FOLDER`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from real_robot import keys, robotd, watch
from real_robot.client import NoAnswer
from real_robot.clock import MonotonicClock, ns
from real_robot.descriptor import RobotDescriptor, dump, load
from real_robot.driver import DriverState
from real_robot.drivers.arithmetic import ArithmeticArm
from real_robot.link import StaleState
from real_robot.messages import Command, Mode, Source
from real_robot.record import Record, read
from real_robot.requests import Role
from real_robot.wire import Client

AWAY = np.array([0.2, 0.1, 0.0, 0.1, 0.0, 0.0, 0.1])
SPEED = 0.1  # share of the robot's limits


class Arm(ArithmeticArm):
    """Hangs or breaks where a file says so; tells its stops to a file."""

    folder: Path

    def read(self) -> DriverState:
        if (self.folder / "hang").exists():
            seconds = (self.folder / "hang").read_text()
            if seconds:  # for so long, once
                (self.folder / "hang").unlink()
            time.sleep(float(seconds or 600))
        if (self.folder / "break").exists():
            raise RuntimeError("a vendor's library broke")
        return super().read()

    def _stopped(self, how: str) -> None:
        super()._stopped(how)
        for name, line in (("stops_ns", time.monotonic_ns()), ("stops", how)):
            with (self.folder / name).open("a") as file:
                file.write(f"{line}\n")


def run_robotd(folder: Path) -> int:
    arm = Arm(load(folder / "robot.json"), MonotonicClock())
    arm.folder = folder
    options = robotd.Options(
        bind="tcp://127.0.0.1:0",
        keys=folder / "keys",
        record=folder / "incidents",
        heartbeat=folder / "heartbeats",
    )
    return robotd.serve(arm, options)


def run_watch(folder: Path) -> None:
    def stop() -> None:
        with (folder / "emergency").open("a") as file:
            file.write(f"{time.monotonic_ns()}\n")

    print("watching", flush=True)
    watch.watch(folder / "heartbeats", stop, lambda: False)


def run_policy(folder: Path) -> None:
    """Take the lease and command a slow motion of seconds at 50 Hz, for ever."""
    client = connect(folder, "policy")
    robot = load(folder / "robot.json")
    state = client.state(30)
    reply = client.request({"type": "lease", "source": int(Source.POLICY)}, 30)
    assert reply["ok"], reply
    lease = reply["lease"]
    print("commanding", flush=True)
    for seq in range(10**9):
        goal = np.array(robot.home_rad) + AWAY[: robot.dof] * (1 if seq % 200 < 100 else -1)
        client.send(command(robot, lease, seq, state["seq"], goal))
        time.sleep(0.02)
        try:
            state = client.state(0.1)
        except StaleState:
            continue


def command(
    robot: RobotDescriptor, lease: int, seq: int, obs_seq: int, goal: np.ndarray
) -> Command:
    """Return a command to go to angles (dof,), slowly."""
    return Command(
        lease=lease,
        seq=seq,
        obs_seq=obs_seq,
        source=Source.POLICY,
        mode=Mode.JOINT,
        targets=goal[None],
        gripper=np.zeros(1),
        t_rel_ns=(0,),
        valid_ns=ns(1),
        speed_scale=SPEED,
        policy="test",
        descriptor=robot.hash,
    )


def connect(folder: Path, name: str) -> Client:
    hearts = watch.Heartbeats(folder / "heartbeats")
    port = hearts.port
    hearts.close()
    return Client(f"tcp://127.0.0.1:{port}", keys.client_key(folder / "keys" / f"{name}.key"))


class Cell:
    """The processes of one robot, and its operator."""

    def __init__(self, folder: Path, robot: RobotDescriptor | None = None, address: str = ""):
        """With an address, robotd and robotwatch are those of the robot's own driver."""
        self.folder, self.robot, self.address = folder, robot or load("sim"), address
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.operator: Client | None = None
        self.attended = True
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "robot.json").write_text(dump(self.robot))
        for role in (Role.OPERATOR, Role.POLICY):
            keys.new(folder / "keys", role)

    def start(self, *names: str) -> None:
        for name in names:
            with (self.folder / f"{name}.log").open("w") as log:
                self.processes[name] = subprocess.Popen(
                    self._command(name), stdout=log, stderr=log, stdin=subprocess.DEVNULL
                )
        for name in names:
            if name == "robotd":
                self.wait(self.port, 60)
                self.operator = connect(self.folder, "operator")
                self.operator.state(30)
            elif name == "policy":
                self.wait(lambda: "commanding" in self.log("policy"), 60)
            else:
                self.wait(self._looked, 60)

    def port(self) -> int:
        hearts = watch.Heartbeats(self.folder / "heartbeats")
        try:
            return hearts.port if hearts.pid == self.processes["robotd"].pid else 0
        finally:
            hearts.close()

    def watched(self) -> None:
        """Wait until robotwatch has had the time to see robotd beat."""
        hearts = watch.Heartbeats(self.folder / "heartbeats")
        for _ in range(2):
            beats = hearts.beats
            self.wait(partial(_beyond, hearts, "beats", beats + 1))
            looked = hearts.watch_ns
            self.wait(partial(_beyond, hearts, "watch_ns", looked + ns(2 * watch.LOOKED_S)))
        hearts.close()

    def ask(self, type: str, **fields: Any) -> dict:
        assert self.operator is not None
        return self.operator.request({"type": type, **fields}, 10)

    def told(self) -> dict[str, Any]:
        """Return what robotd tells everybody now."""
        assert self.operator is not None
        until = time.monotonic() + 10
        while True:
            try:
                return self.operator.state(0.2)
            except StaleState:  # a busy machine, or connections that are made anew
                if time.monotonic() > until:
                    raise

    def state(self) -> str:
        return self.told()["state"]

    def arm(self) -> None:
        reply = self.ask("arm", descriptor=self.robot.hash)
        assert reply["ok"], reply

    def reset(self) -> None:
        """Acknowledge the stop that there is."""
        reply = self.ask("reset", stop_id=self.told()["stop_id"])
        assert reply["ok"], reply

    def move(self) -> None:
        """Arm, and let a new policy move the arm."""
        self.arm()
        self.start("policy")
        self.wait(lambda: self.state() == "active")

    def incident(self) -> Record:
        """Wait for the record of a stop, read it, and remove it."""
        folder = self.folder / "incidents"

        def there() -> list[Path]:
            return [p for p in folder.glob("*") if not p.name.startswith(".")]

        self.wait(lambda: bool(there()), 30)
        path = min(there())
        found = read(path)
        shutil.rmtree(path)
        return found

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def wait(self, true: Callable[[], object], until_s: float = 10.0) -> None:
        """Wait until something is so; where the test attends, as a present operator."""
        until = time.monotonic() + until_s
        while not true():
            assert time.monotonic() < until, {n: self.log(n)[-1500:] for n in self.processes}
            self.beat()
            time.sleep(0.01)

    def beat(self) -> None:
        """Say that somebody is present, where the test is to."""
        if self.attended and self.operator is not None:
            self.operator.send({"type": "operator"})

    def attend(self, seconds: float) -> None:
        """Be present for so long."""
        until = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() > until, 2 * seconds + 10)

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def restart(self) -> None:
        """Start robotd again, after its end."""
        assert self.operator is not None
        self.operator.close()
        self.operator = None
        self.processes["robotd"].wait()
        self.start("robotd")

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()
        if self.operator is not None:
            self.operator.close()

    def __enter__(self) -> Cell:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _command(self, name: str) -> list[str]:
        if not self.address or name == "policy":
            return [sys.executable, "-m", "real_robot.testing.processes", name, str(self.folder)]
        module = {"robotd": "real_robot.robotd", "watch": "real_robot.watch"}[name]
        found = [sys.executable, "-m", module, str(self.folder / "robot.json")]
        found += ["--driver-address", self.address, "--heartbeat", str(self.folder / "heartbeats")]
        if name == "robotd":
            found += ["--bind", "tcp://127.0.0.1:0", "--keys", str(self.folder / "keys")]
            found += ["--record", str(self.folder / "incidents"), "--connect-s", "30"]
        return found

    def _looked(self) -> bool:
        """Say whether robotwatch has begun to look."""
        hearts = watch.Heartbeats(self.folder / "heartbeats")
        try:
            return hearts.watch_ns > 0
        finally:
            hearts.close()


def _beyond(hearts: watch.Heartbeats, name: str, value: int) -> bool:
    return getattr(hearts, name) > value


__all__ = ["Arm", "Cell", "NoAnswer", "command", "connect"]

if __name__ == "__main__":
    run = {"robotd": run_robotd, "watch": run_watch, "policy": run_policy}[sys.argv[1]]
    os._exit(run(Path(sys.argv[2])) or 0)
