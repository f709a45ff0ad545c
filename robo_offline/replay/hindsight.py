"""Hindsight: a sampled transition is told a goal that some row achieved, and judged by it.

Andrychowicz et al. Hindsight Experience Replay. NeurIPS 2017 (arXiv 1707.01495); the shares of
where goals come from are those of Park, Frans, Eysenbach, Levine. OGBench. ICLR 2025
(arXiv 2410.20092).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from robo_offline.errors import UserError
from robo_offline.schema import ACTOR_GOAL, RETURN_TO_GO, SUBGOALS
from robo_offline.spec import GOAL, MadeOf

if TYPE_CHECKING:
    from robo_offline.replay.buffer import Replay, Window

Goal = dict[str, Tensor]  # leaf -> (B, ...), as in `observation, goal`
Rows = Any  # an array of numbers of rows: small ones take NumPy a third of PyTorch's time
COMMANDED = -1  # in place of a goal's row: the goal that the episode was collected with


@dataclass(frozen=True)
class Shares:
    """Where goals come from, for a transition at row i of an episode that can be judged to row T.

    Behind T lies nothing: no goal is of another episode, except those of `random`.
    """

    current: float  # row i itself
    geometric: float  # min(i + D, T), where D = 1, 2, ... has P(D) = (1 - discount) discount^(D-1)
    uniform: float  # from min(i + 1, T) to T; rounded, so both ends are half as likely
    final: float  # T
    random: float  # any row of the replay
    commanded: float  # what the episode was collected to reach, where the rows know it

    @property
    def ahead(self) -> float:
        """Share of the goals that lie in the rest of the same episode."""
        return self.current + self.geometric + self.uniform + self.final


class Reached(Protocol):
    """When a goal counts as reached."""

    offset: int  # a step from row i is judged by row i + offset
    measures: ClassVar[bool]  # whether any goal can be judged, or only one that is of a row

    def __call__(self, step: Rows, row: Rows, goal: Goal, after: Callable[[], Goal]) -> Rows:
        """Say whether steps from rows `step` (B, L) reach the `goal` that `row` (B,) achieves.

        `after` tells what the steps achieve, B * L rows.
        """


@dataclass(frozen=True)
class SameRow:
    """A goal is reached at the very row that it is of; nothing is measured, so images serve.

    With an offset of 0 it is reached where a step begins (OGBench), with 1 where it leads.
    """

    offset: int

    measures: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.offset not in (0, 1):
            raise UserError(
                "goals.reached.offset does not fit", expected="0 or 1", found=self.offset
            )

    def __call__(self, step: Rows, row: Rows, goal: Goal, after: Callable[[], Goal]) -> Rows:
        return step + self.offset == row[:, None]


@dataclass(frozen=True)
class Near:
    """A goal is reached where a step leads to within a distance of it, over all its numbers."""

    tolerance: float

    offset: ClassVar[int] = 1
    measures: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.tolerance > 0:
            raise UserError(
                "goals.reached.tolerance does not fit",
                expected="a distance above 0",
                found=self.tolerance,
                remedy="an env that says its own (env.tolerance), goals.reached.tolerance=..., or "
                "goals=ogbench, which measures nothing",
            )

    def __call__(self, step: Rows, row: Rows, goal: Goal, after: Callable[[], Goal]) -> Rows:
        square: Any = 0.0
        for key, leaf in after().items():
            wanted = goal[key].numpy().reshape(len(row), 1, -1)
            offset = leaf.numpy().reshape(*step.shape, -1) - wanted
            square = square + np.einsum("bld,bld->bl", offset, offset)
        return square < self.tolerance**2


@dataclass(frozen=True)
class Hindsight:
    """How batches get their goals, and what is a reward then.

    `observation` and `next, observation` get the same goal, drawn by `value`; reward and
    termination are those of that goal. What an algorithm asks for besides (schema: ACTOR_GOAL,
    SUBGOALS) is drawn by `actor`, independently. Whatever ended an episode ends no task here but
    a goal that is reached: the end of a recording becomes a truncation.
    """

    value: Shares
    actor: Shares
    discount: float  # of the geometric draw
    reached: Any  # Reached
    reward: float  # of a step that reaches its goal
    reward_before: float  # of every other step
    ends: bool  # whether there is nothing more to get once a goal is reached
    subgoal_steps: int

    def __post_init__(self) -> None:
        for name in ("value", "actor"):
            shares = astuple(getattr(self, name))
            if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
                raise UserError(
                    f"goals.{name} does not fit",
                    expected="shares of at least 0 that add up to 1",
                    found=f"{shares}, together {sum(shares):g}",
                )
        if max(self.value.geometric, self.actor.geometric) > 0 and not 0 <= self.discount < 1:
            raise UserError(
                "goals.discount does not fit",
                expected="within [0, 1) for geometric goals",
                found=self.discount,
                remedy="goals.discount=0.99, or uniform goals",
            )
        if self.subgoal_steps < 1 or not self.reward > self.reward_before:
            raise UserError(
                "goals does not fit",
                expected="subgoal_steps of at least 1, and a reward above reward_before",
                found=f"subgoal_steps {self.subgoal_steps}, reward {self.reward}, "
                f"reward_before {self.reward_before}",
            )

    @property
    def commands(self) -> bool:
        """Whether rows must know a goal of their own."""
        return self.value.commanded + self.actor.commanded > 0

    @property
    def rewards(self) -> Tensor:
        """All rewards that there can be."""
        return torch.tensor([self.reward_before, self.reward])

    def relabel(
        self, replay: Replay, start: Tensor, length: Tensor, batch: dict, following: dict
    ) -> None:
        """Give a batch under construction its goals; windows begin at `start` and are `length`."""
        first = start.numpy()
        last = first + replay.remaining.numpy()[first] + (self.reached.offset - 1)
        row, _ = self._draw(replay, self.value, first, last)
        goal = self._goal(replay, self.value, first, row)
        nested = TensorDict(goal, start.shape)
        batch["observation"].set(GOAL, nested)
        following["observation"].set(GOAL, nested)
        self._judge(replay, first, length.numpy(), row, goal, following)
        extras = replay.window.extras
        if ACTOR_GOAL in extras:
            row, _ = self._draw(replay, self.actor, first, last)
            batch[ACTOR_GOAL] = TensorDict(self._goal(replay, self.actor, first, row), start.shape)
        if SUBGOALS in extras:
            batch |= self._subgoals(replay, first, last)

    def _draw(self, replay: Replay, shares: Shares, start: Rows, last: Rows) -> tuple[Rows, Rows]:
        """Draw rows of goals (B,), COMMANDED for that one, and which lie ahead on the way (B,)."""
        which, where, other = torch.rand(3, len(start), dtype=torch.float64).numpy()
        ways = (
            lambda: start,
            lambda: np.minimum(start + _geometric(where, self.discount), last),
            lambda: _between(where, np.minimum(start + 1, last), last),
            lambda: last,
            lambda: _anywhere(other, replay.starts.numpy()) + self.reached.offset,
            lambda: np.full_like(start, COMMANDED),
        )
        chosen = [(share, way) for share, way in zip(astuple(shares), ways, strict=True) if share]
        row, edge = chosen[0][1](), 0.0
        for (share, _), (_, way) in pairwise(chosen):
            edge += share
            row = np.where(which < edge, row, way())
        return row, which < shares.ahead

    def _goal(self, replay: Replay, shares: Shares, start: Rows, row: Rows) -> Goal:
        if not shares.commanded:
            return achieved(replay, row)
        told, ours = replay.rows["observation"][GOAL], np.flatnonzero(row == COMMANDED)
        at = torch.from_numpy(start[ours])
        return {
            key: leaf.index_copy_(0, torch.from_numpy(ours), told[key].index_select(0, at))
            for key, leaf in achieved(replay, np.maximum(row, 0)).items()
        }

    def _judge(
        self, replay: Replay, start: Rows, length: Rows, row: Rows, goal: Goal, following: dict
    ) -> None:
        """Recompute reward, termination and truncation of windows for the goals of `row`."""
        w = replay.window
        reward = w.reward_scale * self.reward + w.reward_shift
        before = w.reward_scale * self.reward_before + w.reward_shift
        if w.length == 1:
            after = partial(_made, following["observation"], w.goal or {})  # at hand
            reached = self._hit(replay, start[:, None], row, goal, after)[:, 0]
            total = np.where(reached, reward, before)
        else:
            offset = np.arange(w.length)
            real = offset < length[:, None]  # (B, L)
            step = start[:, None] + np.minimum(offset, length[:, None] - 1)
            after = partial(achieved, replay, step.reshape(-1) + 1)
            hit = self._hit(replay, step, row, goal, after) & real
            each = np.where(hit, reward, before) * w.discount**offset
            if self.ends:  # what comes behind the first hit is no longer of the task
                real = real & (hit.cumsum(1) - hit == 0)
            total, reached = (each * real).sum(1), hit.any(1)
        done = following["done"].numpy()
        ended = reached if self.ends else np.zeros_like(reached)
        following["reward"] = torch.from_numpy(total.astype(np.float32))
        following["terminated"] = torch.from_numpy(ended)
        following["truncated"] = torch.from_numpy(done & ~ended)  # a recording's end
        following["done"] = torch.from_numpy(done | ended)

    def _hit(
        self, replay: Replay, step: Rows, row: Rows, goal: Goal, after: Callable[[], Goal]
    ) -> Rows:
        hit = self.reached(step, row, goal, after)
        if self.reached.measures or not self.value.commanded:
            return hit
        # What was commanded is of no row: the environment has said itself whether it was reached.
        told = replay.rows["success"][torch.from_numpy(step)].numpy()
        return np.where((row == COMMANDED)[:, None], told, hit)

    def _subgoals(self, replay: Replay, start: Rows, last: Rows) -> dict[str, Any]:
        """Waypoints `subgoal_steps` ahead: on the way to the end, and to a goal drawn by `actor`.

        Park, Ghosh, Eysenbach, Levine. HIQL. NeurIPS 2023 (arXiv 2307.11949).
        """
        ahead = np.minimum(start + self.subgoal_steps, last)
        row, on_the_way = self._draw(replay, self.actor, start, last)
        target = np.where(on_the_way, np.minimum(ahead, row), ahead)
        high = self._goal(replay, self.actor, start, row)
        return {
            "low_goal": TensorDict(achieved(replay, ahead), start.shape),
            "high_goal": TensorDict(high, start.shape),
            "high_target": replay.observe(torch.from_numpy(target)),
        }


def achieved(replay: Replay, row: Rows) -> Goal:
    """Return the goal that each of the given rows (B,) achieves."""
    observation, at = replay.seen, torch.from_numpy(row)
    assert replay.window.goal is not None
    return {
        key: _part(observation[key], entries, at) for key, entries in replay.window.goal.items()
    }


def check(window: Window) -> None:
    """Raise UserError where a window asks for goals that are not there, or cannot be had."""
    goals = [extra for extra in window.extras if extra in (ACTOR_GOAL, SUBGOALS)]
    if window.hindsight is None:
        if goals:
            raise UserError(
                "the algorithm needs goals, and goals=none draws none",
                expected=", ".join(goals),
                remedy="goals=ogbench, or goals=her",
            )
        return
    if window.goal is None:
        raise UserError(
            "there are goals to draw, but the environment has none",
            remedy="an environment with goals, such as env=goal/point_maze_umaze, or goals=none",
        )
    if RETURN_TO_GO in window.extras:
        raise UserError(
            "the algorithm needs returns to go, which are those of the goal that an episode was "
            "collected with, not of goals drawn later",
            remedy="goals=none, or an algorithm that learns by temporal differences, such as iql",
        )


def _geometric(share: Rows, discount: float) -> Rows:
    """Turn uniform numbers into D = 1, 2, ... of P(D) = (1 - discount) * discount^(D - 1)."""
    if discount == 0:
        return np.ones(len(share), np.int64)
    return 1 + (np.log1p(-share) / math.log(discount)).astype(np.int64)


def _between(share: Rows, first: Rows, last: Rows) -> Rows:
    return np.rint(share * first + (1 - share) * last).astype(np.int64)


def _anywhere(share: Rows, starts: Rows) -> Rows:
    return starts[(share * len(starts)).astype(np.int64)]


def _made(observation: Any, made_of: MadeOf) -> Goal:
    return {key: _entries(observation[key], entries) for key, entries in made_of.items()}


def _part(leaf: Tensor, entries: tuple[int, ...] | None, row: Tensor) -> Tensor:
    if entries is None or _adjacent(entries):  # then the entries are a view, and less is copied
        return _entries(leaf, entries).index_select(0, row)
    return _entries(leaf.index_select(0, row), entries)


def _entries(leaf: Tensor, entries: tuple[int, ...] | None) -> Tensor:
    if entries is None:
        return leaf
    return leaf[:, entries[0] : entries[-1] + 1] if _adjacent(entries) else leaf[:, list(entries)]


def _adjacent(entries: tuple[int, ...]) -> bool:
    return entries == tuple(range(entries[0], entries[0] + len(entries)))
