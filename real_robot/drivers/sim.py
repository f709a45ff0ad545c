"""The driver of the simulated arm (`python -m real_robot.sim`): no simulator is needed here."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import zmq

from real_robot.descriptor import RobotDescriptor
from real_robot.driver import DriverCommand, DriverLost, DriverState
from real_robot.drivers.gate import Gate
from real_robot.realtime import context_first
from real_robot.sim import wire
from robo_offline.errors import UserError

ANSWER_S = 0.25  # longer than a simulation on a busy machine takes
PRIORITY = 45  # of the thread that hears the arm: after robotd's loop
QUEUED = 256  # ticks that wait for a simulation that hangs


def default_address(name: str = "sim") -> str:
    """Return where a simulated arm of this user listens unless it is told otherwise."""
    folder = os.environ.get("XDG_RUNTIME_DIR") or f"{tempfile.gettempdir()}/robo_offline-{os.getuid()}"  # noqa: E501  # fmt: skip
    return f"ipc://{Path(folder) / name}"


class Driver:
    """A `RobotDriver`. Nothing waits but requests, and they not for long."""

    def __init__(self, descriptor: RobotDescriptor, address: str | None = None):
        self.descriptor, self.address = descriptor, address or default_address()
        self._context: zmq.Context | None = None
        self._numbers = itertools.count(1)
        self._state: DriverState | None = None
        self._session = self._newest = 0  # that we command, and that we hear
        self._gate = Gate()
        self._cleared = 0  # faults that were acknowledged, says the newest state

    def connect(self, timeout_s: float) -> None:
        """Open the sockets and wait for a first state."""
        if self._context is not None:
            raise UserError("the simulated arm is connected already", where=self.address)
        self._context = context_first(PRIORITY)
        self._states = self._context.socket(zmq.SUB)
        self._states.setsockopt(zmq.CONFLATE, 1)
        self._states.setsockopt(zmq.SUBSCRIBE, b"")
        self._requests = self._context.socket(zmq.DEALER)
        self._requests.sndhwm = QUEUED
        for socket, suffix in ((self._states, wire.STATES), (self._requests, wire.REQUESTS)):
            socket.linger = 0
            socket.maxmsgsize = wire.MAX_BYTES
            socket.connect(self.address + suffix)
        if not self._states.poll(_ms(timeout_s)):
            self.close()
            raise UserError(
                "the simulated arm does not answer",
                where=self.address,
                expected=f"a state within {timeout_s:g} s",
                remedy="start it: python -m real_robot.sim --address ADDRESS",
            )
        try:
            self._hear()
        except DriverLost as error:
            self.close()
            raise UserError("this is no simulated arm", where=self.address, found=error) from None
        assert self._state is not None
        if len(self._state.q) != self.descriptor.dof:
            found = len(self._state.q)
            self.close()
            raise UserError(
                "the simulated arm is another robot",
                where=self.address,
                expected=f"{self.descriptor.dof} joints",
                found=found,
                remedy=f"start it with --robot {self.descriptor.name}",
            )
        self._session = self._newest

    def read(self) -> DriverState:
        """Return the newest state; the one before where there is no newer one."""
        self._hear()
        if self._context is None or self._state is None:
            raise DriverLost("the simulated arm is not connected")
        if self._newest != self._session:
            raise DriverLost("the simulation was started again")
        return self._state

    def write(self, command: DriverCommand) -> None:
        """Send a tick."""
        if self._state is not None:
            self._gate.admit(command, self._state.q)
        self._send(b"", wire.packed_tick(command, self._session))

    def controlled_stop(self) -> None:
        """Let the arm come to a stand."""
        self._gate.close()
        self.ask(do="controlled_stop")

    def protective_stop(self) -> None:
        """Put its brakes on."""
        self._gate.close()
        self.ask(do="protective_stop")

    def clear_fault(self) -> None:
        """Acknowledge a fault; also that the simulation was started again."""
        cleared = self.ask(do="clear_fault")["cleared"]
        # States from before still speak of the fault.
        until = time.monotonic() + ANSWER_S
        while (left := until - time.monotonic()) > 0 and self._states.poll(_ms(left)):
            self._hear()
            if self._cleared >= cleared:
                self._session = self._newest
                return
        raise DriverLost("the simulated arm says nothing")

    def close(self) -> None:
        """Let go of the arm, which comes to a stand where it still moves."""
        if self._context is None:
            return
        self._gate.close()
        if self._state is not None:
            with contextlib.suppress(zmq.ZMQError):
                self._requests.send_multipart([b"", wire.pack({"do": "controlled_stop"})], zmq.NOBLOCK)  # noqa: E501  # fmt: skip
        self._states.close(0)
        self._requests.close(_ms(ANSWER_S))  # so long the message may still take
        self._context.term()
        self._context = self._state = None

    def ask(self, **message: Any) -> dict[str, Any]:
        """Ask for something, in the order of the ticks; DriverLost where it is not done."""
        number = next(self._numbers).to_bytes(8, "big")
        self._send(number, wire.pack(message))
        return _answer(self._requests, number, ANSWER_S, self.address)

    def _send(self, number: bytes, raw: bytes) -> None:
        if self._context is None:
            raise DriverLost("the simulated arm is not connected")
        try:
            self._requests.send_multipart([number, raw], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            raise DriverLost(f"the simulated arm takes nothing: {error}") from None

    def _hear(self) -> None:
        """Take the newest state, if there is one."""
        if self._context is None:
            return
        try:
            raw = self._states.recv(zmq.NOBLOCK)
        except zmq.Again:
            return
        try:
            self._state, self._newest, self._cleared = wire.unpacked_state(raw)
        except wire.Garbled as error:
            raise DriverLost(f"the state is garbled: {error}") from None


def emergency_stop(address: str | None = None, timeout_s: float = ANSWER_S) -> None:
    """Stop the arm by itself, whatever robotd does; DriverLost where it does not confirm it."""
    _once((address or default_address()) + wire.STOPS, timeout_s, {"do": "stop"})


def rehearse(address: str | None = None, timeout_s: float = ANSWER_S, **message: Any) -> None:
    """Change the world around the arm; DriverLost with the reason where it is not done.

    `do` is one of trouble (latency_s, jitter_s, dropped), wall (position or None, normal), press
    (pressed), rearrange (seed), and reset (seed), which takes seconds and moves the arm: robotd
    must be idle, and will miss states.
    """
    _once((address or default_address()) + wire.REQUESTS, timeout_s, message)


def _ms(seconds: float) -> int:
    return int(1000 * seconds) + 1


def _once(address: str, timeout_s: float, message: dict[str, Any]) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(address)
        socket.send_multipart([b"once", wire.pack(message)])
        _answer(socket, b"once", timeout_s, address)


def _answer(socket: zmq.Socket, number: bytes, timeout_s: float, address: str) -> dict[str, Any]:
    """Wait for the answer with this number; DriverLost where none comes or it is no."""
    until = time.monotonic() + timeout_s
    while (left := until - time.monotonic()) > 0 and socket.poll(_ms(left)):
        found, raw = socket.recv_multipart()
        if found != number:
            continue  # of an earlier request that nobody waits for any longer
        reply = wire.unpack(raw)
        if not reply.get("ok"):
            raise DriverLost(f"the simulated arm refuses: {reply.get('why')}")
        return reply
    raise DriverLost(f"the simulated arm at {address} did not answer within {timeout_s:g} s")
