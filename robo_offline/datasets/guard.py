"""Open files made by others so that a damaged one ends in a UserError, never in a crash.

The HDF5 library is C that trusts its input: a flipped byte can make it crash the process, loop or
allocate without limit. So another process with limits walks the file first.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from robo_offline.errors import UserError

WALK_SECONDS = 120
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


@contextmanager
def reading(path: object, remedy: str = "get a fresh copy of the file") -> Iterator[None]:
    """Turn whatever a parser raises on damaged bytes into a UserError that names the file."""
    try:
        yield
    except UserError:
        raise
    # Parsers of foreign bytes raise anything (KeyError, struct.error, zlib.error, ...).
    except Exception as error:
        raise UserError(
            "the file cannot be read",
            where=path,
            found=f"{type(error).__name__}: {str(error)[:200]}",
            remedy=remedy,
        ) from error


@contextmanager
def hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading after a walk through all of it in a process of its own."""
    if not path.is_file():
        raise UserError("no such file", where=path)
    walk(path)
    with reading(path), h5py.File(path, "r") as file:
        yield file


def walk(path: Path) -> None:
    """Raise a UserError unless every object of the HDF5 file can be visited within limits."""
    script = Path(__file__).with_name("hdf5_walk.py")
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(script), str(path)],
            capture_output=True,
            timeout=WALK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        found: str | None = f"still reading after {WALK_SECONDS} s"
    else:
        found = None if done.returncode == 0 else f"the reader was stopped ({done.returncode})"
        complaint = done.stderr.decode(errors="replace").strip().splitlines()
        if found and complaint:
            found = complaint[-1][:200]
    if found:
        raise UserError(
            "the HDF5 file is damaged",
            where=path,
            expected="an HDF5 file whose every object can be read",
            found=found,
            remedy="get a fresh copy of the file",
        )


def array(group: h5py.Group, key: str, path: object) -> np.ndarray:
    """Read one numeric dataset whole; a missing or absurd one is a UserError."""
    item = group.get(key)
    where = f"{path}:{group.name}/{key}"
    if not isinstance(item, h5py.Dataset):
        raise UserError(
            f"the file has no dataset {key!r}",
            where=where,
            found=", ".join(sorted(group)[:20]) or "nothing",
        )
    if item.dtype.kind not in "biuf":
        raise UserError(
            "the dataset does not hold numbers", where=where, expected="numbers", found=item.dtype
        )
    return np.asarray(item[()])
