"""Tasks on a rehearsed arm: the peg goes into the hole, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

import envs
from envs.experts import expert_for
from real_robot import cli
from real_robot.sim import peg as scene
from real_robot.tasks import Peg
from robo_offline.errors import UserError

pytest.importorskip("mujoco")
HOLE = np.array([0.5, 0.0, 0.2])


@pytest.fixture(scope="module")
def env():
    env = envs.make("robot/peg", horizon=60)
    yield env
    env.close()


def task(**options):
    return Peg(HOLE, tip_m=0.05, hole_half_m=0.0105, **options)


def state(tip, plate=HOLE):
    """A tool that points down, its peg's end at `tip` (3,)."""
    tool = [*(np.array(tip) + [0, 0, 0.05]), 0.0, 1.0, 0.0, 0.0]
    return {"tool": tool, "extra": {"plate": [*plate, 1, 0, 0, 0]}}


def play(env, seed, act):
    env.reset(seed=seed)
    while True:
        _, reward, terminated, truncated, info = env.step(act())
        if terminated or truncated:
            return reward, terminated, info


def test_the_measures_of_the_task_are_those_of_the_scene(env):
    known = env.unwrapped.bring
    assert (known.tip_m, known.hole_half_m) == (scene.TIP_M, scene.HOLE_HALF_M)


def test_a_person_who_looks_brings_the_peg_into_the_hole(env):
    for seed in range(4):
        observation, _ = env.reset(seed=seed)
        expert, over = expert_for(env), False
        while not over:
            observation, reward, terminated, truncated, info = env.step(expert(observation))
            over = terminated or truncated
        assert info["success"] and reward == 1 and not info["stop"]


def test_pressing_beside_the_hole_is_stopped_by_the_limit_of_force_and_is_no_success(env):
    reward, terminated, info = play(env, 1, lambda: np.array([0.0, 0.0, -1.0, 0.0]))
    assert "contact" in info["stop"] and not terminated and reward == 0
    assert not info["success"]


def test_an_episode_begins_above_the_plate_wherever_the_last_one_ended(env):
    starts = []
    for seed in (3, 3, 4):
        env.reset(seed=seed)
        starts.append(env.unwrapped.bring._tip(env.unwrapped.state))
        assert starts[-1][2] - HOLE[2] > 0.02 and np.abs(starts[-1][:2] - HOLE[:2]).max() < 0.11
    assert (starts[0] == starts[1]).all() and np.linalg.norm(starts[0] - starts[2]) > 0.01


@pytest.mark.parametrize(
    ("tip", "plate", "won"),
    [
        ([0.5, 0.0, 0.187], HOLE, True),
        ([0.5, 0.0, 0.189], HOLE, False),  # not deep enough
        ([0.512, 0.0, 0.18], HOLE, False),  # beside the hole
        ([0.5, 0.0, 0.187], HOLE - [0, 0, 0.02], False),  # the plate was pressed down
        ([0.53, 0.0, 0.187], HOLE + [0.03, 0, 0], True),  # the plate is where it is
    ],
)
def test_only_a_peg_in_the_plate_is_a_success(tip, plate, won):
    reward, success, failure = task().outcome(state(tip, plate), None)
    assert (reward, success, failure) == (float(won), won, False)


def test_a_person_goes_over_the_hole_before_down_and_up_where_the_plate_is_met():
    far, over, on = ([0.55, 0.0, 0.25], [0.5005, 0.0, 0.21], [0.52, 0.0, 0.2])
    assert task().way(state(far))[0] == pytest.approx(-0.05) and task().way(state(far))[2] > -0.05
    assert task().way(state(over))[2] < 0
    assert task().way(state(on))[2] > 0 and (task().way(state(on))[:2] == 0).all()


def test_what_is_left_shrinks_along_the_way_that_a_person_goes():
    tips = ([0.58, 0, 0.25], [0.53, 0, 0.23], [0.5, 0, 0.212], [0.5, 0, 0.2], [0.5, 0, 0.19])
    left = [task().left(state(tip)) for tip in tips]
    assert left == sorted(left, reverse=True)
    assert task().left(state([0.52, 0.0, 0.2])) > task().left(state([0.52, 0.0, 0.22]))


@pytest.mark.parametrize("place", ["0.5,0", "0.5,0,0.2,1"])
def test_a_scene_with_a_peg_says_where_the_hole_is(place):
    assert cli._scene("peg/0.5,0,0.2") == ("--hole", "0.5", "0", "0.2")
    with pytest.raises(UserError, match="peg/X,Y,Z"):
        cli._scene(f"peg/{place}")
