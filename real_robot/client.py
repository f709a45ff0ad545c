"""A client's end of the wire: policy, teleoperation, console or viewer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import count
from typing import Any

import msgpack
import zmq

from real_robot.clock import Clock, MonotonicClock, ns
from real_robot.keys import ClientKey
from real_robot.link import StaleState
from real_robot.messages import Command, pack
from real_robot.requests import Role
from robo_offline.errors import UserError

# robotd listens at three ports in a row. The operator's is apart so that nobody's flood, however
# made, is ever before a stop.
REQUESTS, STATE, OPERATOR = 0, 1, 2
REPLY_BYTES = 65_536
SMALL = 16_384  # bytes of the kernel's buffers: a slow reader must not read what was long ago
KEPT = 256  # verdicts that nobody has asked for
UNASKED = b"\0"  # the number of what is sent without waiting


class NoAnswer(StaleState):
    """robotd did not answer in time."""


class Client:
    """One connection. It never waits longer than it is told to, and comes back by itself when
    robotd does. One thread at a time may ask and send, and one may look at the state."""

    def __init__(self, address: str, key: ClientKey, clock: Clock | None = None):
        """Connect to tcp://HOST:PORT in the background."""
        self.address, self.role = address, key.role
        self._clock = clock or MonotonicClock()
        self._context = zmq.Context()
        self._requests = self._socket(zmq.DEALER, key)
        self._requests.setsockopt(zmq.IMMEDIATE, 1)  # nothing waits for a connection to come
        self._requests.sndhwm, self._requests.rcvhwm = 8, KEPT
        self._state = self._socket(zmq.SUB, key)
        self._state.conflate = True
        self._state.rcvbuf = SMALL
        self._state.subscribe(b"")
        line = OPERATOR if key.role is Role.OPERATOR else REQUESTS
        self._requests.connect(beside(address, line))
        self._state.connect(beside(address, STATE))
        self._numbers = count(1)
        self._verdicts: list[dict[str, Any]] = []
        self._newest: tuple[int, dict[str, Any]] | None = None  # when at the earliest, and what
        self._looked_ns = 0  # all that had come by then is known

    def request(self, message: Mapping[str, Any] | Command, timeout_s: float = 0.5) -> dict:
        """Return robotd's reply. NoAnswer where it does not come in time."""
        until = self._clock.now_ns() + ns(timeout_s)
        frames = (next(self._numbers).to_bytes(8, "big"), _encoded(message))
        sent = False
        while (left := until - self._clock.now_ns()) > 0:
            sent = sent or self._try(frames)
            wait_ms = math.ceil(left / 1e6)
            if not self._requests.poll(wait_ms if sent else min(wait_ms, 5)):
                continue
            found = self._receive()
            if found is not None and found[0] == frames[0]:
                return found[1]
        raise NoAnswer(
            f"no answer from robotd at {self.address} within {timeout_s:g} s: "
            + ("it hangs, or has ended" if sent else "it is not there, or does not allow this key")
        )

    def send(self, message: Mapping[str, Any] | Command) -> bool:
        """Send without waiting; False where there is no connection. See `verdicts`."""
        self._drain()
        return self._try((UNASKED, _encoded(message)))

    def verdicts(self) -> list[dict[str, Any]]:
        """Return the replies to what was sent, since the last call; the newest 256."""
        self._drain()
        found, self._verdicts = self._verdicts, []
        return found

    def state(self, max_age_s: float = 0.1) -> dict[str, Any]:
        """Return the newest state, at most so old. StaleState where none comes in that time."""
        now = self._clock.now_ns()
        until = now + ns(max_age_s)
        while True:
            self._take()
            if self._newest is not None and now - self._newest[0] <= ns(max_age_s):
                return self._newest[1]
            if now >= until:
                break
            self._state.poll(math.ceil((until - now) / 1e6))
            now = self._clock.now_ns()
        raise StaleState(
            f"no state from robotd at {self.address} within {max_age_s:g} s: it hangs, has ended, "
            "or does not allow this key"
        )

    def close(self) -> None:
        """Let go of the connection; robotd notices when nobody commands any more."""
        self._context.destroy(0)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _socket(self, kind: int, key: ClientKey) -> zmq.Socket:
        socket = self._context.socket(kind)
        socket.curve_serverkey = key.robotd.encode()
        socket.curve_publickey = key.pair.public.encode()
        socket.curve_secretkey = key.pair.secret.encode()
        socket.linger, socket.maxmsgsize = 0, REPLY_BYTES + 1024
        socket.setsockopt(zmq.RECONNECT_IVL, 20)  # ms, as are these
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        socket.setsockopt(zmq.HEARTBEAT_IVL, 500)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 1500)
        return socket

    def _try(self, frames: tuple[bytes, bytes]) -> bool:
        try:
            self._requests.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _receive(self) -> tuple[bytes, dict[str, Any]] | None:
        try:
            number, raw = self._requests.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None
        reply = msgpack.unpackb(raw)
        if number == UNASKED:
            self._verdicts = [*self._verdicts[1 - KEPT :], reply]
            return None
        return number, reply

    def _drain(self) -> None:
        while self._requests.poll(0):
            self._receive()

    def _take(self) -> None:
        before, self._looked_ns = self._looked_ns, self._clock.now_ns()
        try:
            raw = self._state.recv(zmq.NOBLOCK)
        except zmq.Again:
            return
        # It came after the last look, and more is not known of its age.
        self._newest = (before, msgpack.unpackb(raw))


def beside(address: str, port: int) -> str:
    """Return the address so many ports after tcp://HOST:PORT."""
    host, first = host_port(address)
    return f"tcp://{host}:{first + port}"


def host_port(address: str) -> tuple[str, int]:
    """Split tcp://HOST:PORT. UserError where it is something else."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    if not address.startswith("tcp://") or not host or not port.isdigit() or int(port) > 65533:
        raise UserError(
            "an address is tcp://HOST:PORT; the two ports after it are used too", found=address
        )
    return host, int(port)


def _encoded(message: Mapping[str, Any] | Command) -> bytes:
    return message.encode() if isinstance(message, Command) else pack(message)
