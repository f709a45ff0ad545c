"""Folder: a bundle on the disk, there as a whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from robo_offline.errors import UserError


def check_free(target: Path) -> None:
    """Raise UserError where something is in the way."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UserError("there is something that is no folder", where=target)
    if target.is_dir() and any(target.iterdir()):
        raise UserError(
            "the folder is not empty",
            where=target,
            remedy="give another one: a bundle never writes over what may be running on a robot",
        )


def write(
    target: Path, files: Mapping[str, bytes], accept: Callable[[Path], object]
) -> None:  # fmt: skip
    """Write the files beside the target, let `accept` read them, then give them their name."""
    check_free(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.partial-"))
    except OSError as error:
        raise UserError("the bundle cannot be written", where=target, found=error) from error
    try:
        for name, content in files.items():
            with open(partial / name, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        accept(partial)
        partial.chmod(0o755)  # mkdtemp's is the owner's alone
        _sync(partial)
        partial.rename(target)  # onto an empty folder at most, or it fails
        _sync(target.parent)
    except OSError as error:
        raise UserError("the bundle cannot be written", where=target, found=error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
