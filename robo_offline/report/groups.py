"""Runs that differ only in their seed belong together; say how the groups differ."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from robo_offline.report.read import Record

# Top-level entries of a config that say which run this is, not what it does.
IDENTITY = {"seed", "name", "directory", "run_dir", "output_dir", "resume", "hydra"}


@dataclass
class Group:
    """The seeds of one experiment."""

    label: str
    index: int  # its colour, the same in every figure
    runs: list[Record]
    settings: dict[str, str]  # the flat config without what tells seeds apart

    @property
    def algo(self) -> str:
        return self.runs[0].word("algo", "unknown algorithm")

    @property
    def env(self) -> str:
        return self.runs[0].word("env", "unknown env")

    @property
    def dataset(self) -> str:
        return self.runs[0].word("dataset", "no data set")

    @property
    def seeds(self) -> str:
        return ", ".join(run.seed for run in self.runs)


def group(records: Sequence[Record]) -> list[Group]:
    """Collect the seeds of each experiment, in the order in which the runs were given."""
    found: dict[Any, Group] = {}
    for record in records:
        settings = {
            name: value
            for name, value in flatten(record.config).items()
            if name and name.split(".")[0] not in IDENTITY
        }
        who = tuple(record.word(key, "") for key in ("algo", "env", "dataset"))
        key = (who, tuple(sorted(settings.items())))
        if key not in found:
            found[key] = Group("", len(found), [], settings)
        found[key].runs.append(record)
    groups = list(found.values())
    _name(groups)
    return groups


def differences(groups: Sequence[Group]) -> dict[str, list[str | None]]:
    """Return the settings that are not the same in all groups, with each group's value."""
    names = dict.fromkeys(name for one in groups for name in one.settings)
    table = {name: [one.settings.get(name) for one in groups] for name in names}
    return {name: values for name, values in table.items() if len(set(values)) > 1}


def flatten(config: Any, prefix: str = "") -> dict[str, str]:
    """Return a nested config as dotted names with their values as text."""
    if isinstance(config, dict) and config:
        flat: dict[str, str] = {}
        for key, value in config.items():
            flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
        return flat
    text = config if isinstance(config, str) else json.dumps(config, default=str)
    return {prefix: text}


def _name(groups: list[Group]) -> None:
    """Give each group the shortest label that tells it from the others."""
    parts = [[one.algo] for one in groups]
    for key in ("env", "dataset"):
        if len({getattr(one, key) for one in groups}) > 1:
            for part, one in zip(parts, groups, strict=True):
                part.append(getattr(one, key))
    labels = [" · ".join(part) for part in parts]
    for label, count in Counter(labels).items():
        if count > 1:
            alike = [i for i, other in enumerate(labels) if other == label]
            changed = differences([groups[i] for i in alike])
            for place, i in enumerate(alike):
                said = [
                    f"{name.split('.')[-1]} {values[place]}"
                    for name, values in changed.items()
                    if values[place] is not None
                ][:2]
                labels[i] = " · ".join([label, *said])
    seen: Counter[str] = Counter()
    for one, label in zip(groups, labels, strict=True):
        seen[label] += 1
        one.label = label if seen[label] == 1 else f"{label} ({seen[label]})"
