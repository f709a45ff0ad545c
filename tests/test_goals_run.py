"""Goals through the whole flow: learnt online and offline, and refused where they do not fit."""

from __future__ import annotations

import json

import goal_toy
import numpy as np
import pytest
import torch

from robo_offline import build, collect, train
from robo_offline.config import compose
from robo_offline.datasets import load
from robo_offline.datasets.statistics import observation_statistics
from robo_offline.errors import UserError
from robo_offline.saved import load_policy

PLANE = [
    "env=gymnasium",
    "env._target_=goal_toy.make",
    f"+env.tolerance={goal_toy.TOLERANCE}",
    "env.success_ends=true",
    "algo.hidden=[64,64]",
    "algo.discount=0.9",
    "logger.console=false",
    "evaluation={episodes: 20, workers: 1, video_episodes: 0}",
]
ONLINE = [
    "phase=online",
    "phase.online.steps=600",
    "phase.online.random_steps=250",
    "phase.online.warmup=250",
    "phase.online.batch_size=128",
    "phase.online.evaluate_every=0",
    "phase.online.save_every=0",
    "algo.tau=0.05",
    "algo.lr.default=3e-3",
]
OFFLINE = [
    "phase=offline",
    "dataset=plane/random-v0",
    "phase.offline.steps=300",
    "phase.offline.batch_size=64",
    "phase.offline.evaluate_every=0",
    "phase.offline.save_every=0",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with one data set: uniform actions, recorded without any goal."""
    folder = tmp_path_factory.mktemp("random")
    with pytest.MonkeyPatch.context() as patch:
        _look_into(folder, patch)
        collect.collect(
            lambda: goal_toy.Plane(goals=False), collect.Random(), 60, 0, "plane/random"
        )
    return folder


@pytest.fixture
def random_data(folder, monkeypatch):
    _look_into(folder, monkeypatch)


def _look_into(folder, patch) -> None:
    patch.setenv("MINARI_DATASETS_PATH", str(folder / "minari"))
    patch.setenv("ROBO_OFFLINE_CACHE", str(folder / "cache"))


def summary(directory) -> dict:
    return json.loads((directory / "summary.json").read_text())["last"]


def test_sac_with_hindsight_reaches_goals_within_seconds(tmp_path):
    directory = tmp_path / "run"
    learner = ["algo=sac", "algo.initial_alpha=0.05", "algo.entropy_per_dim=-2.0", "goals=her"]
    train.main([*PLANE, *ONLINE, *learner, "seed=0", f"run_dir={directory}"])
    assert summary(directory)["success_rate"] >= 0.7
    policy = load_policy(directory)
    env = goal_toy.Plane()
    seen, _ = env.reset(seed=1)
    assert np.sign(policy.act(seen)) @ np.sign(seen["goal"]["state"]) >= 0


@pytest.mark.parametrize(
    ("algo", "goals"), [("iql", "her"), ("td3_bc", "arrival"), ("bc", "imitation")]
)
def test_ordinary_algorithms_learn_from_data_without_goals(random_data, tmp_path, algo, goals):
    directory = tmp_path / "run"
    changes = {
        "arrival": [],
        "imitation": [],
        # Nothing was commanded in this data: all of its goals are achieved.
        "her": ["goals.value={uniform: 1.0, commanded: 0.0}"],
    }[goals]
    short = ["phase.offline.steps=20", f"algo={algo}", f"goals={goals}", f"run_dir={directory}"]
    train.main([*PLANE, *OFFLINE, *short, *changes])
    assert 0 <= summary(directory)["success_rate"] <= 1


def test_a_goal_is_normalised_by_what_it_is_made_of(random_data):
    cfg = compose([*PLANE, *OFFLINE, "goals=ogbench"])
    data, spec = build.dataset_and_spec(cfg)
    found = observation_statistics(data)
    mean, std = found["observation.state"]
    assert torch.equal(found["observation.goal.state"][0], mean[:2])
    assert torch.equal(found["observation.goal.state"][1], std[:2])
    assert data.spec.difference(spec) == []


def test_values_are_bounded_by_the_rewards_of_the_goals_that_are_drawn(random_data, tmp_path):
    cfg = compose([*PLANE, *OFFLINE, "algo=iql", "goals=ogbench", "replay.reward_scale=3"])
    run = build.run(cfg, tmp_path / "run")
    try:
        assert run.bound == pytest.approx((3 * 1 + 1) / (1 - 0.9))
    finally:
        run.close()


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (["goals=none"], "no goals of its own"),
        (["goals=her"], "commanded ones"),
        (["goals=ogbench", "algo=awr"], "returns to go"),
        (["goals=ogbench", "goals.value.random=0.5"], "add up to 1"),
        (["goals=ogbench", "goals.value.random=many"], "goals.value.random does not fit"),
        (["goals=ogbench", "goals.reached.offset=2"], "offset does not fit"),
        (["goals=ogbench", "goals.subgoal_steps=0"], "does not fit"),
    ],
)
def test_goals_that_cannot_be_had_are_refused_before_any_work(
    random_data, tmp_path, overrides, match
):
    with pytest.raises(UserError, match=match):
        build.run(compose([*PLANE, *OFFLINE, "algo=iql", *overrides]), tmp_path / "run")


def test_an_environment_that_says_no_tolerance_leaves_it_to_the_user(tmp_path):
    plane = [one for one in PLANE if "tolerance" not in one]
    with pytest.raises(UserError, match="tolerance does not fit") as error:
        build.check_values(compose([*plane, "goals=her"]))
    assert "env.tolerance" in str(error.value)
    build.check_values(compose([*plane, "goals=her", "goals.reached.tolerance=0.1"]))


def test_data_of_another_environment_is_refused_with_both_sizes(random_data):
    cfg = compose(["env=goal/point_maze_umaze", "dataset=plane/random-v0", "goals=ogbench"])
    data = load("plane/random-v0")
    assert data.spec.observation["observation", "state"].shape == (4,)
    found, spec = build.dataset_and_spec(cfg)  # a point's place and velocity: the sizes agree
    assert found.spec.difference(spec) == []
    other = compose(["env=fetch/reach", "dataset=plane/random-v0", "goals=ogbench"])
    with pytest.raises(UserError, match="does not hold what goals are made of") as error:
        build.dataset_and_spec(other)
    assert "(10,)" in str(error.value) and "(4,)" in str(error.value)


def test_a_ring_that_overflows_goes_on_giving_goals_after_a_resume(tmp_path):
    directory = tmp_path / "run"
    short = ["phase.online.steps=120", "phase.online.warmup=40", "phase.online.random_steps=40"]
    arguments = [*PLANE, *ONLINE, *short, "replay.capacity=60", "algo=td3", "goals=her"]
    train.main([*arguments, f"run_dir={directory}"])
    train.main([f"resume={directory}", "phase.online.steps=160"])
    assert json.loads((directory / "summary.json").read_text())["finished"] == ["online"]
