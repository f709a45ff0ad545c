"""Robots as environments that a configuration names."""

from __future__ import annotations

import json

import numpy as np
import pytest

import envs
from real_robot.cameras.camera import CameraSpec
from real_robot.cameras.direct import DirectCamera
from real_robot.cameras.synthetic import Synthetic
from real_robot.contract import contract_of
from robo_offline.errors import UserError


@pytest.fixture(scope="module")
def env():
    env = envs.make("robot/rehearsal", horizon=60)
    yield env
    env.close()


def test_the_same_seed_is_the_same_episode_with_physics_and_all(env):
    def episode():
        random = np.random.default_rng(1)
        found = [env.reset(seed=4)[0]]
        found += [env.step(random.uniform(-1, 1, 4))[0] for _ in range(10)]
        return np.stack(found)

    first, second = episode(), episode()
    assert (first == second).all() and np.ptp(first[:, :3]) > 0.02


def test_going_straight_to_the_goal_reaches_it(env):
    observation, _ = env.reset(seed=0)
    for _ in range(60):
        way = observation[-3:] - observation[:3]  # goal, tool
        action = np.append(np.clip(way / 0.02, -1, 1), 0.0)
        observation, _, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            break
    assert info["success"] and (info["executed"][:3] == action[:3].astype(np.float32)).all()


def test_an_episode_begins_by_itself_after_a_stop(env):
    env.reset(seed=0)
    env.unwrapped.link.daemon.stop("test")
    assert env.step(np.zeros(4))[3]
    env.reset(seed=1)
    assert not env.step(np.zeros(4))[3]


def test_what_it_is_made_of_stands_in_its_contract(env):
    contract = env.unwrapped.contract()
    names = [part.name for part in contract.observation[0].parts]
    assert names == ["tool position", "tool orientation", "dq", "gripper", "goal"]
    assert contract.action.mode == "pose delta" and contract.rate_hz == 20


def test_without_a_cell_there_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match="key"):
        envs.make("robot/cell")


def test_a_real_arm_is_never_armed_by_a_program():
    with pytest.raises(UserError, match="person who sees it"):
        envs.make("robot/cell", robot="franka", operator_key="operator.key")


def test_a_training_runs_on_a_robot_as_it_runs_in_simulation(tmp_path):
    from robo_offline.cli import main

    run = tmp_path / "run"
    arguments = ["algo=sac", "env=robot/rehearsal", "env.horizon=20", "phase=online", "seed=0"]
    phase = ["phase.online.steps=60", "phase.online.batch_size=8", "phase.online.log_every=20"]
    small = ["algo.hidden=[8]", "evaluation.episodes=2", "evaluation.video_episodes=0"]
    assert main(["train", *arguments, *phase, *small, f"run_dir={run}"]) == 0
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any("intervention" in key for row in rows for key in row)
    assert json.loads((run / "summary.json").read_text())["finished"] == ["online"]


def camera(clock):
    return DirectCamera(Synthetic(CameraSpec("wrist", 40, 32, rate_hz=40.0), clock), clock)


def test_a_camera_is_a_leaf_of_what_the_robot_shows():
    cameras = {"wrist": {"_target_": f"{__name__}.camera", "_partial_": True}}
    env = envs.make("robot/rehearsal", horizon=5, cameras=cameras)
    first, _ = env.reset(seed=0)
    then = env.step(np.zeros(4))[0]
    assert env.observation_space.contains(first) and first["wrist"].shape == (3, 32, 40)
    assert (first["wrist"] != then["wrist"]).any()  # it goes with the rehearsal's clock
    assert [seen.name for seen in contract_of(env.unwrapped).cameras] == ["wrist"]
    env.close()
