"""No-ops: steps in which a human operator let go of the stick, and what a policy learns from them.

Between two key presses or stick movements a recorded arm command is zero: a half to nine tenths of
all steps. A policy that imitates them waits as well, and what it should do then depends on when the
last movement was, which it does not see. Dropping them makes the demonstrations nearly Markov.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robo_offline.datasets import Dataset

STILL = 1e-3  # an arm command up to this size, of a range of [-1, 1], moves nothing
SETTLE = 12  # steps at 20 Hz that a gripper needs to close; waiting for it is no idleness


def drop_no_ops(data: Dataset, held: int = 1) -> Dataset:
    """Return the data set without the steps that command nothing.

    `held`: how many of the last action entries are held commands (a gripper), where staying the
    same, not zero, means doing nothing. A step stays when it moves the arm, changes a held command,
    follows such a change by at most SETTLE steps, or ends its episode. The successor of a step is
    the next one that stays, so the observations still chain.
    """
    steps = data.steps
    keep = ~_idle(steps["action"], steps["final"], held) | steps["final"] | _last(steps["final"])
    return data._replace(steps=steps[keep])


def share_of_no_ops(data: Dataset, held: int = 1) -> float:
    """Return the share of steps that `drop_no_ops` would leave out."""
    steps = data.steps
    keep = ~_idle(steps["action"], steps["final"], held) | _last(steps["final"])
    return float((~keep & ~steps["final"]).sum() / (~steps["final"]).sum())


def _idle(action: Tensor, final: Tensor, held: int) -> Tensor:
    arm, grip = action[:, : action.shape[1] - held], action[:, action.shape[1] - held :]
    first = torch.cat([torch.ones(1, dtype=torch.bool), final[:-1]])
    changed = torch.cat([torch.zeros(1, dtype=torch.bool), (grip[1:] != grip[:-1]).any(1)])
    index = torch.arange(len(action))
    since = index - torch.where(changed | first, index, -1).cummax(0).values  # steps since a change
    begun = torch.where(first, index, -1).cummax(0).values  # no change yet: nothing to wait for
    settling = (since < SETTLE) & (index - since != begun)
    return (arm.abs() <= STILL).all(1) & ~first & ~changed & ~settling


def _last(final: Tensor) -> Tensor:
    """Mark each episode's last action; it carries the reward and the end."""
    return torch.cat([final[1:], torch.zeros(1, dtype=torch.bool)])
