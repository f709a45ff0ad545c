"""Ctrl-C at any moment: one line, status 130, and a run that continues."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-m", "robo_offline.cli"]
PENDULUM = ["env=gymnasium", "env.id=Pendulum-v1", "env.horizon=40"]
OVERRIDES = [
    *PENDULUM,
    "algo=sac",
    "algo.hidden=[16,16]",
    "phase=online",
    "phase.online.steps=1000000",
    "phase.online.warmup=40",
    "phase.online.log_every=40",
    "evaluation.episodes=2",
    "evaluation.workers=1",
    "evaluation.video_episodes=0",
]


def begin(directory: Path, *more: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    command = [*PROGRAM, "train", *OVERRIDES, f"run_dir={directory}", *more]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )


def interrupt(process: subprocess.Popen) -> str:
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the run and its children
    out, _ = process.communicate(timeout=60)
    return out


def wait_for_rows(directory: Path, count: int) -> None:
    path, deadline = directory / "metrics.jsonl", time.monotonic() + 60
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [False, True], ids=["in process", "second process"])
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path, ahead):
    run = tmp_path / "run"
    process = begin(run, f"phase.online.second_process={str(ahead).lower()}")
    wait_for_rows(run, 3)
    out = interrupt(process)
    assert process.returncode == 130
    assert f"robo-offline train resume={run}" in out
    assert "Traceback" not in out
    steps = (run / "checkpoints" / "last" / "state.json").read_text()
    assert '"phase": "online"' in steps


@pytest.mark.slow
def test_ctrl_c_before_the_first_step_leaves_no_traceback(tmp_path):
    process = begin(tmp_path / "run")
    until = time.monotonic() + 120
    while not (tmp_path / "run").exists():  # Python's own start is not ours to end well
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.01)
    out = interrupt(process)
    assert process.returncode == 130
    assert "Traceback" not in out
