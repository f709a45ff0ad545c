"""Find steps whose successor is of another episode: almost every number jumps at once.

A contact or a flipped quaternion moves a few numbers far; only a reset moves most of them by many
times what they move in a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from robo_offline.datasets.finding import Finding
from robo_offline.datasets.tree import leaves

TYPICAL = 95  # percentile of a number's movement that counts as a large step
FACTOR = 5.0  # a jump is this many large steps ...
SHARE = 0.5  # ... in this share of the numbers
ROWS_PER_EPISODE, ROWS = 500, 200_000  # sample from which typical movement is learnt
EQUAL_SHARE = 0.9


class Jumps:
    """Learn how far observations move in a step, then look for steps that leave the episode."""

    def __init__(self) -> None:
        self._sample: list[np.ndarray] = []
        self._rows = self._still = self._steps = self._repeated = self._episodes = 0
        self._large: np.ndarray | None = None
        self._found: list[tuple[int, int]] = []

    def learn(self, raw: dict[str, Any]) -> None:
        """Note how far one episode moves."""
        moved = _movement(raw)
        if moved is None or (self._sample and self._sample[0].shape[1] != moved.shape[1]):
            return
        still = ~moved.any(1)
        self._episodes += 1
        self._repeated += bool(still[-1])
        self._still += int(still[:-1].sum())
        self._steps += len(moved) - 1
        if self._rows < ROWS:
            stride = -(-len(moved) // ROWS_PER_EPISODE)
            self._sample.append(moved[::stride])
            self._rows += len(self._sample[-1])

    def ready(self) -> bool:
        """Settle what is typical; False when there is nothing to look for."""
        if not self._sample:
            return False
        self._large = np.percentile(np.concatenate(self._sample), TYPICAL, axis=0)
        return bool((self._large > 0).sum() >= 2)

    def see(self, number: int, raw: dict[str, Any]) -> None:
        """Look for jumps in one episode."""
        moved, large = _movement(raw), self._large
        if moved is None or large is None or moved.shape[1] != len(large):
            return
        alive = large > 0
        far = (moved[:, alive] > FACTOR * large[alive]).mean(1) >= SHARE
        self._found += [(number, int(row)) for row in np.flatnonzero(far)]

    def findings(self) -> Iterator[Finding]:
        """Say what was found."""
        if self._found:
            episode, row = self._found[0]
            yield Finding(
                "next-of-another-episode",
                "error",
                f"{len(self._found)} steps jump as if the next observation were of another episode",
                "values are learnt across a reset, which no action can cause",
                "cut the episodes there and import again",
                episode,
                row,
                len(self._found),
            )
        repeats = self._episodes >= 2 and self._repeated >= EQUAL_SHARE * self._episodes
        if repeats and self._still < 0.01 * max(1, self._steps):
            yield Finding(
                "repeated-last-observation",
                "warning",
                f"the last observation repeats the one before in {self._repeated} episodes",
                "the last outcome was not logged, and a truncated end bootstraps from a wrong one",
                "drop the last step of each episode",
                count=self._repeated,
            )


def _movement(raw: dict[str, Any]) -> np.ndarray | None:
    """Distance that each number moves at each step: (T, D); None where it cannot be told."""
    parts = []
    for _, leaf in leaves(raw.get("observations")):
        if isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f" and len(leaf) > 1:
            parts.append(leaf.reshape(len(leaf), -1).astype(np.float64))
    if not parts or len({len(part) for part in parts}) != 1:
        return None
    rows = np.concatenate(parts, axis=1)
    return np.abs(np.diff(np.nan_to_num(rows, nan=0.0, posinf=0.0, neginf=0.0), axis=0))
