"""franky-sim in a process of its own: an FR3 in MuJoCo that speaks the vendor's own protocol."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any


class FrankaSim:
    """A simulated arm on a loopback address that nobody else has; RuntimeError if it cannot be."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-m", "real_robot.testing.franka_sim", "-s", "mujoco"],
            stdin=subprocess.PIPE,  # whose end is the simulation's, too
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            said.append(line)
            if found := re.search(r"'(\d+\.\d+\.\d+\.\d+)'", line):
                self.address = found[1]
                return
        self.__exit__()
        raise RuntimeError(f"franky-sim did not start:\n{''.join(said)}")

    @property
    def dead(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> FrankaSim:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


class Reflexive:
    """The library's arm after a reflex, which the simulation has none of: it ends what moves."""

    is_in_control = False

    def __init__(self, robot: Any):
        self._robot = robot
        self.recovered: list[float] = []  # when the vendor's recovery was asked for

    @property
    def state(self) -> SimpleNamespace:
        found, well = self._robot.state, bool(self.recovered)
        values = {n: getattr(found, n) for n in ("q", "dq", "time", "O_F_ext_hat_K")}
        mode = SimpleNamespace(name="Idle" if well else "Reflex")
        errors = "[]" if well else '["joint_reflex"]'
        return SimpleNamespace(**values, robot_mode=mode, current_errors=errors)

    def recover_from_errors(self) -> None:
        self.recovered.append(time.monotonic())

    def poll_motion(self) -> None:
        raise RuntimeError("joint_reflex")

    def stop(self) -> None:
        self._robot.stop()


def main() -> None:
    import pinocchio

    if not hasattr(pinocchio.Frame, "parentJoint"):
        # The name until pinocchio 3, whose wheels need a newer numpy than others here take.
        pinocchio.Frame.parentJoint = property(lambda frame: frame.parent)
    from franky_sim.run_server import main as serve

    threading.Thread(target=_end_with_parent, daemon=True).start()
    serve()


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
