"""People, classifiers and slow policies on a robot in lock-step, for what is judged about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from real_robot.actions import JointDelta, PoseDelta
from real_robot.clock import ns
from real_robot.daemon import Tick
from real_robot.debounce import Debounced
from real_robot.deploy import FULL, Deployment
from real_robot.env import HUMAN
from real_robot.messages import Source, pack, unpack
from real_robot.person import Teleoperated
from real_robot.record import read
from real_robot.recorder import Noted, Recorder
from real_robot.teleop.intervention import Intervention, TwistAction
from real_robot.teleop.sample import TeleopSample
from real_robot.testing.reaching import Acting, Never, Rig, reaching

CHUNK = 8
HAND_M_S, HAND_RAD_S = 0.1, 0.5  # a person's full deflection


def say(on: Rig, **message: Any) -> dict[str, Any]:
    """Say something as the operator; return the reply."""
    on.clock.inbox.append((on.clock.operator, pack(message)))
    return on.clock.tick().judgements[-1].reply


class Slow:
    """A policy of chunks that thinks for a while, and what became of its actions."""

    def __init__(self, think_s: float, always: bool):
        """It thinks at its first answer, or `always`; time passes for the robot meanwhile."""
        self.rig = reaching(lambda robot: JointDelta(robot, 0.05), horizon=2 * CHUNK)
        self.think_ns, self.always = ns(think_s), always
        self.count = self.stale = self.stops = 0
        self.farthest = 0.0  # that a target was from where the arm was, rad
        self._seen_ns, self._applied = 0, -1
        self._step = self.rig.env.step
        self.rig.env.step = self._stepped  # type: ignore[method-assign]
        self.rig.clock.after_tick = self._ticked

    def run(self, episodes: int) -> None:
        """Play episodes; where the watchdog stopped the arm, somebody arms it again."""
        policy = Acting(self.rig.env, self._think)
        deployment = Deployment(self.rig.env, policy, FULL, gate=Never())
        for _ in range(episodes):
            deployment.run(1)
            self.stops += bool(deployment.outcomes[-1].stop)
            self.rig.attend()

    def _think(self, _: Any) -> np.ndarray:
        """Return actions that carry their number, for one joint to and fro."""
        clock = self.rig.clock
        self._seen_ns, first = clock.now_ns(), self.think_ns
        self.think_ns = first if self.always else 0
        clock.sleep_until_ns(self._seen_ns + first)
        actions = np.zeros((CHUNK, self.rig.env.actions.size))
        actions[:, 0] = (np.arange(CHUNK) + 1) / 10
        return actions

    def _stepped(self, action: np.ndarray) -> Any:
        index = round(10 * float(action[0])) - 1
        if index >= 0:
            age, period = self.rig.clock.now_ns() - self._seen_ns, self.rig.env.period_ns
            self.count += 1
            self.stale += not (index - 1) * period < age < (index + 1) * period
        return self._step(action)

    def _ticked(self) -> None:
        applied = self.rig.daemon.applied
        if applied["seq"] != self._applied and applied["q"]:
            self._applied = applied["seq"]
            far = float(np.abs(np.array(applied["q"]) - self.rig.arm.q).max())
            self.farthest = max(self.farthest, far)


class Flapping:
    """A person who takes over and lets go at every step, for a second of every two."""

    def __init__(self, folder: Path, seed: int):
        self.rig = reaching(lambda robot: PoseDelta(robot, 0.005, 0.02), horizon=10**6)
        self.random = np.random.default_rng(seed)
        self.polls = 0
        self.wish = np.zeros(6)
        rule = Intervention(TwistAction(HAND_M_S, HAND_RAD_S))
        self.rig.env.person = Teleoperated(self, rule, self.rig.clock)
        self.noted = Noted(self.rig.daemon.driver)
        self.rig.daemon.driver = self.noted
        self.recorder = Recorder(folder / "ring", folder, self.rig.env.robot.timing.servo_hz)
        self._tick = self.rig.daemon.tick
        self.rig.daemon.tick = self._recorded  # type: ignore[method-assign]

    def play(self, steps: int) -> tuple[list[bool], list[bool], int]:
        """Return whose each step was as told and as recorded, and how many did otherwise."""
        env, told, untrue = self.rig.env, [], 0
        env.reset(seed=0)
        for _ in range(steps):
            action = self.random.uniform(-0.3, 0.3, 7).astype(np.float32)
            info = env.step(action)[-1]
            told.append(info["source"] == HUMAN)
            mine = info["executed"][:6]
            untrue += not np.allclose(mine, self.wish if told[-1] else action[:6], atol=1e-6)
        recorded = [source is Source.TELEOP for source in self._sources()]
        self.recorder.close()
        return told, recorded, untrue

    def poll(self) -> TeleopSample:
        """Push at every other poll of every other second."""
        now, self.polls = self.rig.clock.now_ns(), self.polls + 1
        pushes = self.polls % 2 == 0 and self.polls // 20 % 2 == 0
        self.wish = np.zeros(6)
        self.wish[0] = self.random.choice([-1.0, 1.0]) if pushes else 0.0
        return TeleopSample(now, HAND_M_S * self.wish, enable=pushes)

    def close(self) -> None:
        """There is nothing to let go of."""

    def _recorded(self, inbox: Any = (), late_ns: int = 0) -> Tick:
        self.noted.begin()
        tick = self._tick(inbox, late_ns)
        said = {"measured": self.noted.measured, "lost": self.noted.lost, "stops": []}
        self.recorder.write(self.rig.daemon, tick, said | {"watcher_ns": 0})
        return tick

    def _sources(self) -> list[Source]:
        """Return whose commands the flight record holds, resets left out."""
        found = []
        for tick in read(self.recorder.path).ticks:
            for _, raw in tick.inbox:
                message = unpack(raw)
                if message["type"] == "command" and message["source"] != Source.RESET:
                    found.append(Source(message["source"]))
        return found


def fooled(k: int, n: int) -> int:
    """Show a classifier two frames made to deceive it; return whether an episode succeeded."""
    on, looks = reaching(horizon=12), iter([False] * 4 + [True] * 2 + [False] * 8)
    judge = Debounced(lambda *_: (1.0, next(looks), False), on.env.bring, k, n)
    on.env.bring, on.env.outcome = judge, judge.outcome
    on.env.reset(seed=0)
    while True:
        _, _, terminated, truncated, info = on.env.step(np.zeros(4))
        if terminated or truncated:
            return int(info["success"])


def vetoed() -> tuple[bool, int]:
    """Let a person press `failure` as the classifier would be believed; return what was stored."""
    on = reaching(horizon=12)

    class Presses:
        def poll(self) -> TeleopSample:
            return TeleopSample(on.clock.now_ns(), np.zeros(6), failure=presses)

        def close(self) -> None:
            """There is nothing to let go of."""

    presses = False
    hand = TwistAction(HAND_M_S, HAND_RAD_S)
    person = Teleoperated(Presses(), Intervention(hand), on.clock)
    judge = Debounced(lambda *_: (1.0, True, False), on.env.bring, 3, 5, person)
    on.env.person, on.env.bring, on.env.outcome = person, judge, judge.outcome
    on.env.reset(seed=0)
    for step in range(3):
        presses = step == 2
        _, reward, terminated, _, info = on.env.step(np.zeros(4))
    return terminated and not info["success"] and reward == 0, judge.vetoes
