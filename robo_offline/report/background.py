"""What a reader needs to trust or repeat the result: time, settings, machine, versions, videos."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from robo_offline.loggers.text import duration, percent
from robo_offline.report.curves import over_seeds
from robo_offline.report.groups import Group, differences, flatten
from robo_offline.report.html import Html, chip, details, element, join, table, value
from robo_offline.report.read import Record, number

MOST_VIDEO_BYTES = 6_000_000  # all videos of a page together; beyond it they are linked
SHADES = 6


def timing(groups: Sequence[Group]) -> Html:
    """Return where the wall time went: a bar for each group above one table of all parts."""
    found = [(group, _where(group)) for group in groups]
    found = [(group, parts) for group, parts in found if sum(parts.values()) > 0]
    names = dict.fromkeys(name for _, parts in found for name in parts)
    if not names:
        return Html("")
    shade = {name: f"s{min(i, SHADES - 1)}" for i, name in enumerate(names)}
    bars, head, columns = [], [], []
    for group, parts in found:
        total = sum(parts.values())
        pieces = [
            element("i", kind=f"part {shade[name]}", style=f"flex-grow: {parts[name] / total:.4f}")
            for name in names
            if name in parts
        ]
        spoken = _spoken(parts, total)
        bars += [chip(group), element("div", *pieces, kind="bar", role="img", aria_label=spoken)]
        head.append(chip(group))
        columns.append({n: value(percent(s / total), _seconds(s)) for n, s in parts.items()})
    rows = [
        [
            join([element("i", kind=f"dot {shade[name]}"), name]),
            *(column.get(name, value("–")) for column in columns),
        ]
        for name in names
    ]
    whole = table("Where the time goes", ["", *head], rows)
    return element("div", element("div", *bars, kind="bars"), whole, kind="times")


def _seconds(seconds: float) -> str:
    return duration(seconds) if seconds >= 60 else f"{seconds:.1f} s"


def _spoken(parts: dict[str, float], total: float) -> str:
    return ", ".join(f"{name} {percent(seconds / total)}" for name, seconds in parts.items())


def _where(group: Group) -> dict[str, float]:
    """Return the seconds of each part, averaged over the seeds, the largest first."""
    found: dict[str, list[float | None]] = {}
    for run in group.runs:
        where = run.timing.get("where")
        for part in where if isinstance(where, list) else []:
            seconds = number(part.get("seconds")) if isinstance(part, dict) else None
            if seconds is not None and seconds >= 0:
                found.setdefault(str(part.get("name", "?")), []).append(seconds)
    means = {name: over_seeds(values) for name, values in found.items()}
    kept = {name: mean.value for name, mean in means.items() if mean is not None}
    return dict(sorted(kept.items(), key=lambda item: -item[1]))


def settings(groups: Sequence[Group]) -> Html:
    """Return what differs between the groups, and every group's whole configuration."""
    changed = differences(groups)
    parts: list[object] = []
    if len(groups) > 1:
        rows = [
            [element("code", name), *(_setting(one) for one in values)]
            for name, values in changed.items()
        ]
        head = ["", *(chip(group) for group in groups)]
        parts.append(element("h3", "What differs"))
        parts.append(
            table("Settings that differ", head, rows, numeric=False)
            if rows
            else element("p", "Nothing but the seed.", kind="note")
        )
    for group in groups:
        lines = [
            [element("code", name), element("code", setting)]
            for name, setting in group.settings.items()
        ]
        if lines:
            whole = table(f"Settings of {group.label}", ["", "value"], lines, numeric=False)
            parts.append(details(join(["All settings of ", chip(group)]), whole))
    return join(parts)


def _setting(content: str | None) -> Html:
    return element("code", content) if content is not None else element("span", "–", kind="none")


def machine(records: Sequence[Record]) -> Html:
    """Return machine, versions and command of the runs, each said once where all agree."""
    facts: dict[str, list[str]] = {}
    for record in records:
        said = _facts(record)
        for name, content in said.items():
            facts.setdefault(name, [])
            if content not in facts[name]:
                facts[name].append(content)
    rows = [
        [name, join((element("code", one) for one in contents), "<br>")]
        for name, contents in facts.items()
    ]
    return table("Machine and versions", ["", ""], rows, numeric=False) if rows else Html("")


def _facts(record: Record) -> dict[str, str]:
    info: dict[str, Any] = record.info
    facts: dict[str, str] = {}
    for name, key in (("created", "created"), ("machine", "host")):
        content = info.get(key)
        if isinstance(content, dict):
            facts |= {f"{name}: {k}": v for k, v in flatten(content).items() if k}
        elif content is not None:
            facts[name] = str(content)
    argv = info.get("argv")
    if argv is not None:
        facts["command"] = " ".join(map(str, argv)) if isinstance(argv, list) else str(argv)
    versions = info.get("versions")
    if isinstance(versions, dict) and versions:
        facts |= {f"version: {k}": v for k, v in flatten(versions).items()}
    return facts


def videos(groups: Sequence[Group], folder: Path) -> Html:
    """Return the last video of each phase of each run, inside the page while they are small."""
    found: list[tuple[Group, str, Path]] = []
    for group in groups:
        for run in group.runs:
            latest = {row["phase"]: row for row in run.evaluations if row["video"]}
            for phase, row in latest.items():
                path = _inside(run.directory, row["video"])
                if path is not None:
                    title = f"seed {run.seed} · {phase} {row['step']:,} · "
                    found.append((group, title + percent(row["success_rate"]), path))
    embed = sum(path.stat().st_size for _, _, path in found) < MOST_VIDEO_BYTES
    figures = [
        element(
            "figure",
            element("video", src=_link(path, folder, embed), controls="", muted="", loop="",
                    playsinline="", preload="metadata", aria_label=f"{group.label}, {title}"),
            element("figcaption", chip(group), element("small", title)),
        )
        for group, title, path in found
    ]  # fmt: skip
    return element("div", *figures, kind="videos") if figures else Html("")


def _inside(directory: Path, name: str) -> Path | None:
    """Return a run's own file, and never one that a log names elsewhere."""
    try:
        path = (directory / name).resolve()
        return path if path.is_file() and path.is_relative_to(directory.resolve()) else None
    except (OSError, ValueError):  # not a name that a file could have
        return None


def source_of(path: Path, folder: Path) -> str:
    """Return a video's source for a page in a folder: the video itself while it is small."""
    return _link(path, folder, path.stat().st_size < MOST_VIDEO_BYTES)


def _link(path: Path, folder: Path, embed: bool) -> str:
    if embed:
        return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
    return quote(os.path.relpath(path, folder).replace(os.sep, "/"))
