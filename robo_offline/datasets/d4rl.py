"""D4RL's flat HDF5 files: rows without episodes, cut where an episode really ends.

Fu et al. D4RL: Datasets for Deep Data-Driven Reinforcement Learning. 2020.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from robo_offline.datasets import guard
from robo_offline.datasets.episode import Episode
from robo_offline.datasets.source import Source
from robo_offline.errors import UserError

FORMAT = "D4RL"
COLUMNS = ("observations", "actions", "rewards", "terminals")
JUMP = 1e-6  # successive observations further apart than this are of two episodes (IQL, Cal-QL)
CHUNK_ROWS = 65536


def recognises(file: h5py.File) -> bool:
    """Say whether an HDF5 file is of this format."""
    return all(isinstance(file.get(key), h5py.Dataset) for key in COLUMNS)


def read(path: Path, *, horizon: int | None = None, **_: Any) -> tuple[Iterator[Episode], Source]:
    """Open a D4RL file; `horizon` cuts episodes where a file has no timeouts."""
    with guard.hdf5(path) as file:
        rows = len(file["actions"])
        present = [key for key in (*COLUMNS, "timeouts", "next_observations") if key in file]
        lengths = {key: len(file[key]) if file[key].ndim else 0 for key in present}
        if set(lengths.values()) != {rows} or rows == 0:
            raise UserError("the columns differ in length", where=path, found=lengths)
        for key in present:
            if file[key].dtype.kind not in "biuf":
                raise UserError(f"{key} are not numbers", where=path, found=file[key].dtype)
        if file["observations"].ndim != 2 or file["actions"].ndim != 2:
            raise UserError(
                "observations and actions are not tables",
                where=path,
                found=f"{file['observations'].shape} and {file['actions'].shape}",
            )
        ends = _ends(file, rows, horizon)
    source = Source(FORMAT, path, total=len(ends))
    source.environment = {"simulator": "gymnasium", "id": _family(path)} if _family(path) else {}
    if "timeouts" not in present and "next_observations" not in present and horizon is None:
        source.notes.append("it marks no timeouts; give the time limit as horizon")
    return _episodes(path, ends, source), source


def _family(path: Path) -> str:
    """`hopper` of hopper_medium-v2.hdf5: the file itself does not say what it was logged in."""
    match = re.match(r"[A-Za-z0-9]+", path.stem)
    return match[0] if match else ""


def _ends(file: h5py.File, rows: int, horizon: int | None) -> np.ndarray:
    """Rows after which a new episode begins; the last row is always one."""
    ends = _flags(file, "terminals", rows) | _flags(file, "timeouts", rows)
    if "next_observations" in file:
        for start in range(0, rows - 1, CHUNK_ROWS):
            stop = min(start + CHUNK_ROWS, rows - 1)
            gap = file["next_observations"][start:stop] - file["observations"][start + 1 : stop + 1]
            ends[start:stop] |= ~(np.linalg.norm(gap, axis=1) <= JUMP)  # NaN ends one too
    ends[-1] = True
    if horizon is not None and "timeouts" not in file:
        start = 0
        for end in np.flatnonzero(ends):
            ends[start + horizon - 1 : end : horizon] = True
            start = end + 1
    return np.flatnonzero(ends)


def _flags(file: h5py.File, key: str, rows: int) -> np.ndarray:
    if key not in file:
        return np.zeros(rows, bool)
    return file[key][()].reshape(rows, -1).astype(bool).any(1)


def _episodes(path: Path, ends: np.ndarray, source: Source) -> Iterator[Episode]:
    with guard.reading(path), h5py.File(path, "r") as file:
        start = 0
        for end in ends:
            episode = _episode(file, start, int(end) + 1, source)
            start = int(end) + 1
            if episode is not None:
                yield episode


def _episode(file: h5py.File, start: int, stop: int, source: Source) -> Episode | None:
    terminal = bool(np.any(file["terminals"][stop - 1]))
    observation = file["observations"][start:stop]
    if "next_observations" in file:
        last = file["next_observations"][stop - 1 : stop]
        observation = np.concatenate([observation, last])
    elif terminal:
        # Never bootstrapped from, so it may stand for the successor that was not logged.
        observation = np.concatenate([observation, observation[-1:]])
    else:
        source.counts["last steps without an outcome, left out"] += 1
        stop -= 1
    steps = stop - start
    if steps < 1:
        source.counts["fragments of one step, left out"] += 1
        return None
    terminated, truncated = np.zeros(steps, bool), np.zeros(steps, bool)
    terminated[-1], truncated[-1] = terminal, not terminal
    return Episode(
        observation=observation,
        action=file["actions"][start:stop],
        reward=file["rewards"][start:stop].reshape(steps),
        terminated=terminated,
        truncated=truncated,
        extra=_extra(file, start, stop),
    )


def _extra(file: h5py.File, start: int, stop: int) -> dict[str, np.ndarray]:
    infos = file.get("infos")
    if not isinstance(infos, h5py.Group):
        return {}
    return {
        key: item[start:stop]
        for key, item in infos.items()
        if isinstance(item, h5py.Dataset)
        and item.ndim
        and len(item) == len(file["actions"])
        and item.dtype.kind in "biuf"
    }
