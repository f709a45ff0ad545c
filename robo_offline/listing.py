"""The `algos` verb: every algorithm, read off its YAML and the first lines of its file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

from rich.console import Console
from rich.table import Table

from robo_offline.config import choices


def main(arguments: Sequence[str]) -> int:
    """List the algorithms with the sentence that says the idea of each."""
    rows = [describe(name) for name in choices("algo") if name != "base"]
    if "--json" in arguments:
        print(json.dumps(rows))
        return 0
    table = Table("algo=", "idea", "trains", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row["name"], row["idea"], row["trains"])
    Console().print(table)
    return 0


def describe(name: str) -> dict[str, str]:
    """Say what an algorithm is: its idea, its reference, and the modules it trains in order."""
    path = f"robo_offline.algos.{name}"
    if find_spec(path) is None:  # values on top of another algorithm
        return {"name": name, "idea": "", "reference": "", "trains": ""}
    module = import_module(path)
    idea, _, reference = (module.__doc__ or "").partition("\n\n")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == path and hasattr(value, "order")
    ]
    return {
        "name": name,
        "idea": " ".join(idea.split()),
        "reference": " ".join(reference.split()),
        "trains": " ".join(found[0].order) if found else "",
    }
