"""A daemon in the actor's own process whose time passes only while the actor waits.

Everything above the wire runs as on a robot, as fast as the processor can, and the same every time.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from real_robot.clock import VirtualClock
from real_robot.daemon import Daemon, Tick
from real_robot.link import StaleState
from real_robot.messages import Command, pack
from real_robot.requests import Peer, Role
from real_robot.telling import published


class Lockstep(VirtualClock):
    """A clock, a daemon that ticks when the clock is waited on, and the line to it."""

    def __init__(self, now_ns: int = 10**12):
        super().__init__(now_ns)
        self.daemon: Daemon | None = None
        self.inbox: list[tuple[Peer, bytes]] = []
        self.ticks: list[Tick] = []
        self.newest: dict[str, Any] | None = None
        self.after_tick: Callable[[], None] = lambda: None  # the simulated world moves on
        self.policy, self.operator = Peer("policy", Role.POLICY), Peer("operator", Role.OPERATOR)
        self._lock = threading.RLock()  # a pilot keeps the lease from a thread of its own

    def serve(self, daemon: Daemon) -> None:
        """Tick this daemon from now on, and arm it."""
        self.daemon = daemon
        daemon.connect(1.0)
        self.tick()
        self.arm()

    def arm(self) -> None:
        """Do what an operator does: acknowledge a stop where there is one, and arm."""
        assert self.daemon is not None
        machine = self.daemon.machine
        if machine.state.latched:
            self._ask(self.operator, {"type": "reset", "stop_id": machine.stop_id})
        reply = self._ask(self.operator, {"type": "arm", "descriptor": self.daemon.hash})
        if not reply["ok"]:
            raise RuntimeError(reply["why"])

    def sleep_until_ns(self, moment: int) -> int:
        assert self.daemon is not None
        late = max(0, self.now_ns() - moment)
        while self.now_ns() < moment:
            self.tick()
        return late

    def tick(self) -> Tick:
        """Let one tick pass."""
        assert self.daemon is not None
        with self._lock:
            self.advance(self.daemon.robot.tick_ns)
            inbox, self.inbox = self.inbox, []
            found = self.daemon.tick(inbox)
            self.newest = published(self.daemon, found)
            self.after_tick()
        return found

    def request(self, message: Mapping[str, Any]) -> dict[str, Any]:
        return self._ask(self.policy, message)

    def send(self, command: Command) -> None:
        with self._lock:
            self.inbox.append((self.policy, command.encode()))

    def state(self, max_age_s: float) -> dict[str, Any]:
        if self.newest is None:
            raise StaleState("nothing was told yet")
        return self.newest

    def close(self) -> None:
        with contextlib.suppress(AssertionError):
            self.inbox.clear()

    def _ask(self, peer: Peer, message: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            self.inbox.append((peer, pack(message)))
            found = self.tick()
        return found.judgements[-1].reply


def tool(daemon: Daemon) -> np.ndarray:
    """Return the measured position of the tool (3,), for rules that judge a task."""
    assert daemon.measured is not None
    return daemon.chain.tool(daemon.measured.q)[0][0]
