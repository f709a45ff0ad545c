"""Whether the robot is where its policy has ever been: a distance to the data, and a threshold.

The distance is Mahalanobis' to observations of successful episodes; the threshold is split
conformal (Vovk, Gammerman, Shafer 2005): of new successful episodes, at most a share `alpha` is
stopped by mistake, whatever the distribution. One number per episode, its worst window, because
observations of one episode are not exchangeable and episodes are.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np

from robo_offline.errors import UserError

RIDGE = 1e-3  # share of each variance that is added to it: directions the data never moved in


class Gate:
    """Scores observations (D,); fires where the mean of a short window is over the threshold."""

    def __init__(self, mean: np.ndarray, root: np.ndarray, threshold: float, window: int):
        """`root` (D, D) whitens: the score is the length of root @ (x - mean) by sqrt(D)."""
        self.mean, self.root = mean, root
        self.threshold, self.window = threshold, window
        self._recent: deque[float] = deque(maxlen=window)

    @classmethod
    def calibrate(
        cls, episodes: Sequence[np.ndarray], alpha: float = 0.05, window: int = 5, seed: int = 0
    ) -> Gate:
        """Learn from successful episodes, each (T, D): one half fits, the other half calibrates.

        Raises UserError where there are too few for the promise.
        """
        least = math.ceil(1 / alpha) - 1  # so that the quantile exists
        order = np.random.default_rng(seed).permutation(len(episodes))
        held = [episodes[i] for i in order[: len(episodes) // 2]]
        fitted = [episodes[i] for i in order[len(episodes) // 2 :]]
        if len(held) < least:
            raise UserError(
                "too few successful episodes to say what is unusual",
                expected=f"at least {2 * least} for alpha {alpha:g}",
                found=len(episodes),
                remedy="collect more, or allow more false alarms (a larger alpha)",
            )
        rows = np.concatenate(fitted).astype(np.float64)
        mean, covariance = rows.mean(0), np.cov(rows, rowvar=False).reshape(rows.shape[1], -1)
        ridge = RIDGE * np.maximum(np.diag(covariance), 1e-8)
        root = np.linalg.inv(np.linalg.cholesky(covariance + np.diag(ridge)))
        gate = cls(mean, root, math.inf, window)
        worst = sorted(gate.worst(episode) for episode in held)
        rank = math.ceil((1 - alpha) * (len(held) + 1))
        gate.threshold = worst[rank - 1]
        return gate

    def begin(self) -> None:
        """Forget the episode before."""
        self._recent.clear()

    def score(self, observation: np.ndarray) -> float:
        """Return how far an observation is from the data; about 1 within it."""
        whitened = self.root @ (np.asarray(observation, np.float64) - self.mean)
        return float(np.linalg.norm(whitened) / math.sqrt(len(self.mean)))

    def fires(self, observation: np.ndarray) -> bool:
        """Take note of an observation; say whether the last few are unusual."""
        self._recent.append(self.score(observation))
        full = len(self._recent) == self.window
        return full and float(np.mean(self._recent)) > self.threshold

    def worst(self, episode: np.ndarray) -> float:
        """Return the highest mean over a window of an episode (T, D)."""
        scores = np.array([self.score(row) for row in episode])
        if len(scores) < self.window:
            return float(scores.mean())
        sums = np.convolve(scores, np.ones(self.window), "valid")
        return float(sums.max() / self.window)
