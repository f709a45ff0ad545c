"""Arms of lerobot, behind the bridge that runs in lerobot's own interpreter.

lerobot's positions are degrees and its gripper is 0 to 100; radians and [0, 1] are made here and
nowhere else. The robot's file names the joints as lerobot does, without their ".pos", and says how
each lies when lerobot calls it 0. lerobot measures no speed and has no clock: dq is the slope of
the last positions, and the arm's time is when the bridge had its answer.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np
import zmq

from real_robot.descriptor import RobotDescriptor
from real_robot.driver import DriverCommand, DriverLost, DriverState
from real_robot.drivers.gate import Gate
from real_robot.drivers.recovery import Recovery
from robo_offline.errors import UserError

GRIPPER, OPEN = "gripper.pos", 100.0
SLOPE_S = 0.2  # a servo's position jumps by 0.1 degree: over less, a resting arm seems to move
HERE_S = 0.05
MAX_BYTES = 16_384
_numbers = itertools.count()


def slopes(times: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the least-squares slope of each column of rows (n, dof) over times (n,)."""
    t = times - times.mean()
    spread = float(t @ t)
    return t @ (rows - rows.mean(0)) / spread if spread > 0 else np.zeros(rows.shape[1])


class Driver:
    """One arm of lerobot at the address of its bridge."""

    def __init__(self, descriptor: RobotDescriptor, address: str):
        self.descriptor, self.address = descriptor, address
        self.keys = [f"{joint.name}.pos" for joint in descriptor.joints]
        self._context: zmq.Context | None = None
        self._gate = Gate()
        self._recovery = Recovery()
        self._past: deque[tuple[int, np.ndarray]] = deque()  # (device time, q)
        self._newest: Mapping[str, Any] | None = None
        self._hello: Mapping[str, Any] | None = None
        self._said = 0.0

    def connect(self, timeout_s: float) -> None:
        if self._context is not None:
            raise UserError("this driver is connected already", where=self.address)
        self._past.clear()
        self._newest = self._hello = None
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger, self._socket.maxmsgsize = 0, MAX_BYTES
        self._socket.identity = f"{os.getpid()}-{next(_numbers)}".encode()
        try:
            self._socket.connect(self.address)
            self._say(do="hello")
            self._wait(timeout_s)
        except (zmq.ZMQError, DriverLost) as error:
            self.close()
            raise UserError(
                "the bridge to the lerobot arm does not answer",
                where=self.address,
                found=error,
                remedy="start it: python -m real_robot.bridges.lerobot MODULE:FUNCTION --address …",
            ) from None
        wanted = [*self.keys, *([GRIPPER] if self.descriptor.has_gripper else [])]
        hello: Mapping[str, Any] = self._hello or {}
        missing = sorted(set(wanted) - set(hello.get("keys", ())))
        if hello.get("busy") or missing:
            self.close()
            raise UserError(
                "the arm is driven already" if hello.get("busy") else "this is another arm",
                where=self.address,
                expected=", ".join(wanted),
                found=", ".join(hello.get("keys", ())),
                remedy="name the joints in the robot's file as lerobot does" if missing else None,
            )

    def read(self) -> DriverState:
        self._hear()
        if time.monotonic() - self._said > HERE_S:
            self._say(do="here")
        return self._state()

    def write(self, command: DriverCommand) -> None:
        self._hear()
        self._gate.admit(command, self._past[-1][1])
        values = dict(zip(self.keys, np.rad2deg(command.q).tolist(), strict=True))
        if self.descriptor.has_gripper:
            values[GRIPPER] = float(OPEN * command.gripper)
        self._say(do="write", values=values)

    def controlled_stop(self) -> None:
        self._gate.close()
        self._say(do="stop")

    def protective_stop(self) -> None:
        """Hold where the arm is: with its torque switched off it would fall."""
        self.controlled_stop()

    def clear_fault(self) -> None:
        self._gate.close()
        self._say(do="clear")
        self._recovery.begin()
        self._recovery.done()  # as soon as a state says so

    def close(self) -> None:
        if self._context is not None:
            with contextlib.suppress(DriverLost):
                self._say(do="bye")
            # Long enough for the last word of a process on the same machine.
            self._context.destroy(linger=100)
        self._context = None
        self._gate.close()

    def _state(self) -> DriverState:
        if self._newest is None or not self._past:
            raise DriverLost("no state of the arm has come yet")
        times = np.array([stamp for stamp, _ in self._past]) / 1e9
        rows = np.stack([q for _, q in self._past])
        gripper = float(self._newest["values"].get(GRIPPER, 0.0)) / OPEN
        fault = self._recovery.heard(str(self._newest["fault"]))
        if fault:
            self._gate.close()
        return DriverState(
            q=rows[-1],
            dq=slopes(times, rows),
            device_time_ns=self._past[-1][0],
            gripper=min(max(gripper, 0.0), 1.0),
            fault=fault,
        )

    def _wait(self, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        while self._hello is None or (not self._hello.get("busy") and len(self._past) < 2):
            left = until - time.monotonic()
            if left <= 0 or not self._socket.poll(math.ceil(left * 1000)):
                raise DriverLost(f"nothing came within {timeout_s:g} s")
            self._hear()
            if self._hello is not None and not set(self.keys) <= set(self._hello.get("keys", ())):
                return  # another arm: what is missing is said by who asked

    def _hear(self) -> None:
        """Take in what has come; a packet that is none makes the arm a lost one."""
        if self._context is None:
            raise DriverLost("not connected")
        while True:
            try:
                message = msgpack.unpackb(self._socket.recv(zmq.NOBLOCK), max_map_len=64)
                if message["is"] == "hello":
                    self._hello = message
                elif message["is"] == "state":
                    self._take(message)
            except zmq.Again:
                return
            except Exception as error:  # what a parser raises on foreign bytes is an open list
                raise DriverLost(f"the bridge sent what is no state: {error!r}") from None

    def _take(self, message: Mapping[str, Any]) -> None:
        values, stamp = message["values"], int(message["stamp_ns"])
        if not set(self.keys) <= set(values):
            return
        self._newest = message
        if self._past and stamp <= self._past[-1][0]:
            return  # told again: the arm has not answered since
        self._past.append((stamp, np.deg2rad([float(values[key]) for key in self.keys])))
        while stamp - self._past[0][0] > SLOPE_S * 1e9 and len(self._past) > 2:
            self._past.popleft()

    def _say(self, **message: Any) -> None:
        if self._context is None:
            raise DriverLost("not connected")
        try:
            self._socket.send(msgpack.packb(message), zmq.NOBLOCK)
        except zmq.ZMQError as error:
            raise DriverLost(f"the bridge takes nothing: {error}") from None
        self._said = time.monotonic()


def emergency_stop(address: str, timeout_s: float = 0.5) -> None:
    """Let the arm hold where it is, whatever robotd does; DriverLost where that is not confirmed.

    Actions are refused from then on, until the fault is cleared.
    """
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(address)
        socket.send(msgpack.packb({"do": "stop"}))
        if not socket.poll(math.ceil(timeout_s * 1000)):
            raise DriverLost(f"the bridge at {address} does not answer within {timeout_s:g} s")
