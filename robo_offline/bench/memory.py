"""Memory of 1M transitions in RAM and memory-mapped, and the time to load them from the cache."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from robo_offline.datasets import load
from robo_offline.datasets.episode import Episode
from robo_offline.datasets.store import write
from robo_offline.progress import bar

NAME = "bench/memory-v0"
STEPS = 1000  # per episode


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--transitions", type=int, default=1_000_000)
    parser.add_argument("--observation", type=int, default=19, help="numbers per observation")
    parser.add_argument("--action", type=int, default=7, help="numbers per action")
    parser.add_argument("--child", choices=["memory", "mapped"], help=argparse.SUPPRESS)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Write a data set of that size, load it, and sample from it in fresh processes."""
    if options.child:
        return _child(options.child)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINARI_DATASETS_PATH"] = str(Path(folder) / "data")
        os.environ["ROBO_OFFLINE_CACHE"] = str(Path(folder) / "cache")
        began = time.perf_counter()
        with bar("writing episodes") as progress:
            write(NAME, _episodes(options, progress))
        written = time.perf_counter()
        load(NAME)
        built = time.perf_counter()
        stored = sum(p.stat().st_size for p in Path(folder, "cache").rglob("*") if p.is_file())
        return {
            "transitions": options.transitions,
            "observation": options.observation,
            "action": options.action,
            "write_seconds": round(written - began, 2),
            "first_load_seconds": round(built - written, 2),
            "cache_mib": round(stored / 2**20, 1),
            "mapped": _in_process("mapped"),
            "memory": _in_process("memory"),
        }


def _episodes(options: argparse.Namespace, progress):
    generator = np.random.default_rng(0)
    episodes = options.transitions // STEPS
    for number in range(episodes):
        over = np.arange(STEPS) == STEPS - 1
        yield Episode(
            observation=generator.standard_normal((STEPS + 1, options.observation), np.float32),
            action=generator.uniform(-1, 1, (STEPS, options.action)).astype(np.float32),
            reward=generator.standard_normal(STEPS).astype(np.float32),
            terminated=np.zeros(STEPS, bool),
            truncated=over,
        )
        progress(number + 1, episodes)


def _in_process(kind: str) -> dict[str, float]:
    command = [sys.executable, "-m", "robo_offline.cli", "bench", "memory", "--child", kind]
    out = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout
    figures = json.loads(out.splitlines()[-1])
    return {key: figures[key] for key in ("load_seconds", "private_mib", "batches_per_second")}


def _child(kind: str) -> dict[str, Any]:
    """Load and sample; memory is what this process alone holds, without the system's file cache."""
    import torch

    from robo_offline.replay.buffer import Replay, Window

    torch.set_num_threads(1)
    before = _private()
    began = time.perf_counter()
    data = load(NAME)
    loaded = time.perf_counter()
    steps = data.steps.clone() if kind == "memory" else data.steps
    replay = Replay.of_steps(steps, Window(0.99))
    replay.sample(256)
    began_sampling, batches = time.perf_counter(), 500
    for _ in range(batches):
        replay.sample(256)
    rate = batches / (time.perf_counter() - began_sampling)
    return {
        "load_seconds": round(loaded - began, 3),
        "private_mib": round(_private() - before, 1),
        "batches_per_second": round(rate, 1),
    }


def _private() -> float:
    """MiB that this process owns; pages of a mapped file belong to the system's file cache."""
    rows = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(row.split()[1]) for row in rows if row.startswith("Anonymous:")) / 1024
