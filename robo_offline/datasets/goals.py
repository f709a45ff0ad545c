"""Goals of logged data: what an observation achieves, as an environment defines it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torchrl.data import Composite

from robo_offline.datasets import Dataset
from robo_offline.errors import UserError
from robo_offline.spec import GOAL, Spec


def comparable(data: Dataset, spec: Spec, *, commanded: bool) -> Dataset:
    """Give logged data the goals of an environment's spec, which it need not have recorded.

    Raises UserError where what they are made of is not in the data, or where some of them shall be
    `commanded` ones, which are recorded, and none were.
    """
    if spec.goal is None:
        return data
    recorded = _leaves(data.spec)
    for key, entries in spec.goal.items():
        leaf, wanted = recorded.get(key), _leaves(spec)[key]
        if leaf is None or leaf.shape != wanted.shape:
            raise UserError(
                "the data set does not hold what goals are made of",
                where=data.name,
                expected=f"{key} {tuple(wanted.shape)}, entries {entries or 'all'} of it",
                found=", ".join(f"{k} {tuple(v.shape)}" for k, v in recorded.items())
                or "one vector without leaves",
                remedy="the env that the data was recorded in, or env.goal_entries",
            )
    if commanded and GOAL not in recorded:
        raise UserError(
            "the data set holds no goals of its own, and goals shall be commanded ones",
            where=data.name,
            expected="a leaf `goal` of its observations",
            found=", ".join(recorded),
            remedy="goals=ogbench, or goals.value={uniform: 1.0, commanded: 0.0}",
        )
    return data._replace(spec=replace(data.spec.with_goal(spec.goal), goal=spec.goal))


def _leaves(spec: Spec) -> dict[str, Any]:
    nested = spec.observation["observation"]
    return dict(nested.items()) if isinstance(nested, Composite) else {}
