"""The store: episodes kept as a Minari data set, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
from minari.data_collector.episode_buffer import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage
from minari.serialization import deserialize_space
from minari.storage.datasets_root_dir import get_dataset_path

from robo_offline.datasets import guard
from robo_offline.datasets.episode import Episode
from robo_offline.datasets.tree import label, leaves, mapped, shapes
from robo_offline.errors import UserError, nearest

DATA_FILE = "main_data.hdf5"
MAX_NAME = 200  # file systems stop at 255, and partial folders carry a longer name


def full_id(name: str) -> str:
    """Complete `(namespace/)name` with `-v0` and refuse what Minari would not accept."""
    from minari.dataset.minari_dataset import DATASET_ID_RE

    match = DATASET_ID_RE.fullmatch(str(name))
    if not match or len(name) > MAX_NAME:
        raise UserError(
            f"{name!r} is not a name for a data set",
            expected="(namespace/)name-v0, of letters, digits, - and _, a namespace of two or more",
            remedy="choose a name like lift/human-v0",
        )
    return name if match.group("version") else f"{name}-v0"


def check_free(name: str, overwrite: bool = False) -> Path:
    """Where a new data set goes: not inside another, not over anything unless told to."""
    name = full_id(name)
    with _disk(name):
        target = get_dataset_path(name)
    for parent in [target, *target.parents]:
        inside = parent != target and (parent / "data" / "metadata.json").is_file()
        foreign = parent == target and target.exists() and not (target / "data").is_dir()
        if inside or foreign:
            raise UserError(
                f"{name!r} cannot be the name of a new data set",
                where=parent,
                found="another data set" if inside else "a folder that is not a data set",
                remedy="choose another name",
            )
    if target.exists() and not overwrite:
        raise UserError(
            f"a data set {name!r} exists already",
            where=target,
            remedy="choose another name, or say overwrite",
        )
    return target


def local_ids() -> list[str]:
    """Ids of all data sets in the local Minari folder."""
    root = get_dataset_path()
    found = root.glob("**/data/metadata.json") if root.is_dir() else []
    names = [path.parent.parent.relative_to(root).as_posix() for path in found]
    return sorted(name for name in names if not any(p.startswith(".") for p in name.split("/")))


def folder(name: str) -> Path:
    """Where a local data set lies; a UserError with the nearest ids when there is none."""
    name = full_id(name)
    path = get_dataset_path(name) / "data"
    if not (path / "metadata.json").is_file():
        known = local_ids()
        raise UserError(
            f"there is no data set {name!r} here",
            where=get_dataset_path(),
            found=nearest(name, known) if known else "no data set at all",
            remedy=f"`robo-offline data import FILE --to {name}`, where FILE may be the id of a "
            "remote Minari data set",
        )
    return path


def write(
    name: str,
    episodes: Iterable[Episode],
    *,
    action_space: gymnasium.Space | None = None,
    observation_space: gymnasium.Space | None = None,
    env_spec: Any = None,
    algorithm: str | None = None,
    description: str | None = None,
    extra_metadata: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Store episodes one by one under `name`; after any failure nothing of them remains."""
    name = full_id(name)
    target = check_free(name, overwrite)
    metadata: dict[str, Any] = {"dataset_id": name, "minari_version": minari.__version__}
    metadata |= {"algorithm_name": algorithm} if algorithm else {}
    metadata |= {"description": description} if description else {}
    extra = extra_metadata if extra_metadata is not None else {}
    with _disk(target), _partial(target) as partial:
        (partial / "data").mkdir()
        buffers = _buffers(_marked(episodes), name)
        first, buffers = _peek(buffers, name)
        storage = MinariStorage.new(
            partial / "data",
            observation_space or _space(first.observations),
            action_space or gymnasium.spaces.Box(-1.0, 1.0, first.actions.shape[1:], np.float32),
            env_spec,
        )
        storage.update_episodes(buffers)
        # An importer may add to `extra_metadata` until its last episode is out.
        storage.update_metadata(metadata | json.loads(json.dumps(extra)))
        _flush(partial)
        _publish(partial, target)
    return target


def _peek(buffers: Iterator[EpisodeBuffer], name: str):
    first = next(buffers, None)
    if first is None:
        raise UserError(f"the source of {name!r} holds no episode")

    def all_of_them():
        yield first
        yield from buffers

    return first, all_of_them()


def _buffers(episodes: Iterable[Episode], name: str) -> Iterator[EpisodeBuffer]:
    expected: dict[str, str] | None = None
    for number, episode in enumerate(episodes):
        where = f"{name}, episode {number}"
        found = shapes(episode.observation) | {"action": str(np.shape(episode.action)[1:])}
        expected = expected or found
        if found != expected:
            wrong = [key for key in sorted(expected | found) if expected.get(key) != found.get(key)]
            raise UserError(
                "an episode has another shape than the first",
                where=where,
                expected={key: expected.get(key, "absent") for key in wrong},
                found={key: found.get(key, "absent") for key in wrong},
            )
        _check_lengths(episode, where)
        infos = dict(episode.extra)
        if episode.success is not None:
            infos["success"] = np.asarray(episode.success, bool)
        yield EpisodeBuffer(
            id=number,
            seed=episode.seed,
            observations=mapped(np.asarray, episode.observation),
            actions=np.asarray(episode.action),
            rewards=np.asarray(episode.reward),
            terminations=np.asarray(episode.terminated, bool),
            truncations=np.asarray(episode.truncated, bool),
            infos=mapped(_plain, infos),
        )


def _check_lengths(episode: Episode, where: str) -> None:
    steps = len(episode)
    if steps == 0:
        raise UserError("an episode has no step", where=where)
    rows = {label(path): (len(leaf), steps + 1) for path, leaf in leaves(episode.observation)}
    for key in ("reward", "terminated", "truncated", "success"):
        if getattr(episode, key) is not None:
            rows[key] = (len(getattr(episode, key)), steps)
    rows |= {label(path, "extra"): (len(leaf), steps) for path, leaf in leaves(episode.extra)}
    for key, (found, expected) in rows.items():
        if found != expected:
            raise UserError(
                f"{key} has the wrong number of rows",
                where=where,
                expected=f"{expected} for {steps} actions",
                found=found,
            )


def _plain(leaf: np.ndarray) -> np.ndarray:
    # Minari takes any 2-d or 3-d uint8 array for a picture and would store it as a lossy JPEG.
    leaf = np.asarray(leaf)
    return leaf.astype(np.int16) if leaf.dtype == np.uint8 and leaf.ndim > 1 else leaf


def _space(observation: Any) -> gymnasium.Space:
    if isinstance(observation, dict):
        return gymnasium.spaces.Dict({key: _space(leaf) for key, leaf in observation.items()})
    shape, dtype = observation.shape[1:], observation.dtype
    if dtype == np.uint8:
        return gymnasium.spaces.Box(0, 255, shape, np.uint8)
    if dtype.kind != "f":
        dtype = np.dtype(np.float64)
    return gymnasium.spaces.Box(-np.inf, np.inf, shape, dtype.type)


class _SourceError(Exception):
    """Carry an error of the episodes' source past those of our own writing."""


def _marked(episodes: Iterable[Episode]) -> Iterator[Episode]:
    try:
        yield from episodes
    except (OSError, RuntimeError) as error:
        raise _SourceError from error


@contextlib.contextmanager
def _disk(target: object) -> Iterator[None]:
    try:
        yield
    except _SourceError as marked:
        assert marked.__cause__ is not None
        raise marked.__cause__ from None
    except (OSError, RuntimeError) as error:  # HDF5 reports a full disk as either
        raise UserError(
            "the data set could not be written; nothing was kept",
            where=target,
            found=error,
            remedy="free disk space or set MINARI_DATASETS_PATH to a folder that can be written",
        ) from error


@contextlib.contextmanager
def _partial(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # gone already after a publish


def _flush(partial: Path) -> None:
    for path in [*partial.rglob("*"), partial]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _publish(partial: Path, target: Path) -> None:
    partial.chmod(0o755)  # mkdtemp makes it private
    if target.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old-", dir=target.parent))
        os.replace(target, old / target.name)
        try:
            os.replace(partial, target)
        except OSError:
            os.replace(old / target.name, target)
            raise
        finally:
            shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(partial, target)


class Store:
    """One stored data set opened for reading, episode by episode."""

    def __init__(self, name: str):
        self.name = full_id(name)
        self.path = folder(self.name)
        remedy = f"import {self.name} again"
        with guard.reading(self.path / "metadata.json", remedy):
            self.metadata: dict[str, Any] = MinariStorage.read_raw_metadata(self.path)
            if not isinstance(self.metadata, dict):
                raise TypeError("not a JSON object")
        if (self.path / DATA_FILE).is_file():
            guard.walk(self.path / DATA_FILE)
        with guard.reading(self.path, remedy), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._storage = MinariStorage.read(self.path)
            total = int(self.metadata["total_episodes"])
            rows = list(self._storage.get_episode_metadata(range(total)))
            self.lengths = [int(row["total_steps"]) for row in rows]
            self._seeds = [row.get("seed") for row in rows]
        self.observation_space = self._storage.observation_space
        self.action_space = self._storage.action_space

    def __len__(self) -> int:
        return len(self.lengths)

    def raw(self, number: int) -> dict[str, Any]:
        """Read one episode as Minari gives it, unchecked."""
        with guard.reading(f"{self.path}, episode {number}"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return next(iter(self._storage.get_episodes([number])))

    def episode(self, number: int) -> Episode:
        """Read one episode as our record."""
        raw = self.raw(number)
        with guard.reading(f"{self.path}, episode {number}"):
            return as_episode(raw | {"seed": self._seeds[number]})

    def episodes(self) -> Iterator[Episode]:
        """Read all episodes in order."""
        return (self.episode(number) for number in range(len(self)))


def as_episode(raw: dict[str, Any]) -> Episode:
    """Turn a Minari episode into our record; infos that do not count steps are left out."""
    steps = len(raw["rewards"])
    infos = dict(per_step(raw.get("infos") or {}, steps))
    success = infos.pop("success", None)
    return Episode(
        observation=raw["observations"],
        action=np.asarray(raw["actions"]),
        reward=np.asarray(raw["rewards"]),
        terminated=np.asarray(raw["terminations"], bool),
        truncated=np.asarray(raw["truncations"], bool),
        success=None if success is None else np.asarray(success).reshape(steps, -1).any(1),
        seed=raw.get("seed"),
        extra=infos,
    )


def per_step(infos: dict[str, Any], steps: int) -> Iterator[tuple[str, Any]]:
    """Yield infos of one row per step; Minari's own collector adds a row for the reset first."""
    for path, leaf in leaves(infos):
        if np.ndim(leaf) and len(leaf) in (steps, steps + 1):
            yield "/".join(path), leaf[len(leaf) - steps :]


def read(name: str) -> tuple[Iterator[Episode], dict[str, Any]]:
    """Open a data set by id: its episodes, read as they are asked for, and its metadata."""
    store = Store(name)
    return store.episodes(), store.metadata


def space_of(metadata: dict[str, Any], key: str) -> gymnasium.Space | None:
    """Read `observation_space` or `action_space` from stored metadata."""
    return deserialize_space(metadata[key]) if key in metadata else None
