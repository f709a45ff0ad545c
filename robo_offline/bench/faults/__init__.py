"""The faults that a cell of robot, policy and learner must survive, each with its bound.

A fault is injected for real (a process killed, a packet forged, a file broken) and what followed is
measured. The same function is a test in its quick form and a figure of `bench robot` in its whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measured:
    """What one injection led to."""

    measured: str  # for a person: "trip 101.2 ms p50, 103.9 ms max of 100 kills"
    held: bool  # whether the bound was kept
    figures: dict[str, float]  # the same for a machine, with units in the names


@dataclass(frozen=True)
class Fault:
    """One row of the table. `inject(folder, whole)` is quick (seconds) unless `whole`."""

    number: int
    injected: str
    follows: str
    bound: str
    inject: Callable[[Path, bool], Measured]
