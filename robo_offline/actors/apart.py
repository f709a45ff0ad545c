"""Apart: the learner's side of an actor in a process of its own, with Ray between the two."""

from __future__ import annotations

import importlib.util
import os
import time
from collections import deque
from dataclasses import dataclass

from tensordict import TensorDictBase

from robo_offline.actors.companion import Companion
from robo_offline.actors.folders import Follower, forget, newest, run_id, store
from robo_offline.actors.hub import environment
from robo_offline.actors.records import Arrived, Assembly
from robo_offline.actors.weights import About, pack, version_of
from robo_offline.errors import UserError
from robo_offline.phases.collector import rows_and_summary
from robo_offline.phases.run import Cadence, Run

NEVER = Cadence(0, 0, 0)
POLL_S = 0.01
PUBLISH_S = 1.0  # between two weights while the learner updates


@dataclass(frozen=True)
class Apart:
    """The choice `collector=ray`: an actor that outlives the learner, and Ray in between."""

    address: str  # of a Ray cluster; empty starts one on loopback, for this run alone
    start_actor: bool  # here; otherwise somebody starts one on another machine
    lockstep: bool  # actor and learner wait for each other, and give a lone process's numbers
    wait_s: float  # at an episode's beginning, for a learner that is behind; 0 never waits
    orphan_s: float  # without a learner for so long, the actor ends with its episode

    def __post_init__(self) -> None:
        if importlib.util.find_spec("ray") is None:
            raise UserError(
                "collector=ray needs Ray, which is not installed",
                remedy="pip install 'robo-offline[ray]', or collector=here",
            )

    def __call__(self, run: Run, *, random_steps: int, ahead: bool) -> Collecting:
        assert not ahead  # refused when the run was built
        return Collecting(run, self, random_steps)


class Collecting:
    """Gives the actor's episodes one after the other, and the actor the learner's weights.

    `extra` of the run's counters holds how far it has come, so a run that was killed goes on with
    the first transition that its checkpoint does not know.
    """

    def __init__(self, run: Run, knobs: Apart, random_steps: int):
        self.run, self.knobs, self.random_steps = run, knobs, random_steps
        if not (run.directory / "config.yaml").exists():
            raise UserError(
                "an actor in a process of its own is built from the run's configuration",
                where=run.directory,
                expected="config.yaml",
                remedy="start the run with `robo-offline train`, or choose collector=here",
            )
        self.service, self.id = run.directory / "service", run_id(run.directory)
        acting, held = run.directory / "actor", [str(self.service), self.id]
        self.hub = Companion(
            "robo_offline.actors.hub",
            self.service,
            self.id,
            [*held, knobs.address, str(knobs.orphan_s)],
            environment(self.service, knobs.address),
        )
        self.actor = Companion(
            "robo_offline.actors.actor", acting, self.id, [str(run.directory)], {}
        )
        self.policy = run.policy(explore=True)
        extra = run.counters.extra
        extra.setdefault("received", -1)  # number of the last record that was learned from
        extra.setdefault("next_episode", run.counters.episode)  # as the actor counts
        self.follower = Follower(self.service / "inbox", extra["received"])
        self.assembly, self.whole = Assembly(), deque[Arrived]()
        self.version = version_of(newest(self.service / "weights"))
        self._published = 0.0
        self._saved = ""

    def __enter__(self) -> Collecting:
        return self

    def __exit__(self, *_: object) -> None:
        """Have the actor stop, between two actions, and end Ray."""
        if self.knobs.start_actor:
            self.actor.end()
        self.hub.end()

    def next(self) -> tuple[TensorDictBase, dict[str, float]]:
        """Return the next episode as T + 1 rows, and its return, length, success and staleness."""
        self._forget()
        self._publish()
        while not self.whole:
            self._look_after()
            for number, payload in self.follower:
                self.whole.extend(self.assembly.add(number, payload))
            if not self.whole:
                self.run.advance(0, {}, NEVER)  # who wants to stop need not wait for an episode
                time.sleep(POLL_S)
        arrived = self.whole.popleft()
        extra = self.run.counters.extra
        extra["received"], extra["next_episode"] = arrived.last, arrived.index + 1
        rows, summary = rows_and_summary(arrived.td)
        return rows, summary | arrived.staleness

    def after_update(self) -> None:
        """Give the actor weights of now and then while the learner updates."""
        self._look_after()
        if not self.knobs.lockstep and time.monotonic() - self._published > PUBLISH_S:
            self._publish()

    def _publish(self) -> None:
        run, extra = self.run, self.run.counters.extra
        self.policy.publish(run.learner.algo, run.acting)
        self.policy.random.fill_(run.counters.env_step < self.random_steps)
        self.version += 1
        about = About(
            version=self.version,
            run=self.id,
            episodes=extra["next_episode"],
            records=extra["received"] + 1,
            made_s=time.time(),
        )
        store(self.service / "weights", *pack(about, self.policy.state_dict()))
        self._published = time.monotonic()

    def _forget(self) -> None:
        """Delete what a checkpoint holds: one was written since, with everything so far in it."""
        last = self.run.checkpoints.directory / "last"
        saved = os.readlink(last) if last.is_symlink() else ""
        if saved != self._saved:
            self._saved = saved
            forget(self.service / "inbox", self.run.counters.extra["received"])

    def _look_after(self) -> None:
        """Start what is not there. Raises UserError where the actor ended with an error."""
        (self.service / "learner").touch()
        self.hub.look_after()
        if self.knobs.start_actor and self.actor.look_after() > 0:
            raise UserError(
                "the actor ended with an error",
                where=self.actor.folder / "log",
                found=self.actor.last_words(),
                remedy=f"see to it, then robo-offline train resume={self.run.directory}",
            )
