"""Cost of the learner: CPU and memory of every algorithm, compiling, overhead, two processes.

Every figure is of processes of its own, and of their own CPU where that can be told apart. `load`
is how many processes of the whole machine wanted a core over the last minute, ours among them: on
a quiet machine it is about 1, and figures taken beside other work are not quiet ones.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from robo_offline.bench import isolated, jobs
from robo_offline.bench.updates import ask, start
from robo_offline.listing import without_goals

NAME = "learner"
CACHE = "TORCHINDUCTOR_CACHE_DIR"
AFTER = 20  # updates behind the compiled ones, in which nothing must be compiled again
PENDULUM = ("env=gymnasium", "env.id=Pendulum-v1")
SIBLINGS = Path("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", action="store_true", help="measure anew (a quarter of an hour)")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--algos", default="", help="of `cost` (default: every one)")
    parser.add_argument("--compiled", default="iql,td3_bc,cal_ql", help="of `compile`")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each contender and round")
    parser.add_argument("--steps", type=int, default=5000, help="of both phases of `overhead`")
    parser.add_argument("--out", type=Path, default=Path("runs/learner"))
    parser.add_argument("--no-record", action="store_true", help="a trial: what was found stays")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the parts that are asked for, or print what was found last."""
    if not options.run:
        return jobs.found_or_refused(NAME)
    parts = jobs.chosen(options.parts, list(PARTS), "part")
    found = {} if options.no_record else jobs.found_last(NAME)
    for part in parts:
        jobs.say(f"measuring: {part}")
        found |= {part: PARTS[part](options, found.get(part, {}))}
        found = jobs.record(NAME, {k: v for k, v in found.items() if k != "measured"}, options)
    return found


def load() -> float:
    """Processes that want a core, mean of the last minute."""
    return round(os.getloadavg()[0], 2)


# -- cost of an update -----------------------------------------------------------------------


def cost(options: argparse.Namespace, earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Milliseconds of CPU per update, memory and parameters, algorithm by algorithm."""
    every = without_goals()
    names = jobs.chosen(options.algos, every, "algorithm") or every
    rows = {name: apart(cost_of, name, options.seconds) for name in names}
    return {"algos": dict(sorted((earlier.get("algos", {}) | rows).items()))}


def cost_of(name: str, seconds: float) -> dict[str, Any]:
    """Train one algorithm for some seconds of CPU, with shipped widths and batches of 256.

    `peak_mib` is what its networks, moments and updates add to the resident memory of a process
    that already holds the data. A method meant for one phase is measured there, others online.
    """
    import torch

    from robo_offline.bench.loops import ours
    from robo_offline.listing import phases

    torch.set_num_threads(1)
    torch.manual_seed(0)
    replay = ours.replay_for(name)
    small = ours.learner_for("td3_bc", replay, hidden=(8,), chunk=replay.window.chunk)
    for _ in range(4):  # the system loads code on its first use, which is no memory of a learner's
        ours.update(small, replay)
    del small
    ctypes.CDLL(None).malloc_trim(0)  # memory that is free but kept would be used unseen
    before = _resident("VmRSS:")
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far counts from here
    learner = ours.learner_for(name, replay)
    phase = "offline" if phases(name) == "offline" else "online"
    ours.update(learner, replay, phase)
    cycle = _cycle(learner.algo)
    for _ in range(max(cycle, 5)):
        ours.update(learner, replay, phase)
    windows = []
    for _ in range(5):
        count, began = 0, time.process_time()
        while time.process_time() - began < seconds / 5:
            for _ in range(cycle):  # an actor that is due on every 20th update has its share
                ours.update(learner, replay, phase)
            count += cycle
        windows.append(1000 * (time.process_time() - began) / count)
    trained = (p.numel() for p in learner.algo.parameters() if p.requires_grad)
    return {
        "ms_per_update": round(median(windows), 2),
        "peak_mib": round(_resident("VmHWM:") - before, 1),
        "parameters": sum(trained),
        "phase": phase,
        "load": load(),
    }


def _cycle(algo: Any) -> int:
    """Updates after which everything that is trained at all has been, as often as it should."""
    return math.lcm(*(algo.period(name) or 1 for name in algo.order))


def _resident(key: str) -> float:
    """MiB of this process in memory: now (VmRSS) or at most (VmHWM)."""
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith(key)) / 1024


# -- compiling -------------------------------------------------------------------------------


def compilation(options: argparse.Namespace, earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds to the first compiled updates, without and with a cache on the disk."""
    every = without_goals()
    rows = dict(earlier.get("algos", {}))
    for name in jobs.chosen(options.compiled, every, "algorithm"):
        with tempfile.TemporaryDirectory() as cache:
            rows[name] = {which: apart(compilation_of, name, cache) for which in ("cold", "warm")}
    return {"algos": rows}


def compilation_of(name: str, cache: str) -> dict[str, Any]:
    """Compile one algorithm's updates and count what is compiled again behind them.

    `first_update_seconds` is until one update is done, `all_kinds_seconds` until every module was
    trained; `cpu_seconds` adds the compilers that this process waited for.
    """
    import torch
    from torch._dynamo.utils import counters

    from robo_offline.bench.loops import ours
    from robo_offline.engine.compiled import CompiledLearner

    os.environ[CACHE] = cache
    torch.set_num_threads(1)
    torch.manual_seed(0)
    replay = ours.replay_for(name)
    learner = ours.learner_for(name, replay, CompiledLearner)
    assert isinstance(learner, CompiledLearner)
    began, spent = time.perf_counter(), _cpu_with_children()
    ours.update(learner, replay)
    first = time.perf_counter() - began
    for _ in range(_cycle(learner.algo)):
        ours.update(learner, replay)
    every, spent = time.perf_counter() - began, _cpu_with_children() - spent
    graphs, cpu = counters["stats"]["unique_graphs"], time.process_time()
    for count in range(AFTER):
        learner.decay(learner.algo.order, count / AFTER)
        ours.update(learner, replay)
    return {
        "first_update_seconds": round(first, 1),
        "all_kinds_seconds": round(every, 1),
        "cpu_seconds": round(spent, 1),
        "compiled_again": counters["stats"]["unique_graphs"] - graphs,
        "ms_per_update": round(1000 * (time.process_time() - cpu) / AFTER, 2),
        "stays_eager": sorted(part for names in learner.eager for part in names),
        "load": load(),
    }


def _cpu_with_children() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


# -- what is not learning --------------------------------------------------------------------


def overhead(options: argparse.Namespace, earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Shares of a whole small training with the cadence that is shipped, by the wall's clock.

    No updates are as quick as cloning's and few environments as Pendulum: elsewhere these shares
    are smaller. It saves at the ends of phases too, which a longer run does not do more often.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        for command in (collecting(), training(options.steps, run)):
            program = [sys.executable, "-m", "robo_offline.cli", *command]
            subprocess.run(program, env=isolated(folder), check=True, stdout=subprocess.DEVNULL)
        return shares(json.loads((run / "timing.json").read_text())) | {"load": load()}


def collecting() -> list[str]:
    """Return the command that makes the data of the small training."""
    return ["collect", *PENDULUM, "policy=random", "episodes=50", "name=pendulum-v0"]


def training(steps: int, run: Path) -> list[str]:
    """Return the command of the small training, `steps` offline and as many online."""
    lengths = [f"phase.{phase}.steps={steps}" for phase in ("offline", "online")]
    chosen = ["algo=bc", *PENDULUM, "dataset=pendulum-v0", "evaluation.video_episodes=0"]
    return ["train", *chosen, *lengths, f"run_dir={run}"]


def shares(timing: Mapping[str, Any]) -> dict[str, Any]:
    """Percentages of a run's `timing.json`: all of them, and the ones that stand for overhead."""
    percent = {row["name"]: 100 * row["share"] for row in timing["where"]}
    return {
        "seconds": round(timing["total"], 1),
        "log_and_save_percent": round(percent.get("log", 0.0) + percent.get("save", 0.0), 2),
        "evaluate_percent": round(percent.get("evaluate", 0.0), 2),
        "percent": {name: round(value, 2) for name, value in percent.items()},
    }


# -- two processes ---------------------------------------------------------------------------


def processes(options: argparse.Namespace, earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Updates per second of one process against two at once, one thread each, in turns.

    By the wall's clock, and per second of own CPU, in which other work on the machine counts less:
    two processes that do not disturb each other come to 2. Hyperthreads of one core cannot.
    """
    by: dict[str, list[tuple[float, float]]] = {"seconds": [], "cpu": []}
    with (  # a loop ends when its input does
        start("ours", "iql", sys.executable) as one,
        start("ours", "iql", sys.executable) as two,
        ThreadPoolExecutor(2) as pool,
    ):
        for _ in range(3):
            alone = ask(one, options.seconds)
            both = list(pool.map(lambda worker: ask(worker, options.seconds), (one, two)))
            for clock, rates in by.items():
                rates.append((_rate([alone], clock), _rate(both, clock)))
    return {
        "one_updates_per_second": round(median(one for one, _ in by["seconds"]), 1),
        "two_updates_per_second": round(median(two for _, two in by["seconds"]), 1),
        "times_by_wall": round(median(two / one for one, two in by["seconds"]), 2),
        "times_by_own_cpu": round(median(two / one for one, two in by["cpu"]), 2),
        "cores": os.cpu_count(),
        **siblings(),
        "load": load(),
    }


def siblings() -> dict[str, Any]:
    """Which logical cores share the first one's core, as far as the system tells."""
    listed = SIBLINGS.read_text().strip() if SIBLINGS.exists() else None
    return {
        "siblings_of_core_0": listed,
        "hyperthreads": listed is not None and not listed.isdigit(),
    }


def _rate(found: Iterable[Mapping[str, float]], clock: str) -> float:
    return sum(each["updates"] / each[clock] for each in found)


# -- processes of a measurement's own --------------------------------------------------------


def apart(function: Callable[..., dict[str, Any]], name: str, argument: Any) -> dict[str, Any]:
    """Call in a process of its own, made from one that has the code and nothing else in memory."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["robo_offline.bench.loops.ours"])
    with ProcessPoolExecutor(1, context) as pool:
        found = pool.submit(function, name, argument).result()
    jobs.say(f"{name}: {found}")
    return found


PARTS = {
    "cost": cost,
    "compile": compilation,
    "overhead": overhead,
    "processes": processes,
}
