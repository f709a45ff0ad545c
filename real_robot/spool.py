"""A spool: what a robot met is on its disk before anybody else hears of it, and arrives once.

Records are appended to segment files, each with its number, its length and a checksum. Whoever
learns from them says up to which number it has everything; older segments are then deleted. After
a crash of either side the sender begins again behind the number that the receiver names, and the
receiver ignores what it has: every record arrives exactly once, in order.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from robo_offline.errors import UserError

HEAD = struct.Struct("<4sQII")  # mark, number, length, checksum of number and payload
MARK = b"ROBS"
SEGMENT_BYTES = 16 * 2**20
MAX_RECORD = 256 * 2**20


class Receiver(Protocol):
    """The learner's side."""

    def acknowledged(self) -> int:
        """Return the highest number up to which everything is safe; -1 for nothing."""

    def receive(self, number: int, payload: bytes) -> int:
        """Take a record, once; return the highest number that is safe now."""


class Spool:
    """The sender's side: one folder, one writer."""

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES):
        self.folder, self.segment_bytes = folder, segment_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self.sent = -1  # the highest number handed to the receiver in this process
        self.next = self._recover()

    def append(self, payload: bytes) -> int:
        """Write a record to the disk, for good; return its number."""
        return self.extend([payload])

    def extend(self, payloads: Sequence[bytes]) -> int:
        """Write records to the disk together, for good; return the number of the last one.

        What a crash cuts off are the last ones of them.
        """
        for payload in payloads:
            if len(payload) > MAX_RECORD:
                raise UserError(
                    "a record does not fit into the spool",
                    expected=f"at most {MAX_RECORD} bytes",
                    found=len(payload),
                )
        path = self._newest()
        fresh = not path.exists()
        try:
            with path.open("ab") as file:
                for number, payload in enumerate(payloads, self.next):
                    file.write(_head(number, payload) + payload)
                file.flush()
                os.fsync(file.fileno())
            if fresh:
                _sync(self.folder)
        except OSError as error:
            self.next = self._recover()  # half a record must not stand before the next one
            raise UserError(
                "the spool cannot be written",
                where=self.folder,
                found=error,
                remedy="free some space: the robot must not act while nobody remembers it",
            ) from error
        self.next += len(payloads)
        return self.next - 1

    def pending(self, after: int) -> Iterator[tuple[int, bytes]]:
        """Yield the records behind a number, in order."""
        for first, path in self._segments():
            last = self._last_of(first)
            if last is not None and last <= after:
                continue
            for number, payload, _ in read(path):
                if after < number < self.next:
                    yield number, payload

    def deliver(self, receiver: Receiver) -> int:
        """Hand over what the receiver does not have; return what is safe with it.

        What fails on the way raises as the receiver raises it; the next call goes on from there.
        """
        safe = receiver.acknowledged()
        if safe >= self.next:
            raise UserError(
                "the receiver knows records that this spool has never had",
                where=self.folder,
                expected=f"at most {self.next - 1}",
                found=safe,
                remedy="give the learner's own spool folder, or begin a new run",
            )
        for number, payload in self.pending(safe):
            safe = receiver.receive(number, payload)
            self.sent = number
        self.forget(safe)
        return safe

    def forget(self, safe: int) -> None:
        """Delete the segments of which everything is safe; the newest stays."""
        for first, path in self._segments()[:-1]:
            last = self._last_of(first)
            if last is not None and last <= safe:
                path.unlink()

    def _newest(self) -> Path:
        found = self._segments()
        if found and found[-1][1].stat().st_size < self.segment_bytes:
            return found[-1][1]
        return self.folder / f"{self.next:012d}.spool"

    def _segments(self) -> list[tuple[int, Path]]:
        return sorted((int(path.stem), path) for path in self.folder.glob("*.spool"))

    def _last_of(self, first: int) -> int | None:
        following = [f for f, _ in self._segments() if f > first]
        return following[0] - 1 if following else None

    def _recover(self) -> int:
        """Cut off what a crash left half-written; return the next number."""
        found = self._segments()
        if not found:
            return 0
        first, path = found[-1]
        whole = list(read(path))
        following, end = (whole[-1][0] + 1, whole[-1][2]) if whole else (first, 0)
        if end < path.stat().st_size:
            with path.open("r+b") as file:
                file.truncate(end)
                os.fsync(file.fileno())
        return following


class Inbox:
    """A receiver's memory of numbers: refuses gaps, ignores what came before."""

    def __init__(self, safe: int = -1):
        self.safe = safe

    def is_new(self, number: int) -> bool:
        """Say whether a record is the next one. Raises UserError for one that leaves a gap."""
        if number > self.safe + 1:
            raise UserError("records are missing", expected=f"number {self.safe + 1}", found=number)
        return number == self.safe + 1

    def keep(self, number: int) -> None:
        """Note that a record is safe."""
        self.safe = max(self.safe, number)


def read(path: Path) -> Iterator[tuple[int, bytes, int]]:
    """Yield number, payload and the end of each whole record; stops at the first that is not."""
    with path.open("rb") as file:
        end, expected = 0, int(path.stem)
        while len(head := file.read(HEAD.size)) == HEAD.size:
            mark, number, length, checksum = HEAD.unpack(head)
            if mark != MARK or number != expected or length > MAX_RECORD:
                return
            payload = file.read(length)
            if len(payload) < length or checksum != _checksum(number, payload):
                return
            end += HEAD.size + length
            expected += 1
            yield number, payload, end


def _head(number: int, payload: bytes) -> bytes:
    return HEAD.pack(MARK, number, len(payload), _checksum(number, payload))


def _checksum(number: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(number.to_bytes(8, "little")))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
