"""A world in real time that numbers its steps: what of them arrived, and when, stands in them."""

from __future__ import annotations

import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box


class Paced(gymnasium.Env):
    """Observe (number, tick, 0): steps so far, and the tick of an absolute schedule they fell on.

    A tick that is over is skipped, as a robot's is, so ticks beyond steps are those that an actor
    missed, between two episodes as well. Counted from the process's first reset; exact as float32
    for 2^24 of them.
    """

    metadata = {"render_modes": []}

    def __init__(self, horizon: int, rate_hz: float):
        self.observation_space = Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = Box(-1.0, 1.0, (2,), np.float32)
        self.horizon, self.period_s = horizon, 1 / rate_hz
        self.number = self.tick = self.time = 0
        self.began = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self._see(), {"success": False}

    def step(self, action: np.ndarray) -> Any:
        self.began = self.began or time.monotonic()
        passed = int((time.monotonic() - self.began) / self.period_s)
        self.tick = max(self.tick, passed) + 1
        time.sleep(max(0.0, self.began + self.tick * self.period_s - time.monotonic()))
        self.number += 1
        self.time += 1
        reward = -float(np.square(action).sum())
        return self._see(), reward, False, self.time >= self.horizon, {"success": False}

    def _see(self) -> np.ndarray:
        return np.array([self.number, self.tick, 0.0], np.float32)


def paced(id: str, horizon: int, **ignored: Any) -> gymnasium.Env:
    """Build from the values of `env=gymnasium`; `id` is the rate in Hz."""
    return Paced(horizon, float(id))
