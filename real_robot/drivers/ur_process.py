"""The vendor's library in a process of its own, between the driver and a UR controller.

`ur_rtde` (1.6) connects again by itself when it loses the arm, uploads its program and goes on with
the next target; when a call meets that, the process crashes. Neither may happen to the daemon. Here
the process ends instead, as soon as the connection does, and the driver says that the arm is lost.
When the driver ends, however it ends, the arm is stopped.

Packets over a socket pair. From the driver: a letter, and 6 numbers after SERVO. To it: READY; a
letter and a text after FAILED; a letter, the letter that is answered and 0 or 1 after DONE; a
letter and a `Sample` after STATE.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
import threading
import time
from typing import Any, NamedTuple

SERVO, KICK, STOP, PROTECT, RESUME = b"J", b"K", b"S", b"P", b"U"
READY, FAILED, DONE, STATE = b"R", b"F", b"D", b"X"

# servoj follows through a filter that looks ahead, with a gain: the vendor's middle values.
# What is sent is limited in jerk already; the filter costs a lag of about LOOKAHEAD_S.
LOOKAHEAD_S, GAIN = 0.1, 300.0
STOP_M_S2 = 2.0  # of the tool, in a controlled stop
WATCHDOG_HZ = 10.0  # without a packet for longer, the controller ends the program: the arm stops
LOOK_S = 0.001
RESUME_S = 5.0
LEAVE_S = 0.5

TARGET = struct.Struct("<6d")
_SAMPLE = struct.Struct("<d6d6d6diII")
VARIABLES = ["timestamp", "actual_q", "actual_qd", "actual_TCP_force", "robot_mode", "runtime_state", "safety_status_bits", "robot_status_bits"]  # noqa: E501  # fmt: skip


class Sample(NamedTuple):
    """What the controller says in one package."""

    time_s: float
    q: tuple[float, ...]
    dq: tuple[float, ...]
    wrench: tuple[float, ...]
    robot_mode: int
    runtime: int
    safety: int  # bits

    def pack(self) -> bytes:
        return _SAMPLE.pack(self.time_s, *self.q, *self.dq, *self.wrench, *self[4:])

    @classmethod
    def unpack(cls, data: bytes) -> Sample:
        x = _SAMPLE.unpack(data)
        return cls(x[0], x[1:7], x[7:13], x[13:19], *x[19:])


class Link:
    """Between the controller and the driver."""

    def __init__(self, link: socket.socket, address: str, hz: float):
        # Here alone, where a call that never returns and a crash harm nobody.
        from rtde_control import RTDEControlInterface
        from rtde_receive import RTDEReceiveInterface

        self.link, self.tick_s = link, 1 / hz
        self.receive: Any = RTDEReceiveInterface(address, hz, VARIABLES)
        self.control: Any = RTDEControlInterface(address, hz)
        self.serving = False
        self.watched = False  # by the controller: from the driver's first word on

    def run(self) -> None:
        """Do what is asked until the driver or the controller is gone."""
        threading.Thread(target=self._tell, daemon=True).start()
        self.link.send(READY)
        while True:
            asked = self._asked()
            if asked is None:
                # Whatever the library does when it loses the arm now, it does not do it for long.
                threading.Timer(LEAVE_S, os._exit, (1,)).start()
                if self.serving:
                    self.control.servoStop(STOP_M_S2)
                self.control.stopScript()
                return
            if not self.control.isConnected():
                raise RuntimeError("the control connection is lost")
            if asked and not self.watched:
                self.watched = bool(self.control.setWatchdog(WATCHDOG_HZ))
                if not self.watched:
                    raise RuntimeError("the controller does not take a watchdog")
            for packet in asked:
                self._do(packet[:1], packet[1:])

    def _asked(self) -> list[bytes] | None:
        """Return what has come, with the newest target only; None where the driver is gone."""
        select.select([self.link], [], [], LOOK_S)
        found: list[bytes] = []
        while True:
            try:
                packet = self.link.recv(256, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return found
            except OSError:
                return None
            if not packet:
                return None
            if found and packet[:1] == found[-1][:1] == SERVO:
                found.pop()
            found.append(packet)

    def _do(self, what: bytes, data: bytes) -> None:
        control = self.control
        if what == SERVO:
            self.serving = True
            q = list(TARGET.unpack(data))
            if not control.servoJ(q, 0.0, 0.0, self.tick_s, LOOKAHEAD_S, GAIN):
                self._done(what, False)
        elif what == KICK:
            control.kickWatchdog()
        elif what == STOP:
            self.serving = False
            self._done(what, bool(control.servoStop(STOP_M_S2)))
        elif what == PROTECT:
            self.serving = False
            control.triggerProtectiveStop()  # its answer is False where it worked: it ends itself
            self._done(what, True)
        elif what == RESUME:
            self._done(what, self._resume())

    def _resume(self) -> bool:
        self.control.reuploadScript()
        until = time.monotonic() + RESUME_S
        while not self.control.isProgramRunning():
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return bool(self.control.setWatchdog(WATCHDOG_HZ))

    def _done(self, what: bytes, well: bool) -> None:
        self.link.send(DONE + what + (b"\1" if well else b"\0"))

    def _tell(self) -> None:
        """Pass every new state on, whatever a command waits for."""
        last = -1.0
        while self.receive.isConnected():
            if (stamp := self.receive.getTimestamp()) != last:
                last = stamp
                try:
                    self.link.send(STATE + self._sample(stamp).pack(), socket.MSG_DONTWAIT)
                except BlockingIOError:
                    pass  # the driver does not read: it will have newer ones
                except OSError:
                    return
            time.sleep(LOOK_S)
        _end(self.link, "the state connection is lost")

    def _sample(self, stamp: float) -> Sample:
        r = self.receive
        return Sample(
            stamp,
            tuple(r.getActualQ()),
            tuple(r.getActualQd()),
            tuple(r.getActualTCPForce()),
            r.getRobotMode(),
            r.getRuntimeState(),
            r.getSafetyStatusBits(),
        )


def _end(link: socket.socket, why: str) -> None:
    """End at once: the library's threads connect again where they are left alone."""
    try:
        link.send(FAILED + why.encode()[:4000])
    finally:
        os._exit(1)


def main() -> None:
    address, hz, handle = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    link = socket.socket(fileno=handle)
    try:
        between = Link(link, address, hz)
        between.run()
        os._exit(0)  # before its destructors, which wait for a second
    except Exception as error:  # the library raises what its parts raise
        _end(link, str(error) or type(error).__name__)


if __name__ == "__main__":
    main()
