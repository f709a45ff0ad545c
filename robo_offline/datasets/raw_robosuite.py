"""Raw robosuite demonstrations: states and actions, played back to get observations and reward.

The states are forced onto today's model of the task, so neither changed physics nor chaos matters;
the scene (object sizes, fixed poses) is taken from the model stored with each demonstration.
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
from robo_offline.datasets.robosuite_scene import Scene
from robo_offline.datasets.source import Source
from robo_offline.datasets.tree import stacked
from robo_offline.errors import UserError

FORMAT = "raw robosuite demonstrations"
NATIVE_SCALE = [0.05, 0.05, 0.05, 0.5, 0.5, 0.5]  # metres and radians that an action of 1 asks for


def recognises(file: h5py.File) -> bool:
    """Say whether an HDF5 file is of this format."""
    demos = file.get("data")
    if not isinstance(demos, h5py.Group) or not ({"env", "env_args"} & set(demos.attrs)):
        return False
    return any(isinstance(demo, h5py.Group) and "states" in demo for demo in demos.values())


def read(
    path: Path,
    *,
    cameras: Sequence[str] = (),
    image_size: int = 84,
    keys: Sequence[str] | None = None,
    keep_tail: bool = False,
    **_: Any,
) -> tuple[Iterator[Episode], Source]:
    """Open a demonstration file; `keys` make up the state in this order, `cameras` come beside it.

    `keep_tail` keeps what was logged after the first success.
    """
    with guard.hdf5(path) as file:
        (header, notes), names = _header(file, path), _demonstrations(file)
    seen = {**header, "cameras": list(cameras), "image_size": image_size}
    seen |= {"observation_keys": list(keys)} if keys else {}
    source = Source(FORMAT, path, len(names), {"simulator": "robosuite", **seen}, notes=notes)
    return _episodes(path, names, seen, source, keep_tail), source


def _header(file: h5py.File, path: Path) -> tuple[dict[str, Any], list[str]]:
    """What was simulated, and what differs from today's way of doing it."""
    attributes = file["data"].attrs
    with guard.reading(f"{path}:/data"):
        info: dict[str, Any] = {}
        if "env_info" in attributes:
            info = json.loads(attributes["env_info"])
        elif "env_args" in attributes:
            arguments = json.loads(attributes["env_args"])
            info = {"env_name": arguments.get("env_name"), **arguments.get("env_kwargs", {})}
        task = str(attributes.get("env") or info.get("env_name"))
        robots = info.get("robots", "Panda")
        robots = [robots] if isinstance(robots, str) else list(robots)
        scale = _scale(info.get("controller_configs"))
    if len(robots) != 1:
        raise UserError(
            "the demonstrations are of several arms, which this importer does not play back",
            where=path,
            found=", ".join(map(str, robots)),
        )
    notes = []
    if scale is not None and not np.allclose(scale, NATIVE_SCALE[: len(scale)]):
        notes.append(f"its controller moves {scale} per unit of action, today's {NATIVE_SCALE}")
    frequency = int(info.get("control_freq", 20))
    return {"task": task, "robot": str(robots[0]), "control_freq": frequency}, notes


def _scale(controller: Any) -> list[float] | None:
    """Metres and radians per unit of action of a stored OSC controller, old or new style."""
    if not isinstance(controller, dict):
        return None
    if "body_parts" in controller:
        return _scale(next(iter(controller["body_parts"].values()), None))
    scale = controller.get("output_max")
    return [float(value) for value in scale] if isinstance(scale, list) else None


def _demonstrations(file: h5py.File) -> list[str]:
    names = [name for name, demo in file["data"].items() if isinstance(demo, h5py.Group)]
    return sorted(names, key=lambda name: (int("".join(re.findall(r"\d+", name)) or -1), name))


def _episodes(
    path: Path, names: list[str], seen: dict[str, Any], source: Source, keep_tail: bool
) -> Iterator[Episode]:
    from envs.robosuite import Robosuite  # the simulator is an optional part

    environment = Robosuite(**seen)
    try:
        environment.reset(seed=0)
        for name in names:
            where = f"{path}:/data/{name}"
            with guard.reading(where), h5py.File(path, "r") as file:
                demo = file["data"][name]
                states = guard.array(demo, "states", path).astype(np.float64)
                actions = guard.array(demo, "actions", path).astype(np.float64)
                scene = Scene(_model_xml(demo, path))
            steps = min(len(actions), len(states) - 1)
            if steps < 1:
                source.counts["demonstrations without a step, left out"] += 1
                continue
            _check(states, actions, environment, where)
            _restart(environment)
            scene.place(environment.simulation.sim.model)
            states = scene.translate(states, environment.simulation.sim.model, where)
            episode = _play(environment, states[: steps + 1], actions[:steps], keep_tail, where)
            source.counts["actions clipped to [-1, 1]"] += int(
                (np.abs(actions[: len(episode)]) > 1).any(1).sum()
            )
            source.counts["steps after success, cut"] += steps - len(episode)
            yield episode
    finally:
        environment.close()


def _model_xml(demo: h5py.Group, path: Path) -> str:
    """The scene's XML: in the attribute since robosuite 1.3, in a file that it names before."""
    model = demo.attrs.get("model_file", "")
    model = model.decode() if isinstance(model, bytes) else str(model)
    if not model or model.lstrip().startswith("<"):
        return model
    beside = [path.parent / "models" / Path(model).name, path.parent / Path(model).name]
    for candidate in beside:
        if candidate.is_file():
            return candidate.read_text()
    raise UserError(
        "the model of a demonstration is missing",
        where=f"{path}:{demo.name}",
        expected=beside[0],
        remedy="copy the folder `models` along with the HDF5 file",
    )


def _check(states: np.ndarray, actions: np.ndarray, environment: Any, where: str) -> None:
    if states.ndim != 2 or actions.ndim != 2 or abs(len(states) - len(actions)) > 1:
        raise UserError(
            "states and actions do not belong together",
            where=where,
            expected="as many states as actions, or one more",
            found=f"states {states.shape}, actions {actions.shape}",
        )
    if actions.shape[1:] != environment.action_space.shape:
        raise UserError(
            "the actions are of another controller than today's OSC_POSE deltas",
            where=where,
            expected=environment.action_space.shape,
            found=actions.shape[1:],
        )
    for key, rows in (("states", states), ("actions", actions)):
        bad = np.flatnonzero(~np.isfinite(rows).all(1))
        if len(bad):
            raise UserError(f"{key} are not finite", where=f"{where}/{key}, row {bad[0]}")


def _restart(environment: Any) -> None:
    """Forget the last episode, without building the scene anew unless it keeps a memory."""
    simulation = environment.simulation
    simulation.hard_reset = hasattr(simulation, "wiped_markers")
    simulation.reset()


def _play(
    environment: Any, states: np.ndarray, actions: np.ndarray, keep_tail: bool, where: str
) -> Episode:
    simulation = environment.simulation
    observations, successes = [], []
    for row, state in enumerate(states):
        simulation.sim.set_state_from_flattened(state)
        simulation.sim.forward()
        if hasattr(simulation, "wiped_markers"):
            simulation.reward(None)  # Wipe notes here which markers the tool touches
        observations.append(environment.observe())
        successes.append(row > 0 and environment.success())
        if successes[-1] and not keep_tail:
            break
    success = np.array(successes[1:])
    steps = len(success)
    terminated, truncated = np.zeros(steps, bool), np.zeros(steps, bool)
    terminated[-1] = success[-1] and not keep_tail
    truncated[-1] = not terminated[-1]
    return Episode(
        observation=stacked(observations),
        action=np.clip(actions[:steps], -1.0, 1.0).astype(np.float32),
        reward=success.astype(np.float32),
        terminated=terminated,
        truncated=truncated,
        success=success,
    )
