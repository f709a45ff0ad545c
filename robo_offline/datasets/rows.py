"""From a stored episode to rows of a Dataset: one layout, one scale, and nothing broken let in."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from tensordict import TensorDict

from robo_offline.datasets.episode import Episode
from robo_offline.datasets.store import Store
from robo_offline.datasets.tree import label, leaves, mapped, shapes
from robo_offline.errors import UserError

CHANNELS = (1, 3, 4)  # grey, colour, colour and depth


class Layout:
    """How the episodes of one store become rows."""

    def __init__(self, store: Store):
        self.store = store
        self.doctor = f"`robo-offline data doctor {store.name}` says more"
        self._scale = action_scale(store.action_space, store.name)
        self._shapes: dict[str, str] | None = None

    def rows(self, number: int) -> TensorDict:
        """Rows of one episode, its closing row included: (T + 1,)."""
        where = f"{self.store.name}, episode {number}"
        episode = self.store.episode(number)
        self._check_shapes(episode, number, where)
        observation = mapped(_observed, episode.observation)
        self._check_finite(episode, observation, where)
        rows = {
            "observation": mapped(torch.from_numpy, observation),
            "action": self._action(episode.action),
            "reward": episode.reward.astype(np.float32),
            "terminated": episode.terminated,
            "truncated": episode.truncated,
            "success": episode.success if episode.success is not None else _never(episode),
        }
        steps = len(episode)
        for key in ("action", "reward", "terminated", "truncated", "success"):
            rows[key] = torch.from_numpy(_closed(rows[key]))
        rows["episode"] = torch.full((steps + 1,), number, dtype=torch.int64)
        rows["final"] = torch.arange(steps + 1) == steps
        return TensorDict(rows, batch_size=[steps + 1])

    def _action(self, action: np.ndarray) -> np.ndarray:
        scaled = action if self._scale is None else (action - self._scale[0]) / self._scale[1]
        return np.clip(scaled, -1.0, 1.0).astype(np.float32)

    def _check_shapes(self, episode: Episode, number: int, where: str) -> None:
        steps = len(episode)
        counts = {label(p): len(leaf) - 1 for p, leaf in leaves(episode.observation)}
        for key in ("reward", "terminated", "truncated"):
            counts[key] = len(getattr(episode, key))
        if steps == 0 or steps != self.store.lengths[number] or set(counts.values()) != {steps}:
            raise UserError(
                "an episode has no steps or its columns differ in length",
                where=where,
                expected=f"{self.store.lengths[number]} steps and one more observation",
                found=", ".join(f"{key} {n}" for key, n in {"action": steps, **counts}.items()),
                remedy=self.doctor,
            )
        found = shapes(episode.observation) | {
            "action": str(episode.action.shape[1:]),
            "reward": str(episode.reward.shape[1:]),
        }
        self._shapes = self._shapes or found
        if found != self._shapes or episode.action.ndim != 2 or episode.reward.ndim != 1:
            expected = self._shapes | {"reward": "()"}
            wrong = [k for k in sorted(found | expected) if found.get(k) != expected.get(k)]
            raise UserError(
                "an episode has other shapes than the first, or an action is no vector",
                where=where,
                expected={key: expected.get(key, "absent") for key in wrong or ["action"]},
                found={key: found.get(key, "absent") for key in wrong or ["action"]},
                remedy=self.doctor,
            )

    def _check_finite(self, episode: Episode, observation: Any, where: str) -> None:
        columns = {label(path): leaf for path, leaf in leaves(observation)}
        columns |= {"action": episode.action, "reward": episode.reward.astype(np.float32)}
        for key, leaf in columns.items():
            if leaf.dtype.kind != "f" or np.isfinite(leaf.sum(dtype=np.float64)):
                continue
            flat = leaf.reshape(len(leaf), -1)
            row, column = np.argwhere(~np.isfinite(flat))[0]
            raise UserError(
                f"{key} is not finite",
                where=f"{where}, row {row}, column {column}",
                found=flat[row, column],
                remedy=self.doctor,
            )


def action_scale(space: gymnasium.Space, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Middle and half width of finite action bounds; None where actions stay as they are."""
    if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
        raise UserError(
            "the actions are not vectors of real numbers",
            where=name,
            expected="a one-dimensional Box",
            found=space,
        )
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    # Absent bounds are infinite, or the largest number of the type where they went through JSON.
    known = (np.abs(low) < 1e6) & (np.abs(high) < 1e6) & (low < high)
    if np.all(~known | ((low == -1) & (high == 1))):
        return None
    low, high = np.where(known, low, -1.0), np.where(known, high, 1.0)
    return (high + low) / 2, (high - low) / 2


def _observed(leaf: np.ndarray) -> np.ndarray:
    leaf = np.asarray(leaf)
    if leaf.dtype == np.uint8 and leaf.ndim == 3:
        leaf = leaf[:, None]
    if leaf.dtype == np.uint8 and leaf.ndim == 4:
        last = leaf.shape[1] not in CHANNELS and leaf.shape[-1] in CHANNELS
        return np.ascontiguousarray(leaf.transpose(0, 3, 1, 2) if last else leaf)
    if leaf.dtype.kind not in "biuf":
        raise UserError("an observation is not made of numbers", found=leaf.dtype)
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is reported
        leaf = np.ascontiguousarray(leaf, np.float32)
    return leaf[:, None] if leaf.ndim == 1 else leaf


def _closed(leaf: np.ndarray) -> np.ndarray:
    return np.concatenate([leaf, np.zeros_like(leaf[:1])])


def _never(episode: Episode) -> np.ndarray:
    return np.zeros(len(episode), bool)
