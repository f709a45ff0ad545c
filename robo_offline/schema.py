"""The keys of a batch, their shapes and types: what a replay gives and a loss may read.

| key | shape, dtype | meaning |
|---|---|---|
| `observation` | (B, D) float32 or a nested TensorDict | only encoders look inside |
| `action` | (B, A) or (B, H, A) float32 in [-1, 1] | what was executed |
| `next, observation` | like `observation` | the true successor, also at a truncation |
| `next, reward` | (B,) float32 | over a window of n steps the discounted sum |
| `next, terminated` | (B,) bool | the task ended: do not bootstrap |
| `next, truncated`, `next, done` | (B,) bool | cut from outside; either of both |
| `discount` | (B,) float32 | discount to the power of the steps the window really has |
| `mask` | (B, H) bool | real steps of a chunk; the rest is filler with no effect |
| `demonstration` | (B,) bool | of an episode that succeeded (or nobody recorded it) |
| `source` | (B,) uint8 | 0 data set, 1 own experience, 2 human intervention |
| `return_to_go` | (B,) float32 | discounted sum of the rest of the episode; where asked for |
| `index` | (B,) int64 | rows of the replay that gave them, where it is prioritised |
| `next, action` | like `action` | what was executed next, zero after an end; where asked for |
| `next, mask` | (B, H) bool | real steps of the next chunk; where asked for |
| `actor_goal` | like `observation, goal` | another goal, to train the actor by; where asked for |
| `low_goal` | like `observation, goal` | achieved `subgoal_steps` later; where asked for |
| `high_goal` | like `observation, goal` | where the high actor shall go; where asked for |
| `high_target` | like `observation` | `subgoal_steps` later on the way to it; where asked for |
"""

from __future__ import annotations

import torch
from tensordict import TensorDictBase

from robo_offline.errors import UserError
from robo_offline.spec import Spec

Batch = TensorDictBase
DATASET, OWN, HUMAN = 0, 1, 2  # values of `source`

RETURN_TO_GO, NEXT_ACTION = "return_to_go", "next_action"  # what `Algorithm.needs` may name
ACTOR_GOAL, SUBGOALS = "actor_goal", "subgoals"  # likewise, where a hindsight gives goals
EXTRAS = (RETURN_TO_GO, NEXT_ACTION, ACTOR_GOAL, SUBGOALS)

SCALARS = {
    ("next", "reward"): torch.float32,
    ("next", "terminated"): torch.bool,
    ("next", "truncated"): torch.bool,
    ("next", "done"): torch.bool,
    "discount": torch.float32,
    "source": torch.uint8,
    "demonstration": torch.bool,
}


def check(batch: TensorDictBase, spec: Spec) -> None:
    """Raise UserError unless the batch keeps the contract above."""
    size = batch.batch_size
    for key, dtype in SCALARS.items():
        _expect(key, batch.get(key, None), size, dtype)
    _expect("action", batch.get("action", None), size + spec.action_shape, torch.float32)
    if batch["action"].abs().max() > 1:
        raise UserError(
            "a batch holds actions outside [-1, 1]", found=batch["action"].abs().max().item()
        )
    for key, leaf in spec.observation.items(include_nested=True, leaves_only=True):
        path = key if isinstance(key, tuple) else (key,)
        _expect(path, batch.get(path, None), size + leaf.shape, leaf.dtype)
        _expect(("next", *path), batch.get(("next", *path), None), size + leaf.shape, leaf.dtype)


def _expect(key, value, shape, dtype) -> None:
    wanted = f"{tuple(shape)} {dtype}"
    if value is None:
        raise UserError(f"a batch lacks {key}", expected=wanted)
    if value.shape != shape or value.dtype != dtype:
        raise UserError(
            f"{key} of a batch does not fit",
            expected=wanted,
            found=f"{tuple(value.shape)} {value.dtype}",
        )
