"""Collector: whole episodes from TorchRL's collectors, in this process or one ahead in another."""

from __future__ import annotations

import gc
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import gymnasium
import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.collectors import Collector as InProcess
from torchrl.collectors import MultiSyncCollector
from torchrl.envs import EnvBase

from envs.torchrl import as_torchrl
from robo_offline.errors import UserError
from robo_offline.processes import become_worker
from robo_offline.schema import HUMAN

if TYPE_CHECKING:
    from robo_offline.phases.run import Run


class Collecting(Protocol):
    """A context that gives one episode at a time."""

    def __enter__(self) -> Collecting: ...

    def __exit__(self, *_: object) -> None: ...

    def next(self) -> tuple[TensorDictBase, dict[str, float]]:
        """Return the next episode as T + 1 rows, and numbers about it."""

    def after_update(self) -> None:
        """Take note that the learner has moved."""


class Choice(Protocol):
    """Where experience is collected: `collector=` of a configuration."""

    def __call__(self, run: Run, *, random_steps: int, ahead: bool) -> Collecting: ...


@dataclass(frozen=True)
class Here:
    """The choice `collector=here`: in the learner's process, or ahead in a second one."""

    def __call__(self, run: Run, *, random_steps: int, ahead: bool) -> Collecting:
        return Collector(run, random_steps=random_steps, ahead=ahead)


class Collector:
    """Gives one episode at a time, each collected with one policy.

    In process: an episode is collected when it is asked for, with the newest policy. Ahead: while
    the learner updates, a second process already collects the next episode, with the policy as it
    was when that episode began, so the data is one episode older; what is collected is the same on
    every run, however fast either process is.
    """

    def __init__(self, run: Run, *, random_steps: int, ahead: bool):
        assert run.environment is not None
        self.run, self.random_steps, self.ahead = run, random_steps, ahead
        self.policy = run.policy(explore=True)
        self.resumed, run.published = run.published, {}
        make = partial(_environment, run.environment, run.seed, run.counters.episode, ahead)
        self.threads = torch.get_num_threads()
        options: dict[str, Any] = {
            "frames_per_batch": 1,
            "total_frames": -1,
            "trajs_per_batch": 1,
            "traj_format": "cat",
        }
        with torch.random.fork_rng(devices=[]):  # building must not move the learner's stream
            if ahead:
                self.source = MultiSyncCollector(
                    [make], self.policy, num_threads=self.threads, num_sub_threads=1, **options
                )
            else:
                self.source = InProcess(make, self.policy, **options)
        self.iterator = iter(self.source)
        self.thread = ThreadPoolExecutor(1)
        self.pending: Future | None = None

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pending is not None:
            self.pending.exception()  # the worker finishes its episode; nobody reads it
        self.thread.shutdown()
        self.source.shutdown()
        torch.set_num_threads(self.threads)  # TorchRL hands the threads of its workers to us
        # Left to the interpreter's end, TorchRL's weight sync starts a thread there and hangs.
        self.iterator = self.source = None
        gc.collect()

    def next(self) -> tuple[TensorDictBase, dict[str, float]]:
        """Return the next episode as T + 1 rows, and its return, length and success."""
        if not self.ahead:
            self._publish()
            with torch.random.fork_rng(devices=[]):
                episode = next(self.iterator)
            return self._rows(episode)
        pending = self.pending or self._start()
        episode = pending.result()
        self._start()
        return self._rows(episode)

    def after_update(self) -> None:
        """An episode's weights are those that it began with."""

    def _start(self) -> Future:
        if self.resumed:  # this episode was under way when the run was saved
            self.policy.load_state_dict(self.resumed)
            self.resumed = {}
        else:
            self._publish()
        self.run.published = {k: v.clone() for k, v in self.policy.state_dict().items()}
        self.source.update_policy_weights_()
        self.pending = self.thread.submit(next, self.iterator)
        return self.pending

    def _publish(self) -> None:
        self.policy.publish(self.run.learner.algo, self.run.acting)
        self.policy.random.fill_(self.run.counters.env_step < self.random_steps)

    def _rows(self, td: TensorDictBase) -> tuple[TensorDictBase, dict[str, float]]:
        expected, found = self.run.counters.episode, int(td["episode"][0])
        if found != expected:
            raise UserError("the collector skipped an episode", expected=expected, found=found)
        return rows_and_summary(td)


def rows_and_summary(td: TensorDictBase) -> tuple[TensorDictBase, dict[str, float]]:
    """Lay an episode of T steps as T + 1 rows, the last one for its final observation."""
    after = td["next"]
    observation = torch.cat([td["observation"], after["observation"][-1:]])
    steps = {
        "action": after["executed"],
        "source": after["source"].squeeze(-1).to(torch.uint8),
        "reward": after["reward"].squeeze(-1),
        "terminated": after["terminated"].squeeze(-1),
        "truncated": after["truncated"].squeeze(-1),
        "success": after["success"].squeeze(-1),
    }
    padded = {key: torch.cat([v, torch.zeros_like(v[:1])]) for key, v in steps.items()}
    rows = TensorDict({"observation": observation, **padded}, [len(td) + 1])
    summary = {
        "return": float(steps["reward"].sum()),
        "length": float(len(td)),
        "success": float(after["success"].any()),
        "guided": float(td["guided"].float().mean()),
        "intervention": float((steps["source"] == HUMAN).float().mean()),
    }
    return rows, summary


def _environment(
    make: Callable[[], gymnasium.Env], seed: int, first_episode: int, worker: bool
) -> EnvBase:
    if worker:
        become_worker()
    return as_torchrl(make, seed=seed, first_episode=first_episode)
