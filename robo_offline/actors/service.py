"""The service between actor and learner: keeps what arrives on its disk, hands out weights.

Nothing of it needs torch, and what goes in and out are bytes: a record or weights are never
unpickled, whoever sent them.
"""

from __future__ import annotations

import time
from pathlib import Path

from real_robot.spool import Spool
from robo_offline.actors.folders import SEGMENT_BYTES, newest
from robo_offline.errors import UserError


class Service:
    """Receives records, each once and in order, and knows the newest weights."""

    def __init__(self, folder: str):
        self.inbox = Spool(Path(folder) / "inbox", SEGMENT_BYTES)
        self.weights = Path(folder) / "weights"
        self.learner = Path(folder) / "learner"  # which the learner touches

    def acknowledged(self) -> int:
        """Return the highest number up to which everything is on the disk here; -1 for nothing."""
        return self.inbox.next - 1

    def receive(self, first: int, payloads: list[bytes]) -> int:
        """Take records numbered from `first` on; return what is safe now. UserError at a gap."""
        safe = self.acknowledged()
        if first > safe + 1:
            raise UserError("records are missing", expected=f"number {safe + 1}", found=first)
        if fresh := payloads[safe + 1 - first :]:
            self.inbox.extend(fresh)
        return self.acknowledged()

    def newest(self, after: str) -> tuple[str, bytes] | None:
        """Return name and content of the newest weights, where their name is behind `after`."""
        name = newest(self.weights)
        if name <= after:
            return None
        try:
            return name, (self.weights / name).read_bytes()
        except FileNotFoundError:  # newer ones have just come
            return None

    def unattended_s(self) -> float:
        """Return how long there has been no sign of a learner, in seconds."""
        return max(0.0, time.time() - self.learner.stat().st_mtime)
