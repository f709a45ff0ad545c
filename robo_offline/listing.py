"""The `algos` verb: every algorithm, read off its YAML, its file, and what was measured last."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib import import_module
from importlib.resources import files
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from robo_offline.config import choices

# Where a method's own paper applies it; every other is meant for both. All of them train in either
# phase here: this says what was published, and what the suite runs.
OFFLINE = (
    *("awr", "bc", "bc_filtered", "cql", "cql_rho", "doge", "edac", "lb_sac", "msg", "prdc"),
    *("rorl", "sac_n", "td3_bc", "gcbc", "gcivl", "gciql", "hiql", "actionable_models"),
)
ONLINE = ("droq", "redq", "rlpd", "sac", "td3", "tqc")
COLUMNS = {
    "name": "algo=",
    "idea": "idea",
    "paper": "paper",
    "needs": "needs",
    "phases": "phases",
    "score": "score",
    "speed": "updates / s",
}
WIDE, SHORT = 120, ("name", "idea", "phases", "score")  # characters that all columns want
NEEDS = {
    "return_to_go": "returns to go",
    "next_action": "next actions",
    "actor_goal": "goals",
    "subgoals": "subgoals",
}


def main(arguments: Sequence[str]) -> int:
    """List the algorithms: the idea, the paper, what each needs, and what was measured."""
    rows = [describe(name) for name in choices("algo") if name != "base"]
    if "--json" in arguments:
        print(json.dumps(rows))
        return 0
    console = Console()
    columns = {
        key: title for key, title in COLUMNS.items() if console.width >= WIDE or key in SHORT
    }
    table = Table(*columns.values(), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(row[key] or "–" for key in columns))
    console.print(table)
    print("score: last evaluation of the suite (`robo-offline bench suite`), IQM over seeds")
    return 0


def describe(name: str) -> dict[str, str]:
    """Say what an algorithm is, what it needs, and how it did where that was measured."""
    cls = class_of(name)
    idea, _, reference = (import_module(cls.__module__).__doc__ or "").partition("\n\n")
    reference = " ".join(reference.split())
    own = cls.__module__.rsplit(".", 1)[-1] == name  # else values on top of another algorithm
    return {
        "name": name,
        "idea": " ".join(idea.split()) if own else f"{cls.__name__} with other values",
        "paper": paper(reference),
        "reference": reference,
        "needs": needs(name, cls),
        "phases": phases(name),
        "trains": " ".join(cls.order),
        "score": score(name),
        "speed": speed(name),
    }


def class_of(name: str) -> Any:
    """Return the class that an algorithm's YAML creates."""
    values = OmegaConf.load(str(files("configs").joinpath(f"algo/{name}.yaml")))
    module, cls, _ = str(OmegaConf.select(values, "_target_")).rsplit(".", 2)
    return getattr(import_module(module), cls)


def without_goals() -> list[str]:
    """Name the algorithms that learn from any environment, not from goals alone."""
    names = [name for name in choices("algo") if name != "base"]
    return [name for name in names if "actor_goal" not in class_of(name).needs]


def phases(name: str) -> str:
    """Say what a method was published for: offline, online or both."""
    return "offline" if name in OFFLINE else "online" if name in ONLINE else "both"


def needs(name: str, cls: Any) -> str:
    """Say what a method cannot do without, besides transitions."""
    from robo_offline.algorithm import Algorithm

    studies = cls.study is not Algorithm.study
    found = ["a data set"] if studies or (name in OFFLINE or name == "rlpd") else []
    return ", ".join(found + [NEEDS.get(extra, extra) for extra in cls.needs])


def paper(reference: str) -> str:
    """Shorten a reference to first author, year and arXiv number."""
    first = reference.partition(";")[0]
    author = re.search(r"([A-Z][\w'-]+)(?=,| et al| \d{4})", first)
    year = re.search(r"\b(?:19|20)\d\d\b(?!\.)", first)
    number = re.search(r"arXiv (\d{4}\.\d{4,5})", first)
    found = [author[1] if author else "", year[0] if year else "", number[1] if number else ""]
    return " ".join(part for part in found if part)


def score(name: str) -> str:
    """Return the suite's last scores by task; empty where nothing was measured."""
    from robo_offline.bench.jobs import found_last
    from robo_offline.bench.scores import shown

    found = []
    for task, methods in found_last("suite").get("summary", {}).items():
        row = methods.get(name)
        if row is not None:
            final = row.get("online") or row["offline"]
            found.append(f"{task} {shown(final['last'])}")
    return "; ".join(found)


def speed(name: str) -> str:
    """Return updates per second and the ratio to the first peer, of `bench updates`."""
    from robo_offline.bench.jobs import found_last

    row = found_last("updates").get("algos", {}).get(name, {})
    rate = row.get("ours_updates_per_second")
    if rate is None:
        return ""
    ratios = [f"{row[key]} x {key.removeprefix('times_')}" for key in row if key[:6] == "times_"]
    return " ".join([f"{rate:.0f}", *([f"({', '.join(ratios)})"] if ratios else [])])
