"""Small run directories, written by the loggers that write the real ones."""

import json

import pytest

from robo_offline.analysis.intervals import wilson
from robo_offline.loggers.files import Files


def one_evaluation(phase, step, successes, episodes=20, **more):
    share, low, high = wilson(successes, episodes)
    row = {"phase": phase, "step": step, "update": step, "env_step": 0, "time": step / 10,
           "episodes": episodes, "successes": successes, "success_rate": share,
           "success_low": low, "success_high": high, "return_mean": 2.0 * successes,
           "return_std": 1.0, "length_mean": 50.0, "normalised_score": None, "seed": 0,
           "video": None, "final_of_phase": False}  # fmt: skip
    return row | more


def one_run(folder, algo="IQL", seed=0, beta=3, finished=True, episodes=20, online=(3, 9, 18)):
    """Write a run with offline successes 2, 8, 10 of 20 and the given online ones."""
    folder.mkdir(parents=True)
    config = f"seed: {seed}\nname: {folder.name}\nalgo: {{beta: {beta}, hidden: [8, 8]}}\n"
    (folder / "config.yaml").write_text(config)
    info = {"name": folder.name, "created": "2026-11-20T10:00:00", "seed": seed, "algo": algo,
            "env": "lift", "dataset": "lift/mh", "versions": {"torch": "2.13"},
            "host": {"cpu": "a cpu", "count": 2}, "argv": ["robo-offline", "train"]}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(info))
    files = Files(folder)
    for phase, successes in (("offline", (2, 8, 10)), ("online", online)):
        for i, count in enumerate(successes):
            step = 100 * (i + 1)
            files.log({"phase": phase, "step": step, "update": step, "env_step": 0,
                       "time": step / 10, f"{phase}/critic/loss": 1 / step,
                       f"{phase}/critic/q": 1.0 + seed})  # fmt: skip
            files.evaluation(one_evaluation(phase, step, count, episodes))
    files.finish()
    parts = [{"name": "learn", "seconds": 6.0}, {"name": "collect", "seconds": 2.0}]
    (folder / "timing.json").write_text(json.dumps({"where": parts, "updates_per_second": 50.0}))
    if finished:
        (folder / "summary.json").write_text(json.dumps({"finished": ["offline", "online"]}))
    return folder


@pytest.fixture
def run(tmp_path):
    return one_run(tmp_path / "iql-0")


@pytest.fixture
def write_run():
    return one_run


@pytest.fixture
def evaluation():
    return one_evaluation
