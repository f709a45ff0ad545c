"""A person who is a function: sees late, acts with noise, lets go. For simulated interventions."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from real_robot.clock import Clock, ns
from real_robot.teleop.mapping import STRAIGHT, Mapping
from real_robot.teleop.sample import TeleopSample
from real_robot.teleop.sampler import STUCK_AFTER_S, Buttons, Sampler

Observation = TypeVar("Observation")

_BUTTONS = Buttons(enable=0, close=1, open=2, success=3, failure=4, rerecord=5)


@dataclass(frozen=True)
class Wish:
    """What the person would do now with a perfect hand; with the dead-man held."""

    axes: tuple[float, ...]  # (6,) in [-1, 1], as `Mapping` takes them
    gripper: int = 0  # -1, 0 or 1
    success: bool = False
    failure: bool = False
    rerecord: bool = False


class Scripted(Generic[Observation]):
    """Acts on what was seen `reaction_s` ago; None as a wish is hands off.

    The noise is Gaussian, its standard deviation a share of full deflection, on the axes that move.
    """

    def __init__(
        self,
        wish: Callable[[Observation], Wish | None],
        clock: Clock,
        reaction_s: float = 0.25,
        noise: float = 0.1,
        seed: int = 0,
        mapping: Mapping = STRAIGHT,
        stuck_after_s: float = STUCK_AFTER_S,
    ):
        self.wish, self.clock, self.noise = wish, clock, noise
        self.reaction_ns = ns(reaction_s)
        self._sampler = Sampler(clock, mapping, _BUTTONS, stuck_after_s)
        self._random = np.random.default_rng(seed)
        self._seen: deque[tuple[int, Observation]] = deque()

    def observe(self, observation: Observation) -> None:
        """Show the person an observation, which must not change afterwards."""
        self._seen.append((self.clock.now_ns(), observation))

    def forget(self) -> None:
        """Begin another episode: what was seen in the last one is over."""
        self._seen.clear()

    def poll(self) -> TeleopSample:
        until = self.clock.now_ns() - self.reaction_ns
        while len(self._seen) > 1 and self._seen[1][0] <= until:
            self._seen.popleft()
        wish = None
        if self._seen and self._seen[0][0] <= until:
            wish = self.wish(self._seen[0][1])
        if wish is None:
            return self._sampler.sample((0.0,) * 6, frozenset())
        axes = np.asarray(wish.axes, np.float64)
        axes = axes + self.noise * self._random.standard_normal(6) * (axes != 0)
        pressed = {
            0: True,
            1: wish.gripper < 0,
            2: wish.gripper > 0,
            3: wish.success,
            4: wish.failure,
            5: wish.rerecord,
        }
        held = frozenset(button for button, down in pressed.items() if down)
        return self._sampler.sample(axes.tolist(), held)

    def close(self) -> None:
        self._seen.clear()
