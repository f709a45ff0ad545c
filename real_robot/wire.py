"""The wire between robotd and everybody else: ZeroMQ with CURVE, MessagePack, and no pickle.

    tcp://HOST:PORT      requests and commands, answered
    tcp://HOST:PORT+1    the state, newest only
    tcp://HOST:PORT+2    the operator's requests

Who a message comes from is what its connection proved with its key. Everything is bounded: sizes,
queues, messages per tick, and messages per key and second. CurveZMQ (RFC 26) encrypts and
authenticates; packets that were captured and are sent again fit no other session.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgpack
import zmq
from zmq.auth import Authenticator

from real_robot.client import OPERATOR, REQUESTS, SMALL, STATE, Client, NoAnswer, host_port
from real_robot.clock import SECOND, Clock, MonotonicClock
from real_robot.daemon import Judgement
from real_robot.keys import Allowed, Pair
from real_robot.messages import MAX_BYTES
from real_robot.realtime import context_first
from real_robot.requests import Peer, Role
from robo_offline.errors import UserError

__all__ = ["Client", "NoAnswer", "Server"]

FRAMES_PER_TICK = 64  # that are taken off a socket; three are a message
MESSAGES_PER_TICK = 4  # that are judged, of each socket: judging takes up to 2 ms each
BYTES_PER_TICK = 6_144  # after which no more are taken: what came must fit into the tick's record
HANDSHAKES_PER_TICK = 2
QUEUED = 64  # messages per connection; a sender that is faster waits
BURST = 32  # messages of one key at once
PRIORITY = 45  # of the thread that receives and sends: after the loop's
ANYBODY, OPERATORS = "robotd", "operator"  # ZAP domains


class Server:
    """robotd's end. One thread calls it; the state goes out through another, in C."""

    def __init__(
        self,
        bind: str,
        pair: Pair,
        allowed: Allowed,
        *,
        rate_hz: float,
        clock: Clock | None = None,
    ):
        """Listen at `bind`, tcp://HOST:PORT; port 0 is any three that are free."""
        self.allowed, self.rate_hz, self.pair = allowed, rate_hz, pair
        self.counts: dict[str, int] = {}  # what got no service, and why
        self._clock = clock or MonotonicClock()
        self._budgets: dict[str, tuple[float, int]] = {}  # key -> messages left, as of when
        self._senders: list[tuple[zmq.Socket, bytes, bytes]] = []  # of the messages of this tick
        self._context = context_first(PRIORITY)
        self._zap = Authenticator(self._context)
        for domain in (ANYBODY, OPERATORS):
            self._zap.configure_curve_callback(domain, self)
        self._zap.start()
        self._lines: list[_Line] = []
        self._state = _State(self._context, lambda: self._socket(zmq.PUB, ANYBODY))
        try:
            self.address = self._bind(bind)
        except UserError:
            self.close()
            raise
        allowed.follow(self._state.restart)

    def callback(self, domain: str, key: bytes) -> bool:
        """Say whether this key may connect (zmq.auth asks)."""
        peer = self.allowed.peers.get(key.decode())
        if peer is None or (domain == OPERATORS and peer.role is not Role.OPERATOR):
            self._count("refused a key")
            return False
        return True

    def receive(self) -> list[tuple[Peer, bytes]]:
        """Return what came in since the last tick, never more than a tick can bear."""
        self._admit()
        self._senders = []
        inbox: list[tuple[Peer, bytes]] = []
        for line in self._lines:
            judged = size = 0
            for _ in range(FRAMES_PER_TICK):
                if judged == MESSAGES_PER_TICK or size >= BYTES_PER_TICK or not line.take():
                    break
                if line.parts and not line.parts[-1].more:
                    found = self._message(line)
                    if found is not None:
                        inbox.append(found)
                        judged, size = judged + 1, size + len(found[1])
        return inbox

    def reply(self, judgements: Iterable[Judgement]) -> None:
        """Answer the messages of this tick, in their order."""
        for (socket, identity, number), judgement in zip(self._senders, judgements, strict=True):
            try:
                socket.send_multipart(
                    (identity, number, msgpack.packb(judgement.reply)), zmq.NOBLOCK
                )
            except zmq.ZMQError:
                self._count("replies not taken")

    def publish(self, message: Mapping[str, Any]) -> None:
        """Send the state to everybody who may look."""
        if not self._state.send(msgpack.packb(message)):
            self._count("states not sent")

    def close(self) -> None:
        """Let go of everything."""
        self.allowed.close()
        self._state.close()
        for line in self._lines:
            line.socket.close(0)
        self._zap.stop()
        self._context.destroy(0)

    def _bind(self, bind: str) -> str:
        host, port = host_port(bind)
        found: Exception | None = None
        for _ in range(1 if port else 20):
            self._lines = [_Line(self._socket(zmq.ROUTER, d)) for d in (OPERATORS, ANYBODY)]
            operator, anybody = (line.socket for line in self._lines)
            try:
                anybody.bind(f"tcp://{host}:{port + REQUESTS if port else '*'}")
                endpoint = anybody.getsockopt(zmq.LAST_ENDPOINT)
                assert isinstance(endpoint, bytes)
                bound = host_port(endpoint.rstrip(b"\0").decode())[1]
                operator.bind(f"tcp://{host}:{bound + OPERATOR}")
                self._state.start(f"tcp://{host}:{bound + STATE}")
                return f"tcp://{host}:{bound}"
            except (zmq.ZMQError, UserError) as error:  # a port after a free one can be taken
                found = error
                operator.close(0)
                anybody.close(0)
        self._lines = []
        raise UserError(
            "robotd cannot listen there",
            where=bind,
            found=found,
            remedy="is another robotd running? else give another --bind tcp://HOST:PORT",
        )

    def _socket(self, kind: int, domain: str) -> zmq.Socket:
        socket = self._context.socket(kind)
        socket.curve_server = True
        socket.curve_publickey = self.pair.public.encode()
        socket.curve_secretkey = self.pair.secret.encode()
        socket.zap_domain = domain.encode()
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # nobody to ask is no, not yes
        socket.setsockopt(zmq.HANDSHAKE_IVL, 2000)  # ms, as are these
        socket.setsockopt(zmq.HEARTBEAT_IVL, 1000)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3000)
        socket.maxmsgsize = MAX_BYTES + 1024  # with what encryption adds
        socket.rcvhwm, socket.linger = QUEUED, 0
        socket.sndhwm = 4 if kind == zmq.PUB else QUEUED
        if kind == zmq.PUB:
            socket.sndbuf = SMALL
        return socket

    def _admit(self) -> None:
        for _ in range(HANDSHAKES_PER_TICK):
            try:
                asked = self._zap.zap_socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                # A coroutine for the sake of callbacks that wait; ours does not.
                self._zap.handle_zap_message(asked).send(None)
            except StopIteration:
                continue

    def _message(self, line: _Line) -> tuple[Peer, bytes] | None:
        parts, overlong = line.parts, line.overlong
        line.parts, line.overlong = [], False
        peer = self.allowed.peers.get(str(parts[-1].get("User-Id")))
        why = ""
        if peer is None:  # revoked since it connected
            why = "from a revoked key"
        elif overlong or len(parts) != 3 or len(parts[1]) > 8:
            why = "not a message"
        elif not self._within_rate(peer.key):
            why = f"too many from {self.allowed.names.get(peer.key)}"
        if peer is None or why:
            self._count(why)
            return None
        self._senders.append((line.socket, parts[0].bytes, parts[1].bytes))
        return peer, parts[2].bytes

    def _within_rate(self, key: str) -> bool:
        now = self._clock.now_ns()
        left, then = self._budgets.get(key, (float(BURST), now))
        left = min(BURST, left + (now - then) / SECOND * self.rate_hz)
        self._budgets[key] = (left - 1 if left >= 1 else left, now)
        return left >= 1

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1


class _Line:
    """A socket, and the message that is being taken off it frame by frame.

    One message can have a million frames: a tick takes its share of them like of others.
    """

    def __init__(self, socket: zmq.Socket):
        self.socket = socket
        self.parts: list[zmq.Frame] = []  # the first two, and the last one
        self.overlong = False

    def take(self) -> bool:
        """Take a frame; say whether there was one."""
        try:
            frame = self.socket.recv(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        if len(self.parts) == 3:
            self.overlong = True
            self.parts.pop()
        self.parts.append(frame)
        return True


class _State:
    """The socket of the state, in a thread of its own that runs C alone.

    There a subscriber's requests, however many, delay nobody; and it can be made anew, which ends
    the connections of keys that have been revoked.
    """

    def __init__(self, context: zmq.Context, socket: Callable[[], zmq.Socket]):
        self._context, self._socket = context, socket
        self._near = context.socket(zmq.PUSH)
        self._near.sndhwm, self._near.linger = 4, 0
        self._near.bind("inproc://state")
        self._address = ""
        self._stop: zmq.Socket | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def start(self, address: str) -> None:
        """Listen. ZMQError where that is not possible."""
        out = self._socket()
        try:
            out.bind(address)
        except zmq.ZMQError:
            out.close(0)
            raise
        self._address = address
        far = self._context.socket(zmq.PULL)
        far.rcvhwm = 4
        far.connect("inproc://state")
        ended = self._context.socket(zmq.PAIR)
        ended.bind("inproc://state-end")
        self._stop = self._context.socket(zmq.PAIR)
        self._stop.connect("inproc://state-end")

        def forward() -> None:
            try:
                zmq.proxy_steerable(far, out, None, ended)
            finally:
                for socket in (far, out, ended):
                    socket.close(0)

        self._thread = threading.Thread(target=forward, name="state", daemon=True)
        self._thread.start()

    def send(self, raw: bytes) -> bool:
        """Hand over a state; False where the last ones are still waiting."""
        try:
            self._near.send(raw, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def restart(self) -> None:
        """End all connections; whoever still may comes back by itself."""
        with self._lock:
            self._end()
            while self._thread is None and not self._closing.is_set():
                try:
                    self.start(self._address)
                except zmq.ZMQError:  # the old one is still being closed
                    self._closing.wait(0.01)

    def close(self) -> None:
        """Let go of the sockets."""
        self._closing.set()
        with self._lock:
            self._end()
            self._near.close(0)

    def _end(self) -> None:
        if self._thread is not None and self._stop is not None:
            self._stop.send(b"TERMINATE")
            self._thread.join()
            self._stop.close(0)
            self._thread = self._stop = None
