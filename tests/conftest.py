"""One thread, a fixed random stream for every test, and a tiny spec."""

from pathlib import Path

import pytest
import torch
import toy
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
# How long an example takes says something about the machine's other work, not about ours.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

# What the clock judges runs alone: processes that talk to each other, and what must come in time.
REAL_TIME = (
    "actors",
    "bench/test_faults",
    "bench/test_robot",
    "real_robot",
    "test_deploy_verb",
    "test_interrupt",
)


def pytest_collection_modifyitems(items):
    """Mark the tests that must not share the machine with others."""
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).as_posix().startswith(REAL_TIME):
            item.add_marker("real_time")


@pytest.fixture(autouse=True)
def stream():
    """Begin every test at the same place of the global random stream."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def closed_runs():
    """Let go of the files and processes of every run that a test made."""
    yield
    while toy.OPEN:
        toy.OPEN.pop().close()


@pytest.fixture
def spec():
    """What the toy environment shows and takes: 4 numbers in, 2 out."""
    return toy.spec()


@pytest.fixture
def toy_run(monkeypatch):
    """Overrides of a run on the toy that takes a second, with the toy's data set as `toy`."""
    monkeypatch.setattr("robo_offline.build.load", lambda name: toy.dataset(4))
    return [
        "algo=bc",
        "algo.hidden=[8]",
        "env=gymnasium",
        "env._target_=toy.make",
        "dataset=toy",
        "logger.console=false",
        "phase.offline.steps=20",
        "phase.online.steps=60",
        "phase.online.warmup=20",
        "phase.online.utd=0.2",
        "evaluation={episodes: 2, workers: 1, video_episodes: 0}",
    ]


@pytest.fixture
def toy_offline(toy_run):
    """The same without the online phase."""
    return [*(o for o in toy_run if not o.startswith("phase.online")), "phase=offline"]
