"""Keep what a robot lived through: each episode is on the disk as it ends, for whoever learns next.

An episode is one record of a spool, in safetensors: what was seen, what was asked for, what was
executed, who acted, how late every step came. The rate is the one that was measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from real_robot import spool
from robo_offline.errors import UserError

FORMAT = "robot episode 1"
OBSERVATION = "observation"
STEP = {  # of every step, and how it is kept
    "executed": np.float32,
    "requested": np.float32,
    "source": np.uint8,
    "reason": np.int64,
    "late_ns": np.int64,
}
OUTCOME = {"reward": np.float32, "terminated": bool, "truncated": bool, "success": bool}


@dataclass(frozen=True)
class Lived:
    """One episode of T steps: arrays by name, and what is known about it."""

    observation: Any  # (T + 1, ...), or a dict of them
    steps: Mapping[str, np.ndarray]  # (T, ...): those of STEP and OUTCOME
    joints: np.ndarray  # (T + 1, dof) measured, rad
    about: Mapping[str, Any]


class Kept(gymnasium.Wrapper):
    """A robot whose episodes are kept in a folder. `environment` says how it was set up."""

    def __init__(self, env: gymnasium.Env, folder: Path, environment: Mapping[str, Any] = {}):
        super().__init__(env)
        self.robot: Any = env.unwrapped
        self.spool, self.environment = spool.Spool(folder), dict(environment)
        self._begin(None, None)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        observation, info = self.env.reset(seed=seed, options=options)
        self._begin(observation, seed)
        return observation, info

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._seen.append(observation)
        self._joints.append(np.array(self.robot.state["q"]))
        outcome = (reward, terminated, truncated, info["success"])
        self._steps.append(
            {key: info[key] for key in STEP} | dict(zip(OUTCOME, outcome, strict=True))
        )
        if terminated or truncated:
            self._keep(info["stop"])
        return observation, reward, terminated, truncated, info

    def _begin(self, observation: Any, seed: int | None) -> None:
        self._seen, self._seed = [observation], seed
        self._joints = [np.array(self.robot.state["q"])]
        self._steps: list[dict[str, Any]] = []

    def _keep(self, stop: str) -> None:
        robot = self.robot.robot
        about = {
            "robot": robot.name,
            "descriptor": robot.hash,
            "nominal_hz": self.robot.rate_hz,
            "rate_hz": self.robot.measured_rate(),
            "seed": self._seed,
            "stop": stop,
            "environment": self.environment,
        }
        arrays = {"joints": np.stack(self._joints)}
        for key, kind in (STEP | OUTCOME).items():
            arrays[key] = np.array([step[key] for step in self._steps], kind)
        if isinstance(self._seen[0], dict):
            for key in self._seen[0]:
                arrays[f"{OBSERVATION}.{key}"] = np.stack([seen[key] for seen in self._seen])
        else:
            arrays[OBSERVATION] = np.stack(self._seen)
        arrays = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
        self.spool.append(save(arrays, {"format": FORMAT, "about": json.dumps(about)}))


def lived(folder: Path) -> Iterator[Lived]:
    """Yield the episodes of a folder in order. UserError for a record that is no episode.

    What a crash or a flipped bit left behind ends the reading of its file, as the spool defines.
    """
    for path in sorted(folder.glob("*.spool")):
        for number, payload, _ in spool.read(path):
            yield _episode(payload, f"{path}, record {number}")


def _episode(payload: bytes, where: str) -> Lived:
    try:
        size = int.from_bytes(payload[:8], "little")
        head = json.loads(payload[8 : 8 + size]).get("__metadata__", {})
        arrays = load(payload)
        if head.get("format") != FORMAT:
            raise ValueError(f"its format is {head.get('format')!r}")
        about = json.loads(head["about"])
        seen = _observation(arrays)
        steps = {key: arrays[key].astype(kind) for key, kind in (STEP | OUTCOME).items()}
        joints, count = arrays["joints"], len(arrays["reward"])
        lengths = {len(value) for value in steps.values()}
        leaves = seen.values() if isinstance(seen, dict) else [seen]
        ends = {len(joints), *(len(leaf) for leaf in leaves)}
        if count == 0 or lengths != {count} or ends != {count + 1} or not isinstance(about, dict):
            raise ValueError(f"its columns differ in length: {lengths} steps, {ends} observations")
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            "a record is no episode of a robot", where=where, expected=FORMAT, found=error
        ) from None
    return Lived(seen, steps, joints, about)


def _observation(arrays: Mapping[str, np.ndarray]) -> Any:
    if OBSERVATION in arrays:
        return arrays[OBSERVATION]
    start = f"{OBSERVATION}."
    found = {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
    if not found:
        raise ValueError("it has no observation")
    return found
