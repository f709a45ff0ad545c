"""The bridge around an arm with lerobot's interface, in a process that has little else."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

from lerobot_arm import JOINTS

from real_robot.descriptor import Box, load

HERE = str(Path(__file__).parent)
# As in lerobot's own interpreter: what is not the bridge's cannot be imported.
BEGIN = (
    f"import sys, runpy; sys.path.insert(0, {HERE!r}); import lerobot_arm;"
    "sys.meta_path.insert(0, lerobot_arm.Refuse());"
    "runpy.run_module('real_robot.bridges.lerobot', run_name='__main__')"
)


def robot():
    """Return a robot of five joints as lerobot names them, with times that its bus can keep."""
    ur = load("ur5e")
    limits = {
        name: value[:5]
        for name, value in ((f.name, getattr(ur.limits, f.name)) for f in fields(ur.limits))
        if isinstance(value, tuple) and len(value) == 6
    }
    return replace(
        ur,
        name="so101",
        driver="lerobot",
        joints=tuple(replace(j, name=n) for j, n in zip(ur.joints[:5], JOINTS, strict=True)),
        home_rad=ur.home_rad[:5],
        has_gripper=True,
        has_wrench=False,
        # Angles of other joints than the kinematics': the tool is anywhere.
        limits=replace(ur.limits, **limits, box_m=Box((-2.0, -2.0, -2.0), (2.0, 2.0, 2.0))),
        timing=replace(ur.timing, servo_hz=50.0, state_timeout_s=0.3),
    )


class Bridged:
    """One bridge; what is said to it is done to its arm."""

    def __init__(self, folder: Path, make: str = "make"):
        self.address = f"ipc://{folder}/arm"
        self.process = subprocess.Popen(
            [sys.executable, "-c", BEGIN, f"lerobot_arm:{make}", "--address", self.address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def begin(self) -> Bridged:
        line = self.process.stdout.readline()
        assert self.address in line, self.process.stderr.read()
        return self

    def tell(self, attribute: str) -> int:
        """Set an attribute of the arm; return how many actions it has had."""
        self.process.stdin.write(attribute + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> tuple[str, str]:
        """End it as a person would; return what it said."""
        self.process.terminate()
        return self.process.communicate(timeout=20)
