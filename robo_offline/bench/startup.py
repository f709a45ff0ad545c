"""Seconds from pressing return to the first progress line of a training run."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from robo_offline.bench import isolated


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=3)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Start the run of the main job's environment several times and stop it at its first line."""
    with tempfile.TemporaryDirectory() as folder:
        environment = isolated(folder)
        program = [sys.executable, "-m", "robo_offline.cli"]
        collect = [
            "collect",
            "env=robosuite/lift",
            "policy=scripted",
            "episodes=2",
            "name=start-v0",
        ]
        subprocess.run([*program, *collect], env=environment, check=True, capture_output=True)
        train = ["train", "algo=iql", "dataset=start-v0", "env=robosuite/lift"]
        seconds = [
            _first_line([*program, *train, f"run_dir={folder}/run{number}"], environment)
            for number in range(options.repeats)
        ]
    return {
        "first_progress_line_seconds": round(statistics.median(seconds), 2),
        "all_seconds": [round(value, 2) for value in seconds],
    }


def _first_line(command: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        seconds = time.perf_counter() - began
        if " of " not in line:
            raise RuntimeError(f"not a progress line: {line}{process.stdout.read()}")
        return seconds
    finally:
        process.kill()
        process.wait()
