"""Keys and a server that is turned by a thread, as robotd's loop would."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from real_robot import keys
from real_robot.daemon import Judgement
from real_robot.requests import Role
from real_robot.verdict import Reason
from real_robot.wire import Client, Server

NAMES = {"operator": Role.OPERATOR, "policy": Role.POLICY, "viewer": Role.VIEWER}


def make_keys(folder: Path) -> Path:
    """Make one key of each role."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for role in Role:
        keys.new(folder, role)
    return folder


def server(folder: Path, bind: str = "tcp://127.0.0.1:0", rate_hz: float = 250) -> Server:
    return Server(bind, keys.robotd_pair(folder), keys.Allowed(folder), rate_hz=rate_hz)


def client(folder: Path, address: str, name: str = "policy") -> Client:
    return Client(address, keys.client_key(folder / f"{name}.key"))


class Serving:
    """Turns a server at about 500 Hz; answers with what it knows of the sender."""

    def __init__(self, folder: Path, bind: str = "tcp://127.0.0.1:0", rate_hz: float = 250):
        self.server = server(folder, bind, rate_hz)
        self.received: list[tuple] = []
        self.slowest_s = 0.0
        self.most = 0
        self.seq = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._ended.wait(0.002):
            begin = time.thread_time()  # what others make this thread wait is not its work
            inbox = self.server.receive()
            self.received += inbox
            judged = [
                Judgement(p, raw, Reason.NONE, {"ok": True, "role": p.role.value})
                for p, raw in inbox
            ]
            self.server.reply(judged)
            self.seq += 1
            self.server.publish({"type": "state", "seq": self.seq})
            self.slowest_s = max(self.slowest_s, time.thread_time() - begin)
            self.most = max(self.most, len(inbox))

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self.server.close()


@contextmanager
def serving(folder: Path, **options: Any) -> Iterator[Serving]:
    found = Serving(folder, **options)
    try:
        yield found
    finally:
        found.close()
