"""Deploy: a policy bundle acts on a robot, in stages, watched, and with a way back.

Before anything moves, the bundle's contract is held against the robot's and refused where one word
differs. In `shadow` the policy computes while somebody else commands; `limited` moves slowly and
only where the data has been; `full` is full. Where successes fall under the floor, the last
certified bundle takes over.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from real_robot.contract import FLAT, contract_of
from real_robot.env import RealRobotEnv
from real_robot.messages import Source
from real_robot.ood import Gate
from real_robot.runtime.policy import ActionChunk
from real_robot.runtime.refused import Refused
from robo_offline.analysis.intervals import wilson
from robo_offline.errors import UserError

LEAST = 10  # episodes before a verdict on a policy
SLOW = 0.95  # of the nominal rate: below it an episode is flagged
LATE_MS = (0.1, 0.5, 1, 2, 5, 10, 20, 50)  # upper ends of the tick histogram


class Acts(Protocol):
    """A bundle that acts: `real_robot.runtime.OrtPolicy`."""

    manifest: Any

    def begin(self) -> None: ...

    def see(self, observation: Any) -> None: ...

    def act(self, observation: Any, *, deadline_ns: int | None = None) -> ActionChunk: ...


@dataclass(frozen=True, slots=True)
class Stage:
    """How much a policy may do."""

    name: str
    moves: bool
    speed_scale: float
    gated: bool  # holds where observations are unlike the data


SHADOW = Stage("shadow", moves=False, speed_scale=1.0, gated=False)
LIMITED = Stage("limited", moves=True, speed_scale=0.25, gated=True)
FULL = Stage("full", moves=True, speed_scale=1.0, gated=True)
STAGES = {stage.name: stage for stage in (SHADOW, LIMITED, FULL)}


@dataclass(slots=True)
class Outcome:
    """One episode."""

    policy: str  # hash of the weights that acted
    success: bool = False
    steps: int = 0
    seconds: float = 0.0
    rate_hz: float = 0.0  # as measured, never the nominal one
    stop: str = ""
    interventions: int = 0
    held: int = 0  # steps in which the gate, a refusal or lateness kept the arm where it was
    limited: int = 0  # steps whose action a limit changed
    latency_ms: list[float] = field(default_factory=list)  # of the policy, each decision
    late_ms: list[float] = field(default_factory=list)  # of each tick
    difference: list[float] = field(default_factory=list)  # shadow: to what was executed


class Deployment:
    """One policy, or two, on one robot."""

    def __init__(
        self,
        env: Any,
        policy: Acts,
        stage: Stage = SHADOW,
        *,
        gate: Gate | None = None,
        wanted: Gate | None = None,
        certified: Acts | None = None,
        floor: float | None = None,
    ):
        """Refuse what does not fit. Raises UserError with every difference.

        `env` is a RealRobotEnv, or wraps one. `gate` looks at observations, `wanted` at actions:
        weights that were exchanged on the way may want what the policy never wanted before.
        """
        self.episode, env = env, env.unwrapped
        for bundle in (policy, certified):
            if bundle is not None:
                check(bundle, env)
        if stage.gated and gate is None:
            raise UserError(
                f"the stage {stage.name} needs to know what is unusual",
                remedy="calibrate a gate on successful episodes, or begin with shadow",
            )
        if (certified is None) != (floor is None):
            raise UserError("a floor and a certified bundle to fall back on belong together")
        self.env: RealRobotEnv = env
        self.policy, self.stage, self.gate, self.wanted = policy, stage, gate, wanted
        self.certified, self.floor = certified, floor
        self.fell_back = ""
        self.outcomes: list[Outcome] = []

    def run(self, episodes: int, told: Callable[[Outcome], None] = lambda _: None) -> None:
        """Play episodes; falls back, and tells of each."""
        for _ in range(episodes):
            seed = int(np.random.SeedSequence().generate_state(1)[0] >> 1)
            outcome = self._watch() if not self.stage.moves else self._act(seed)
            self.outcomes.append(outcome)
            told(outcome)
            self._judge()

    def report(self) -> dict[str, Any]:
        """Return what happened, for a person and for a machine."""
        rate = wilson(sum(o.success for o in self.outcomes), len(self.outcomes))
        late = [x for o in self.outcomes for x in o.late_ms]
        latency = [x for o in self.outcomes for x in o.latency_ms]
        ends = [0.0, *LATE_MS, math.inf]
        counts = np.histogram(late, ends)[0].tolist() if late else []
        return {
            "stage": self.stage.name,
            "robot": self.env.robot.name,
            "descriptor": self.env.robot.hash,
            "episodes": len(self.outcomes),
            "success": [_number(x) for x in rate],
            "stops": [o.stop for o in self.outcomes if o.stop],
            "interventions": sum(o.interventions for o in self.outcomes),
            "held": sum(o.held for o in self.outcomes),
            "limited": sum(o.limited for o in self.outcomes),
            "rate_hz": [round(o.rate_hz, 3) for o in self.outcomes],
            "nominal_hz": self.env.rate_hz,
            "slow": [i for i, o in enumerate(self.outcomes) if o.rate_hz < SLOW * self.env.rate_hz],
            "tick_late_ms": {f"<= {end:g}": n for end, n in zip(ends[1:], counts, strict=False)},
            "latency_ms": _percentiles(latency),
            "shadow_difference": _percentiles([x for o in self.outcomes for x in o.difference]),
            "fell_back": self.fell_back,
            "outcomes": [asdict(o) for o in self.outcomes],
        }

    def save(self, path: Path) -> None:
        """Write the report, whole or not at all."""
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(self.report(), indent=1))
        partial.rename(path)

    # ---- episodes -------------------------------------------------------------------------------

    def _act(self, seed: int) -> Outcome:
        env, outcome = self.env, Outcome(_weights(self.policy))
        env.speed_scale = self.stage.speed_scale
        observation, _ = self.episode.reset(seed=seed)
        self.policy.begin()
        for gate in (self.gate, self.wanted):
            if gate is not None:
                gate.begin()
        queue: deque[np.ndarray] = deque()
        began = env.clock.now_ns()
        while True:
            action = self._decide(observation, queue, outcome)
            if action is None:
                outcome.held += 1
                action = env.actions.nothing(env.state)
            observation, _, terminated, truncated, info = self.episode.step(action)
            outcome.steps += 1
            outcome.interventions += info["source"] == 2
            outcome.limited += bool((info["executed"] != info["requested"]).any())
            outcome.late_ms.append(info["late_ns"] / 1e6)
            if terminated or truncated:
                break
        outcome.success, outcome.stop = info["success"], info["stop"]
        outcome.seconds = (env.clock.now_ns() - began) / 1e9
        outcome.rate_hz = env.measured_rate()
        return outcome

    def _decide(
        self, observation: Any, queue: deque[np.ndarray], outcome: Outcome
    ) -> np.ndarray | None:
        """Return the next action, or None for holding."""
        vector = observation["state"] if isinstance(observation, dict) else observation
        if self.stage.gated and self.gate is not None and self.gate.fires(vector):
            queue.clear()
            self._see(observation)
            return None
        if queue:
            self._see(observation)
        else:
            began = time.perf_counter_ns()
            seen = self.env.clock.now_ns()
            try:
                chunk = self.policy.act(_named(observation)).actions
            except Refused:
                return None
            took = time.perf_counter_ns() - began
            outcome.latency_ms.append(took / 1e6)
            # Actions belong to moments after the observation; those that are over are dropped, and
            # where all are over the arm holds: the last one is not better than none.
            late = (self.env.clock.now_ns() - seen) // self.env.period_ns
            queue.extend(chunk[late:])
        action = queue.popleft() if queue else None
        if action is not None and self.wanted is not None and self.wanted.fires(action):
            queue.clear()
            return None
        return action

    def _see(self, observation: Any) -> None:
        """Show the policy what it need not act on now: it may look at several images at once."""
        with contextlib.suppress(Refused):  # it will refuse to act on it, too
            self.policy.see(_named(observation))

    def _watch(self) -> Outcome:
        """Compute beside whoever commands, and compare; send nothing."""
        env, outcome = self.env, Outcome(_weights(self.policy))
        self.policy.begin()
        began = env.clock.now_ns()
        observation = env.look()
        for _ in range(env.horizon):
            before = env.state
            start = time.perf_counter_ns()
            try:
                action = self.policy.act(_named(observation)).actions[0]
            except Refused:
                outcome.held += 1
                action = None
            outcome.latency_ms.append((time.perf_counter_ns() - start) / 1e6)
            outcome.late_ms.append(env.tick() / 1e6)
            observation = env.look()
            outcome.steps += 1
            if action is not None and env.state["applied_seq"] != before["applied_seq"]:
                done = env.executed_by_others(before)
                outcome.difference.append(float(np.abs(done - action).max()))
            outcome.interventions += env.state["source"] == int(Source.TELEOP)
        outcome.seconds = (env.clock.now_ns() - began) / 1e9
        outcome.rate_hz = outcome.steps / outcome.seconds if outcome.seconds else 0.0
        return outcome

    def _judge(self) -> None:
        """Fall back on the certified bundle where successes are shown to be under the floor."""
        if self.certified is None or self.floor is None or self.fell_back:
            return
        mine = [o for o in self.outcomes if o.policy == _weights(self.policy)]
        rate = wilson(sum(o.success for o in mine), len(mine))
        # Few episodes show nothing, not even of a policy that never fails: then it must be worse
        # for sure before it goes.
        telling = wilson(len(mine), len(mine)).low >= self.floor
        under = rate.low if telling else rate.high
        if len(mine) >= LEAST and under < self.floor:
            self.fell_back = (
                f"after {len(mine)} episodes: success {rate.value:.0%} [{rate.low:.0%}, "
                f"{rate.high:.0%}], the floor is {self.floor:.0%}"
            )
            self.policy = self.certified


def check(policy: Acts, env: RealRobotEnv) -> None:
    """Hold a bundle against a robot. Raises UserError listing every difference."""
    found: Sequence[str] = policy.manifest.contract.differences(contract_of(env))
    if found:
        raise UserError(
            "the policy was not made for this robot as it is set up",
            where=env.robot.name,
            found="; ".join(found),
            remedy="change the robot's environment, or train and export for it",
        )


def _weights(policy: Acts) -> str:
    return str(policy.manifest.files["weights.safetensors"].sha256)


def _named(observation: Any) -> Any:
    return observation if isinstance(observation, dict) else {FLAT: observation}


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    names = {"p50": 50, "p99": 99, "max": 100}
    return {name: round(float(np.percentile(values, at)), 4) for name, at in names.items()}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
