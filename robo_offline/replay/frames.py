"""Frames: the last few images of each camera as one, made where they are drawn and never stored.

A stack at the beginning of an episode repeats the first image. The newest image is the last on the
channels, and a goal is always a single one: what `Spec.stacked` says.
"""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from robo_offline.spec import GOAL, is_image


def gather(observation: Any, row: Tensor, first: Tensor, frames: int) -> Any:
    """Return what was seen at rows `row` (B,), whose episodes begin at the rows `first` (B,)."""
    if isinstance(observation, TensorDictBase):
        leaves = {
            key: gather(leaf, row, first, 1 if key == GOAL else frames)
            for key, leaf in observation.items()
        }
        return TensorDict(leaves, row.shape)
    # Copies whole rows, where indexing would go through an image number by number.
    if frames == 1 or not is_image(observation.dtype, observation.shape[1:]):
        return observation.index_select(0, row)
    earlier = torch.maximum(row[:, None] + torch.arange(1 - frames, 1), first[:, None])
    seen = observation.index_select(0, earlier.flatten())  # (B * frames, C, H, W)
    return seen.unflatten(0, (len(row), frames)).flatten(1, 2)
