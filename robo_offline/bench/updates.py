"""Updates per second against peers: batches of 256, sampling included, one thread, in turns.

Every contender runs in a process of its own; one at a time works, for some seconds, round after
round, so that whatever else the machine does meets all of them. Ratios are medians over rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from robo_offline.bench import jobs
from robo_offline.errors import UserError

NAME = "updates"
LOOPS = Path(__file__).with_name("loops")
PEERS = {  # ours -> peers, by the name that each loop knows it by
    "iql": ("eager", "torchrl_loop", "d3rlpy_loop"),
    "td3_bc": ("eager", "d3rlpy_loop"),
    "cql": ("eager", "d3rlpy_loop"),
    "sac_n-10": ("eager", "d3rlpy_loop"),
    "awac": ("d3rlpy_loop",),
    "bc": ("d3rlpy_loop",),
    "cal_ql": ("d3rlpy_loop",),
    "rebrac": ("d3rlpy_loop",),
    "sac": ("d3rlpy_loop",),
}
TITLES = {"eager": "single_file", "torchrl_loop": "torchrl", "d3rlpy_loop": "d3rlpy"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--algos", default="iql,td3_bc,cql,sac_n-10", help="`all` for every one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each contender per round")
    parser.add_argument("--run", action="store_true", help="measure anew (minutes)")
    parser.add_argument("--out", type=Path, default=Path("runs/updates"))
    parser.add_argument("--no-record", action="store_true", help="a trial: what was found stays")
    parser.add_argument(
        "--peer-python", default=os.environ.get("ROBO_OFFLINE_PEER_PYTHON", ""),
        help="an interpreter that has d3rlpy, which cannot share our environment",
    )  # fmt: skip


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the contenders of each algorithm in turns, or print what was found last."""
    if not options.run:
        return jobs.found_or_refused(NAME)
    names = _every_algorithm() if options.algos == "all" else options.algos.split(",")
    algos = jobs.found_last(NAME).get("algos", {}) | {n: _compare(n, options) for n in names}
    return jobs.record(NAME, {"algos": algos}, options)


def _every_algorithm() -> list[str]:
    from robo_offline.listing import without_goals

    return without_goals()


def _compare(name: str, options: argparse.Namespace) -> dict[str, Any]:
    peers = [p for p in PEERS.get(name, ()) if p != "d3rlpy_loop" or options.peer_python]
    contenders = {"ours": start("ours", name, sys.executable)}
    try:
        for peer in peers:
            python = options.peer_python if peer == "d3rlpy_loop" else sys.executable
            contenders[TITLES[peer]] = start(peer, name, python)
        rates: dict[str, list[float]] = {title: [] for title in contenders}
        for _ in range(options.rounds):
            for title, process in contenders.items():
                found = ask(process, options.seconds)
                # Per second of its own CPU: what another job takes is nobody's slowness.
                rates[title].append(found["updates"] / found["cpu"])
    finally:
        for process in contenders.values():
            process.kill()
            process.wait()
    figures: dict[str, Any] = {
        f"{title}_updates_per_second": round(statistics.median(found), 1)
        for title, found in rates.items()
    }
    for title in list(rates)[1:]:
        ratios = [a / b for a, b in zip(rates["ours"], rates[title], strict=True)]
        figures[f"times_{title}"] = round(statistics.median(ratios), 2)
    print(f"{name}: {figures}", file=sys.stderr, flush=True)
    return figures


def start(loop: str, name: str, python: str) -> subprocess.Popen[str]:
    """Start a loop in a process of its own, with one thread; it waits to be asked."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [python, str(LOOPS / "worker.py"), str(LOOPS / f"{loop}.py"), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        raise UserError(f"the loop '{loop}' did not start", where=python, found=name)
    return process


def ask(process: subprocess.Popen[str], seconds: float) -> dict[str, float]:
    """Let a loop make updates for some seconds: `updates`, and `seconds` and `cpu` they took."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"run {seconds}\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())
