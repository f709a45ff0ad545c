"""Read a run directory as far as it can be read, and note what was missing or broken."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robo_offline.analysis.intervals import wilson
from robo_offline.errors import UserError
from robo_offline.loggers.logger import PLACE, is_number

MARKS = ("run.json", "config.yaml", "metrics.jsonl", "evaluations.jsonl")
LARGEST = 1e30  # beyond this a metric has diverged, and no axis can show it
COUNTS = ("episodes", "successes", "length_mean")
RESULTS = ("success_rate", "success_low", "success_high")
RETURNS = ("return_mean", "return_std", "normalised_score")


@dataclass
class Record:
    """What one run directory holds, every value checked: numbers are finite or None."""

    directory: Path
    info: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    timing: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    finished: bool = False
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.word("name", self.directory.name)

    @property
    def seed(self) -> str:
        return self.word("seed", "?")

    def word(self, key: str, otherwise: str) -> str:
        """Return an entry of run.json as text; a mapping there goes by its name."""
        value = self.info.get(key)
        if isinstance(value, dict):
            value = value.get("name")
        return otherwise if value is None or value == "" else str(value)

    @property
    def wall_seconds(self) -> float | None:
        times = [row["time"] for row in self.metrics + self.evaluations if row["time"] is not None]
        return max(times, default=None)


def is_run(directory: Path) -> bool:
    """Say whether a folder looks like a run's."""
    return directory.is_dir() and any((directory / mark).is_file() for mark in MARKS)


def read(directory: Path) -> Record:
    """Read a run directory; refuse only a folder that is none."""
    if not is_run(directory):
        inside = sorted(path.name for path in directory.glob("*") if is_run(path))
        raise UserError(
            "this is not a run directory",
            where=directory,
            expected="a folder with one of " + ", ".join(MARKS),
            found="nothing there" if not directory.exists() else "none of them",
            remedy=f"give one of the runs inside: {', '.join(inside[:8])}" if inside else None,
        )
    record = Record(directory)
    record.info = _json(record, "run.json", needed=True)
    record.config = _yaml(record)
    record.timing = _json(record, "timing.json", needed=False)
    record.summary = _json(record, "summary.json", needed=False)
    record.metrics = _metrics(record, _lines(record, "metrics.jsonl"))
    record.evaluations = _evaluations(record, _lines(record, "evaluations.jsonl"))
    record.finished = _finished(record)
    if not record.finished:
        record.problems.append("the run has not finished")
    return record


def _finished(record: Record) -> bool:
    """Say whether the phase that was last worked on came to its end."""
    done = record.summary.get("finished")
    rows = [rows[-1] for rows in (record.metrics, record.evaluations) if rows]
    latest = max(rows, key=lambda row: row["time"] or 0.0, default=None)
    if isinstance(done, list) and latest is not None:
        return latest["phase"] in done
    return (record.directory / "summary.json").is_file()


def _text(record: Record, name: str, needed: bool) -> str | None:
    try:
        return (record.directory / name).read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        if needed:
            record.problems.append(f"{name} is missing")
    except OSError as error:
        record.problems.append(f"{name} cannot be read: {error.strerror}")
    return None


def _json(record: Record, name: str, needed: bool) -> dict[str, Any]:
    text = _text(record, name, needed)
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return value
    record.problems.append(f"{name} does not hold a JSON object")
    return {}


def _yaml(record: Record) -> dict[str, Any]:
    import yaml

    text = _text(record, "config.yaml", needed=True)
    if text is None:
        return {}
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return value
    record.problems.append("config.yaml does not hold a mapping")
    return {}


def _lines(record: Record, name: str) -> list[dict[str, Any]]:
    """Return the rows that are whole and say where they stand."""
    text = _text(record, name, needed=True)
    rows, torn, unplaced = [], 0, 0
    for line in (text or "").split("\n"):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            torn += 1
            continue
        step = number(row.get("step")) if isinstance(row, dict) else None
        if step is None or step < 0 or not isinstance(row.get("phase"), str):
            unplaced += 1
        else:
            place = {key: number(row.get(key)) for key in PLACE[1:]}
            rows.append(row | place | {"step": int(step)})
    if torn:
        record.problems.append(f"{name}: {_lines_of(torn)} torn, and left out")
    if unplaced:
        record.problems.append(f"{name}: {_lines_of(unplaced)} without a phase and step, left out")
    return rows


def _lines_of(count: int) -> str:
    return "1 line is" if count == 1 else f"{count} lines are"


def number(value: Any) -> float | None:
    """Return a finite float that an axis can show, or None."""
    if not is_number(value):
        return None
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if math.isfinite(result) and abs(result) <= LARGEST else None


def _metrics(record: Record, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep the numbers, and count those that are not finite."""
    lost: Counter[str] = Counter()
    first: dict[str, str] = {}
    kept = []
    for row in rows:
        clean: dict[str, Any] = {}
        for name, value in row.items():
            if name in PLACE:
                clean[name] = value
            elif is_number(value):
                if (finite := number(value)) is not None:
                    clean[name] = finite
                else:
                    lost[name] += 1
                    first.setdefault(name, f"{row['phase']} step {row['step']:,}")
        kept.append(clean)
    for name, count in lost.items():
        where = f"first at {first[name]}"
        rows_of = "1 row" if count == 1 else f"{count} rows"
        record.problems.append(f"{name} is NaN, infinite or beyond 1e30 in {rows_of}, {where}")
    return kept


def _evaluations(record: Record, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep the last evaluation of each step, with a Wilson interval where none was written."""
    latest: dict[tuple[str, int], dict[str, Any]] = {}
    for row in rows:
        clean = {key: row[key] for key in PLACE}
        clean |= {name: number(row.get(name)) for name in COUNTS + RESULTS + RETURNS}
        clean["video"] = row.get("video") if isinstance(row.get("video"), str) else None
        clean["final_of_phase"] = row.get("final_of_phase") is True
        episodes, successes = clean["episodes"], clean["successes"]
        clean["episodes"] = episodes = int(episodes) if episodes and episodes >= 1 else None
        if clean["success_rate"] is None and successes is not None and episodes:
            clean["success_rate"] = successes / episodes
        share = clean["success_rate"]
        if share is not None and not 0 <= share <= 1:
            record.problems.append(f"evaluations.jsonl: success_rate {share:g} is no share, unused")
            clean["success_rate"] = share = None
        if share is not None and episodes and clean["success_low"] is None:
            _, clean["success_low"], clean["success_high"] = wilson(share * episodes, episodes)
        latest.pop((row["phase"], row["step"]), None)
        latest[row["phase"], row["step"]] = clean
    if not latest:
        record.problems.append("there are no evaluations")
    return list(latest.values())
