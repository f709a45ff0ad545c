"""Spec: shapes, dtypes and bounds of observation and action; the only bridge to the networks.

It is read off an environment, a data set or a robot, and an algorithm sees nothing else of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import torch
from torchrl.data import Bounded, Composite, Unbounded, UnboundedContinuous

from robo_offline.errors import UserError


@dataclass(frozen=True)
class Spec:
    """What a policy sees and does.

    `observation` has one leaf named `observation`, a (D,) vector or a nested composite of leaves
    (`state`, cameras as uint8 (3, H, W)); `action` is (A,), or (H, A) for chunks, within [-1, 1].
    """

    observation: Composite
    action: Bounded

    @property
    def action_shape(self) -> torch.Size:
        """Event shape of an action: (A,) or, over a chunk of H steps, (H, A)."""
        return self.action.shape

    @property
    def action_dim(self) -> int:
        """Numbers per action, chunk included."""
        return self.action.shape.numel()

    @property
    def step_dim(self) -> int:
        """Numbers per environment step (A)."""
        return self.action.shape[-1]

    def with_step_dim(self, step_dim: int) -> Spec:
        """The same spec for a policy that decides `step_dim` of the action's numbers."""
        return Spec(self.observation, Bounded(-1.0, 1.0, shape=(step_dim,), dtype=torch.float32))

    def chunked(self, horizon: int) -> Spec:
        """The same spec for a policy that decides `horizon` actions at once; 1 changes nothing."""
        shape = (self.step_dim,) if horizon == 1 else (horizon, self.step_dim)
        return Spec(self.observation, Bounded(-1.0, 1.0, shape=shape, dtype=torch.float32))

    @classmethod
    def of(cls, thing: Any) -> Spec:
        """Read the spec off a Gymnasium environment or anything that carries a `spec`."""
        if isinstance(getattr(thing, "spec", None), cls):
            return thing.spec
        if isinstance(thing, gymnasium.Env):
            return cls.from_spaces(thing.observation_space, thing.action_space)
        raise TypeError(f"cannot read a Spec off {type(thing).__name__}")

    @classmethod
    def from_spaces(cls, observation: gymnasium.Space, action: gymnasium.Space) -> Spec:
        """Build from Gymnasium spaces; the action space must be a finite 1-d box."""
        if not isinstance(action, gymnasium.spaces.Box) or len(action.shape) != 1:
            raise UserError(
                "the action space is not a vector of continuous actions",
                expected="a one-dimensional Box",
                found=action,
            )
        bounds = Bounded(-1.0, 1.0, shape=action.shape, dtype=torch.float32)
        return cls(Composite(observation=_leaf(observation)), bounds)

    def difference(self, other: Spec) -> list[str]:
        """Sentences saying where `other` does not fit; empty when policies can be exchanged."""
        ours, theirs = _shapes(self), _shapes(other)
        return [
            f"{key}: {ours.get(key, 'absent')} here, {theirs.get(key, 'absent')} there"
            for key in sorted(ours | theirs)
            if ours.get(key) != theirs.get(key)
        ]


def _leaf(space: gymnasium.Space) -> Composite | Unbounded:
    if isinstance(space, gymnasium.spaces.Dict):
        return Composite({key: _leaf(value) for key, value in space.items()})
    if not isinstance(space, gymnasium.spaces.Box):
        raise UserError(
            "the observation space holds something that is neither a Box nor a Dict of them",
            expected="Box or Dict",
            found=space,
        )
    if space.dtype == "uint8":
        return Unbounded(shape=space.shape, dtype=torch.uint8)
    return UnboundedContinuous(shape=space.shape, dtype=torch.float32)


def _shapes(spec: Spec) -> dict[str, str]:
    leaves = {
        ".".join(key) if isinstance(key, tuple) else key: leaf
        for key, leaf in spec.observation.items(include_nested=True, leaves_only=True)
    }
    leaves["action"] = spec.action
    kinds = {key: str(leaf.dtype).removeprefix("torch.") for key, leaf in leaves.items()}
    return {key: f"{tuple(leaf.shape)} {kinds[key]}" for key, leaf in leaves.items()}
