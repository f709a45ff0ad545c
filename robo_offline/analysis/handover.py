"""What happens when a policy trained offline starts to learn online: the dip and the recovery."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robo_offline.analysis.intervals import Interval, newcombe, wilson

Evaluation = Mapping[str, Any]


@dataclass(frozen=True)
class Handover:
    """The numbers of one run's handover; None where the evaluations cannot tell."""

    offline: Interval | None  # success rate of the last evaluation before the handover
    worst: Interval | None  # the lowest online success rate ...
    worst_step: int | None  # ... and the env step at which it was seen
    final: Interval | None  # the last online success rate
    dip: Interval | None  # worst - offline; the lowest of many is low by chance too
    recovery_steps: int | None  # env steps until it is back at `offline`; 0 if never left
    regret: float | None  # mean of 1 - success rate over the online evaluations
    below_share: float | None  # share of the online env steps spent under the offline level


def handover(evaluations: Sequence[Evaluation]) -> Handover | None:
    """Read the handover from a run's evaluations in order, or None without online successes."""
    usable = [row for row in evaluations if _rate(row) is not None]
    online = [row for row in usable if row.get("phase") == "online"]
    if not online:
        return None
    first = usable.index(online[0])
    before = usable[first - 1] if first else None
    worst = min(online, key=lambda row: _rate(row) or 0.0)
    level = _rate(before) if before is not None else None
    return Handover(
        offline=_interval(before) if before is not None else None,
        worst=_interval(worst),
        worst_step=_step(worst),
        final=_interval(online[-1]),
        dip=_difference(worst, before) if before is not None else None,
        recovery_steps=_recovery(online, worst, level) if level is not None else None,
        regret=sum(1 - (_rate(row) or 0.0) for row in online) / len(online),
        below_share=_below(online, level) if level is not None else None,
    )


def _recovery(online: list[Evaluation], worst: Evaluation, level: float) -> int | None:
    if (_rate(worst) or 0.0) >= level:
        return 0
    after = online[online.index(worst) :]
    return next((_step(row) for row in after if (_rate(row) or 0.0) >= level), None)


def _below(online: list[Evaluation], level: float) -> float:
    """Weigh each evaluation by the env steps that led up to it."""
    below = total = 0
    previous = 0
    for row in online:
        step = _step(row)
        if step is None:
            continue
        weight = max(0, step - previous)
        total += weight
        below += weight * ((_rate(row) or 0.0) < level)
        previous = max(previous, step)
    if total == 0:  # one evaluation at the handover itself
        return sum((_rate(row) or 0.0) < level for row in online) / len(online)
    return below / total


def _rate(row: Evaluation) -> float | None:
    value = row.get("success_rate")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        return None
    return float(value)


def _step(row: Evaluation) -> int | None:
    value = row.get("step")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return int(value)


def _counts(row: Evaluation) -> tuple[float, int] | None:
    """Return successes and episodes, the former from the rate where it was not written."""
    episodes = row.get("episodes")
    if isinstance(episodes, bool) or not isinstance(episodes, int) or episodes < 1:
        return None
    return (_rate(row) or 0.0) * episodes, episodes


def _interval(row: Evaluation) -> Interval:
    counts = _counts(row)
    rate = _rate(row)
    return wilson(*counts) if counts else Interval(rate or 0.0, math.nan, math.nan)


def _difference(row: Evaluation, other: Evaluation) -> Interval:
    counts, other_counts = _counts(row), _counts(other)
    if counts is None or other_counts is None:
        return Interval((_rate(row) or 0.0) - (_rate(other) or 0.0), math.nan, math.nan)
    return newcombe(*counts, *other_counts)
