"""A UR controller's dashboard (port 29999): lines of text that are answered by lines of text.

Plain sockets, so that a stop needs neither the vendor's library nor its connections.
"""

from __future__ import annotations

import contextlib
import socket
import time

from real_robot.driver import DriverLost
from robo_offline.errors import UserError

PORT = 29999
OURS_S = 0.3


class Dashboard:
    """One connection. DriverLost where it does not answer in time."""

    def __init__(self, address: str, timeout_s: float = 1.0):
        self._what = f"the dashboard at {address}:{PORT}"
        try:
            self._socket = socket.create_connection((address, PORT), timeout_s)
        except OSError as error:
            raise DriverLost(f"{self._what} cannot be reached: {error}") from None
        self._received = b""
        try:
            self._line(timeout_s)  # a greeting
        except DriverLost:
            self.close()
            raise

    def say(self, line: str, timeout_s: float = 1.0) -> str:
        """Send a line and return the answer."""
        try:
            self._socket.settimeout(timeout_s)
            self._socket.sendall(line.encode() + b"\n")
        except OSError as error:
            raise DriverLost(f"{self._what} is lost: {error}") from None
        return self._line(timeout_s)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()

    def __enter__(self) -> Dashboard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _line(self, timeout_s: float) -> str:
        until = time.monotonic() + timeout_s
        while b"\n" not in self._received:
            left = until - time.monotonic()
            try:
                self._socket.settimeout(max(left, 1e-3))
                found = self._socket.recv(4096)
            except OSError as error:
                raise DriverLost(f"{self._what} does not answer: {error}") from None
            if not found:
                raise DriverLost(f"{self._what} has closed the connection")
            self._received += found
        line, self._received = self._received.split(b"\n", 1)
        return line.decode(errors="replace").strip()


def emergency_stop(address: str, timeout_s: float = 1.0) -> None:
    """End the program that moves the arm; cut its power where that does not end it.

    For robotwatch, which has no other connection. DriverLost where neither can be done: in local
    control the dashboard only listens.
    """
    with Dashboard(address, timeout_s) as dashboard:
        answer = dashboard.say("stop", timeout_s)
        if "false" in dashboard.say("running", timeout_s):
            return
        cut = dashboard.say("power off", timeout_s)
        if "powering off" not in cut.lower():
            raise DriverLost(f"the arm can be neither stopped ({answer}) nor cut off ({cut})")


def check_ready(address: str, timeout_s: float) -> None:
    """Look whether the arm can be taken, and is nobody else's; UserError saying what is not."""
    until = time.monotonic() + timeout_s
    wanted = [
        ("robotmode", ("RUNNING",), "switch the arm on and release its brakes"),
        ("safetystatus", ("NORMAL", "REDUCED"), "clear the stop at the pendant"),
        # A CB3 controller has no remote control to ask for.
        ("is in remote control", ("true", "understand"), "choose remote control at the pendant"),
        ("running", ("false",), "end the program at the pendant"),
    ]
    try:
        with Dashboard(address, timeout_s) as dashboard:
            for question, fine, remedy in wanted:
                found = dashboard.say(question, max(until - time.monotonic(), 0.01))
                asked = time.monotonic()
                # The program of a robotd that was killed ends by its watchdog.
                while question == "running" and "true" in found and time.monotonic() < asked + OURS_S:  # noqa: E501  # fmt: skip
                    time.sleep(0.02)
                    found = dashboard.say(question, max(until - time.monotonic(), 0.01))
                if not any(word in found for word in fine):
                    raise UserError(
                        "the UR arm is not ready",
                        where=address,
                        expected=f"{question}: {fine[0]}",
                        found=found,
                        remedy=remedy,
                    )
    except DriverLost as error:
        raise UserError(
            "no UR controller answers",
            where=address,
            found=error,
            remedy="check address and cable, and that the controller is on",
        ) from None
