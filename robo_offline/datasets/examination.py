"""Examine a data set episode by episode, keeping no more of it than counts and digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from robo_offline.datasets.finding import Finding
from robo_offline.datasets.store import Store, per_step
from robo_offline.datasets.tree import label, leaves, shapes

COLUMNS = ("rewards", "terminations", "truncations")
CLOCKS = ("timestamp", "timestamps", "time")  # names under which recorders keep the time
GAP = 2.5  # a step this many times longer than usual lost frames
IDLE = 1e-3  # of the action range; less does not move an arm
IDLE_SHARE = 0.5
FRAGMENT = 0.1  # of the median length
REIMPORT = "correct the source and import it again"


class _End(NamedTuple):
    episode: int
    length: int
    succeeded: bool
    explained: bool  # by success, or by a reward that no step before had


class Examination:
    """Faults of single episodes as they pass, and of the whole at the end."""

    def __init__(self, store: Store):
        self.store = store
        self._faults: dict[str, Finding] = {}
        self._shapes: dict[str, str] | None = None
        self._digests: dict[bytes, int] = {}
        self._lengths: list[int] = []
        self._ends: list[_End] = []  # of the terminated episodes
        self._failed: list[int] = []
        self._rewards: list[float] = [np.inf, -np.inf]
        self._idle = self._steps = 0
        self._low, self._high = _bounds(store.action_space)

    def see(self, number: int, raw: dict[str, Any]) -> None:
        """Examine one episode as Minari reads it."""
        action, reward = np.asarray(raw["actions"]), np.asarray(raw["rewards"])
        steps = len(action if action.ndim else reward)
        self._lengths.append(steps)
        if steps == 0:
            self._add(
                Finding(
                    "empty-episode",
                    "error",
                    "episodes without a step",
                    "the data set cannot be loaded",
                    REIMPORT,
                    number,
                )
            )
            return
        self._shape(number, raw, action)
        self._columns(number, raw, steps)
        self._finite(number, raw)
        self._actions(number, action)
        self._duplicate(number, raw)
        self._end(number, raw, reward)
        self._clock(number, raw, steps)
        if reward.dtype.kind in "biuf" and reward.size:
            self._rewards = [
                min(self._rewards[0], reward.min()),
                max(self._rewards[1], reward.max()),
            ]

    def findings(self) -> Iterator[Finding]:
        """All faults, each kind once with its number of occurrences."""
        for finding in self._faults.values():
            yield replace(finding, message=f"{finding.count} {finding.message}")
        yield from self._of_the_whole()

    def _add(self, finding: Finding) -> None:
        known = self._faults.get(finding.code)
        if known is None:
            self._faults[finding.code] = finding
        else:
            self._faults[finding.code] = replace(known, count=known.count + finding.count)

    def _shape(self, number: int, raw: dict[str, Any], action: np.ndarray) -> None:
        found = shapes(raw["observations"]) | {"action": str(action.shape[1:])}
        self._shapes = self._shapes or found
        changed = [k for k in sorted(found | self._shapes) if found.get(k) != self._shapes.get(k)]
        if changed:
            self._add(
                Finding(
                    "shape-change",
                    "error",
                    f"episodes have other shapes than the first ({', '.join(changed)})",
                    "the data set cannot be loaded",
                    REIMPORT,
                    number,
                )
            )

    def _columns(self, number: int, raw: dict[str, Any], steps: int) -> None:
        counts = {key: len(np.atleast_1d(raw[key])) for key in COLUMNS}
        counts |= {label(p): len(leaf) - 1 for p, leaf in leaves(raw["observations"])}
        short = [key for key, count in counts.items() if count != steps]
        if short:
            self._add(
                Finding(
                    "column-length",
                    "error",
                    f"episodes whose columns differ in length ({', '.join(short)})",
                    "the data set cannot be loaded",
                    "store T + 1 observations and T of everything else",
                    number,
                )
            )

    def _finite(self, number: int, raw: dict[str, Any]) -> None:
        columns = {label(path): leaf for path, leaf in leaves(raw["observations"])}
        columns |= {"action": raw["actions"], "reward": raw["rewards"]}
        for key, leaf in columns.items():
            leaf = np.asarray(leaf)
            if leaf.dtype.kind != "f":
                continue
            bad = np.flatnonzero(~np.isfinite(leaf.reshape(len(leaf), -1)).all(1))
            if len(bad):
                self._add(
                    Finding(
                        f"not-finite-{key}",
                        "error",
                        f"rows of {key} hold NaN or infinity",
                        "one of them turns every weight into NaN; the data set cannot be loaded",
                        "find out which sensor failed, cut those episodes and import again",
                        number,
                        int(bad[0]),
                        len(bad),
                    )
                )

    def _actions(self, number: int, action: np.ndarray) -> None:
        if action.ndim != 2 or action.dtype.kind not in "biuf":
            return
        low, high = self._low, self._high
        if low is None or high is None or len(low) != action.shape[1]:
            low, high = -np.ones(action.shape[1]), np.ones(action.shape[1])
        tolerance = 1e-6 * (high - low)
        outside = ((action < low - tolerance) | (action > high + tolerance)).any(1)
        if outside.any():
            self._add(
                Finding(
                    "action-out-of-bounds",
                    "warning",
                    "actions lie outside of the declared bounds",
                    "they are clipped at loading; if the bounds are wrong, the scale is wrong too",
                    "check the bounds declared for the action space",
                    number,
                    int(outside.argmax()),
                    int(outside.sum()),
                )
            )
        idle = (np.abs(action - (low + high) / 2) > IDLE * (high - low)).sum(1)
        self._idle += int((idle <= (action.shape[1] > 2)).sum())  # a gripper holds a command
        self._steps += len(action)

    def _duplicate(self, number: int, raw: dict[str, Any]) -> None:
        digest = hashlib.sha256(np.ascontiguousarray(raw["actions"]).tobytes())
        for _, leaf in leaves(raw["observations"]):
            digest.update(np.ascontiguousarray(leaf).tobytes())
        first = self._digests.setdefault(digest.digest(), number)
        if first != number:
            self._add(
                Finding(
                    "duplicate-episode",
                    "warning",
                    f"episodes repeat an earlier one (episode {first} first)",
                    "they weigh more than others, and held-out data may hold training data",
                    "import the source once, or drop the copies",
                    number,
                )
            )

    def _end(self, number: int, raw: dict[str, Any], reward: np.ndarray) -> None:
        terminated = np.asarray(raw["terminations"], bool).reshape(-1)
        truncated = np.asarray(raw["truncations"], bool).reshape(-1)
        if (terminated[:-1].any() or truncated[:-1].any()) and len(terminated) == len(truncated):
            row = int((terminated | truncated).argmax())
            self._add(
                Finding(
                    "end-inside-episode",
                    "error",
                    "episodes go on after they were terminated or truncated",
                    "what follows belongs to another episode, and is learnt as a consequence",
                    "cut the episodes there and import again",
                    number,
                    row,
                )
            )
        if not (terminated[-1:].any() or truncated[-1:].any()):
            self._add(
                Finding(
                    "open-end",
                    "warning",
                    "episodes end neither terminated nor truncated",
                    "they are taken as cut off",
                    "mark the end of each episode",
                    number,
                )
            )
        success = dict(per_step(raw.get("infos") or {}, len(reward))).get("success")
        succeeded = success is not None and bool(np.any(success))
        if success is not None and not succeeded:
            self._failed.append(number)
        if terminated[-1:].any():
            # Without a success signal, a changed last reward is the only sign of a real end.
            changed = len(reward) > 1 and bool(reward[-1] != reward[-2]) and success is None
            self._ends.append(_End(number, len(reward), succeeded, succeeded or changed))

    def _clock(self, number: int, raw: dict[str, Any], steps: int) -> None:
        infos = dict(per_step(raw.get("infos") or {}, steps))
        time = next((np.asarray(infos[key]) for key in CLOCKS if key in infos), None)
        if time is None or time.dtype.kind not in "iuf" or steps < 3:
            return
        gaps = np.diff(time.reshape(steps, -1)[:, 0].astype(np.float64))
        usual = float(np.median(gaps))
        late = (gaps > GAP * usual) | (gaps <= 0)
        if late.any():
            self._add(
                Finding(
                    "sampling-gap",
                    "warning",
                    "steps are late, or the clock stands still",
                    "an action seems to cause more than it does",
                    "cut the episodes at the gaps",
                    number,
                    int(late.argmax()),
                    int(late.sum()),
                )
            )

    def _of_the_whole(self) -> Iterator[Finding]:
        episodes, steps = len(self._lengths), sum(self._lengths)
        if episodes == 0:
            yield Finding(
                "no-episode", "error", "it holds no episode", "nothing to learn", REIMPORT
            )
            return
        total = self.store.metadata.get("total_steps")
        if isinstance(total, int) and total != steps:
            yield Finding(
                "wrong-total",
                "warning",
                f"the metadata counts {total} steps, the episodes hold {steps}",
                "some of it may be missing",
                "compare with the source",
            )
        if self._rewards[0] == self._rewards[1]:
            yield Finding(
                "constant-reward",
                "warning",
                f"the reward is {self._rewards[0]:g} at every step",
                "only imitation can learn from it",
                "add a reward, or use an algorithm that needs none (bc)",
            )
        yield from self._terminals()
        median = float(np.median(self._lengths))
        short = [i for i, length in enumerate(self._lengths) if 0 < length < FRAGMENT * median]
        if short:
            yield Finding(
                "fragment",
                "warning",
                f"{len(short)} episodes are shorter than a tenth of the median ({median:g} steps)",
                "they may be aborted recordings",
                "look at them, drop what is no attempt at the task",
                short[0],
                count=len(short),
            )
        if self._failed:
            yield Finding(
                "failed-episode",
                "note",
                f"{len(self._failed)} of {episodes} episodes never succeed",
                "imitation copies them; offline RL can use them",
                "for imitation, keep the successful ones only",
                self._failed[0],
                count=len(self._failed),
            )
        if self._idle > IDLE_SHARE * max(1, self._steps):
            yield Finding(
                "idle-actions",
                "note",
                f"{self._idle / self._steps:.0%} of the actions do nothing (the gripper aside)",
                "a policy that imitates them waits, and waits",
                "train with drop_no_ops=true, or with action chunks (algo.chunk=4)",
                count=self._idle,
            )

    def _terminals(self) -> Iterator[Finding]:
        limit = max(self._lengths)
        unexplained = [end for end in self._ends if not end.explained]
        # Many ends at one and the same greatest length are a clock's doing, not the task's.
        suspects = [end for end in self._ends if end.length == limit and not end.succeeded]
        if len(suspects) >= 2 and 2 * len(suspects) > len(self._ends):
            yield Finding(
                "time-limit-as-terminal",
                "warning",
                f"{len(suspects)} episodes end as terminated at exactly {limit} steps",
                "a time limit taken for an end teaches that the future there is worth nothing",
                f"import again with horizon={limit}, or mark them truncated",
                suspects[0].episode,
                limit - 1,
                len(suspects),
            )
        elif unexplained:
            yield Finding(
                "unexplained-terminal",
                "warning",
                f"{len(unexplained)} episodes end as terminated without success or a new reward",
                "if it was a time limit, values before it are learnt too low",
                "mark them truncated unless the task really ended",
                unexplained[0].episode,
                unexplained[0].length - 1,
                len(unexplained),
            )


def _bounds(space: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
    if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
        return None, None
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    # Infinite bounds bound nothing; the cache clips at 1 then, so that is what counts.
    return np.where(np.isfinite(low), low, -1.0), np.where(np.isfinite(high), high, 1.0)
