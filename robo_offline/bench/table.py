"""The README's table of measured figures, made from what the benchmarks found last.

Never written by hand: it stands between two markers, and everything there is replaced.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from robo_offline.bench import jobs
from robo_offline.bench.scores import shown
from robo_offline.errors import UserError

BEGIN = "<!-- robo-offline bench table: begin -->"
END = "<!-- robo-offline bench table: end -->"
README = Path(__file__).parents[2] / "README.md"
ABREAST = 3  # methods beside each other in the table of cost
NOTHING = "Nothing was measured yet: `robo-offline bench suite --run` takes days on two cores."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--readme", type=Path, default=README)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Write the table into the README; say whether anything changed."""
    if not options.readme.exists():
        raise UserError("there is no README here", where=options.readme, remedy="--readme FILE")
    before = options.readme.read_text()
    after = replaced(before, render(), options.readme)
    if after != before:
        options.readme.write_text(after)
    return {"readme": str(options.readme), "changed": after != before}


def replaced(text: str, table: str, where: object = "", begin: str = BEGIN, end: str = END) -> str:
    """Put the table between the markers, each of which must stand there once."""
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise UserError("the page has no place for the table", where=where, expected=begin)
    head, _, rest = text.partition(begin)
    return f"{head}{begin}\n{table}\n{end}{rest.partition(end)[2]}"


def render() -> str:
    """Return the tables of methods, of the handover and of cost, as Markdown."""
    parts = [_main_job(), _methods(), _handover(), _cost()]
    return "\n\n".join(part for part in parts if part) or NOTHING


def _main_job() -> str:
    found = jobs.found_last("main_job")
    rows = []
    for method, row in found.get("summary", {}).items():
        reached = [f"{step:,}" if step is not None else "never" for step in row["reached_at_step"]]
        worst = [f"{100 * rate:.0f} %" if rate is not None else "–" for rate in row["worst_since"]]
        online = any(run["curve"] for run in found["runs"][method].values())
        rows.append(
            [
                f"`{method}`",
                ", ".join("–" if n is None else f"{n} %" for n in row["offline"]),
                ", ".join(f"{100 * rate:.0f} %" for rate in row["final"]) if online else "–",
                ", ".join(reached) if online else "–",
                ", ".join(worst) if online else "–",
            ]
        )
    if not rows:
        return ""
    head = [
        "human Lift, by seed",
        "offline",
        "after 50k steps",
        "95 % reached at step",
        "lowest since",
    ]
    caption = (
        "42 human demonstrations of robosuite's Lift, then 50,000 steps with the sparse reward, "
        "one update per step, 100 evaluation episodes each time: `bench main-job`. Measured: "
        f"{found['measured'][:10]}."
    )
    return f"{_table(head, rows)}\n\n{caption}"


def _methods() -> str:
    suite, peers, updates = (jobs.found_last(name) for name in ("suite", "peers", "updates"))
    tasks = list(suite.get("summary", {}))
    peer_tasks = peers.get("summary", {})
    speeds = updates.get("algos", {})
    methods = {method for task in tasks for method in suite["summary"][task]}
    methods |= {method for found in peer_tasks.values() for method in found} | set(speeds)
    if not methods:
        return ""
    head = ["method", *tasks, *(["d3rlpy on the same data"] if peer_tasks else [])]
    head += ["updates / s", "times as fast as"] if speeds else []
    rows = []
    for method in sorted(methods):
        row = [f"`{method}`"]
        row += [_score(suite["summary"][task].get(method, {})) for task in tasks]
        row += [_peer(peer_tasks, method)] if peer_tasks else []
        row += _speed(speeds.get(method, {})) if speeds else []
        rows.append(row)
    sources = {"suite": suite, "peers": peers, "updates": updates}
    notes = [
        f"{n}: {found['measured'][:10]}" for n, found in sources.items() if "measured" in found
    ]
    speed = (
        "Updates per second of own CPU time, one thread, batches of 256, beside peers in turns. "
    )
    score = (
        "Scores of 100 at the last evaluation (success rate; on Hopper and door D4RL's normalised "
        "return), after the offline phase → after the online phase: IQM over seeds with a 95 % "
        "bootstrap interval over seeds and episodes. "
    )
    told = (score if tasks or peer_tasks else "") + (speed if speeds else "")
    caption = f"{told}Measured: {', '.join(notes)}."
    return f"{_table(head, rows)}\n\n{caption}"


def _score(row: dict[str, Any]) -> str:
    found = [shown(row[phase]["last"]) for phase in ("offline", "online") if phase in row]
    if "online" in row and "offline" not in row:
        return f"→ {found[0]}"
    return " → ".join(found) or "–"


def _peer(tasks: dict[str, Any], method: str) -> str:
    found = [
        f"{shown(methods[method]['theirs'])}, ours {shown(methods[method]['ours'])}: "
        f"{methods[method]['verdict']}" + (f" ({task})" if len(tasks) > 1 else "")
        for task, methods in tasks.items()
        if method in methods
    ]
    return "; ".join(found) or "–"


def _speed(row: dict[str, Any]) -> list[str]:
    rate = row.get("ours_updates_per_second")
    ratios = [
        f"{key.removeprefix('times_').replace('_', ' ')} {value}"
        for key, value in row.items()
        if key.startswith("times_")
    ]
    return [f"{rate:.0f}" if rate is not None else "–", ", ".join(ratios) or "–"]


def _handover() -> str:
    found = jobs.found_last("handover")
    rows = [
        [
            task,
            f"`{method}`",
            way,
            shown(row["offline"]),
            shown(row["dip"]),
            shown(row["final"]),
            str(row["seeds"]),
        ]
        for task, methods in found.get("summary", {}).items()
        for method, ways in methods.items()
        for way, row in ways.items()
    ]
    if not rows:
        return ""
    head = ["handover", "method", "way", "offline", "dip", "final", "seeds"]
    caption = (
        "The dip is the worst online success against the offline one, in points: the worst of many "
        f"evaluations is low by chance too. Measured: {found['measured'][:10]}."
    )
    return f"{_table(head, rows)}\n\n{caption}"


def _cost() -> str:
    found = jobs.found_last("learner")
    algos = found.get("cost", {}).get("algos", {})
    if not algos:
        return ""
    cells = [
        [f"`{name}`", f"{row['ms_per_update']:.1f}", f"{row['peak_mib']:.0f}"]
        for name, row in sorted(algos.items(), key=lambda item: item[1]["ms_per_update"])
    ]
    height = math.ceil(len(cells) / ABREAST)
    columns = [cells[height * n : height * (n + 1)] for n in range(ABREAST)]
    rows = [list(chain(*row)) for row in zip_longest(*columns, fillvalue=["", "", ""])]
    loads = [row["load"] for row in algos.values()]
    caption = (
        "Milliseconds of own CPU per update, one thread, batches of 256, sampling included, with "
        "the widths that are shipped; MiB that the learner adds to a process that holds the data, "
        f"at most: `bench learner`. The machine's load was at most {max(loads):.1f}, where 1 is "
        f"nothing else. Measured: {found['measured'][:10]}."
    )
    return f"{_table(['method', 'ms', 'MiB'] * ABREAST, rows)}\n\n{caption}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
