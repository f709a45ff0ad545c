"""History: the images of a policy's last observations, for one that looks at several at once."""

from __future__ import annotations

from collections import deque

import numpy as np

from real_robot.runtime.checks import Checks, Observation
from real_robot.runtime.contract import Contract


class History:
    """Puts each observation together with the images before it, as the graph was made to see it."""

    def __init__(self, contract: Contract):
        self.checks = Checks(contract)
        self.seen: dict[str, deque[np.ndarray]] = {
            leaf.key: deque(maxlen=leaf.frames) for leaf in contract.observation if leaf.frames > 1
        }

    def begin(self) -> None:
        """Forget the episode before: its first image will stand for those that were not taken."""
        for images in self.seen.values():
            images.clear()

    def add(self, observation: Observation) -> Observation:
        """Take note of an observation and return the stacked one.

        Raises ObservationRefused, and then has taken note of nothing.
        """
        if not self.seen:
            return observation
        found = {key: value[0] for key, value in self.checks.feed(observation).items()}
        for key, images in self.seen.items():
            latest = found[key].copy()  # a camera may write its next image over this one
            images.extend([latest] * (1 if images else images.maxlen or 1))
            found[key] = np.concatenate(images)
        return found
