"""Kill a run at random moments and continue it: it must equal an unbroken run, bit for bit.

Every sitting but the last ends in SIGKILL: at a random moment, or (every third) the moment a
checkpoint is half written.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open

from robo_offline.bench import isolated

ROWS = 60  # that the run logs, half of them online
PATIENCE = 180.0  # seconds without an end, after which a sitting counts as hung


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--env", default="gymnasium", help="gymnasium (fast) or robosuite/lift")
    parser.add_argument("--second-process", action="store_true", help="collect in another process")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run once unbroken, once with kills, and compare everything that is not a clock."""
    with tempfile.TemporaryDirectory() as folder:
        return compare(
            Path(folder),
            kills=options.kills,
            seed=options.seed,
            env=options.env,
            second_process=options.second_process,
        )


def compare(
    folder: Path, *, kills: int, seed: int = 0, env: str = "gymnasium", second_process: bool = False
) -> dict[str, Any]:
    """Count the kills and say whether everything is equal; `different` names what is not."""
    environment = isolated(folder)
    where = [
        f"env={env}",
        *(["env.id=Pendulum-v1"] if env == "gymnasium" else []),
        "env.horizon=40",
    ]
    _call(["collect", *where, "policy=random", "episodes=6", "name=resume-v0"], environment)
    overrides = [
        *where,
        "dataset=resume-v0",
        "algo=iql",
        "algo.chunk=2",
        "algo.dropout=0.1",
        "algo.hidden=[32,32]",
        "replay.capacity=500",
        "phase.offline.steps=1500",
        "phase.offline.evaluate_every=500",
        "phase.offline.save_every=100",
        "phase.offline.log_every=50",
        "phase.online.steps=1500",
        "phase.online.warmup=100",
        "phase.online.evaluate_every=500",
        "phase.online.save_every=80",
        "phase.online.log_every=50",
        f"phase.online.second_process={str(second_process).lower()}",
        "evaluation.episodes=2",
        "evaluation.workers=1",
        "evaluation.video_episodes=0",
    ]
    unbroken, broken = folder / "unbroken", folder / "broken"
    _call(["train", *overrides, f"run_dir={unbroken}"], environment)
    moments = random.Random(seed)
    stride = max(2, round(0.75 * ROWS / kills))  # so that the kills reach well into both phases
    rows = (max(1, stride // 2), stride + stride // 2 + 1)
    happened: list[str] = []
    arguments = ["train", *overrides, f"run_dir={broken}"]
    while len(happened) < kills:
        kind = _sit_and_kill(
            arguments, broken, environment, moments, rows, in_save=len(happened) % 3 == 2
        )
        if kind == "finished":
            break
        happened.append(kind)
        if (broken / "config.yaml").exists():
            arguments = ["train", f"resume={broken}"]
    _call(arguments, environment)
    different = differences(unbroken, broken)
    return {
        "kills": len(happened),
        "kills_by_phase": {kind: happened.count(kind) for kind in sorted(set(happened))},
        "second_process": second_process,
        "environment": env,
        "equal": not different,
        "different": different,
    }


def differences(one: Path, other: Path) -> list[str]:
    """Say what two runs do not share, clocks aside."""
    found = []
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        if _rows(one / name) != _rows(other / name):
            found.append(name)
    for link in ("last", "best"):
        ours, theirs = (
            _tensors(run / "checkpoints" / link / "learner.safetensors") for run in (one, other)
        )
        if ours != theirs:
            found.append(f"weights of {link}")
    if _tensors_of_segments(one) != _tensors_of_segments(other):
        found.append("replay contents")
    ours, theirs = (_state(run) for run in (one, other))
    found += [f"state: {key}" for key in ours if ours[key] != theirs.get(key)]
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    clocks = ("time", "rate/")
    return [{k: v for k, v in row.items() if not k.startswith(clocks)} for row in rows]


def _tensors(path: Path) -> dict[str, bytes]:
    with safe_open(path, "np") as file:
        return {key: file.get_tensor(key).tobytes() for key in file.keys()}  # noqa: SIM118


def _tensors_of_segments(run: Path) -> dict[str, bytes]:
    """All live episodes end to end: where the segments are cut depends on when a run was saved."""
    joined: dict[str, bytes] = {}
    for path in sorted((run / "checkpoints" / "replay").glob("*.safetensors")):
        for key, value in _tensors(path).items():
            joined[key] = joined.get(key, b"") + value
    return joined


def _state(run: Path) -> dict[str, Any]:
    state = json.loads((run / "checkpoints" / "last" / "state.json").read_text())
    counters = {k: v for k, v in state["counters"].items() if k != "seconds"}
    return {"counters": counters, "random": state["random"], "replay": state["replay"]}


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "robo_offline.cli", *arguments]


def _call(arguments: Sequence[str], environment: dict[str, str]) -> None:
    done = subprocess.run(
        _command(arguments), env=environment, capture_output=True, text=True, timeout=PATIENCE * 5
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}\n{done.stdout}{done.stderr}")


def _sit_and_kill(
    arguments: Sequence[str],
    run: Path,
    environment: dict[str, str],
    moments: random.Random,
    rows: tuple[int, int],
    in_save: bool,
) -> str:
    """Let the run work for a while, then kill it; say in which phase, or that it had finished."""
    process = subprocess.Popen(
        _command(arguments),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    began = time.monotonic()
    before = _progress(run)
    wanted = moments.randrange(*rows)  # beyond what the log held before
    while process.poll() is None and time.monotonic() - began < PATIENCE:
        if _progress(run) >= before + wanted and (
            not in_save or any((run / "checkpoints").glob(".*.partial"))
        ):
            time.sleep(0 if in_save else moments.random() * 0.05)
            break
        time.sleep(0.0005 if in_save else 0.01)
    if process.poll() is not None:
        return "finished"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    half = any((run / "checkpoints").glob(".*.partial"))
    return f"{_phase(run)}{', in a save' if half else ''}"


def _progress(run: Path) -> int:
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _phase(run: Path) -> str:
    lines = (run / "metrics.jsonl").read_text().splitlines() if _progress(run) else []
    for line in reversed(lines):
        try:
            return json.loads(line)["phase"]
        except ValueError:  # a torn last line
            continue
    return "before the first row"
