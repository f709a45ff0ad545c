"""The doctor: what is wrong with a data set, what it would do to training, and what to do about it.

It reads the store and not the cache, so it also works on what the cache refuses.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from robo_offline.datasets import guard
from robo_offline.datasets.examination import Examination
from robo_offline.datasets.finding import SEVERITIES, Finding
from robo_offline.datasets.jumps import Jumps
from robo_offline.datasets.store import Store, folder
from robo_offline.errors import UserError

COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def examine(name: str) -> list[Finding]:
    """Look a stored data set through; findings come with the gravest first."""
    folder(name)  # an unknown name is the user's mistake, not a fault of the data
    try:
        store = Store(name)
    except UserError as error:
        return [_unreadable(error, None)]
    examination, jumps, findings = Examination(store), Jumps(), []
    for number in range(len(store)):
        try:
            raw = store.raw(number)
            with guard.reading(f"{store.path}, episode {number}"):
                examination.see(number, raw)
                jumps.learn(raw)
        except UserError as error:
            findings.append(_unreadable(error, number))
    for number in range(len(store)) if jumps.ready() else ():
        try:
            jumps.see(number, store.raw(number))
        except UserError:
            continue  # reported above
    findings += [*examination.findings(), *jumps.findings()]
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def _unreadable(error: UserError, episode: int | None) -> Finding:
    return Finding(
        "unreadable",
        "error",
        f"{error.what}: {error.found}",
        "nothing of it can be used" if episode is None else "the data set cannot be loaded",
        "get a fresh copy and import it again",
        episode=episode,
    )


def worst(findings: Iterable[Finding]) -> str | None:
    """The gravest severity among findings; None when there are none."""
    found = {finding.severity for finding in findings}
    return next((severity for severity in SEVERITIES if severity in found), None)


def to_json(findings: Iterable[Finding]) -> str:
    """Write findings as a JSON array."""
    rows: list[dict[str, Any]] = [asdict(finding) for finding in findings]
    return json.dumps(rows, indent=2)


def render(findings: list[Finding]) -> RenderableType:
    """Lay findings out for a terminal."""
    if not findings:
        return Text("no fault found", style="green")
    blocks: list[RenderableType] = []
    for finding in findings:
        head = Text.assemble(
            (f"{finding.severity:<8}", COLOURS[finding.severity]),
            (finding.message, "bold"),
            (f"  [{finding.code}]", "dim"),
        )
        place = finding.place()
        body = [("first at", place)] if place else []
        body += [("so", finding.consequence), ("to do", finding.remedy)]
        blocks.append(head)
        blocks += [Text.assemble((f"{key:>16}: ", "dim"), value) for key, value in body if value]
    counts = {s: sum(finding.severity == s for finding in findings) for s in SEVERITIES}
    blocks.append(Text(", ".join(f"{n} {s}{'s' * (n > 1)}" for s, n in counts.items() if n)))
    return Group(*blocks)
