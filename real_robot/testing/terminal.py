"""The operator's console in a terminal of its own, and somebody who types there."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios

from real_robot.testing.processes import Cell


class Terminal:
    """A console of a cell. `seen` is everything that it has drawn."""

    def __init__(self, cell: Cell, *options: str):
        self.near, far = pty.openpty()
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        command = [sys.executable, "-m", "real_robot.console", f"tcp://127.0.0.1:{cell.port()}"]
        command += ["--key", str(cell.folder / "keys" / "operator.key"), *options]
        env = os.environ | {"TERM": "xterm"}
        self.process = subprocess.Popen(command, stdin=far, stdout=far, stderr=far, env=env)
        self.far = far
        self.seen = b""

    def read(self) -> bytes:
        while select.select([self.near], [], [], 0)[0]:
            self.seen += os.read(self.near, 65536)
        return self.seen

    def type(self, pressed: bytes) -> None:
        os.write(self.near, pressed)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.near)
        os.close(self.far)
