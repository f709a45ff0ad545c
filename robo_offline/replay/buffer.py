"""Replay: episodes in, batches of windows out; a data set and growing experience alike.

Rows lie as in `Dataset.steps`: an episode of T steps takes T + 1 rows, the last one for the final
observation. So successors, n-step returns and action chunks are gathers at other offsets, and no
observation is stored twice. The rows live in a TorchRL storage, in memory or memory-mapped.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import LazyMemmapStorage, LazyTensorStorage

from robo_offline.errors import UserError
from robo_offline.policies.action_range import ActionRange
from robo_offline.replay import frames
from robo_offline.replay.hindsight import Hindsight
from robo_offline.replay.returns import return_to_go
from robo_offline.replay.samplers import Sampler, Uniform
from robo_offline.schema import DATASET, HUMAN, NEXT_ACTION, OWN, RETURN_TO_GO, Batch
from robo_offline.spec import GOAL, MadeOf

LEAVES = ("observation", "action", "reward", "terminated", "truncated", "success")


@dataclass(frozen=True)
class Window:
    """How rows become a batch: what one decision spans and how its rewards add up."""

    discount: float  # per environment step
    chunk: int = 1  # actions per decision, H
    n_step: int = 1  # steps before the bootstrap; at least `chunk` are taken
    reward_scale: float = 1.0  # batches hold scale * reward + shift, storage the raw reward
    reward_shift: float = 0.0
    action_range: ActionRange | None = None  # batches hold the policy's units, storage the executed
    extras: tuple[str, ...] = ()  # of schema.EXTRAS, what the algorithm needs besides
    hindsight: Hindsight | None = None  # gives batches other goals than the rows have, if any
    goal: MadeOf | None = None  # what goals are made of
    frames: int = 1  # images of each camera that lie behind one another

    @property
    def length(self) -> int:
        return max(self.chunk, self.n_step)


class Replay:
    """A ring of whole episodes. When it is full the oldest episodes leave, one at a time."""

    def __init__(
        self,
        capacity: int,
        window: Window,
        *,
        source: int = OWN,
        scratch: Path | None = None,
        sampler: Sampler | None = None,
    ):
        self.capacity, self.window, self.source = capacity, window, source
        self.sampler = Uniform() if sampler is None else sampler
        storage = LazyTensorStorage if scratch is None else LazyMemmapStorage
        # A resumed run finds the files of its earlier sitting, and fills them anew.
        options = {} if scratch is None else {"scratch_dir": str(scratch), "existsok": True}
        self.storage = storage(capacity, **options)
        self.rows: Any = None  # TensorDictBase, once there is an episode
        self.seen: Any = None  # what of its observations batches hold as they are
        self.episodes: deque[tuple[int, int]] = deque()  # (first row, steps), oldest first
        self.cursor = 0  # where the next episode begins
        self.total = 0  # episodes ever appended
        self.remaining = torch.zeros(capacity, dtype=torch.int64)  # steps from a row to the end
        self.first = torch.zeros(capacity, dtype=torch.int64)  # row where a row's episode begins
        self.demonstration = torch.zeros(capacity, dtype=torch.bool)  # rows worth imitating
        self.return_to_go = torch.zeros(capacity if RETURN_TO_GO in window.extras else 0)
        self.priority = torch.zeros(capacity if self.sampler.prioritized else 0)  # 0 is nobody's
        self.first_priority = float(self.sampler.priority(torch.zeros(())))  # of the first episode
        self._starts: Tensor | None = None
        self._taught: Tensor | None = None

    @classmethod
    def of_steps(
        cls,
        steps: TensorDictBase,
        window: Window,
        source: int = DATASET,
        sampler: Sampler | None = None,
    ) -> Replay:
        """Serve a data set's rows as they lie, without a copy."""
        replay = cls(0, window, source=source, sampler=sampler)
        replay.capacity = len(steps)
        replay._serve(steps.select(*LEAVES))
        final = steps["final"].nonzero().squeeze(-1)
        first = torch.cat([torch.zeros(1, dtype=torch.int64), final[:-1] + 1])
        replay.episodes = deque(zip(first.tolist(), (final - first).tolist(), strict=True))
        end = torch.repeat_interleave(final, final - first + 1)
        replay.remaining = end - torch.arange(len(steps))
        replay.first = torch.repeat_interleave(first, final - first + 1)
        replay.demonstration = _worth_imitating(steps["success"], first, final)
        if RETURN_TO_GO in window.extras:
            replay.return_to_go = torch.cat(
                [replay._returns(steps[a : b + 1]) for a, b in zip(first, final, strict=True)]
            )
        if replay.sampler.prioritized:
            replay.priority = replay.sampler.priority(torch.zeros(len(steps)))
        return replay

    def __len__(self) -> int:
        """Count the transitions that may be drawn."""
        return len(self.starts)

    @property
    def starts(self) -> Tensor:
        """Rows where a window may begin, in order of age."""
        if self._starts is None:
            spans = [torch.arange(first, first + steps) for first, steps in self.episodes]
            self._starts = torch.cat(spans) if spans else torch.zeros(0, dtype=torch.int64)
        return self._starts

    @property
    def taught(self) -> Tensor:
        """Rows of `starts` where a person acted in the policy's stead."""
        if self._taught is None:
            starts = self.starts
            self._taught = starts[self._source(starts) == HUMAN] if len(starts) else starts
        return self._taught

    def extend(self, episode: TensorDictBase) -> None:
        """Append one episode of T + 1 rows with the leaves of `Dataset.steps`."""
        rows = len(episode)
        if rows > self.capacity:
            raise UserError(
                "an episode does not fit into the replay",
                expected=f"at most {self.capacity} rows",
                found=f"{rows} rows",
                remedy="raise replay.capacity",
            )
        if self.cursor + rows > self.capacity:  # episodes never wrap around the end of the ring
            self._evict(self.cursor, self.capacity)
            self.cursor = 0
        self._evict(self.cursor, self.cursor + rows)
        self.place(episode, self.cursor)
        self.cursor += rows
        self.total += 1

    def place(self, episode: TensorDictBase, first: int) -> None:
        """Write an episode's rows beginning at row `first`, as the newest episode."""
        rows = len(episode)
        leaves = episode.select(*LEAVES)
        own = torch.full((rows,), self.source, dtype=torch.uint8)
        leaves.set("source", episode.get("source", own))
        self.storage.set(torch.arange(first, first + rows), leaves)
        # TorchRL counts the rows written, as if there were no gaps: give it no say in the length.
        self.storage._len = self.capacity
        self._serve(self.storage[:])
        self.remaining[first : first + rows] = torch.arange(rows - 1, -1, -1)
        self.first[first : first + rows] = first
        person = leaves["source"] == HUMAN
        helped_later = person.flip(0).cumsum(0).flip(0) > 0  # what made help needed is no example
        worth = person | (bool(episode["success"].any()) & ~helped_later)
        self.demonstration[first : first + rows] = worth
        if RETURN_TO_GO in self.window.extras:
            self.return_to_go[first : first + rows] = self._returns(episode)
        if self.sampler.prioritized:  # nothing is known of them: as likely as the likeliest
            likeliest = max(float(self.priority.max()), self.first_priority)
            self.priority[first : first + rows - 1] = likeliest
        self.episodes.append((first, rows - 1))
        self._starts = self._taught = None

    def _serve(self, rows: Any) -> None:
        self.rows, self.seen = rows, rows["observation"]
        if self.window.hindsight is not None:
            self.seen = self.seen.exclude(GOAL)  # it is drawn anew

    def export(self, since: int) -> tuple[TensorDictBase, Tensor]:
        """Return the rows of all episodes from number `since` on, and how many rows each has."""
        kept = list(self.episodes)[since - (self.total - len(self.episodes)) :]
        rows = torch.cat([self.rows[first : first + steps + 1] for first, steps in kept])
        return rows, torch.tensor([steps + 1 for _, steps in kept])

    def _evict(self, begin: int, end: int) -> None:
        """Forget the episodes that have a row in [begin, end); they are the oldest ones."""
        while self.episodes and self._overlaps(self.episodes[0], begin, end):
            first, steps = self.episodes.popleft()
            self.priority[first : first + steps] = 0.0

    @staticmethod
    def _overlaps(episode: tuple[int, int], begin: int, end: int) -> bool:
        first, steps = episode
        return first < end and begin < first + steps + 1

    def sample(self, size: int) -> Batch:
        """Draw windows as the sampler says, with replacement, from the global random stream."""
        if not len(self):
            raise UserError("the replay is empty", remedy="collect or load episodes first")
        return self.gather(self.sampler.draw(self.starts, self.priority, size))

    @property
    def mass(self) -> float:
        """What all windows together weigh against those of another replay."""
        if not self.sampler.prioritized:
            return float(len(self))
        return float(self.priority[self.starts].sum(dtype=torch.float64))

    def prioritise(
        self, batch: Batch, error: Tensor | None, ours: Tensor | slice = slice(None)
    ) -> None:
        """Note how wrong the learner was about each row of a batch, (B,); `ours` are of here.

        Raises UserError where a prioritised replay is told nothing.
        """
        if not self.sampler.by_error:
            return
        if error is None:
            raise UserError(
                "the replay is prioritised, but the algorithm reports no priority",
                remedy="replay=mixture or replay=union, or an algorithm such as td7",
            )
        self.weigh(batch["index"][ours], error[ours])

    def weigh(self, rows: Tensor, error: Tensor) -> None:
        """Set the priority of rows; one that stands there twice takes the larger, in any order."""
        found = self.sampler.priority(error).to(self.priority)
        self.priority.scatter_reduce_(0, rows, found, "amax", include_self=False)

    def gather(self, start: Tensor) -> Batch:
        """Build the batch of windows that begin at the given rows (B,)."""
        w, rows = self.window, self.rows
        if w.length == 1:
            length = torch.ones_like(start)
            reward = w.reward_scale * rows["reward"][start] + w.reward_shift
            discount = torch.full_like(reward, w.discount)
        else:
            length = self.remaining[start].clamp(max=w.length)
            reward, discount = self._discounted(start, length)
        last = start + length - 1
        batch = {
            "observation": self.observe(start),
            "discount": discount,
            "source": self._source(start),
            "demonstration": self.demonstration[start],
        }
        if self.sampler.prioritized:
            batch["index"] = start
        if w.chunk > 1:
            batch["action"], batch["mask"] = self._chunk(start, length)
        else:
            batch["action"] = self._actions(start)
        terminated, truncated = rows["terminated"][last], rows["truncated"][last]
        following = {
            "observation": self.observe(start + length),
            "reward": reward,
            "terminated": terminated,
            "truncated": truncated,
            "done": terminated | truncated,
        }
        if RETURN_TO_GO in w.extras:
            batch["return_to_go"] = self.return_to_go[start]
        if NEXT_ACTION in w.extras:
            following |= self._next_actions(start + length)
        if w.hindsight is not None:
            w.hindsight.relabel(self, start, length, batch, following)
        return TensorDict({**batch, "next": following}, start.shape)

    def observe(self, row: Tensor) -> Any:
        """Return what was seen at the given rows (B,)."""
        return frames.gather(self.seen, row, self.first[row], self.window.frames)

    def _source(self, start: Tensor) -> Tensor:
        known = self.rows.get("source", None)  # a data set has one for all of its rows
        return (
            torch.full_like(start, self.source, dtype=torch.uint8)
            if known is None
            else known[start]
        )

    def _returns(self, episode: TensorDictBase) -> Tensor:
        """Scaled returns of an episode's rows; zero in the closing one."""
        w = self.window
        reward = w.reward_scale * episode["reward"][:-1] + w.reward_shift
        terminated = bool(episode["terminated"].any())
        return torch.cat([return_to_go(reward, w.discount, terminated), torch.zeros(1)])

    def _discounted(self, start: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of discount^k r_k over each window's real steps, and discount^length: (B,), (B,)."""
        w = self.window
        offset = torch.arange(w.length)
        real = offset < length[:, None]  # (B, L)
        step = torch.minimum(offset, length[:, None] - 1)
        raw = self.rows["reward"][start[:, None] + step]
        powers = w.discount ** torch.arange(w.length + 1, dtype=torch.float32)
        reward = ((w.reward_scale * raw + w.reward_shift) * powers[:-1] * real).sum(1)
        return reward, powers[length]

    def _chunk(self, start: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Actions (B, H, A) and which are real (B, H).

        What would follow an episode's end has no effect, so any filler is right for a critic as
        long as it does not give the end away. It is taken from the next row of the batch.
        """
        offset = torch.arange(self.window.chunk)
        real = offset < length[:, None]
        donor, limit = start.roll(-1), length.roll(-1)
        index = torch.where(real, start[:, None] + offset, donor[:, None] + offset % limit[:, None])
        return self._actions(index), real

    def _next_actions(self, start: Tensor) -> dict[str, Tensor]:
        """What was decided at the given rows, zero from an episode's end on, where a mask ends."""
        if self.window.chunk == 1:
            return {"action": self._actions(start)}  # the closing row holds zeros
        offset, left = torch.arange(self.window.chunk), self.remaining[start]
        action = self._actions(start[:, None] + torch.minimum(offset, left[:, None]))
        return {"action": action, "mask": offset < left[:, None]}

    def _actions(self, index: Tensor) -> Tensor:
        action, scale = self.rows["action"][index], self.window.action_range
        return action if scale is None else scale.to_policy(action)


def _worth_imitating(success: Tensor, first: Tensor, final: Tensor) -> Tensor:
    """Mark the rows of episodes that succeeded; all of them where success was not recorded."""
    if not success.any():
        return torch.ones(len(success), dtype=torch.bool)
    count = torch.cat([torch.zeros(1, dtype=torch.int64), success.cumsum(0)])
    return torch.repeat_interleave(count[final + 1] > count[first], final - first + 1)
