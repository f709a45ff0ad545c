"""Human Lift demonstrations, then finetuning with the sparse reward: all methods side by side.

Hours of work on two cores, so what it found last is kept in a file, and printed with its date;
`--run` measures anew. A stopped measurement goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from robo_offline.errors import UserError

FOUND = Path(__file__).with_name("main_job.json")  # written by `measure`, never by hand
FILES = ("panda_32_demos_v1.3.1.hdf5", "panda_10_demos_v1.3.1.hdf5")
DATASET = "lift/human-v0"
METHODS = {
    "td3_sil": "lift_human",
    "rlpd": "lift_human/rlpd",
    "iql": "lift_human/iql",
    "awac": "lift_human/awac",
    "bc": "lift_human/bc",
}
GOAL, FLOOR = 0.95, 0.80  # success to reach, and not to fall under once it was reached


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", action="store_true", help="measure anew (hours)")
    parser.add_argument("--methods", default=",".join(METHODS), help="default: all")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--out", type=Path, default=Path("runs/main-job"))
    parser.add_argument("--data", type=Path, help="folder of the HDF5 files")
    parser.add_argument(
        "--second-process", action="store_true", help="collect in a process of its own"
    )


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run what is missing, or print what was found last."""
    if not options.run:
        if not FOUND.exists():
            raise UserError("nothing was measured yet", remedy="bench main-job --run --data FOLDER")
        return json.loads(FOUND.read_text())
    _import(options)
    pairs = [
        (method, int(seed))
        for seed in options.seeds.split(",")
        for method in options.methods.split(",")
    ]
    with ThreadPoolExecutor(options.jobs) as pool:
        done = list(pool.map(lambda pair: _train(options, *pair), pairs))
    runs: dict[str, dict[str, Any]] = {}
    if FOUND.exists():
        runs = json.loads(FOUND.read_text())["runs"]
    for (method, seed), result in zip(pairs, done, strict=True):
        runs.setdefault(method, {})[str(seed)] = result
    found = {
        "measured": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "goal": f"{GOAL:.0%} over 100 episodes within 50k steps, held, never under {FLOOR:.0%}",
        "summary": {method: _summary(seeds) for method, seeds in runs.items()},
        "runs": runs,
    }
    text = json.dumps(found, indent=1)
    (options.out / FOUND.name).write_text(text)
    if os.access(FOUND.parent, os.W_OK):  # not where the package is installed for everybody
        FOUND.write_text(text)
    return found


def _import(options: argparse.Namespace) -> None:
    from robo_offline.datasets.importing import import_source
    from robo_offline.datasets.store import local_ids

    if DATASET in local_ids():
        return
    folder = options.data
    if folder is None and "ROBO_OFFLINE_REAL_DATA" in os.environ:
        folder = Path(os.environ["ROBO_OFFLINE_REAL_DATA"]) / "robosuite_lift_human"
    if folder is None:
        raise UserError("the demonstrations are not here", expected=FILES, remedy="--data FOLDER")
    import_source([folder / name for name in FILES], DATASET)


def _train(options: argparse.Namespace, method: str, seed: int) -> dict[str, Any]:
    """Run or continue one training in a process of its own and read what it found."""
    directory = options.out / f"{method}-{seed}"
    finished = directory / "summary.json"
    last = "offline" if method == "bc" else "online"
    if not finished.exists() or last not in json.loads(finished.read_text())["finished"]:
        arguments = [f"experiment={METHODS[method]}", f"seed={seed}", f"run_dir={directory}"]
        if last == "online":
            arguments.append(f"phase.online.second_process={str(options.second_process).lower()}")
        if (directory / "config.yaml").exists():
            arguments = [f"resume={directory}"]
        arguments += ["evaluation.workers=1"] if options.jobs > 1 else []
        _log(f"begins: {directory}")
        command = [sys.executable, "-m", "robo_offline.cli", "train", *arguments]
        directory.parent.mkdir(parents=True, exist_ok=True)
        with (options.out / f"{method}-{seed}.log").open("ab") as log:
            code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode
        if code:
            raise UserError(f"{method} with seed {seed} failed", where=log.name)
        _log(f"done: {directory}")
    return read(directory)


def read(directory: Path) -> dict[str, Any]:
    """Read the curve, the timing and the verdict of one run."""
    rows = [json.loads(row) for row in (directory / "evaluations.jsonl").read_text().splitlines()]
    timing = json.loads((directory / "timing.json").read_text())
    offline = [row for row in rows if row["phase"] == "offline"]
    curve = [(row["step"], row["successes"]) for row in rows if row["phase"] == "online"]
    rates = [successes / rows[-1]["episodes"] for _, successes in curve]
    reached = next((n for n, rate in enumerate(rates) if rate >= GOAL), None)
    return {
        "episodes": rows[-1]["episodes"],
        "offline_successes": offline[-1]["successes"] if offline else None,
        "curve": curve,
        "final": [rows[-1][key] for key in ("success_rate", "success_low", "success_high")],
        "reached_at_step": curve[reached][0] if reached is not None else None,
        "worst_since": min(rates[reached:]) if reached is not None else None,
        "seconds": timing["total"],
        "updates_per_second": timing.get("updates_per_second"),
        "env_steps_per_second": timing.get("env_steps_per_second"),
        "where": {row["name"]: round(row["share"], 3) for row in timing["where"]},
    }


def _summary(seeds: dict[str, Any]) -> dict[str, Any]:
    runs = list(seeds.values())
    held = [
        run["reached_at_step"] is not None
        and run["worst_since"] >= FLOOR
        and run["final"][0] >= GOAL
        for run in runs
    ]
    return {
        "seeds": len(runs),
        "goal_met_by": sum(held),
        "offline": [run["offline_successes"] for run in runs],
        "final": [run["final"][0] for run in runs],
        "reached_at_step": [run["reached_at_step"] for run in runs],
        "worst_since": [run["worst_since"] for run in runs],
    }


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
