"""Episodes that a robot lived through: a spool that `deploy` or `env.keep` wrote.

What becomes the action is what was executed; what was asked for, who acted and the measured rate
are kept beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from robo_offline.datasets.episode import Episode
from robo_offline.datasets.source import Source
from robo_offline.errors import UserError

FORMAT = "episodes of a robot"
FOLDER = "episodes"  # within a deployment's or a run's folder
SLOW = 0.95  # share of the nominal rate under which an episode is named


def folder_of(path: Path) -> Path | None:
    """Return the spool that a folder is, or holds; None where there is none."""
    for folder in (path, path / FOLDER):
        if folder.is_dir() and any(folder.glob("*.spool")):
            return folder
    return None


def read(path: Path, **_: Any) -> tuple[Iterator[Episode], Source]:
    """Open the spool in a folder."""
    from real_robot.episodes import Lived, lived

    folder = folder_of(path)
    if folder is None:
        raise UserError("there are no episodes of a robot", where=path, expected="*.spool")
    abouts = [one.about for one in lived(folder)]
    if not abouts:
        raise UserError("no episode has ended yet", where=folder)
    source = Source(FORMAT, path, len(abouts), environment=dict(abouts[0].get("environment") or {}))
    robots = {str(about.get("descriptor")) for about in abouts}
    if len(robots) > 1:
        raise UserError(
            "the episodes are those of several robots, or of one with several limits",
            where=folder,
            found=sorted(hash_[:12] for hash_ in robots),
            remedy="import the folders of one robot at a time",
        )

    def episode(one: Lived) -> Episode:
        steps, count = one.steps, len(one.steps["reward"])
        rate, nominal = float(one.about["rate_hz"]), float(one.about["nominal_hz"])
        source.counts["stopped for safety"] += bool(one.about.get("stop"))
        source.counts["slower than their rate"] += rate < SLOW * nominal
        source.counts["steps of a person"] += int((steps["source"] == 2).sum())
        extra = {
            "requested": steps["requested"],
            "source": steps["source"],
            "late_ns": steps["late_ns"],
            "rate_hz": np.full(count, rate, np.float32),
        }
        outcome = {key: steps[key] for key in ("reward", "terminated", "truncated", "success")}
        return Episode(
            one.observation, steps["executed"], **outcome, seed=one.about.get("seed"), extra=extra
        )

    return (episode(one) for one in lived(folder)), source
