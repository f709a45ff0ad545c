"""Spec: shapes, dtypes and bounds of observation and action; the only bridge to the networks.

It is read off an environment, a data set or a robot, and an algorithm sees nothing else of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import torch
from torchrl.data import Bounded, Composite, Unbounded, UnboundedContinuous

from robo_offline.errors import UserError

GOAL = "goal"  # the leaf of a nested observation that says where to go, made of leaves itself
MadeOf = Mapping[str, tuple[int, ...] | None]  # leaf -> its entries that make a goal; None: whole


@dataclass(frozen=True)
class Spec:
    """What a policy sees and does.

    `observation` has one leaf named `observation`, a (D,) vector or a nested composite of leaves
    (`state`, cameras as uint8 (3, H, W)); `action` is (A,), or (H, A) for chunks, within [-1, 1].

    Where there are goals, one of the leaves is `goal`, a composite of leaves that have the names of
    those they are taken from: `goal` here says which, so that any observation shows the goal that
    it achieves.

    With `frames` above 1 the images of the last few steps lie behind one another on the channels,
    the newest last; a goal is no movement, and stays one image.
    """

    observation: Composite
    action: Bounded
    goal: MadeOf | None = None
    frames: int = 1

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
        return replace(self, action=_bounded(step_dim))

    def chunked(self, horizon: int) -> Spec:
        """The same spec for a policy that decides `horizon` actions at once; 1 changes nothing."""
        shape = (self.step_dim,) if horizon == 1 else (horizon, self.step_dim)
        return replace(self, action=_bounded(*shape))

    def stacked(self, frames: int) -> Spec:
        """The same spec for a policy that sees the last `frames` images (C, H, W) of each camera.

        Raises UserError where there are none, because nothing else is stacked.
        """
        if frames == self.frames:
            return self
        assert self.frames == 1, "these images are stacked already"
        found = _stacked(self.observation, frames)
        if _shapes(replace(self, observation=found)) == _shapes(self):
            raise UserError(
                f"algo.frames={frames} stacks images, and there are none",
                expected="observations with a leaf of uint8 (C, H, W)",
                found="; ".join(f"{key} {shape}" for key, shape in _shapes(self).items()),
                remedy="algo.frames=1, or env.cameras=[...]",
            )
        return replace(self, observation=found, frames=frames)

    def without_goal(self) -> Spec:
        """The same spec for what sees the state alone."""
        return self._only({key for key in self._leaves if key != GOAL})

    def only_goal(self) -> Spec:
        """The same spec for what sees the goal alone; it is given whole observations still."""
        return self._only({GOAL})

    def with_goal(self, made_of: MadeOf | None) -> Spec:
        """The spec of the same observations together with goals; None changes nothing."""
        if made_of is None or GOAL in self._leaves:
            return self
        goal = Composite({key: _part(self._leaves[key], made_of[key]) for key in made_of})
        nested = Composite({**dict(self._leaves.items()), GOAL: goal})
        return replace(self, observation=Composite(observation=nested), goal=made_of)

    def achieved(self, observation: Any) -> dict[str, Any]:
        """Return the goal that each of some observations (B rows) achieves, leaf by leaf."""
        assert self.goal is not None, "there are no goals here"
        return {
            key: self._newest(observation[key])
            if entries is None
            else observation[key][..., list(entries)]
            for key, entries in self.goal.items()
        }

    def _newest(self, leaf: Any) -> Any:
        stacked = self.frames > 1 and is_image(leaf.dtype, leaf.shape[1:])
        return leaf[:, -leaf.shape[1] // self.frames :] if stacked else leaf

    @property
    def _leaves(self) -> Any:
        nested = self.observation["observation"]
        return nested if isinstance(nested, Composite) else {}

    def _only(self, keys: set[str]) -> Spec:
        nested = Composite({key: leaf for key, leaf in self._leaves.items() if key in keys})
        return replace(self, observation=Composite(observation=nested))

    @classmethod
    def of(cls, thing: Any) -> Spec:
        """Read the spec off a Gymnasium environment or anything that carries a `spec`."""
        if isinstance(getattr(thing, "spec", None), cls):
            return thing.spec
        if isinstance(thing, gymnasium.Env):
            found = cls.from_spaces(thing.observation_space, thing.action_space)
            has = thing.has_wrapper_attr("goal_made_of")
            return replace(found, goal=thing.get_wrapper_attr("goal_made_of")) if has else found
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
        return cls(Composite(observation=_leaf(observation)), _bounded(*action.shape))

    def difference(self, other: Spec) -> list[str]:
        """Sentences saying where `other` does not fit; empty when policies can be exchanged."""
        ours, theirs = _shapes(self), _shapes(other)
        return [
            f"{key}: {ours.get(key, 'absent')} here, {theirs.get(key, 'absent')} there"
            for key in sorted(ours | theirs)
            if ours.get(key) != theirs.get(key)
        ]


def is_image(dtype: torch.dtype, shape: Sequence[int]) -> bool:
    """Whether a leaf of an observation is what a camera saw: uint8 (C, H, W).

    Or float16 (D, h, w), what a frozen network said of it.
    """
    return dtype in (torch.uint8, torch.float16) and len(shape) == 3


def _stacked(leaves: Composite, frames: int) -> Composite:
    found = {}
    for key, leaf in leaves.items():
        if isinstance(leaf, Composite):
            leaf = leaf if key == GOAL else _stacked(leaf, frames)
        elif is_image(leaf.dtype, leaf.shape):
            leaf = Unbounded((frames * leaf.shape[0], *leaf.shape[1:]), dtype=leaf.dtype)
        found[key] = leaf
    return Composite(found)


def _bounded(*shape: int) -> Bounded:
    return Bounded(-1.0, 1.0, shape=shape, dtype=torch.float32)


def _part(leaf: Any, entries: tuple[int, ...] | None) -> Any:
    return leaf if entries is None else UnboundedContinuous((len(entries),), dtype=leaf.dtype)


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
