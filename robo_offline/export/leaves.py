"""Leaves: an observation as a flat table of named arrays, which is how a bundle knows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase

from robo_offline.spec import GOAL, Spec, is_image

Leaves = dict[str, np.ndarray]  # contract key -> array, often with a leading axis of rows
Paths = dict[str, tuple[str, ...]]  # contract key -> where it is in an observation; () is all of it
FLAT = "observation"  # the key of an observation that is one vector


def paths(spec: Spec) -> Paths:
    """Name the leaves of an observation: `observation`, or `state`, `wrist`, `arm.left` ..."""
    found: Paths = {}
    for key in spec.observation.keys(include_nested=True, leaves_only=True):
        inner = key[1:] if isinstance(key, tuple) else ()
        found[".".join(inner) or FLAT] = inner
    return found


def flatten(observation: Any, where: Paths) -> Leaves:
    """Take the leaves out of an array, a dict of them, or a TensorDict."""
    return {key: _array(_at(observation, path)) for key, path in where.items()}


def nest(leaves: Mapping[str, Any], where: Paths) -> Any:
    """Put leaves back together as the array or the dict that an environment gives."""
    if where == {FLAT: ()}:
        return leaves[FLAT]
    whole: dict[str, Any] = {}
    for key, path in where.items():
        inner = whole
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = leaves[key]
    return whole


def unstacked(leaves: Leaves, spec: Spec) -> list[Leaves]:
    """Take one row's stacked images apart into the leaves of single steps, the oldest first."""
    found = [dict(leaves) for _ in range(spec.frames)]
    for key, path in paths(spec).items():
        dtype = spec.observation[("observation", *path)].dtype
        if is_image(dtype, leaves[key].shape) and path[:1] != (GOAL,):
            for step, image in zip(found, np.split(leaves[key], spec.frames), strict=True):
                step[key] = image
    return found


def rows_of(leaves: Leaves) -> int:
    """Count the rows of leaves that have a leading axis."""
    return len(next(iter(leaves.values())))


def row(leaves: Leaves, index: int) -> Leaves:
    """Take one row."""
    return {key: value[index] for key, value in leaves.items()}


def _at(observation: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        observation = observation[name]
    return observation


def _array(leaf: Any) -> np.ndarray:
    assert not isinstance(leaf, TensorDictBase)
    return leaf.numpy() if isinstance(leaf, torch.Tensor) else np.asarray(leaf)
