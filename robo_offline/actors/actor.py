"""The actor: acts, remembers every transition on its own disk first, and needs nobody to go on.

It is a process of its own that outlives the learner. Ray is not in it: a courier, started anew
whenever it dies, carries records away and brings weights. Those change between two actions; while
chunks are acted out or a guide is in play, between two episodes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch
from torch import Tensor
from torchrl.envs import EnvBase
from torchrl.envs.utils import step_mdp

from envs.torchrl import as_torchrl
from real_robot.spool import Spool
from robo_offline import build
from robo_offline.actors import courier, hub
from robo_offline.actors.companion import alone
from robo_offline.actors.folders import SEGMENT_BYTES, last_record, newest, run_id
from robo_offline.actors.records import STALENESS, place, to_bytes
from robo_offline.actors.weights import About, Refused, check, unpack
from robo_offline.errors import UserError
from robo_offline.policies.policy import Policy
from robo_offline.policies.select import Own
from robo_offline.train import load_config

POLL_S = 0.01
AHEAD = 2  # episodes that a free actor may be ahead of its weights before it waits at all
AGAIN_S = 0.5  # between two couriers
LATE = 16  # records that may be under way to the disk


class Desk(threading.Thread):
    """Beside the control loop: keeps a courier running, and reads and checks what it brings."""

    def __init__(self, directory: Path, run: str, address: str):
        super().__init__(name="keeps the courier", daemon=True)
        self.folder, self.run_id, self.address = directory / "actor", run, address
        self.service = directory / "service"
        self.ready: tuple[About, dict[str, Tensor]] | None = None
        self.pattern: dict[str, Tensor] | None = None  # of the policy, once there is one
        self.failed = ""  # why there is no point in going on
        self.over = threading.Event()
        self._process: subprocess.Popen | None = None
        self._since = 0.0
        self._read = ""  # name of the weights last looked at

    def run(self) -> None:
        while not self.over.wait(POLL_S) and not self.failed:
            self._carry()
            self._look()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _carry(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        if self._process is not None and self._process.returncode == courier.REFUSED:
            self.failed = "the service refuses what this actor has; its log says why"
            return
        if time.monotonic() - self._since < AGAIN_S:
            return
        self._since = time.monotonic()
        arguments = [str(self.folder), str(self.service), self.run_id, self.address]
        self._process = subprocess.Popen(
            [sys.executable, "-m", courier.__name__, *arguments],
            env=os.environ | hub.environment(self.service, self.address),
        )

    def _look(self) -> None:
        name = newest(self.folder / "weights")
        if name == self._read:
            return
        self._read = name
        try:
            about, state = unpack(name, (self.folder / "weights" / name).read_bytes())
            if about.run != self.run_id:
                return  # of a sitting with other knobs; the learner starts an actor that has them
            if self.pattern is not None:
                check(state, self.pattern)
            self.ready = about, state
        except FileNotFoundError:  # newer ones have just come
            self._read = ""
        except Refused as refused:
            print(f"weights {name} are refused: {refused}", file=sys.stderr, flush=True)


class Memory(threading.Thread):
    """Writes records to the spool while the control loop goes on.

    A disk may take longer than a control tick, now and then. `LATE` records at most are not on it
    yet; whoever plays waits then, since nobody should act whom nobody remembers.
    """

    def __init__(self, folder: Path):
        super().__init__(name="writes the spool", daemon=True)
        self.spool = Spool(folder, SEGMENT_BYTES)
        self.next = self.spool.next
        self.waiting: list[bytes] = []
        self.failed: UserError | None = None
        self.changed = threading.Condition()
        self.over = False

    def keep(self, payload: bytes) -> None:
        """Take a record. Raises UserError where an earlier one could not be written."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.waiting) < LATE or self.failed)
            if self.failed:
                raise self.failed
            self.waiting.append(payload)
            self.next += 1
            self.changed.notify_all()

    def run(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting or self.over)
                batch = list(self.waiting)
            if not batch:
                return
            try:
                self.spool.extend(batch)
            except UserError as error:
                self.failed = error
            with self.changed:
                del self.waiting[: len(batch)]
                self.changed.notify_all()
            if self.failed:
                return

    def close(self) -> None:
        """Write what is left."""
        with self.changed:
            self.over = True
            self.changed.notify_all()
        self.join()


class Actor:
    """Plays episode after episode with the newest weights that are good."""

    def __init__(self, directory: Path):
        self.cfg = load_config(directory)
        self.knobs = self.cfg.collector
        self.folder = directory / "actor"
        self.memory = Memory(self.folder / "spool")
        self.desk = Desk(directory, run_id(directory), self.knobs.address)
        self.stopped = threading.Event()
        self.waited_for = -1  # version after which waiting was given up
        self._began = time.time()

    def play(self) -> None:
        """Play until told to stop, or until there has been no learner for long."""
        self.desk.start()
        self.memory.start()
        try:
            while self.desk.ready is None:
                if not self._goes_on():
                    return
                time.sleep(POLL_S)
            self._build(*self.desk.ready)
            index, done = self._place()
            env = as_torchrl(
                build.environment(self.cfg.env), seed=self.cfg.seed, first_episode=index
            )
            try:
                while self._await(index):
                    self._take()
                    self._episode(env, done)
                    index, done = index + 1, 0
            finally:
                env.close()
        finally:
            self.memory.close()
            self.desk.over.set()
            self.desk.join()

    def _build(self, about: About, state: dict[str, Tensor]) -> None:
        torch.manual_seed(self.cfg.seed)
        scale = state["algo.action_range.scale"]
        spec = build.environment_spec(self.cfg)
        algo = build.algorithm(self.cfg, spec, None, scale)
        acting = build.acting(self.cfg)
        acting.restore(algo)
        self.policy = Policy(algo, seed=self.cfg.seed, explore=True, acting=acting)
        check(state, self.policy.state_dict())
        self.desk.pattern = self.policy.state_dict()
        self.between_actions = (
            not self.knobs.lockstep and algo.cfg.chunk == 1 and type(acting) is Own
        )
        self.about = about
        self.policy.load_state_dict(state)

    def _place(self) -> tuple[int, int]:
        """Return the episode to play, and how many of its steps are on the disk already."""
        number, payload = last_record(self.folder / "spool")
        if number < 0:
            return self.about.episodes, 0
        episode, step, ended = place(payload)
        if ended:
            return episode + 1, 0
        # In lockstep an episode is a function of seed and weights, and so played once more; the
        # world goes on without us otherwise, and the rest of what a crash cut is lost to it.
        return (episode, step + 1) if self.knobs.lockstep else (episode + 1, 0)

    def _await(self, index: int) -> bool:
        """Wait at rest for weights that know the episodes before; False where there is an end."""
        began = time.monotonic()
        while self._goes_on():
            about, _ = self.desk.ready  # type: ignore[misc]
            if about.episodes >= (index if self.knobs.lockstep else index - AHEAD):
                return True
            if not self.knobs.lockstep:
                if about.version == self.waited_for:
                    return True
                if time.monotonic() - began >= self.knobs.wait_s:
                    self.waited_for = about.version
                    return True
            time.sleep(POLL_S)
        return False

    def _goes_on(self) -> bool:
        if self.desk.failed:
            raise UserError(self.desk.failed, where=self.folder)
        noted = self.folder / "learner"
        heard = noted.stat().st_mtime if noted.exists() else 0.0
        unattended = time.time() - max(heard, self._began)
        return not self.stopped.is_set() and unattended < self.knobs.orphan_s

    def _take(self) -> None:
        """Act with the newest weights from here on: a safe point."""
        about, state = self.desk.ready  # type: ignore[misc]
        if about is not self.about:
            self.policy.load_state_dict(state)
            self.about = about

    def _episode(self, env: EnvBase, done: int) -> None:
        """Play an episode; its first `done` steps are remembered already."""
        td, step, over = env.reset(), 0, False
        while not over and not self.stopped.is_set():
            if self.between_actions:
                self._take()
            td = env.step(self.policy(td))
            if step >= done:
                self.memory.keep(to_bytes(td, step, self._numbers()))
            over = bool(td["next", "done"])
            td, step = step_mdp(td), step + 1

    def _numbers(self) -> dict[str, float]:
        about = self.about
        return {
            "version": about.version,
            f"{STALENESS}steps": self.memory.next - about.records,
            # Two machines' clocks may differ, and a clock may be set: never less than nothing.
            f"{STALENESS}s": max(0.0, time.time() - about.made_s),
        }


def main(directory: Path) -> int:
    """Act for the run in a folder, unless somebody does already."""
    with alone(directory / "actor", run_id(directory)) as ours:
        if ours:
            try:
                actor = Actor(directory)
                signal.signal(signal.SIGTERM, lambda *_: actor.stopped.set())
                actor.play()
            except UserError as error:
                print(error, file=sys.stderr, flush=True)
                return 2
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the learner ends us in its own time
    torch.set_num_threads(1)
    sys.exit(main(Path(sys.argv[1])))
