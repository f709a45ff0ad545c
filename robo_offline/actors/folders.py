"""The folders between the processes: spools that another one reads, and the newest weights."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import IO

from real_robot.spool import read

SEGMENT_BYTES = 2**18  # small: who follows a spool reads its newest segment again and again


class Follower:
    """Reads what another process appends to a spool."""

    def __init__(self, folder: Path, after: int):
        self.folder, self.after = folder, after
        self._seen: tuple[str, int] | None = None

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Yield the records behind number `after` that are there by now, and move it along."""
        segments = _segments(self.folder)
        if not segments:
            return
        newest = (segments[-1].name, segments[-1].stat().st_size)
        if newest == self._seen:
            return
        for path, following in zip(segments, [*segments[1:], None], strict=True):
            if following is not None and int(following.stem) <= self.after + 1:
                continue
            for number, payload, _ in read(path):
                if number > self.after:
                    self.after = number
                    yield number, payload
        self._seen = newest  # only now: who breaks off comes back for the rest


def forget(folder: Path, safe: int) -> None:
    """Delete the segments of a spool of which everything is safe; the newest stays."""
    segments = _segments(folder)
    for path, following in pairwise(segments):
        if int(following.stem) <= safe + 1:
            path.unlink(missing_ok=True)


def sync(folder: Path) -> None:
    """See to it that what can be read of a spool is on the disk; older segments always are."""
    with _segments(folder)[-1].open("rb") as file:
        os.fsync(file.fileno())


def last_record(folder: Path) -> tuple[int, bytes]:
    """Return the newest record of a spool and its number; where there is none, -1."""
    for path in reversed(_segments(folder)):
        whole = [(number, payload) for number, payload, _ in read(path)]
        if whole:
            return whole[-1]
    return -1, b""


def _segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.spool"))


def store(folder: Path, name: str, data: bytes) -> None:
    """Put weights into a folder in one step, and delete the older ones there."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{os.getpid()}.partial"
    partial.write_bytes(data)
    partial.replace(folder / name)
    for path in folder.glob("*.safetensors"):
        if path.name < name:
            path.unlink(missing_ok=True)


def newest(folder: Path) -> str:
    """Return the name of the newest weights of a folder; empty for none."""
    return max((path.name for path in folder.glob("*.safetensors")), default="")


def run_id(directory: Path) -> str:
    """Return what tells the run in a folder, with the knobs that it has, from any other."""
    return hashlib.sha256((directory / "config.yaml").read_bytes()).hexdigest()[:16]


def lock(file: IO) -> bool:
    """Take a file's lock, which dies with this process, and say whether nobody held it."""
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
