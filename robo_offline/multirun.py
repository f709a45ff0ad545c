"""Multirun: one run per combination of overrides, each in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from robo_offline.config import compose, expand
from robo_offline.errors import UserError


def main(arguments: Sequence[str]) -> int:
    """Run every combination of `algo=iql,awac seed=0,1`; `--jobs N` of them at a time."""
    overrides, jobs = _jobs(list(arguments))
    runs = expand(overrides)
    for run in runs:  # all of them before the first begins: a typo must not show after a night
        compose(run)
    folder = Path("multirun") / datetime.now().strftime("%Y%m%d-%H%M%S")
    commands = [
        [*run, f"run_dir={folder / _name(run, overrides, number)}"]
        for number, run in enumerate(runs)
    ]
    print(f"{len(runs)} runs in {folder}, {jobs} at a time")
    with ThreadPoolExecutor(jobs) as pool:
        codes = list(pool.map(_one, commands))
    failed = [command[-1] for command, code in zip(commands, codes, strict=True) if code]
    for name in failed:
        print(f"failed: {name.removeprefix('run_dir=')} (see train.log there)")
    print(f"next: robo-offline report {folder}/*")
    return 1 if failed else 0


def _jobs(arguments: list[str]) -> tuple[list[str], int]:
    if "--jobs" not in arguments:
        return arguments, 1
    at = arguments.index("--jobs")
    try:
        jobs = int(arguments[at + 1])
    except (IndexError, ValueError) as error:
        raise UserError("--jobs needs a number", expected="--jobs 2") from error
    return arguments[:at] + arguments[at + 2 :], max(1, min(jobs, os.cpu_count() or 1))


def _name(run: Sequence[str], overrides: Sequence[str], number: int) -> str:
    """Name a run after what differs between the runs."""
    varied = [part for part in run if part not in overrides]
    text = re.sub(r"[^\w.,+-]+", "-", ",".join(varied)).replace(",", "_")  # safe in an override
    return f"{number:02d}-{text}" if text else f"{number:02d}"


def _one(command: Sequence[str]) -> int:
    directory = Path(command[-1].removeprefix("run_dir="))
    directory.parent.mkdir(parents=True, exist_ok=True)
    log = directory.parent / f"{directory.name}.log"
    print(f"begins: {directory}")
    with log.open("wb") as out:
        program = [sys.executable, "-m", "robo_offline.cli", "train", *command]
        code = subprocess.run(program, stdout=out, stderr=subprocess.STDOUT).returncode
    if directory.exists():
        log.replace(directory / "train.log")
    print(f"{'done' if code == 0 else 'failed'}: {directory}")
    return code
