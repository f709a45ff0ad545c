"""The flight recorder: the last seconds of every tick, whatever happens to robotd.

A ring of slots in shared memory holds one tick each (`record`), a second one a snapshot of the
daemon per second, to replay from. A killed process leaves both behind. At a stop a thread copies
them to a folder; a full or slow disk costs the copy, and never a tick.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import queue
import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import msgpack

from real_robot import memory
from real_robot.clock import SECOND
from real_robot.daemon import Daemon, Tick
from real_robot.descriptor import RobotDescriptor, dump
from real_robot.driver import DriverCommand, DriverLost, DriverState, RobotDriver
from real_robot.record import (
    FRAME_BYTES,
    FRAMES,
    HEADER_BYTES,
    SLOT,
    SLOT_BYTES,
    Layout,
    crc,
    packed,
)

KEPT_S = 13.0  # of ticks
COPIED_BYTES = 1 << 18  # at once; between two the loop runs
WAITING = 4  # stops whose copy has not been made
PACKAGES = ("robo-offline", "numpy", "ruckig", "msgpack", "pyzmq")


class Noted:
    """A driver, and what it did in this tick: also what the daemon made no use of."""

    def __init__(self, driver: RobotDriver):
        self.driver, self.descriptor = driver, driver.descriptor
        self.measured: DriverState | None = None
        self.lost: list[str] = []  # calls that failed

    def begin(self) -> None:
        """Forget the last tick."""
        self.measured, self.lost = None, []

    def connect(self, timeout_s: float) -> None:
        self.driver.connect(timeout_s)

    def read(self) -> DriverState:
        self.measured = found = self._call(self.driver.read)
        return found

    def write(self, command: DriverCommand) -> None:
        self._call(self.driver.write, command)

    def controlled_stop(self) -> None:
        self._call(self.driver.controlled_stop)

    def protective_stop(self) -> None:
        self._call(self.driver.protective_stop)

    def clear_fault(self) -> None:
        self._call(self.driver.clear_fault)

    def close(self) -> None:
        self.driver.close()

    def _call(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except DriverLost as error:
            self.lost.append(f"{call.__name__}: {error}"[:200])
            raise


class Recorder:
    """Writes the rings in the loop, and copies them to a folder beside it."""

    def __init__(
        self,
        path: Path,
        folder: Path,
        hz: float,
        snapshot: Callable[[Daemon], Mapping[str, Any]] | None = None,
    ):
        """Begin a record at `path`; what a robotd that was killed left there is saved first."""
        self.path, self.folder, self.snapshot = path, folder, snapshot
        self.layout = Layout(round(KEPT_S * hz))
        self.counts = {"records": 0, "records lost": 0, "ticks not recorded": 0}
        self.last_error = ""
        self.number = self.frames = 0
        self._next_frame_ns = 0
        self._jobs: queue.Queue[_Job | None] = queue.Queue(WAITING)
        folder.mkdir(parents=True, exist_ok=True)
        left = path.with_name(f"{path.name}.left")
        if path.exists() and not left.exists():  # of several, the first tells most
            os.replace(path, left)
        path.unlink(missing_ok=True)  # no slot of an older record may pass for one of this
        self._file, self._map = memory.opened(path, self.layout.size)
        self._bytes = memoryview(self._map)
        header = self.layout.header(0)
        for at in (0, self.layout.end):
            self._bytes[at : at + len(header)] = header
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()
        if left.exists():
            self._jobs.put(_Job("left-behind", {"reason": "robotd ended unheard"}, 0, left))

    def write(self, daemon: Daemon, tick: Tick, said: Mapping[str, Any]) -> None:
        """Record a tick with what came to it besides messages.

        `said` has measured, lost (both of `Noted`), watcher_ns and stops.
        """
        raw = packed(daemon, tick, said)
        if raw is None:
            self.counts["ticks not recorded"] += 1
            return
        self.number += 1
        self._put(self.number, raw, HEADER_BYTES, self.layout.slots, SLOT_BYTES)
        if self.snapshot is not None and tick.now_ns >= self._next_frame_ns:
            self._next_frame_ns = tick.now_ns + SECOND
            self._frame(self.snapshot(daemon))

    def freeze(self, reason: str, daemon: Daemon) -> None:
        """Have the record of what led here copied; never waits."""
        stop_id = daemon.machine.stop_id
        about = {
            "reason": reason,
            "stop_id": stop_id,
            "stop_ns": daemon.machine.stop_ns,
            "counts": dict(daemon.counts),
        }
        job = _Job(f"{stop_id}-{slug(reason)}", about, self.number, self.path, daemon.robot)
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            self.counts["records lost"] += 1

    def close(self, timeout_s: float = 10.0) -> None:
        """Wait for the copies, not for ever; then remove the ring, as its robotd has ended well."""
        with contextlib.suppress(queue.Full):
            self._jobs.put(None, timeout=timeout_s)
        self._thread.join(timeout_s)
        ended = not self._thread.is_alive()
        self._bytes.release()
        self._map.close()
        os.close(self._file)
        if ended:  # else it stays for the next robotd to save
            self.path.unlink(missing_ok=True)

    def _put(self, number: int, raw: bytes, begin: int, slots: int, size: int) -> None:
        at = begin + number % slots * size
        # The header last: a writer that is killed in between leaves a CRC that does not fit.
        self._bytes[at + SLOT.size : at + SLOT.size + len(raw)] = raw
        SLOT.pack_into(self._bytes, at, number, len(raw), crc(number, raw))

    def _frame(self, snapshot: Mapping[str, Any]) -> None:
        raw = msgpack.packb({"after": self.number, "snapshot": snapshot})
        if len(raw) > FRAME_BYTES - SLOT.size:
            self.counts["ticks not recorded"] += 1
            return
        self.frames += 1
        self._put(self.frames, raw, self.layout.frames_at, FRAMES, FRAME_BYTES)

    # ---- beside the loop ------------------------------------------------------------------------

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._copy(job)
                self.counts["records"] += 1
            except Exception as error:  # whatever a disk can do
                self.counts["records lost"] += 1
                self.last_error = str(error)

    def _copy(self, job: _Job) -> None:
        now = time.time()  # for people; nothing is decided by it
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
        final = _free(self.folder / f"{stamp}-{job.name}")
        part = final.with_name(f".{final.name}.part")
        try:
            part.mkdir()
            about = {
                "time": time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(now)),
                **job.about,
                "record_sha256": _copied(job, part / "record.bin", self.layout),
                "versions": versions(),
            }
            if job.robot is not None:
                whole = json.loads(dump(job.robot))
                limits = whole.pop("limits")
                about |= {"hash": job.robot.hash, "descriptor": whole, "limits": limits}
            with (part / "about.json").open("w", encoding="utf-8") as out:
                json.dump(about, out, indent=1)
                out.flush()
                os.fsync(out.fileno())
            os.rename(part, final)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        if job.ring != self.path:
            job.ring.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Job:
    name: str
    about: dict[str, Any]
    until: int  # the last tick that belongs to it
    ring: Path
    robot: RobotDescriptor | None = None


def slug(text: str) -> str:
    """Return the beginning of a text as a part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:40].strip("-") or "stop"


def versions() -> dict[str, str]:
    """Return what runs here."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _copied(job: _Job, target: Path, layout: Layout) -> str:
    """Copy a ring, with a header that says where it ends; return its SHA-256."""
    digest = hashlib.sha256()
    header = layout.header(job.until) if job.until else b""
    with job.ring.open("rb") as source, target.open("wb") as out:
        at = 0
        while chunk := source.read(COPIED_BYTES):
            for place in (0, layout.end) if header else ():  # never across two chunks
                if at <= place < at + len(chunk):
                    begin = place - at
                    chunk = chunk[:begin] + header + chunk[begin + len(header) :]
            digest.update(chunk)
            out.write(chunk)
            at += len(chunk)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def _free(path: Path) -> Path:
    found, number = path, 2
    while found.exists():
        found, number = path.with_name(f"{path.name}-{number}"), number + 1
    return found
