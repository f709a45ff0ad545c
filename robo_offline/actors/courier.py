"""The courier: brings records from the actor's spool to the service, and weights back.

It dies of whatever goes wrong, and the actor starts another: what it must know lies on the disk or
with the service.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from robo_offline.actors.folders import Follower, forget, last_record, newest, store, sync
from robo_offline.actors.hub import NAME, die_with_parent, join
from robo_offline.errors import UserError

POLL_S = 0.02
CALL_S = 10.0
BATCH_BYTES = 4 * 2**20
REFUSED = 2  # exit code: another courier would fare no better


class Receiving(Protocol):
    """The service, in this process or far away."""

    def acknowledged(self) -> int: ...

    def receive(self, first: int, payloads: list[bytes]) -> int: ...

    def newest(self, after: str) -> tuple[str, bytes] | None: ...

    def unattended_s(self) -> float: ...


class Courier:
    """Serves one actor's folder: `spool`, `weights`, and `learner`, as old as its sign of life."""

    def __init__(self, folder: Path, service: Receiving):
        self.folder, self.service = folder, service
        self.spool, self.weights = folder / "spool", folder / "weights"
        safe = service.acknowledged()
        if safe > last_record(self.spool)[0]:
            raise UserError(
                "the service knows transitions that this actor never had",
                where=self.spool,
                expected=f"at most number {last_record(self.spool)[0]}",
                found=safe,
                remedy="bring back the actor's own folder, or begin a new run",
            )
        self.follower = Follower(self.spool, safe)

    def turn(self) -> bool:
        """Send what is new and fetch newer weights; False where there was nothing to send."""
        batch, size = [], 0
        first = self.follower.after + 1
        for _, payload in self.follower:
            batch.append(payload)
            size += len(payload)
            if size > BATCH_BYTES:
                break
        if batch:
            sync(self.spool)  # what was read may be younger than the writer's own
            forget(self.spool, self.service.receive(first, batch))
        found = self.service.newest(newest(self.weights))
        if found is not None:
            store(self.weights, *found)
        self._note(time.time() - self.service.unattended_s())
        return bool(batch)

    def _note(self, heard: float) -> None:
        """Let the actor know when there was a learner last, in seconds since the epoch."""
        (self.folder / "learner").touch()
        os.utime(self.folder / "learner", (heard, heard))


class Remote:
    """The service in a Ray actor."""

    def __init__(self, ray: Any, name: str):
        self.ray, self.actor = ray, ray.get_actor(name)

    def acknowledged(self) -> int:
        return self.ray.get(self.actor.acknowledged.remote(), timeout=CALL_S)

    def receive(self, first: int, payloads: list[bytes]) -> int:
        return self.ray.get(self.actor.receive.remote(first, payloads), timeout=CALL_S)

    def newest(self, after: str) -> tuple[str, bytes] | None:
        return self.ray.get(self.actor.newest.remote(after), timeout=CALL_S)

    def unattended_s(self) -> float:
        return self.ray.get(self.actor.unattended_s.remote(), timeout=CALL_S)


def found(folder: Path) -> str:
    """Wait for the run's own Ray and return its address."""
    while True:
        try:
            told = json.loads((folder / "ray.json").read_text())
            os.kill(told["pid"], 0)
            return told["address"]
        except (FileNotFoundError, ProcessLookupError):
            time.sleep(POLL_S)


def main(folder: Path, service: Path, run: str, address: str) -> None:
    """Carry until something is lost. `service` tells where Ray is, unless there is an address."""
    import ray

    join(address or found(service))
    courier = Courier(folder, Remote(ray, f"{NAME}-{run}"))
    while True:
        if not courier.turn():
            time.sleep(POLL_S)


if __name__ == "__main__":
    die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4])
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(REFUSED)
