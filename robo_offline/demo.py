"""Demo: from demonstrations to a finetuned policy in minutes, with a report that can be opened."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from robo_offline.errors import UserError

EPISODES = 20


def main(arguments: Sequence[str]) -> int:
    """Collect, train offline, finetune online, report; paths are printed last."""
    parser = argparse.ArgumentParser("robo-offline demo", description=__doc__)
    parser.add_argument("--out", type=Path, help="folder of everything (default: runs/demo-<time>)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(list(arguments))
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    figures = run(options.out or Path("runs") / f"demo-{stamp}", options.seed)
    _show(figures)
    return 0


def run(folder: Path, seed: int) -> dict[str, Any]:
    """Do the whole job in a folder and return what it showed."""
    from robo_offline import collect, report, train
    from robo_offline.config import compose
    from robo_offline.progress import bar

    began = time.perf_counter()
    if folder.exists() and any(folder.iterdir()):
        raise UserError("the folder of the demo is not empty", where=folder, remedy="--out OTHER")
    free = shutil.disk_usage(_existing(folder)).free
    if free < 2**30:
        raise UserError(
            "there is too little space for the demo",
            where=folder,
            expected="1 GiB",
            found=f"{free / 2**30:.2f} GiB",
        )
    dataset = "demo/lift-v0"
    print(f"1/3  demonstrations: {EPISODES} episodes of a scripted expert with shaky hands")
    values = [
        "env=robosuite/lift",
        "policy=scripted",
        "policy.noise=1.5",
        f"episodes={EPISODES}",
        f"seed={seed}",
        f"name={dataset}",
        "overwrite=true",
        "workers=2",
    ]
    with bar("collecting") as progress:
        collected = collect.run(compose(values, "collect"), progress)
    collecting = time.perf_counter() - began
    print("2/3  training: offline from these demonstrations, then online in robosuite")
    directory = train.main(
        ["experiment=demo", f"dataset={dataset}", f"seed={seed}", f"run_dir={folder / 'run'}"]
    )
    training = time.perf_counter() - began - collecting
    print("3/3  report")
    page = report.write([directory], folder / "report")
    rows = [json.loads(row) for row in (directory / "evaluations.jsonl").read_text().splitlines()]
    final = {row["phase"]: row for row in rows if row["final_of_phase"]}
    timing = json.loads((directory / "timing.json").read_text())
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "collecting_seconds": round(collecting, 1),
        "training_seconds": round(training, 1),
        "demonstrations_success_rate": collected["success_rate"],
        "before": _brief(final["offline"]),
        "after": _brief(final["online"]),
        "improved": final["online"]["success_low"] > final["offline"]["success_high"],
        "updates_per_second": timing["updates_per_second"],
        "env_steps_per_second": timing["env_steps_per_second"],
        "where_the_time_goes": timing["where"],
        "checkpoint": str(directory / "checkpoints" / "best"),
        "video": str(directory / final["online"]["video"]) if final["online"]["video"] else None,
        "report": str(page),
    }


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    keys = ("episodes", "successes", "success_rate", "success_low", "success_high")
    return {key: row[key] for key in keys}


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def _show(figures: dict[str, Any]) -> None:
    print()
    for when in ("before", "after"):
        row = figures[when]
        print(
            f"success {when} finetuning: {row['success_rate']:.0%} "
            f"[{row['success_low']:.0%}, {row['success_high']:.0%}] of {row['episodes']} episodes"
        )
    minutes, seconds = divmod(round(figures["seconds"]), 60)
    print(f"time: {minutes} min {seconds} s")
    print(f"checkpoint: {figures['checkpoint']}")
    print(f"video: {figures['video'] or 'none (rendering is not possible here)'}")
    print(f"report: {figures['report']}")
