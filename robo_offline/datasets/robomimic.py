"""robomimic's HDF5 files: demonstrations with observations, rewards and dones.

Mandlekar et al. What Matters in Learning from Offline Human Demonstrations. CoRL 2021.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from robo_offline.datasets import guard
from robo_offline.datasets.episode import Episode
from robo_offline.datasets.source import Source
from robo_offline.errors import UserError, nearest

FORMAT = "robomimic"
STATE_KEYS = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object")
SIMULATORS = {1: "robosuite", 2: "gymnasium", 3: "iG-MOMART"}  # env_args["type"]


def recognises(file: h5py.File) -> bool:
    """Say whether an HDF5 file is of this format."""
    demos = file.get("data")
    if not isinstance(demos, h5py.Group):
        return False
    return any(isinstance(demo, h5py.Group) and "obs" in demo for demo in demos.values())


def read(
    path: Path,
    *,
    cameras: Sequence[str] = (),
    keys: Sequence[str] | None = None,
    filter_key: str | None = None,
    keep_tail: bool = False,
    **_: Any,
) -> tuple[Iterator[Episode], Source]:
    """Open a robomimic file; `keys` make up the state in this order, `cameras` come beside it."""
    with guard.hdf5(path) as file:
        names = _demonstrations(file, filter_key, path)
        with guard.reading(f"{path}:/data"):
            first = file["data"][names[0]]["obs"]
            environment = _environment(file["data"])
        keys = _state_keys(first, keys, path)
        images = {camera: _image_key(first, camera, path) for camera in cameras}
    source = Source(FORMAT, path, total=len(names), environment=environment)
    source.environment |= {"observation_keys": list(keys), "cameras": list(cameras)}
    return _episodes(path, names, keys, images, keep_tail, source), source


def _environment(data: h5py.Group) -> dict[str, Any]:
    arguments = json.loads(data.attrs.get("env_args", "{}"))
    simulator = SIMULATORS.get(arguments.get("type", arguments.get("env_type")), "unknown")
    name = str(arguments.get("env_name", "unknown"))
    if simulator == "gymnasium":
        return {"simulator": simulator, "id": name}
    robots = (arguments.get("env_kwargs") or {}).get("robots", ["unknown"])
    robot = robots if isinstance(robots, str) else str(robots[0])
    return {"simulator": simulator, "task": name, "robot": robot}


def _demonstrations(file: h5py.File, filter_key: str | None, path: Path) -> list[str]:
    demos = file["data"]
    names = [name for name, demo in demos.items() if isinstance(demo, h5py.Group) and "obs" in demo]
    if filter_key is not None:
        masks = file.get("mask")
        known = list(masks) if isinstance(masks, h5py.Group) else []
        if filter_key not in known:
            raise UserError(
                f"the file has no filter key {filter_key!r}",
                where=path,
                remedy=nearest(filter_key, known) if known else "leave the filter key out",
            )
        with guard.reading(f"{path}:/mask/{filter_key}"):
            chosen = {item.decode() for item in file["mask"][filter_key][()]}
        names = [name for name in names if name in chosen]
    if not names:
        raise UserError("no demonstration is left to import", where=path, found=filter_key)
    return sorted(names, key=lambda name: (int("".join(re.findall(r"\d+", name)) or -1), name))


def _state_keys(obs: h5py.Group, asked: Sequence[str] | None, path: Path) -> tuple[str, ...]:
    vectors = [key for key, item in obs.items() if isinstance(item, h5py.Dataset) and item.ndim < 3]
    if asked:
        keys = tuple(asked)
    elif set(STATE_KEYS[:1]) & set(vectors):
        keys = tuple(key for key in STATE_KEYS if key in vectors)
    else:
        keys = ("flat",) if "flat" in vectors else tuple(sorted(vectors))
    for key in keys:
        if key not in vectors:
            raise UserError(
                f"the file has no observation {key!r}", where=path, remedy=nearest(key, vectors)
            )
    return keys


def _image_key(obs: h5py.Group, camera: str, path: Path) -> str:
    for key in (camera, f"{camera}_image"):
        if isinstance(obs.get(key), h5py.Dataset) and obs[key].ndim == 4:
            return key
    known = [key for key, item in obs.items() if isinstance(item, h5py.Dataset) and item.ndim == 4]
    raise UserError(
        f"the file has no images of a camera {camera!r}",
        where=path,
        remedy=nearest(camera, known)
        if known
        else "make them with robomimic's dataset_states_to_obs.py",
    )


def _episodes(
    path: Path,
    names: list[str],
    keys: Sequence[str],
    images: dict[str, str],
    keep_tail: bool,
    source: Source,
) -> Iterator[Episode]:
    for name in names:
        where = f"{path}:/data/{name}"
        with guard.reading(where), h5py.File(path, "r") as file:
            demo = file["data"][name]
            episode = _episode(demo, keys, images, keep_tail, source, where)
        if episode is None:
            source.counts["demonstrations without a step, left out"] += 1
        else:
            yield episode


def _episode(
    demo: h5py.Group,
    keys: Sequence[str],
    images: dict[str, str],
    keep_tail: bool,
    source: Source,
    where: str,
) -> Episode | None:
    action = guard.array(demo, "actions", where)
    rows = len(action)
    reward = guard.array(demo, "rewards", where).reshape(rows)
    done = guard.array(demo, "dones", where).reshape(rows).astype(bool)
    success = reward > 0
    steps = rows if "next_obs" in demo else rows - 1
    if steps < rows:
        source.counts["last steps without an outcome, left out"] += 1
    over = np.flatnonzero(done[:steps] & success[:steps])
    if len(over) and not keep_tail:
        source.counts["steps after success, cut"] += steps - int(over[0]) - 1
        steps = int(over[0]) + 1
    if steps < 1:
        return None
    terminated, truncated = np.zeros(steps, bool), np.zeros(steps, bool)
    terminated[-1] = done[steps - 1] and success[steps - 1]
    truncated[-1] = not terminated[-1]
    return Episode(
        observation=_observation(demo, keys, images, steps, where),
        action=action[:steps],
        reward=reward[:steps],
        terminated=terminated,
        truncated=truncated,
        success=success[:steps],
    )


def _observation(
    demo: h5py.Group, keys: Sequence[str], images: dict[str, str], steps: int, where: str
) -> Any:
    def column(key: str) -> np.ndarray:
        column = guard.array(demo["obs"], key, where)
        if "next_obs" in demo:
            after = guard.array(demo["next_obs"], key, where)
            return np.concatenate([column[:steps], after[steps - 1 : steps]])
        return column[: steps + 1]

    parts = [column(key).reshape(steps + 1, -1) for key in keys]
    state = np.concatenate(parts, axis=1).astype(np.float32)
    if not images:
        return state
    # robomimic keeps the channel last, we keep it first.
    pictures = {name: column(key).transpose(0, 3, 1, 2) for name, key in images.items()}
    return {"state": state} | pictures
