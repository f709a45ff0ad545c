"""Episodes whose every number says which episode and step it is of."""

from __future__ import annotations

import torch
from tensordict import TensorDict


def episode(number: int, steps: int, end: str = "terminated") -> TensorDict:
    """Rows of one episode; `end` is terminated, truncated or open (the recording just stops)."""
    time = torch.arange(steps + 1, dtype=torch.float32)
    key = 100.0 * number + time
    closing = torch.arange(steps + 1) == steps
    last = torch.arange(steps + 1) == steps - 1
    return TensorDict(
        {
            "observation": torch.stack([key, -key], 1),
            "action": torch.where(closing[:, None], 0.0, torch.stack([key, key], 1) / 1e5 + 1e-3),
            "reward": torch.where(closing, 0.0, torch.sin(key)),
            "terminated": last & (end == "terminated"),
            "truncated": last & (end == "truncated"),
            "success": last & (end == "terminated"),
        },
        [steps + 1],
    )


def dataset_steps(parts: list[TensorDict]) -> TensorDict:
    steps = torch.cat(parts)
    steps["final"] = torch.cat([torch.arange(len(p)) == len(p) - 1 for p in parts])
    return steps
