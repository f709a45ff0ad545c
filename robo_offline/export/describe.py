"""Describe: the contract of a policy, read off its environment, its weights and what it was told.

What nobody says is "unknown", which no robot's own contract matches by accident.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict

from real_robot.runtime.contract import (
    IMAGES,
    UNKNOWN,
    Action,
    Camera,
    Contract,
    Leaf,
    Normaliser,
    Part,
)
from robo_offline.encoders.state import EPSILON, State
from robo_offline.errors import UserError
from robo_offline.export import environments
from robo_offline.export.environments import Told
from robo_offline.export.leaves import FLAT, paths
from robo_offline.policies.policy import Policy
from robo_offline.spec import GOAL


def contract(
    policy: Policy, env: gymnasium.Env, rate_hz: float | None, descriptor_hash: str | None
) -> Contract:
    """Say what the policy sees and does.

    Raises UserError where nobody knows its rate, or somebody knows another than `rate_hz`.
    """
    told = environments.told(env)
    space = env.observation_space
    statistics = _normalisers(policy)
    leaves = []
    for key, path in paths(policy.algo.spec).items():
        box = _box(space, path)
        stacked = box.dtype == IMAGES and path[:1] != (GOAL,)
        frames = policy.algo.spec.frames if stacked else 1
        parts = told.observation.get(key) or (Part(key, _size(box), *_unit(box), 1.0),)
        low, high = _bounds(box)
        shape, normaliser = tuple(box.shape), statistics.get(key)
        leaves.append(Leaf(key, shape, str(box.dtype), low, high, parts, normaliser, frames))
    cameras = tuple(
        Camera(leaf.key, leaf.shape[1], leaf.shape[2], "CHW", "RGB")
        for leaf in leaves
        if leaf.dtype == IMAGES
    )
    return Contract(
        observation=tuple(leaves),
        cameras=tuple(cameras),
        action=_action(policy, told),
        rate_hz=_rate(told.rate_hz, rate_hz),
        descriptor_hash=descriptor_hash,
    )


def horizon_s(env: gymnasium.Env, rate_hz: float) -> float | None:
    """Return the seconds of an episode, where there is a limit."""
    steps = getattr(env.unwrapped, "horizon", None)
    if steps is None and env.spec is not None:
        steps = env.spec.max_episode_steps
    return None if steps is None else steps / rate_hz


def _action(policy: Policy, told: Told) -> Action:
    scale = policy.algo.action_range.scale.tolist()
    parts = told.action or (Part(UNKNOWN, len(scale), UNKNOWN, UNKNOWN, 1.0),)
    low = tuple(0.0 - value for value in scale)  # a zero without a sign
    return Action(len(scale), policy.algo.cfg.chunk, told.mode, low, tuple(scale), parts)


def _normalisers(policy: Policy) -> dict[str, Normaliser]:
    """Read the statistics that the actor's encoder holds; none where it was given none."""
    encoders = [part for part in policy.algo.modules() if isinstance(part, State)]
    if not encoders:
        return {}
    mean, inverse = encoders[0].mean.numpy(), encoders[0].inverse_std.numpy()
    if not mean.any() and np.allclose(inverse, 1, atol=1e-6):
        return {}
    std = np.maximum(1 / inverse - EPSILON, 0)
    found, first = {}, 0
    sizes = {k: math.prod(leaf.shape) for k, leaf in policy.algo.spec.observation.items(True, True)}
    for key in encoders[0].keys:
        name = ".".join(key[1:]) if isinstance(key, tuple) else FLAT
        last = first + sizes[key]
        part = std[first:last]
        varied = int((part > EPSILON * 1e-3).sum())
        found[name] = Normaliser(_floats(mean[first:last]), _floats(part), varied)
        first = last
    return found


def _rate(known: float | None, given: float | None) -> float:
    if known is None:
        if given is not None:
            return given
        raise UserError(
            "nobody knows at what rate this policy acts",
            expected="an environment that says it, or --rate",
            remedy="--rate HZ, the actions per second it was trained at",
        )
    if given is not None and not math.isclose(known, given):
        raise UserError(
            "a policy is run at the rate it was trained at",
            expected=f"{known:g} Hz, as its environment says",
            found=f"--rate {given:g}",
            remedy="leave --rate away, or train at the robot's rate",
        )
    return known


def _box(space: gymnasium.Space, path: Sequence[str]) -> Any:
    for name in path:
        assert isinstance(space, Dict)
        space = space[name]
    assert isinstance(space, Box)
    return space


def _size(box: Any) -> int:
    return math.prod(box.shape)


def _unit(box: Any) -> tuple[str, str]:
    return ("share of 255", "camera") if box.dtype == IMAGES else (UNKNOWN, UNKNOWN)


def _bounds(box: Any) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    ends = []
    for bound in (box.low, box.high):
        same = (bound == bound.flat[0]).all()
        known = np.isfinite(bound).all()
        ends.append((_floats(bound.flat[:1]) if same else _floats(bound)) if known else None)
    return ends[0], ends[1]


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in np.ravel(values))
