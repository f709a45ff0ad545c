"""Companions: processes of a run that outlive its learner, and are found again by the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from robo_offline.actors.folders import lock

AGAIN_S = 1.0  # between two looks after one
END_S = 20.0  # an actor finishes its action, a robot comes to rest, Ray shuts down
POLL_S = 0.02


class Companion:
    """One of them; its folder holds its `lock`, which dies with it, its `pid` and its `log`."""

    def __init__(
        self,
        module: str,
        folder: Path,
        run: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
    ):
        self.module, self.folder, self.run = module, folder, run
        self.arguments, self.environment = arguments, environment
        folder.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen | None = None
        self._looked = 0.0

    def look_after(self) -> int:
        """Start it where it is not there; return the exit code where it has ended since."""
        if time.monotonic() - self._looked < AGAIN_S:
            return 0
        self._looked = time.monotonic()
        code = 0
        if self._process is not None:
            found = self._process.poll()
            if found is None:
                return 0
            self._process, code = None, found
        pid, run = self._holder()
        if pid and run != self.run:  # of a sitting with other knobs
            self._end_survivor(pid)
            pid = 0
        if not pid and code <= 0:
            self._start()
        return code

    def end(self) -> None:
        """Tell it to stop, and see to it that it does."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        elif pid := self._holder()[0]:
            self._end_survivor(pid)

    def last_words(self) -> str:
        """Return the last line of its log."""
        lines = (self.folder / "log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing in its log"

    def _holder(self) -> tuple[int, str]:
        """Return the process that is there by now, and for which run; 0 for nobody."""
        with (self.folder / "lock").open("a+") as file:
            if lock(file):
                return 0, ""
        with suppress(FileNotFoundError, ValueError):
            pid, run = (self.folder / "pid").read_text().split()
            return int(pid), run
        return 0, ""

    def _end_survivor(self, pid: int) -> None:
        until = time.monotonic() + END_S
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
            while self._holder()[0] == pid:
                if time.monotonic() > until:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(POLL_S)

    def _start(self) -> None:
        # What can be imported here can be imported there; a session of its own gets no Ctrl-C.
        paths = os.pathsep.join(path for path in sys.path if path)
        own = {**os.environ, **self.environment, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module, *self.arguments],
                env=own,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


@contextmanager
def alone(folder: Path, run: str) -> Iterator[bool]:
    """Be the companion of a folder; False where another one is."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as held:
        until = time.monotonic() + AGAIN_S  # somebody may just be looking who is there
        while not lock(held):
            if time.monotonic() > until:
                yield False
                return
            time.sleep(POLL_S)
        partial = folder / "pid.partial"
        partial.write_text(f"{os.getpid()} {run}")
        partial.replace(folder / "pid")
        yield True
