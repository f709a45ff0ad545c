"""A scripted person beside a policy: helps where nothing gets better, and hands back.

As people did in HIL-SERL (Luo et al. 2024, arXiv 2410.21845): they take over where the policy is
stuck, bring it to where it can go on, and let go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from real_robot.actions import PoseDelta
from real_robot.clock import Clock, ns
from real_robot.person import Teleoperated
from real_robot.tasks import Task
from real_robot.teleop.intervention import Intervention
from real_robot.teleop.mapping import STRAIGHT
from real_robot.teleop.sample import TeleopSample
from real_robot.teleop.scripted import Scripted, Wish
from robo_offline.errors import UserError


class Attention:
    """What a person does who goes by progress: nothing, until nothing has come of that.

    Takes over when `patience_s` have brought less than `progress_m`, and lets go when the way that
    was left then has shrunk to `share` of itself. So who acts cannot flap.
    """

    def __init__(
        self, task: Task, patience_s: float, progress_m: float, share: float, pushes: float
    ):
        self.task, self.pushes = task, pushes
        self.patience_ns, self.progress_m, self.share = ns(patience_s), progress_m, share
        self.begin()

    def begin(self) -> None:
        """A new episode begins."""
        self._best, self._since_ns = np.inf, 0
        self._enough: float | None = None  # what may be left when the person lets go

    def __call__(self, state: Mapping[str, Any]) -> Wish | None:
        """Return what the person would do on seeing a state, None for hands off."""
        now, left = state["stamp_ns"], self.task.left(state)
        if self._enough is not None and left <= self._enough:
            self._enough, self._best, self._since_ns = None, left, now
        if self._enough is None:
            if left < self._best - self.progress_m:
                self._best, self._since_ns = left, now
            if now - self._since_ns <= self.patience_ns:
                return None
            self._enough = self.share * left
        axes = np.clip(self.task.way(state) * self.pushes, -1, 1)
        return Wish((*axes.tolist(), 0.0, 0.0, 0.0))


class Intervener(Teleoperated):
    """A person of a `Task`, for actions that move the tool without turning it.

    Sees `reaction_s` late, pushes at most at the share `pace` of full speed with Gaussian `noise`
    (a share of full deflection) on each axis.
    """

    def __init__(
        self,
        task: Task,
        actions: PoseDelta,
        clock: Clock,
        patience_s: float = 1.0,
        progress_m: float = 0.01,
        share: float = 0.5,
        pace: float = 1.0,
        reaction_s: float = 0.1,
        noise: float = 0.1,
        leave_after_s: float = 0.1,
        seed: int = 0,
    ):
        if not isinstance(actions, PoseDelta) or actions.turns:
            raise UserError("an intervener moves the tool along three axes", found=actions)
        # Near the goal the push shrinks with what is left, or late eyes would overshoot it.
        self.attention = Attention(task, patience_s, progress_m, share, 0.5 / actions.step_m)
        full = STRAIGHT.linear_m_s

        def to_action(sample: TeleopSample, last: np.ndarray) -> np.ndarray:
            return np.append(pace * sample.velocity[:3] / full, last[3:])

        device = Scripted(self.attention, clock, reaction_s, noise, seed)
        super().__init__(device, Intervention(to_action, leave_after_s=leave_after_s), clock)

    def begin(self) -> None:
        super().begin()
        self.attention.begin()
