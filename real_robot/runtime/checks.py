"""Checks: what goes into a policy and what comes out, the same for every way of computing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from real_robot.runtime.contract import Contract
from real_robot.runtime.refused import ActionRefused, DeadlineMissed, ObservationRefused

Observation = Mapping[str, np.ndarray] | np.ndarray  # the bare array where there is one key
SLACK = 1e-6  # of rounding, on a bound


class Checks:
    """The contract as arrays, ready to be asked at every step."""

    def __init__(self, contract: Contract):
        self.leaves = {
            leaf.key: (leaf.shape, np.dtype(leaf.dtype)) for leaf in contract.observation
        }
        self.only = contract.observation[0].key if len(contract.observation) == 1 else None
        self.shape = (1, contract.action.chunk, contract.action.dim)
        self.low = [bound - SLACK for bound in contract.action.low]
        self.high = [bound + SLACK for bound in contract.action.high]

    def feed(self, observation: Observation) -> dict[str, np.ndarray]:
        """Return the observation with a batch axis. Raises ObservationRefused naming the key."""
        if isinstance(observation, np.ndarray) and self.only is not None:
            observation = {self.only: observation}
        if not isinstance(observation, Mapping) or observation.keys() != self.leaves.keys():
            keys = sorted(map(str, observation)) if isinstance(observation, Mapping) else None
            raise ObservationRefused(
                "an observation has other keys than the policy's",
                expected=sorted(self.leaves),
                found=keys or type(observation).__name__,
            )
        return {key: self._leaf(key, observation[key])[None] for key in self.leaves}

    def _leaf(self, key: str, value: np.ndarray) -> np.ndarray:
        shape, dtype = self.leaves[key]
        if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype != dtype:
            found = getattr(value, "shape", type(value).__name__), getattr(value, "dtype", None)
            raise ObservationRefused(
                "an observation does not fit",
                where=key,
                expected=f"{shape} {dtype}",
                found=f"{found[0]} {found[1]}",
            )
        if dtype.kind == "f" and not np.isfinite(value).all():  # a pixel always is
            where = np.argwhere(~np.isfinite(value))[0].tolist()
            raise ObservationRefused(
                "an observation is not finite",
                where=f"{key}{where}",
                found=value[tuple(where)],
            )
        return value

    def actions(self, raw: np.ndarray) -> np.ndarray:
        """Return (chunk, dim) float64 of (1, chunk, dim). Raises ActionRefused."""
        if raw.shape != self.shape:
            raise ActionRefused("actions have another shape", expected=self.shape, found=raw.shape)
        actions = raw[0].astype(np.float64)
        for step, row in enumerate(actions.tolist()):  # so few that plain numbers are quicker
            for number, (low, value, high) in enumerate(zip(self.low, row, self.high, strict=True)):
                if not low <= value <= high:  # NaN too
                    raise ActionRefused(
                        "an action is not finite or out of its bounds",
                        where=f"step {step}, number {number}",
                        expected=f"{low:.6g} to {high:.6g}",
                        found=value,
                    )
        return actions


def in_time(clock: Callable[[], int], deadline_ns: int | None) -> None:
    """Raise DeadlineMissed after a nanosecond at which an answer is still good."""
    if deadline_ns is not None and (now := clock()) > deadline_ns:
        raise DeadlineMissed(
            "an action would come too late",
            expected=f"by {deadline_ns} ns",
            found=f"{now - deadline_ns} ns later",
        )
