"""franky-sim in a process of its own: an FR3 in MuJoCo that speaks the vendor's own protocol."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading


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
