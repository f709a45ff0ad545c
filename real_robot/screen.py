"""What the console shows: the same view as a screen or as lines."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from real_robot.clock import SECOND
from real_robot.machine import State
from real_robot.messages import Source
from real_robot.verdict import Reason

RATED_S = 1.0  # over which the rate is measured
COLOURS = {
    State.ARMED: "yellow",
    State.ACTIVE: "green",
    State.HOLD: "yellow",
    State.STOPPING: "red",
    State.STOPPED: "red",
    State.ESTOP: "bold white on red",
    State.FAULT: "bold white on red",
}
BAR = 24
KEYS = "space stop · e emergency stop · a arm · r reset the stop shown · q leave (the arm stops)"


@dataclass(frozen=True)
class View:
    """One moment as the console knows it."""

    state: Mapping[str, Any] = field(default_factory=dict)  # as published; empty before the first
    seen_s: float = 0.0  # when it came
    message: str = ""  # what became of the last key
    rate_hz: float = 0.0  # of the robot's ticks, measured
    _mark: tuple[int, int] | None = None  # seq and stamp from which it is measured

    def next(self, state: Mapping[str, Any], message: str) -> View:
        """Return the view with a newer state."""
        mark, rate = self._mark, self.rate_hz
        seq, stamp = state["seq"], state["stamp_ns"]
        if mark is None or seq < mark[0]:
            mark = (seq, stamp)
        elif stamp - mark[1] >= RATED_S * SECOND:
            rate, mark = (seq - mark[0]) * SECOND / (stamp - mark[1]), (seq, stamp)
        return View(state, time.monotonic(), message, rate, mark)

    def without(self, message: str) -> View:
        """Return the view when no state came."""
        return replace(self, message=message)

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.seen_s if self.state else float("inf")

    @property
    def commanding(self) -> bool:
        """Say whether the arm was last known to be held or moved."""
        return bool(self.state) and State(self.state["state"]).commanding


@contextlib.contextmanager
def full() -> Iterator[Callable[[View], None]]:
    """Draw on the whole screen."""
    with Live(screen=True, auto_refresh=False) as live:
        yield lambda view: live.update(drawn(view), refresh=True)


@contextlib.contextmanager
def lines() -> Iterator[Callable[[View], None]]:
    """Print a line when something has changed."""
    before = ""

    def draw(view: View) -> None:
        nonlocal before
        found = line(view)
        if found != before:
            before = found
            print(f"{time.strftime('%H:%M:%S')} {found}", flush=True)

    yield draw


def line(view: View) -> str:
    """Return the view in a line, without what changes all the time."""
    state = view.state
    if not state:
        return " | ".join(x for x in ("no robotd yet", view.message) if x)
    parts = [str(state["state"]) if view.age_s < 1 else "no state from robotd"]
    if state["stop_id"] and State(state["state"]) not in (State.IDLE, State.ARMED, State.ACTIVE):
        parts.append(f"stop {state['stop_id']}: {state['stop_reason']}")
    if holder := state["loop"]["holder"]:
        parts.append(f"lease: {holder}")
    if view.message:
        parts.append(view.message)
    return " | ".join(parts)


def drawn(view: View) -> Panel:
    """Return the view as a screen."""
    state = view.state
    if not state:
        waiting = Text(f"waiting for robotd ...\n\n{view.message}\n\n{KEYS}")
        return Panel(waiting, title="robot", border_style="yellow")
    now = State(state["state"])
    lost = view.age_s > 0.5
    colour = "bold white on red" if lost else COLOURS.get(now, "blue")
    head = Text(f" {'NO STATE FROM ROBOTD' if lost else now.value.upper()} ", style=colour)
    if now in (State.STOPPING, State.STOPPED, State.ESTOP, State.FAULT):
        head.append(f"  stop {state['stop_id']}: {state['stop_reason']}", style="default")
    table = Table.grid(padding=(0, 2))
    for name, value in rows(view):
        table.add_row(Text(name, style="dim"), Text(value))
    return Panel(
        Group(head, Text(""), table, Text(""), _lateness(state["loop"]), Text(""), Text(KEYS)),
        title=f"{state['robot']} {state['descriptor'][:12]}",
        subtitle=view.message or None,
        border_style="red" if lost or now.latched else "white",
    )


def rows(view: View) -> Iterator[tuple[str, str]]:
    """Return what is known, name by name."""
    state, loop = view.state, view.state["loop"]
    rate = f"{view.rate_hz:.1f} of " if view.rate_hz else ""
    yield "rate", f"{rate}{loop['hz']:g} Hz, {loop['skipped']} ticks skipped"
    ages = {"state": loop["state_age_ns"], "console": loop["operator_age_ns"]}
    ages["robotwatch"] = loop["watcher_age_ns"]
    told = ", ".join(f"{name} {age / 1e6:.0f} ms" for name, age in ages.items())
    yield "ages", f"{told}, this screen {view.age_s * 1e3:.0f} ms"
    source = f" ({Source(state['source']).name.lower()})" if state["source"] >= 0 else ""
    yield "lease", f"{loop['holder']}{source}" if loop["holder"] else "nobody commands"
    yield "verdicts", _counts(state["counts"]) or "none"
    if refused := _counts(loop["refused"]):
        yield "no service", refused
    yield "records", _counts(loop["records"]) or "none"
    if "q" in state:
        yield "joints", " ".join(f"{q:+.3f}" for q in state["q"]) + " rad"
        yield "tool", " ".join(f"{x:+.3f}" for x in state["tool"][:3]) + " m"
    if state.get("wrench"):
        yield "wrench", " ".join(f"{x:+.1f}" for x in state["wrench"]) + " N, Nm"
    for stamp, who, reason in reversed(loop["interventions"]):
        ago = (state["stamp_ns"] - stamp) / SECOND
        yield "intervened", f"{ago:.1f} s ago, {who}: {_named(reason)}"


def _named(reason: int) -> str:
    return ", ".join(str(bit.name).lower() for bit in Reason if bit & reason)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items() if n)


def _lateness(loop: Mapping[str, Any]) -> Table:
    table = Table.grid(padding=(0, 2))
    whole = sum(loop["late"]) or 1
    ends = [f"{end / 1000:g} us" if end < 1e6 else f"{end / 1e6:g} ms" for end in loop["late_ns"]]
    for end, count in zip([f"< {end}" for end in ends] + ["later"], loop["late"], strict=True):
        bar = "█" * round(BAR * count / whole) or ("▏" if count else "")
        table.add_row(Text(end, style="dim", justify="right"), bar, str(count))
    table.add_row(Text("latest", style="dim"), "", f"{loop['worst_ns'] / 1e6:.2f} ms")
    return table
