"""Leaves: the parts of an observation by where they are in it, and a choice among them by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Composite

from robo_offline.errors import UserError
from robo_offline.spec import GOAL, Spec

Path = tuple[str, ...]  # where a leaf is in an observation; () is all of it
Leaves = Mapping[Path, Any]  # with the spec of each


def leaves_of(spec: Spec) -> dict[Path, Any]:
    """List the leaves. Raises UserError for one that is neither a vector nor an image."""
    found = {}
    for key, leaf in spec.observation.items(include_nested=True, leaves_only=True):
        path = key[1:] if isinstance(key, tuple) else ()
        if (leaf.dtype == torch.uint8) != (len(leaf.shape) == 3):
            raise UserError(
                "a leaf is neither a vector nor an image",
                where=label(path),
                expected="numbers (D,), or uint8 (C, H, W) with the channels first",
                found=f"{tuple(leaf.shape)} {leaf.dtype}",
            )
        found[path] = leaf
    return found


def label(path: Path) -> str:
    """Name a leaf as a person does: `agentview`, `goal.agentview`."""
    return ".".join(path) or "observation"


def is_goal(path: Path) -> bool:
    """Whether a leaf is the goal's."""
    return path[:1] == (GOAL,)


def camera_of(path: Path) -> str:
    """Name the camera of an image; a goal's image is one of the same camera."""
    return label(path[1:] if is_goal(path) else path)


def named(path: Path, names: Collection[str]) -> bool:
    """Whether a leaf is among names; that of a leaf means the goal's leaf of this name as well."""
    return not {label(path), label(path[:1]), camera_of(path)}.isdisjoint(names)


def check_names(names: Collection[str], leaves: Leaves, spec: Spec) -> None:
    """Raise UserError for a name of no leaf."""
    parts = {is_goal(path) for path in leaves}
    if spec.goal is not None and len(parts) == 1:
        return  # of a network for the state alone, or the goal alone; another one sees all leaves
    for name in names:
        if not any(named(path, [name]) for path in leaves):
            raise UserError(
                f"there is no leaf '{name}' for an encoder to see",
                expected=", ".join(label(path) for path in leaves),
                found=name,
                remedy="encoder.policy_sees and encoder.critic_sees name leaves of the observation",
            )


def check_goal(seen: Collection[Path], leaves: Leaves) -> None:
    """Raise UserError where there is a goal that nobody sees."""
    goals = {path for path in leaves if is_goal(path)}
    if goals and goals.isdisjoint(seen):
        raise UserError(
            "a network is not told the goal",
            expected=" or ".join(sorted(label(path) for path in goals)) + " among what it sees",
            found=", ".join(sorted(label(path) for path in seen)) or "nothing",
            remedy=f"encoder.policy_sees=[..., {GOAL}], and encoder.critic_sees likewise",
        )


def only(spec: Spec, seen: Collection[Path]) -> Spec:
    """The same spec with some of the leaves, in their order."""
    if () in seen:
        return spec
    tree: dict[str, Any] = {}
    for path, leaf in leaves_of(spec).items():
        if path in seen:
            inner = tree
            for name in path[:-1]:
                inner = inner.setdefault(name, {})
            inner[path[-1]] = leaf
    return replace(spec, observation=Composite(observation=_composite(tree)))


def at(observation: Any, path: Path) -> Tensor:
    """Take a leaf out of an observation."""
    if path and isinstance(observation, TensorDictBase):
        return observation[path]
    for name in path:
        observation = observation[name]
    return observation


def _composite(tree: dict[str, Any]) -> Composite:
    return Composite({k: _composite(v) if isinstance(v, dict) else v for k, v in tree.items()})
