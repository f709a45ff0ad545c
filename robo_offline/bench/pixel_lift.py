"""Lift from two cameras: cloned from human demonstrations, then finetuned with the sparse reward.

The policy sees images of 48 x 48 and the arm's own sensors, never where the cube is. Sizes and
steps are what one core of a CPU does in about an hour; what it found last is kept and printed with
its date. `--run` measures anew, and goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import envs
from robo_offline.bench import jobs
from robo_offline.bench.tasks import REAL_DATA
from robo_offline.config import compose
from robo_offline.errors import UserError

NAME = "pixel_lift"
ENVIRONMENT, DATASET = "robosuite/lift_pixels", "lift/pixels-v0"
FILES = ("panda_32_demos_v1.3.1.hdf5", "panda_10_demos_v1.3.1.hdf5")
LAST = {"td3_sil": "online", "bc": "offline"}  # experiments, and the phase that each ends with
EPISODES = 100  # of the evaluation of what came out
STEPS = 50  # timed, of the environment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--methods", default=",".join(LAST), help="default: both")
    jobs.add_arguments(parser, "runs/pixel-lift", "0")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run what is missing, or print what was found last."""
    if not options.run:
        return jobs.found_or_refused(NAME)
    methods = jobs.chosen(options.methods, list(LAST), "method")
    _import(options)
    items = [(method, seed) for seed in jobs.seeds(options) for method in methods]
    done, failed = jobs.each(items, lambda item: _run(options, *item), options.jobs)
    runs = jobs.earlier(NAME, options)
    for (method, seed), result in done.items():
        runs.setdefault(method, {})[str(seed)] = result
    found = {
        "sees": "two cameras of 48 x 48 and the arm's own sensors",
        "interval": "95 %, Wilson, over the episodes of one run",
        "environment": where_the_time_goes(),
        "summary": {method: _summary(list(seeds.values())) for method, seeds in runs.items()},
        "runs": runs,
    }
    found = jobs.record(NAME, found, options)
    jobs.refuse(failed)
    return found


def import_command(sources: list[str]) -> list[str]:
    """Return the words that make the data set of what the environment shows."""
    env = compose([f"env={ENVIRONMENT}"]).env
    return [
        "data", "import", *sources, "--to", DATASET,
        "--cameras", ",".join(env["cameras"]),
        "--image-size", str(env["image_size"]),
        "--keys", ",".join(env["observation_keys"]),
    ]  # fmt: skip


def where_the_time_goes(steps: int = STEPS) -> dict[str, Any]:
    """Time a step of the environment, in ms of CPU time, and how many a core does per second."""
    env: Any = envs.make(ENVIRONMENT)
    try:
        resets = _milliseconds(lambda: env.reset(seed=0), 3)
        action = np.zeros(env.action_space.shape, np.float32)
        whole = _milliseconds(lambda: env.step(action), steps)
        size = env.image_size
        images = {
            camera: _milliseconds(partial(env._image, camera, size, size), steps)
            for camera in env.cameras
        }
    finally:
        env.close()
    return {
        "step_ms": whole,
        "image_ms": images,
        "physics_and_state_ms": round(whole - sum(images.values()), 1),
        "reset_ms": resets,
        "steps_per_second_of_a_core": round(1e3 / whole, 1),
    }


def _milliseconds(work: Callable[[], object], times: int) -> float:
    work()
    taken = []
    for _ in range(times):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return round(1e3 * float(np.median(taken)), 1)


def _import(options: argparse.Namespace) -> None:
    from robo_offline.datasets.store import local_ids

    if DATASET in local_ids():
        return
    folder = Path(options.data or os.environ.get(REAL_DATA) or "") / "robosuite_lift_human"
    sources = [folder / file for file in FILES]
    if not all(path.exists() for path in sources):
        raise UserError(
            "the demonstrations are not here",
            where=folder,
            expected=", ".join(FILES),
            remedy=f"--data FOLDER or {REAL_DATA}",
        )
    jobs.call(import_command([str(path) for path in sources]), options.out / "import.log")


def _run(options: argparse.Namespace, method: str, seed: int) -> dict[str, Any]:
    lengths = jobs.lengths(options)
    if LAST[method] == "offline":
        lengths = [override for override in lengths if not override.startswith("phase.online")]
    overrides = [f"experiment=lift_pixels/{method}", *lengths, f"seed={seed}"]
    directory = jobs.train(options.out / f"{method}-{seed}", overrides, LAST[method])
    curve = [_point(row) for row in jobs.evaluations(directory)]
    return {"curve": curve, "final": _final(directory, options), **jobs.timing(directory)}


def _point(row: dict[str, Any]) -> dict[str, Any]:
    rates = [round(row[f"success_{key}"], 4) for key in ("rate", "low", "high")]
    return {"phase": row["phase"], "step": row["step"], "episodes": row["episodes"], "rate": rates}


def _final(directory: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Score the last policy over many episodes, once."""
    found = sorted((directory / "evaluations").glob("last-*.json"))
    if not found:
        count = min(EPISODES, options.episodes or EPISODES)
        words = ["evaluate", str(directory), "--episodes", str(count), "--workers", "1"]
        jobs.call(words, directory.with_suffix(".evaluate.log"))
        found = sorted((directory / "evaluations").glob("last-*.json"))
    row = json.loads(found[-1].read_text())
    return {key: row[key] for key in ("episodes", "success_rate", "success_low", "success_high")}


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    offline = [_last(run["curve"], "offline") for run in runs]
    return {
        "seeds": len(runs),
        "offline": [point["rate"] for point in offline],
        "final": [
            [run["final"][f"success_{key}"] for key in ("rate", "low", "high")] for run in runs
        ],
        "rises": [  # only where no interval overlaps
            run["final"]["success_low"] > point["rate"][2]
            for run, point in zip(runs, offline, strict=True)
        ],
        "minutes": [round(run["seconds"] / 60, 1) for run in runs],
    }


def _last(curve: list[dict[str, Any]], phase: str) -> dict[str, Any]:
    return next(point for point in reversed(curve) if point["phase"] == phase)
