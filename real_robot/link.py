"""The line to the daemon as an actor sees it, and a pilot who keeps the lease on it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from real_robot.descriptor import RobotDescriptor
from real_robot.messages import Command, Mode, Source
from robo_offline.errors import UserError

KEEP_S = 0.04  # between two signs of life while nothing is commanded


class Link(Protocol):
    """A connection to robotd: over the wire, or within a process for tests."""

    def request(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Ask and wait for the answer, not for long."""

    def send(self, command: Command) -> None:
        """Send a command; what became of it stands in the state."""

    def state(self, max_age_s: float) -> dict[str, Any]:
        """Return the newest state. Raises StaleState."""

    def close(self) -> None: ...


class StaleState(Exception):
    """No state is young enough."""


class Pilot:
    """Holds the lease, numbers commands, and keeps the arm in place while nobody commands.

    Without `pause`, silence is what it is on the wire: the watchdog stops the arm.
    """

    def __init__(
        self,
        link: Link,
        robot: RobotDescriptor,
        source: Source,
        policy: str,
        keep_s: float | None = KEEP_S,
    ):
        """Take the line; `keep_s` None keeps nothing alive, where time waits for the actor."""
        self.link, self.robot, self.keep_s = link, robot, keep_s
        self.source, self.policy = source, policy
        self.lease, self.seq = 0, 0
        self._lock = threading.Lock()  # a link is not for two threads at once
        self._keeping = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="keeps the lease", daemon=True)
        if keep_s is not None:
            self._thread.start()

    def take(self) -> None:
        """Take the lease. Raises UserError saying why not."""
        try:
            with self._lock:
                reply = self.link.request({"type": "lease", "source": int(self.source)})
        except StaleState as stale:
            remedy = "robo-offline robot status"
            raise UserError("the robot does not answer", found=stale, remedy=remedy) from stale
        if not reply.get("ok"):
            raise UserError(
                "the robot cannot be commanded",
                found=reply.get("why"),
                remedy="arm it at the console (a), after a reset (r) where it has stopped",
            )
        self.lease = reply["lease"]

    def command(
        self,
        targets: np.ndarray,
        gripper: np.ndarray,
        obs_seq: int,
        t_rel_ns: tuple[int, ...],
        valid_ns: int,
        mode: Mode,
        source: Source | None = None,
        speed_scale: float = 1.0,
    ) -> int:
        """Send targets (k, dof or 7); return the command's number."""
        with self._lock:
            self._keeping.clear()
            self.seq += 1
            self.link.send(
                Command(
                    lease=self.lease,
                    seq=self.seq,
                    obs_seq=obs_seq,
                    source=self.source if source is None else source,
                    mode=mode,
                    targets=targets,
                    gripper=gripper,
                    t_rel_ns=t_rel_ns,
                    valid_ns=valid_ns,
                    speed_scale=speed_scale,
                    policy=self.policy,
                    descriptor=self.robot.hash,
                )
            )
            return self.seq

    def pause(self) -> None:
        """Come to rest and stay there, alive, until the next command."""
        with self._lock:
            self._hold()
            self._keeping.set()

    def close(self) -> None:
        """Stop keeping the lease and leave the line."""
        self._over.set()
        self._keeping.set()
        if self._thread.is_alive():
            self._thread.join(1.0)
        with self._lock:
            if self.lease:
                with contextlib.suppress(StaleState):  # gone before us
                    self.link.request({"type": "release"})
            self.link.close()

    def _keep(self) -> None:
        while not self._over.is_set():
            self._keeping.wait()
            with self._lock:
                if self._keeping.is_set() and not self._over.is_set():
                    self._hold()
            self._over.wait(self.keep_s)

    def _hold(self) -> None:
        with contextlib.suppress(StaleState):  # the next command or the watchdog will say so
            self.link.request({"type": "hold"})
