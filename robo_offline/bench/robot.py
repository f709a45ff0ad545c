"""The robot's fault table and its throughput: every fault injected, and its own figure.

Quick forms take seconds each; `--whole` takes the sizes that the bounds are stated for. What was
found last is kept, printed, and written into the page about faults.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from robo_offline import docs
from robo_offline.bench import jobs
from robo_offline.bench.faults import Fault
from robo_offline.bench.table import replaced
from robo_offline.errors import UserError

NAME = "robot"
PARTS = ("faults", "throughput")
PAGE = Path(docs.__file__).parent / "faults.md"
BEGIN = "<!-- robo-offline bench robot: begin -->"
END = "<!-- robo-offline bench robot: end -->"
QUICK_S, WHOLE_S = 10.0, 60.0  # of each side of the throughput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", action="store_true", help="inject anew (minutes)")
    parser.add_argument("--faults", default="", help="their numbers, 1,4,11 (default: every one)")
    parser.add_argument("--whole", action="store_true", help="in the sizes of the bounds (hours)")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--out", type=Path, default=Path("runs/robot"))
    parser.add_argument("--no-record", action="store_true", help="a trial: what was found stays")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Inject what is asked for, or return what was found last. UserError where a bound broke."""
    if not options.run:
        return jobs.found_or_refused(NAME)
    parts = jobs.chosen(options.parts, PARTS, "part")
    found = {} if options.no_record else jobs.found_last(NAME)
    form, broken = "whole" if options.whole else "quick", []
    for fault in _chosen(options.faults) if "faults" in parts else []:
        jobs.say(f"{fault.number}, {form}: {fault.injected}")
        result = injected(fault, options.whole)
        jobs.say(f"    {'held' if result['held'] else 'NOT HELD'}: {result['measured']}")
        broken += [] if result["held"] else [fault.number]
        row = found.setdefault("faults", {}).setdefault(str(fault.number), {})
        row |= {"injected": fault.injected, "follows": fault.follows, "bound": fault.bound}
        row[form] = result
        found = _keep(found, options)
    if "throughput" in parts:
        found["throughput"] = _throughput(options.whole)
        found = _keep(found, options)
    if broken:
        raise UserError(f"bounds were not kept: {', '.join(map(str, broken))}", where=options.out)
    return found


def injected(fault: Fault, whole: bool) -> dict[str, Any]:
    """Inject a fault in a folder of its own; an injection that raises has not held."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fault-") as folder:
        try:
            found = fault.inject(Path(folder), whole)
            result = {"measured": found.measured, "held": found.held, "figures": found.figures}
        except Exception as error:  # the table goes on, and says so
            jobs.say(f"{type(error).__name__}: {error}")
            told = f"not injected: {type(error).__name__}"
            result = {"measured": told, "held": False, "figures": {}}
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {**result, "when": now, "seconds": round(time.monotonic() - began, 1)}


def show(found: dict[str, Any]) -> None:
    """Print the table."""
    table = Table("", "injected", "bound", "measured", "held", show_lines=True)
    for number, row in _rows(found):
        last, form = _last(row)
        measured = last["measured"] + ("" if form == "whole" else "  (quick)")
        table.add_row(number, row["injected"], row["bound"], measured, _yes(last["held"]))
    console = Console()
    console.print(table)
    if "throughput" in found:
        console.print(_told(found["throughput"]))


def page(found: dict[str, Any]) -> str:
    """Return the table as Markdown."""
    if not found.get("faults"):
        return "Nothing was measured yet: `robo-offline bench robot --run`."
    lines = [
        "| | injected | what happens | bound | measured | held |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for number, row in _rows(found):
        last, form = _last(row)
        measured = last["measured"] + ("" if form == "whole" else " (quick form)")
        told = (row["injected"], row["follows"], row["bound"], measured, _yes(last["held"]))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in (number, *told)) + " |")
    through = [f"\n{_told(found['throughput'])}"] if "throughput" in found else []
    days = sorted(_last(row)[0]["when"][:10] for _, row in _rows(found))
    dates = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    return "\n".join([*lines, *through, f"\nMeasured: {dates}."])


def _chosen(given: str) -> list[Fault]:
    from robo_offline.bench.faults.every import faults

    every = faults()
    names = jobs.chosen(given, [str(number) for number in every], "fault")
    return [every[int(name)] for name in names] or list(every.values())


def _throughput(whole: bool) -> dict[str, Any]:
    from robo_offline.bench.robot_throughput import throughput

    with tempfile.TemporaryDirectory(prefix="throughput-") as folder:
        found = throughput(Path(folder), WHOLE_S if whole else QUICK_S)
    jobs.say(_told(found))
    return found


def _keep(found: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Record after each fault, so that what comes later can be stopped."""
    found.pop("measured", None)
    found["faults"] = dict(_rows(found))
    found = jobs.record(NAME, found, options)
    if not options.no_record and PAGE.exists():
        text = replaced(PAGE.read_text(), page(found), PAGE, BEGIN, END)
        beside = PAGE.with_suffix(".tmp")
        beside.write_text(text)
        beside.replace(PAGE)
    return found


def _rows(found: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return sorted(found.get("faults", {}).items(), key=lambda item: int(item[0]))


def _last(row: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the whole form's result where there is one."""
    form = "whole" if "whole" in row else "quick"
    return row[form], form


def _yes(held: bool) -> str:
    return "yes" if held else "NO"


def _told(found: dict[str, Any]) -> str:
    return (
        f"Throughput at {found['rate_hz']:g} Hz over {found['seconds_each']:g} s each: "
        f"{found['in_process_steps_s']:.3f} steps/s in one process, "
        f"{found['robotd_steps_s']:.3f} through robotd: {found['loss_percent']:.2f} % lost, "
        f"at most {found['goal_percent']:g} % are allowed; {found['stops']} stops."
    )
