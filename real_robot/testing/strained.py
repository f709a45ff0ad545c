"""robotd on a machine that is short of everything: no disk, no core of its own, a slow fsync.

`python -m real_robot.testing.strained FOLDER first|ordinary`; its arm notes when it is read.
"""

from __future__ import annotations

import mmap
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

from real_robot import realtime, robotd
from real_robot.clock import MonotonicClock
from real_robot.descriptor import load
from real_robot.driver import DriverState
from real_robot.testing.processes import Arm, Cell

NOTED = 200_000  # reads
STALLED_S = 2.0
ROOM_BYTES = 1 << 20  # that a file may grow to, where the disk is full


class Noting(Arm):
    """Notes when it is read in a file that is mapped: how many times first, then each in ns."""

    def __init__(self, folder: Path):
        super().__init__(load(folder / "robot.json"), MonotonicClock())
        self.folder = folder
        with (folder / "reads").open("w+b") as file:
            file.truncate(8 * (NOTED + 1))
            self._map = mmap.mmap(file.fileno(), 0)
        self._noted = memoryview(self._map).cast("q")

    def read(self) -> DriverState:
        count = self._noted[0] + 1
        self._noted[count % NOTED + 1] = time.monotonic_ns()
        self._noted[0] = count
        return super().read()


class Strained(Cell):
    """A cell whose robotd is scheduled `first` or as an `ordinary` process."""

    def __init__(self, folder: Path, how: str, **options: object):
        super().__init__(folder, **options)  # type: ignore[arg-type]
        self.how = how

    def reads(self) -> np.ndarray:
        """Return when the arm was read (N,), ns."""
        noted = np.fromfile(self.folder / "reads", np.int64)
        return np.sort(noted[1:][noted[1:] > 0])

    def fill_disk(self) -> None:
        """Let no file of robotd grow any more: what it writes fails as on a full disk."""
        pid = self.processes["robotd"].pid
        hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (ROOM_BYTES, hard))

    def _command(self, name: str) -> list[str]:
        if name != "robotd":
            return super()._command(name)
        return [sys.executable, "-m", "real_robot.testing.strained", str(self.folder), self.how]


def main(folder: Path, how: str) -> int:
    """Run robotd with an fsync that stalls."""
    fsync = os.fsync

    def stalled(file: int) -> None:
        time.sleep(STALLED_S)
        fsync(file)

    os.fsync = stalled  # type: ignore[assignment]
    if how == "ordinary":
        realtime.go_first = lambda priority: "scheduled like others, as was asked for"
    options = robotd.Options(
        bind="tcp://127.0.0.1:0",
        keys=folder / "keys",
        record=folder / "incidents",
        heartbeat=folder / "heartbeats",
    )
    return robotd.serve(Noting(folder), options)


if __name__ == "__main__":
    os._exit(main(Path(sys.argv[1]), sys.argv[2]))
