"""History: the last few images that a policy saw, stacked as its networks were trained to see them.

It is what `replay.frames` gives for the same rows.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase

from robo_offline.spec import GOAL, is_image


class History:
    """What a policy has seen last, frame by frame, in one episode."""

    def __init__(self, frames: int):
        self.frames = frames
        self.seen: deque[Any] = deque(maxlen=frames)

    def begin(self) -> None:
        """Forget the episode before."""
        self.seen.clear()

    def add(self, observation: Any) -> Any:
        """Take note of an observation without a batch axis; return it as the networks see it."""
        if self.frames == 1:
            return observation
        observation = observation.clone()  # environments may write their next image over this one
        self.seen.extend([observation] * (1 if self.seen else self.frames))
        return _stacked(list(self.seen))


def _stacked(seen: list[Any]) -> Any:
    newest = seen[-1]
    if isinstance(newest, TensorDictBase):
        leaves = {
            key: leaf if key == GOAL else _stacked([each[key] for each in seen])
            for key, leaf in newest.items()
        }
        return TensorDict(leaves, newest.batch_size)
    return torch.cat(seen) if is_image(newest.dtype, newest.shape) else newest
