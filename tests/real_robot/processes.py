"""robotd, robotwatch and a commander as processes, with an arm made of arithmetic.

python processes.py robotd|watch|policy FOLDER
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from real_robot import keys, robotd, watch
from real_robot.client import NoAnswer
from real_robot.clock import MonotonicClock, ns
from real_robot.descriptor import load
from real_robot.drivers.arithmetic import ArithmeticArm
from real_robot.link import StaleState
from real_robot.messages import Command, Mode, Source
from real_robot.requests import Role
from real_robot.wire import Client

AWAY = np.array([0.2, 0.1, 0.0, 0.1, 0.0, 0.0, 0.1])


class Arm(ArithmeticArm):
    """Hangs or breaks where a file says so; tells its stops to a file."""

    folder: Path

    def read(self):
        if (self.folder / "hang").exists():
            time.sleep(600)
        if (self.folder / "break").exists():
            raise RuntimeError("a vendor's library broke")
        return super().read()

    def _stopped(self, how):
        super()._stopped(how)
        (self.folder / "stops").open("a").write(f"{how}\n")


def run_robotd(folder: Path) -> int:
    arm = Arm(load("sim"), MonotonicClock())
    arm.folder = folder
    options = robotd.Options(
        bind="tcp://127.0.0.1:0",
        keys=folder / "keys",
        record=folder / "incidents",
        heartbeat=folder / "heartbeats",
    )
    return robotd.serve(arm, options)


def run_watch(folder: Path) -> None:
    def stop():
        with (folder / "emergency").open("a") as file:
            file.write(f"{time.monotonic_ns()}\n")

    print("watching", flush=True)
    watch.watch(folder / "heartbeats", stop, lambda: False)


def run_policy(folder: Path) -> None:
    """Take the lease and command a slow motion of seconds at 50 Hz, for ever."""
    client = connect(folder, "policy")
    robot = load("sim")
    state = client.state(5)
    lease = client.request({"type": "lease", "source": int(Source.POLICY)}, 5)["lease"]
    print("commanding", flush=True)
    for seq in range(10**9):
        goal = np.array(robot.home_rad) + AWAY * (1 if seq % 200 < 100 else -1)
        client.send(
            Command(
                lease=lease,
                seq=seq,
                obs_seq=state["seq"],
                source=Source.POLICY,
                mode=Mode.JOINT,
                targets=goal[None],
                gripper=np.zeros(1),
                t_rel_ns=(0,),
                valid_ns=ns(1),
                speed_scale=0.1,
                policy="test",
                descriptor=robot.hash,
            )
        )
        time.sleep(0.02)
        try:
            state = client.state(0.1)
        except StaleState:
            continue


def connect(folder: Path, name: str) -> Client:
    hearts = watch.Heartbeats(folder / "heartbeats")
    port = hearts.port
    hearts.close()
    return Client(f"tcp://127.0.0.1:{port}", keys.client_key(folder / "keys" / f"{name}.key"))


class Cell:
    """The processes of one robot, and its operator."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.processes: dict[str, subprocess.Popen] = {}
        self.operator: Client | None = None
        self.attended = True
        for role in (Role.OPERATOR, Role.POLICY):
            keys.new(folder / "keys", role)

    def start(self, *names: str) -> None:
        for name in names:
            with (self.folder / f"{name}.log").open("a") as log:
                command = [sys.executable, __file__, name, str(self.folder)]
                self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log)
        for name in names:
            if name == "robotd":
                self.wait(self.port, 30)
                self.operator = connect(self.folder, "operator")
                self.operator.state(30)
            else:
                said = {"watch": "watching", "policy": "commanding"}[name]
                self.wait(lambda n=name, s=said: s in self.log(n), 30)

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
            self.wait(lambda b=beats: hearts.beats > b + 1)
            looked = hearts.watch_ns
            self.wait(lambda n=looked: hearts.watch_ns > n + ns(2 * watch.LOOKED_S))
        hearts.close()

    def ask(self, type: str, **fields) -> dict:
        return self.operator.request({"type": type, **fields}, 10)

    def state(self) -> str:
        return self.operator.state(10)["state"]

    def arm(self) -> None:
        reply = self.ask("arm", descriptor=load("sim").hash)
        assert reply["ok"], reply

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def wait(self, true, until_s: float = 10.0) -> None:
        """Wait until something is so; where the test attends, as a present operator."""
        until = time.monotonic() + until_s
        while not true():
            assert time.monotonic() < until, {n: self.log(n)[-1500:] for n in self.processes}
            if self.attended and self.operator is not None:
                self.operator.send({"type": "operator"})
            time.sleep(0.01)

    def attend(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.operator.send({"type": "operator"})
            time.sleep(0.02)

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def restart(self) -> None:
        """Start robotd again, after its end."""
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


__all__ = ["Cell", "NoAnswer", "connect"]

if __name__ == "__main__":
    run = {"robotd": run_robotd, "watch": run_watch, "policy": run_policy}[sys.argv[1]]
    os._exit(run(Path(sys.argv[2])) or 0)
