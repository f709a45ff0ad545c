"""A judge that is often wrong, such as a classifier of images, made safe to reward by."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from real_robot.env import Outcome, RealRobotEnv, Reset
from real_robot.person import Teleoperated
from robo_offline.errors import UserError


class Debounced:
    """Believes a judge's success where `k` of its last `n` looks saw it. Reset and outcome in one.

    Until then there is no reward. A person who presses `failure` overrules it: the episode ends
    without success, and `vetoes` counts those in which the judge would have been believed.
    """

    def __init__(
        self,
        judge: Outcome,
        bring: Reset,
        k: int = 3,
        n: int = 5,
        person: Teleoperated | None = None,
    ):
        if not 1 <= k <= n:
            raise UserError(
                "k of the last n looks must agree", expected="1 <= k <= n", found=(k, n)
            )
        self.judge, self.bring, self.k, self.person = judge, bring, k, person
        self.vetoes = 0
        self._looks: deque[bool] = deque(maxlen=n)

    def __call__(self, env: RealRobotEnv, random: np.random.Generator) -> None:
        self._looks.clear()
        self.bring(env, random)

    def outcome(self, state: Mapping[str, Any], observation: Any) -> tuple[float, bool, bool]:
        """Judge a state; reward 1 with the success that is believed."""
        _, seen, failure = self.judge(state, observation)
        self._looks.append(seen)
        success = sum(self._looks) >= self.k
        said = None if self.person is None else self.person.said
        if said is not None and said.failure:
            self.vetoes += success
            return 0.0, False, True
        return float(success), success, failure and not success
