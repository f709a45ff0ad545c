"""Evaluate: score a policy over fixed episodes, in parallel processes, with an honest interval."""

from __future__ import annotations

import io
import json
import math
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from envs.torchrl import EpisodeSeeds
from robo_offline.analysis.intervals import mean_t, wilson
from robo_offline.errors import UserError
from robo_offline.policies.policy import Policy
from robo_offline.processes import become_worker
from robo_offline.video import grid, write_video

FRAME_EVERY = 4  # environment steps per video frame
EPISODES_PER_TASK = 5  # the policy travels to a worker once per task


@dataclass(frozen=True)
class Outcome:
    """One evaluated episode."""

    index: int
    success: bool
    episode_return: float
    length: int
    frames: list[np.ndarray] | None = None
    task: int | None = None  # which one it was, of an environment with several


@dataclass(frozen=True)
class Evaluation:
    """The outcome of some episodes, always in the order of their index."""

    outcomes: tuple[Outcome, ...]
    seed: int
    score_range: tuple[float, float] | None = None
    video: Path | None = None

    @property
    def successes(self) -> int:
        return sum(outcome.success for outcome in self.outcomes)

    @property
    def rank(self) -> tuple[float, float]:
        """What the best checkpoint is best at: success first, then return."""
        return (self.successes / len(self.outcomes), float(np.mean(self._returns())))

    def _returns(self) -> list[float]:
        return [outcome.episode_return for outcome in self.outcomes]

    def row(self) -> dict[str, Any]:
        """Summarise for logs and reports."""
        returns, count = self._returns(), len(self.outcomes)
        _, low, high = wilson(self.successes, count)
        mean = float(np.mean(returns))
        return {
            "episodes": count,
            "successes": self.successes,
            "success_rate": self.successes / count,
            "success_low": low,
            "success_high": high,
            "return_mean": mean,
            "return_low": mean_t(returns).low if count > 1 else None,
            "return_std": float(np.std(returns)),
            "length_mean": float(np.mean([outcome.length for outcome in self.outcomes])),
            "normalised_score": self._normalised(mean),
            "seed": self.seed,
        } | self._by_task()

    def _by_task(self) -> dict[str, float]:
        """Success rate of every task, where the environment has several."""
        tasks = sorted({outcome.task for outcome in self.outcomes if outcome.task is not None})
        return {
            f"success_rate_task_{task}": float(
                np.mean([outcome.success for outcome in self.outcomes if outcome.task == task])
            )
            for task in tasks
        }

    def _normalised(self, mean: float) -> float | None:
        if self.score_range is None:
            return None
        low, high = self.score_range
        return 100 * (mean - low) / (high - low)

    def write(self, path: Path) -> None:
        """Write the summary and every episode as JSON."""
        episodes = [
            {k: v for k, v in vars(outcome).items() if k != "frames"} for outcome in self.outcomes
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.row() | {"per_episode": episodes}, indent=2))


class Evaluator:
    """Runs episodes 0..n-1 of one seed; the same policy gives the same result every time."""

    def __init__(
        self,
        environment: Callable[[], gymnasium.Env],
        *,
        episodes: int,
        seed: int,
        workers: int = 1,
        video_episodes: int = 0,
        score_range: tuple[float, float] | None = None,
    ):
        if episodes < 1:
            raise UserError("an evaluation needs at least one episode", found=episodes)
        self.environment, self.episodes, self.seed = environment, episodes, seed
        self.workers = min(workers, episodes)
        self.video_episodes, self.score_range = video_episodes, score_range
        self._pool: ProcessPoolExecutor | None = None
        self._env: gymnasium.Env | None = None

    def __call__(
        self,
        policy: Policy,
        video: Path | None = None,
        done: Callable[[int], None] = lambda episodes: None,
    ) -> Evaluation:
        """Score a policy. A video is left out, with one line, where rendering is not possible.

        `done` is told how many episodes are over, now and then.
        """
        shown = self.video_episodes if video is not None else 0
        if self.workers > 1:
            outcomes = self._in_processes(policy, shown, done)
        else:
            if self._env is None:
                self._env = self.environment()
            outcomes = []
            for index in range(self.episodes):
                outcomes.append(play(self._env, policy, self.seed, index, render=index < shown))
                done(len(outcomes))
        written = None
        clips = [outcome.frames for outcome in outcomes if outcome.frames]
        if video is not None and clips:
            written = write_video(video, grid(clips))
        return Evaluation(tuple(outcomes), self.seed, self.score_range, written)

    def _in_processes(
        self, policy: Policy, shown: int, done: Callable[[int], None]
    ) -> list[Outcome]:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin_worker,
                initargs=(self.environment,),
            )
        packed = io.BytesIO()
        torch.save(policy, packed)
        tasks = [
            self._pool.submit(_play_share, packed.getvalue(), self.seed, share, shown)
            for share in _shares(self.episodes, self.workers)
        ]
        try:
            outcomes: list[Outcome] = []
            for task in as_completed(tasks):
                outcomes += task.result()
                done(len(outcomes))
        except BrokenProcessPool as error:
            raise UserError(
                "an evaluation process died",
                found=error,
                remedy="evaluation.workers=1 shows its error here; a lack of memory is common",
            ) from error
        return sorted(outcomes, key=lambda outcome: outcome.index)

    def close(self) -> None:
        """End the worker processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        if self._env is not None:
            self._env.close()
            self._env = None


def play(
    env: gymnasium.Env, policy: Policy, seed: int, index: int, render: bool = False
) -> Outcome:
    """Run one episode, fixed by (seed, index), without exploration."""
    episode = EpisodeSeeds(env, seed, first_episode=index)
    observation, info = episode.reset()
    task = info.get("task")
    policy.reset(index)
    total, length, over, success = 0.0, 0, False, bool(info.get("success", False))
    frames: list[np.ndarray] | None = [] if render else None
    while not over:
        if frames is not None and length % FRAME_EVERY == 0:
            frames = _add_frame(frames, env)
        observation, reward, terminated, truncated, info = episode.step(
            policy.act(observation, explore=False)
        )
        total += float(reward)
        length += 1
        success = success or bool(info.get("success", False))
        over = bool(terminated or truncated)
    if frames is not None:
        frames = _add_frame(frames, env)
    return Outcome(index, success, total, length, frames, task)


def _add_frame(frames: list[np.ndarray], env: gymnasium.Env) -> list[np.ndarray] | None:
    try:
        return [*frames, np.asarray(env.render())]
    except UserError:  # no rendering on this machine: everything but the video still works
        return None


def _shares(episodes: int, workers: int) -> list[list[int]]:
    """Deal the episodes out in small hands: workers stay busy, and a stop is soon obeyed."""
    hands = max(workers, math.ceil(episodes / EPISODES_PER_TASK))
    return [list(range(hand, episodes, hands)) for hand in range(hands)]


_worker_env: gymnasium.Env | None = None  # one per worker process, built once


def _begin_worker(environment: Callable[[], gymnasium.Env]) -> None:
    global _worker_env
    become_worker()
    _worker_env = environment()


def _play_share(packed: bytes, seed: int, indices: list[int], shown: int) -> list[Outcome]:
    assert _worker_env is not None
    # The bytes come from our own parent process through a pipe, never from a file.
    policy = torch.load(io.BytesIO(packed), weights_only=False)
    return [play(_worker_env, policy, seed, index, render=index < shown) for index in indices]
