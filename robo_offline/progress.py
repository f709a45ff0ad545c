"""Progress of long work that is not training: a bar in a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY = 5.0  # seconds between lines where there is no terminal

Report = Callable[[int, int], None]  # (done, total)


@contextmanager
def bar(what: str) -> Iterator[Report]:
    """Give a callback that shows how far the work is."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(what, console)
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _lines(what: str, console: Console) -> Report:
    shown = [-LINE_EVERY]

    def report(done: int, total: int) -> None:
        now = time.monotonic()
        if now - shown[0] >= LINE_EVERY or done == total:
            shown[0] = now
            console.print(f"{what} {done}/{total}")

    return report
