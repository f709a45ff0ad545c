"""Lift with goals: where the cube shall be is in the observation, and reaching it is success."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("robosuite")

import envs
from envs.experts import expert_for
from robo_offline.errors import UserError
from robo_offline.spec import Spec


@pytest.fixture(scope="module")
def lift():
    env = envs.make("goal/lift", horizon=120)
    yield env
    env.close()


def test_a_goal_is_of_the_cubes_own_entries_and_in_reach_of_it(lift):
    seen, info = lift.reset(seed=3)
    entries = list(Spec.of(lift).goal["state"])
    assert lift.observation_space.contains(seen) and info["success"] is False
    assert np.allclose(seen["state"][entries], lift._cube(), atol=1e-5)
    offset = seen["goal"]["state"] - seen["state"][entries]
    assert np.abs(offset[:2]).max() <= 0.1 and 0.06 <= offset[2] <= 0.2


def test_the_same_seed_is_the_same_start_and_goal(lift):
    first, _ = lift.reset(seed=3)
    lift.reset(seed=4)
    again, _ = lift.reset(seed=3)
    assert np.array_equal(first["state"], again["state"])
    assert np.array_equal(first["goal"]["state"], again["goal"]["state"])


def test_the_scripted_expert_brings_the_cube_to_its_goal_and_ends_there(lift):
    lift.reset(seed=3)
    expert = expert_for(lift)
    over = False
    while not over:
        seen, reward, terminated, truncated, info = lift.step(expert(None))
        over = terminated or truncated
    assert (reward, terminated, info["success"]) == (1.0, True, True)
    entries = list(lift.goal_made_of["state"])
    assert np.linalg.norm(seen["state"][entries] - seen["goal"]["state"]) < lift.tolerance


def test_the_cube_that_lies_is_no_success_and_a_given_goal_is_taken(lift):
    _, info = lift.reset(seed=3, options={"goal": lift._cube()})
    assert info["success"] is False or np.allclose(lift.goal_position, lift._cube(), atol=0.02)
    seen, _ = lift.reset(seed=3, options={"goal": [0.1, 0.2, 1.0]})
    assert np.allclose(seen["goal"]["state"], [0.1, 0.2, 1.0])


@pytest.mark.parametrize("values", [{"axes": [3]}, {"heights": [0.2, 0.1]}])
def test_goals_without_sense_are_refused(values):
    with pytest.raises(UserError, match="do not make sense"):
        envs.make("goal/lift", **values)
