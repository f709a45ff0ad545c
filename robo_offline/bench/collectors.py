"""Collecting in the learner's process against collecting one episode ahead in a second one."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from robo_offline.bench import isolated


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=3000, help="environment steps of each run")
    parser.add_argument("--experiment", default="demo")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train online for some steps both ways on the same data, without evaluating."""
    with tempfile.TemporaryDirectory() as folder:
        environment = isolated(folder)
        program = [sys.executable, "-m", "robo_offline.cli"]
        collect = ["collect", "policy=scripted", "policy.noise=0.3", "episodes=6", "name=both-v0"]
        subprocess.run([*program, *collect], env=environment, check=True, capture_output=True)
        figures: dict[str, Any] = {}
        for name, second in (("in_process", "false"), ("second_process", "true")):
            run = Path(folder) / name
            overrides = [
                f"experiment={options.experiment}",
                "dataset=both-v0",
                "phase=online",
                f"phase.online.steps={options.steps}",
                "phase.online.warmup=0",
                f"phase.online.second_process={second}",
                "evaluation.episodes=1",
                "evaluation.workers=1",
                "evaluation.video_episodes=0",
                f"run_dir={run}",
            ]
            subprocess.run(
                [*program, "train", *overrides], env=environment, check=True, capture_output=True
            )
            figures[name] = _figures(run)
        first, second = (figures[name]["seconds"] for name in ("in_process", "second_process"))
        return {"steps": options.steps, **figures, "times_as_fast": round(first / second, 2)}


def _figures(run: Path) -> dict[str, Any]:
    """Seconds of the online phase alone, from its first logged row to its last."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    seconds = rows[-1]["time"] - rows[0]["time"]
    steps = rows[-1]["env_step"] - rows[0]["env_step"]
    updates = rows[-1]["update"] - rows[0]["update"]
    return {
        "seconds": round(seconds, 1),
        "env_steps_per_second": round(steps / seconds, 1),
        "updates_per_second": round(updates / seconds, 1),
    }
