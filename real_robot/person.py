"""A person beside the policy: their device, and the rule of when it is theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from real_robot.clock import Clock
from real_robot.teleop.intervention import Executed, Intervention
from real_robot.teleop.sample import Teleoperator, TeleopSample
from real_robot.teleop.scripted import Scripted


class Person(Protocol):
    """Who may take over from the policy, and says how an episode went."""

    def begin(self) -> None:
        """A new episode begins."""

    def act(self, action: np.ndarray, state: Mapping[str, Any]) -> Executed:
        """Return what is executed in the place of the policy's `action` (A,), and whose it is."""


class Teleoperated:
    """Somebody at a device. `said` is their newest sample, for outcomes that go by buttons."""

    def __init__(self, device: Teleoperator, rule: Intervention, clock: Clock):
        self.device, self.rule, self.clock = device, rule, clock
        self.said: TeleopSample | None = None

    def begin(self) -> None:
        self.rule.reset()
        self.said = None
        if isinstance(self.device, Scripted):
            self.device.forget()

    def act(self, action: np.ndarray, state: Mapping[str, Any]) -> Executed:
        if isinstance(self.device, Scripted):
            self.device.observe(state)
        self.said = self.device.poll()
        return self.rule.step(self.clock.now_ns(), action, self.said)


class Buttons:
    """An outcome that goes by what a person presses: reward 1 and the end at success."""

    def __init__(self, person: Teleoperated):
        self.person = person

    def __call__(self, state: Mapping[str, Any], observation: Any) -> tuple[float, bool, bool]:
        said = self.person.said
        if said is None:
            return 0.0, False, False
        return float(said.success), said.success, said.failure and not said.success
