"""The cache: a data set as memory-mapped rows, so that loading reads nothing until it is asked for.

It is built once from the Minari store, checked while it is built, and rebuilt when the store
changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from tensordict import TensorDict

from robo_offline.datasets import Dataset
from robo_offline.datasets.rows import Layout
from robo_offline.datasets.scores import score_range
from robo_offline.datasets.store import DATA_FILE, Store, folder, full_id
from robo_offline.errors import UserError
from robo_offline.spec import Spec

FORMAT = 1  # of the rows below; a change makes every cache be built again
SAMPLED_BLOCKS, BLOCK_BYTES = 64, 4096


def load(name: str) -> Dataset:
    """Load a data set by its id, building its cache if there is none for its present contents."""
    name = full_id(name)
    path = cache_root() / f"{name.replace('/', '--')}-{fingerprint(folder(name))}"
    if not (path / "dataset.json").is_file():
        with lock(path):
            if not (path / "dataset.json").is_file():
                _build(name, path)
    return _open(name, path)


def cache_root() -> Path:
    """Folder of all caches."""
    return Path(os.environ.get("ROBO_OFFLINE_CACHE") or Path.home() / ".cache" / "robo_offline")


def fingerprint(data: Path) -> str:
    """Digest of metadata, size, time of change and samples of the contents of a stored data set."""
    digest = hashlib.sha256(f"format {FORMAT}\n".encode())
    for path in sorted(data.rglob("*")):
        if not path.is_file():
            continue
        state = path.stat()
        digest.update(f"{path.relative_to(data)} {state.st_size}".encode())
        if path.name == DATA_FILE or state.st_size > SAMPLED_BLOCKS * BLOCK_BYTES:
            digest.update(f"{state.st_mtime_ns}".encode())
        with path.open("rb") as file:
            stride = max(BLOCK_BYTES, state.st_size // SAMPLED_BLOCKS)
            for start in range(0, state.st_size, stride):
                file.seek(start)
                digest.update(file.read(BLOCK_BYTES))
    return digest.hexdigest()[:16]


def _open(name: str, path: Path) -> Dataset:
    try:
        about = json.loads((path / "dataset.json").read_text())
        if about["bytes"] != size_of(path):  # mapping a short file would fill it up with zeros
            raise ValueError(f"{size_of(path)} bytes instead of {about['bytes']}")
        steps = TensorDict.load_memmap(path / "steps")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(
            f"the cache of {name!r} is damaged",
            where=path,
            found=error,
            remedy=f"delete the folder {path}; it is built again at the next use",
        ) from error
    bounds = tuple(about["score_range"]) if about["score_range"] else None
    return Dataset(name, steps, _spec(steps), bounds)


def _spec(steps: TensorDict) -> Spec:
    action = gymnasium.spaces.Box(-1.0, 1.0, tuple(steps["action"].shape[1:]), np.float32)
    return Spec.from_spaces(_space(steps["observation"]), action)


def _space(leaf: Any) -> gymnasium.Space:
    if not isinstance(leaf, torch.Tensor):
        return gymnasium.spaces.Dict({key: _space(child) for key, child in leaf.items()})
    shape = tuple(leaf.shape[1:])
    if leaf.dtype == torch.uint8:
        return gymnasium.spaces.Box(0, 255, shape, np.uint8)
    return gymnasium.spaces.Box(-np.inf, np.inf, shape, np.float32)


def _build(name: str, path: Path) -> None:
    store = Store(name)
    if not len(store):
        raise UserError(f"the data set {name!r} holds no episode", where=store.path)
    layout = Layout(store)
    with disk(path):
        forget_partial(path)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
        try:
            steps = _allocate(layout, partial / "steps")
            start = 0
            for number in range(len(store)):
                rows = layout.rows(number)
                steps[start : start + len(rows)] = rows
                start += len(rows)
            about: dict[str, Any] = {"name": name, "score_range": score_range(store.metadata)}
            about["bytes"] = size_of(partial)
            (partial / "dataset.json").write_text(json.dumps(about))
            partial.chmod(0o755)
            if not path.exists():  # another process may have been as fast
                os.replace(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    _forget_older(path)


def _allocate(layout: Layout, path: Path) -> TensorDict:
    total = sum(layout.store.lengths) + len(layout.store)
    steps = layout.rows(0)[:1].expand(total).memmap_like(path)
    reserve(path)
    return steps


def reserve(path: Path) -> None:
    """Take the disk's space for mapped files: a write without it would kill the process."""
    for file in path.rglob("*.memmap"):
        if hasattr(os, "posix_fallocate") and file.stat().st_size:
            with file.open("r+b") as handle:
                os.posix_fallocate(handle.fileno(), 0, file.stat().st_size)


def size_of(path: Path) -> int:
    """Bytes of the mapped files in a folder."""
    return sum(file.stat().st_size for file in path.rglob("*.memmap"))


def forget_partial(path: Path) -> None:
    """Remove what an interrupted build of the same data set left; we hold its lock."""
    for old in path.parent.glob(f".{_stem(path)}-*.partial-*"):
        shutil.rmtree(old, ignore_errors=True)


def _forget_older(path: Path) -> None:
    """Remove caches of former contents; whoever still maps them keeps their pages."""
    for old in path.parent.glob(f"{_stem(path)}-*"):
        if old != path and len(old.name) == len(path.name):
            shutil.rmtree(old, ignore_errors=True)


def _stem(path: Path) -> str:
    return path.name.rpartition("-")[0]


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Let one process at a time build caches of a data set; the rename is safe without it too."""
    with disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = (path.parent / f".{_stem(path)}.lock").open("w")
    with file:
        try:
            import fcntl
        except ImportError:  # not a Unix
            pass
        else:
            fcntl.flock(file, fcntl.LOCK_EX)  # released when the file closes
        yield


@contextlib.contextmanager
def disk(path: Path) -> Iterator[None]:
    """Say what to do where the folder of caches cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(
            "the cache of a data set could not be written; nothing was kept",
            where=path.parent,
            found=error,
            remedy="free disk space or set ROBO_OFFLINE_CACHE to a folder that can be written",
        ) from error
