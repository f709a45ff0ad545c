"""Files that processes share through memory: what is written survives the writer, however it ends.

They lie in /dev/shm where the system has it, so that no write ever waits for a disk.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import tempfile
from pathlib import Path

from robo_offline.errors import UserError


def place(name: str) -> Path:
    """Return where this user's file of that name is."""
    memory = Path("/dev/shm")
    folder = memory if memory.is_dir() else Path(tempfile.gettempdir())
    return folder / f"robo_offline-{os.getuid()}-{name}"


def opened(path: Path, size: int) -> tuple[int, mmap.mmap]:
    """Open or make a file of this size, all of it there; return its handle and its bytes.

    UserError where it belongs to somebody else or where the memory is not enough.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise UserError("shared memory cannot be opened", where=path, found=error) from None
    try:
        if os.fstat(file).st_uid != os.geteuid():
            raise UserError("shared memory belongs to somebody else", where=path)
        # Now, not at the first write: a full memory would end the process then (SIGBUS).
        os.posix_fallocate(file, 0, size)
        os.ftruncate(file, size)
        return file, mmap.mmap(file, size)
    except OSError as error:
        os.close(file)
        full = error.errno == errno.ENOSPC
        raise UserError(
            "shared memory cannot be made",
            where=path,
            expected=f"{size} bytes",
            found=error,
            remedy=f"make room in {path.parent}" if full else None,
        ) from None
    except UserError:
        os.close(file)
        raise


def claim(file: int) -> bool:
    """Say whether this process now has the file to itself; the kernel frees it at its end."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
