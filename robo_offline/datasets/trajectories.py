"""Pickled trajectories: Adroit's DAPG demonstrations and the policy logs of Berkeley's RL course.

Rajeswaran et al. Learning Complex Dexterous Manipulation with Deep Reinforcement Learning and
Demonstrations. RSS 2018.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from robo_offline.datasets import guard, pickles
from robo_offline.datasets.episode import Episode
from robo_offline.datasets.gym import action_space, known_spec, time_limit
from robo_offline.datasets.source import Source
from robo_offline.errors import UserError

FORMAT = "pickled trajectories (DAPG, Berkeley)"
NAMES = {  # what the column is called in the two families of files
    "observation": ("observations", "observation"),
    "action": ("actions", "action"),
    "reward": ("rewards", "reward"),
    "next_observation": ("next_observations", "next_observation"),
    "terminal": ("terminals", "terminal", "terminated", "dones"),
}
REQUIRED = ("observation", "action", "reward")
# Which Adroit task a stored initial state belongs to; the files themselves do not say.
ADROIT = {
    "door_body_pos": "AdroitHandDoor-v1",
    "board_pos": "AdroitHandHammer-v1",
    "desired_orien": "AdroitHandPen-v1",
    "target_pos": "AdroitHandRelocate-v1",
}
DOOR_ANGLE, DOOR_OPEN = 28, 1.35  # column of the hinge in the observation; radians, as in the env


def read(path: Path, *, horizon: int | None = None, **_: Any) -> tuple[Iterator[Episode], Source]:
    """Open a pickle of trajectories; an episode of exactly the time limit counts as cut."""
    content = pickles.load(path)
    content = [content] if isinstance(content, dict) else content
    trajectories = [_columns(item) for item in content] if isinstance(content, list) else []
    if not trajectories or not all(set(REQUIRED) <= set(t) for t in trajectories):
        raise UserError(
            "the pickle does not hold trajectories",
            where=path,
            expected="a list of dicts with observations, actions and rewards",
            found=_describe(content),
        )
    environment = _environment(path, content[0])
    source = Source(FORMAT, path, total=len(trajectories))
    if environment:
        source.environment = {"simulator": "gymnasium", "id": environment}
        source.env_spec = known_spec(environment)
        source.action_space = action_space(environment)
    limit = horizon or time_limit(environment)
    if environment and source.action_space is None:
        source.notes.append(f"{environment} could not be made here; its action bounds are unknown")
    return _episodes(trajectories, path, environment, limit, source), source


def _columns(item: Any) -> dict[str, np.ndarray]:
    if not isinstance(item, dict):
        return {}
    return {
        key: item[name]
        for key, names in NAMES.items()
        for name in names
        if isinstance(item.get(name), np.ndarray)
    }


def _describe(content: Any) -> str:
    first = content[0] if isinstance(content, list) and content else content
    if isinstance(first, dict):
        return f"a dict of {', '.join(sorted(map(str, first)))}"[:200]
    return f"a {type(content).__name__} of {type(first).__name__}"


def _environment(path: Path, first: Any) -> str:
    state = first.get("init_state_dict") if isinstance(first, dict) else None
    for key, name in ADROIT.items():
        if isinstance(state, dict) and key in state:
            return name
    named = re.search(r"([A-Z][A-Za-z0-9]+-v\d+)", path.stem)
    return named[1] if named else ""


def _episodes(
    trajectories: list[dict[str, np.ndarray]],
    path: Path,
    environment: str,
    limit: int | None,
    source: Source,
) -> Iterator[Episode]:
    for number, columns in enumerate(trajectories):
        with guard.reading(f"{path}, trajectory {number}"):
            episode = _episode(columns, environment, limit, source, f"{path}, trajectory {number}")
        if episode is None:
            source.counts["trajectories without a step, left out"] += 1
        else:
            yield episode


def _episode(
    columns: dict[str, np.ndarray],
    environment: str,
    limit: int | None,
    source: Source,
    where: str,
) -> Episode | None:
    observation, action = columns["observation"], columns["action"]
    reward = columns["reward"].reshape(-1)
    lengths = {key: len(column) for key, column in columns.items()}
    if len(set(lengths.values())) != 1 or len(reward) != len(action):
        raise UserError("the columns of a trajectory differ in length", where=where, found=lengths)
    steps = len(action)
    terminal = columns.get("terminal", np.zeros(steps)).reshape(-1).astype(bool)
    if terminal.any() and terminal.argmax() + 1 < steps:
        source.counts["steps after a terminal, cut"] += steps - int(terminal.argmax()) - 1
        steps = int(terminal.argmax()) + 1
    over = bool(steps and terminal[steps - 1])
    if over and steps == limit:
        source.counts["time limits marked as terminal, now truncated"] += 1
        over = False
    if "next_observation" in columns:
        last = columns["next_observation"][steps - 1 : steps]
        observation = np.concatenate([observation[:steps], last])
    else:  # the last action's outcome was not logged
        steps -= 1
        source.counts["last steps without an outcome, left out"] += 1
        observation, over = observation[: steps + 1], False
    if steps < 1:
        return None
    return Episode(
        observation=observation,
        action=action[:steps],
        reward=reward[:steps],
        terminated=_last(steps, over),
        truncated=_last(steps, not over),
        success=_success(observation, environment),
    )


def _last(steps: int, value: bool) -> np.ndarray:
    flags = np.zeros(steps, bool)
    flags[-1] = value
    return flags


def _success(observation: np.ndarray, environment: str) -> np.ndarray | None:
    if environment == "AdroitHandDoor-v1" and observation.shape[1:] == (39,):
        return observation[1:, DOOR_ANGLE] >= DOOR_OPEN
    return None
