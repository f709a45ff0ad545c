"""OGBench's npz files: trajectories of L + 1 rows, the last one for where it ended.

Park, Frans, Eysenbach, Levine. OGBench. ICLR 2025 (arXiv 2410.20092).
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from robo_offline.datasets import guard
from robo_offline.datasets.episode import Episode
from robo_offline.datasets.source import Source
from robo_offline.errors import UserError

FORMAT = "OGBench"
REQUIRED = ("observations", "actions", "terminals")
REWARDED = ("rewards", "masks")  # of a file that is about a single task
KEPT = ("qpos", "qvel", "button_states")  # of the simulator, one row per observation
VALIDATION = "-val"
STATE, PIXELS = "state", "pixels"  # as `envs.ogbench` calls them
MAX_ROW_BYTES = 2**28  # more is no observation, but a damaged header


def looks_like_one(path: Path) -> bool:
    """Say whether a file is an npz, which is a zip of arrays."""
    return zipfile.is_zipfile(path)


def read(path: Path, **_: Any) -> tuple[Iterator[Episode], Source]:
    """Open an OGBench file. What it calls terminal is a cut: its trajectories end at no goal.

    A file about a single task says by its masks where that ends; an episode ends there too.
    """
    with guard.reading(path), zipfile.ZipFile(path) as file:
        _check_columns(path, file)
        ends = _whole(file, path, "terminals").reshape(-1) != 0
        over = np.zeros(len(ends), bool)
        if "masks.npy" in file.namelist():
            over = (_whole(file, path, "masks").reshape(-1) == 0) & ~ends
    cuts = np.flatnonzero(ends)
    source = Source(FORMAT, path, total=len(cuts) + int(over.sum()))
    source.environment = {"simulator": "ogbench", "id": environment(path)}
    source.action_space = Box(-1.0, 1.0, _shape(path, "actions")[1:], np.float32)
    if not ends[-1]:
        source.counts["rows behind the last end, left out"] += len(ends) - 1 - int(cuts[-1])
    beside = path.with_name(path.stem + VALIDATION + path.suffix)
    if beside.is_file():
        source.notes.append(f"{beside.name} beside it is data of its own, to import by itself")
    return _episodes(path, cuts, over, source), source


def environment(path: Path) -> str:
    """`pointmaze-medium-v0` of pointmaze-medium-navigate-v0.npz; the file itself does not say."""
    parts = path.stem.removesuffix(VALIDATION).split("-")
    parts = [part for part in parts if not part.startswith(("singletask", "task", "oraclerep"))]
    return "-".join(parts[:-2] + parts[-1:]) if len(parts) > 2 else "-".join(parts)


def _check_columns(path: Path, file: zipfile.ZipFile) -> None:
    held = [name.removesuffix(".npy") for name in file.namelist()]
    missing = [name for name in REQUIRED if name not in held]
    if missing:
        raise UserError(
            "the npz file holds no trajectories",
            where=path,
            expected=", ".join(REQUIRED),
            found=", ".join(held[:12]) or "nothing",
        )
    shapes = {name: _shape(path, name) for name in held if name in (*REQUIRED, *REWARDED, *KEPT)}
    rows = {name: shape[0] if shape else 0 for name, shape in shapes.items()}
    if len(set(rows.values())) != 1 or not rows["actions"]:
        raise UserError("the columns differ in length", where=path, found=rows)
    with _Column(file, path, "actions") as actions, _Column(file, path, "observations") as seen:
        if len(actions.shape) != 2 or actions.dtype.kind != "f":
            raise UserError(
                "the actions are not vectors",
                where=path,
                expected="a float table, one row per action",
                found=f"{actions.dtype} {actions.shape}",
            )
        images = seen.dtype == np.uint8 and len(seen.shape) == 4 and seen.shape[3] == 3
        if not images and (seen.dtype.kind != "f" or len(seen.shape) != 2):
            raise UserError(
                "the observations are neither vectors nor images",
                where=path,
                expected="float (N, D), or uint8 (N, H, W, 3)",
                found=f"{seen.dtype} {seen.shape}",
            )
    if not _whole(file, path, "terminals").any():
        raise UserError(
            "no trajectory of the file ends", where=path, found="terminals that are all zero"
        )


def _episodes(path: Path, cuts: np.ndarray, over: np.ndarray, source: Source) -> Iterator[Episode]:
    """Read the columns side by side, an episode at a time: images do not fit into memory."""
    with guard.reading(path), zipfile.ZipFile(path) as file, ExitStack() as stack:
        held = {name.removesuffix(".npy") for name in file.namelist()}
        columns = {
            name: stack.enter_context(_Column(file, path, name))
            for name in ("observations", "actions", *REWARDED, *KEPT)
            if name in held
        }
        start = 0
        for cut in cuts:
            rows = {name: column.take(int(cut) + 1 - start) for name, column in columns.items()}
            if cut == start:
                source.counts["trajectories without a step, left out"] += 1
            else:
                yield from _split(rows, over[start : int(cut) + 1], source)
            start = int(cut) + 1


def _split(rows: dict[str, np.ndarray], over: np.ndarray, source: Source) -> Iterator[Episode]:
    """Cut a trajectory behind every row in which a single task ends; nothing of it is lost."""
    steps = len(over) - 1  # the last row has no outcome
    first = 0
    for last in [*np.flatnonzero(over[:steps]).tolist(), steps - 1]:
        if last >= first:
            yield _episode(
                {name: column[first : last + 2] for name, column in rows.items()}, bool(over[last])
            )
        first = last + 1


def _episode(rows: dict[str, np.ndarray], over: bool) -> Episode:
    steps = len(rows["actions"]) - 1
    terminated, truncated = np.zeros(steps, bool), np.zeros(steps, bool)
    terminated[-1], truncated[-1] = over, not over
    seen = rows["observations"]
    images = seen.dtype == np.uint8
    observation = (
        {PIXELS: np.ascontiguousarray(seen.transpose(0, 3, 1, 2))}
        if images
        else {STATE: seen.astype(np.float32)}
    )
    reward = rows["rewards"].reshape(-1)[:-1] if "rewards" in rows else np.zeros(steps)
    return Episode(
        observation=observation,
        action=rows["actions"][:-1].astype(np.float32),  # the last one led nowhere
        reward=reward.astype(np.float32),
        terminated=terminated,
        truncated=truncated,
        success=terminated if "masks" in rows else None,
        extra={name: rows[name][:-1] for name in KEPT if name in rows},
    )


def _whole(file: zipfile.ZipFile, path: Path, name: str) -> np.ndarray:
    with _Column(file, path, name) as column:
        return column.take(column.shape[0])


def _shape(path: Path, name: str) -> tuple[int, ...]:
    with zipfile.ZipFile(path) as file, _Column(file, path, name) as column:
        return column.shape


class _Column:
    """One array of an npz file, read row by row."""

    def __init__(self, file: zipfile.ZipFile, path: Path, name: str):
        self.stream = file.open(f"{name}.npy")
        try:
            self._read_header(path, name)
        except BaseException:
            self.stream.close()
            raise

    def _read_header(self, path: Path, name: str) -> None:
        version = np.lib.format.read_magic(self.stream)
        header = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            header = np.lib.format.read_array_header_2_0
        self.shape, fortran, self.dtype = header(self.stream)
        size = int(np.prod(self.shape[1:], dtype=object)) * self.dtype.itemsize
        if self.dtype.kind not in "biuf" or fortran or not 0 <= size < MAX_ROW_BYTES:
            raise UserError(
                f"{name} do not hold numbers row by row",
                where=path,
                expected="numbers in C order",
                found=f"{self.dtype} {self.shape}{', in Fortran order' if fortran else ''}",
            )
        self.row_bytes = size

    def __enter__(self) -> _Column:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def take(self, rows: int) -> np.ndarray:
        """Read the next rows; an array that ends before says so."""
        held = self.stream.read(rows * self.row_bytes)
        if len(held) != rows * self.row_bytes:
            raise EOFError(f"{self.stream.name} ends before its last row")
        return np.frombuffer(held, self.dtype).reshape(rows, *self.shape[1:])
