"""Goal tasks: the goal is a leaf, success is a distance, and one goal or many can be asked for."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

import envs
from envs.goals import Goals
from envs.torchrl import as_torchrl
from robo_offline.errors import UserError
from robo_offline.spec import Spec


class Corridor(gymnasium.Env):
    """Walks along a line; what it achieves is its place, entry 1 of what it observes."""

    def __init__(self, hidden: bool = False):
        self.hidden = hidden
        self.action_space = Box(-1.0, 1.0, (1,), np.float64)
        place = Box(-np.inf, np.inf, (1,), np.float64)
        seen = Box(-np.inf, np.inf, (1 if hidden else 2,), np.float64)
        self.observation_space = Dict(observation=seen, achieved_goal=place, desired_goal=place)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.told, self.count = options, 0
        self.place, self.goal = np.zeros(1), self.np_random.uniform(1, 2, 1)
        return self._see(), {"is_success": False}

    def step(self, action):
        self.place = self.place + action
        self.count += 1
        return self._see(), -7.0, False, self.count == 5, {"is_success": True}

    def _see(self):
        clock = np.array([float(self.count)])
        seen = clock if self.hidden else np.concatenate([clock, self.place])
        return {"observation": seen, "achieved_goal": self.place, "desired_goal": self.goal}


def corridor(hidden=False, **changes) -> Goals:
    values = {"tolerance": 0.5, "goal_entries": [] if hidden else [1], **changes}
    return Goals(Corridor(hidden), **values)


def test_the_goal_is_a_leaf_and_the_spec_says_what_it_is_made_of():
    env = corridor()
    seen, _ = env.reset(seed=0)
    assert env.observation_space.contains(seen) and seen["goal"]["state"].shape == (1,)
    assert Spec.of(env).goal == {"state": (1,)}


def test_what_is_not_observed_but_achieved_is_put_behind_the_state():
    env = corridor(hidden=True)
    seen, _ = env.reset(seed=0)
    assert seen["state"].shape == (2,) and Spec.of(env).goal == {"state": (1,)}
    assert env.step(np.array([0.25]))[0]["state"].tolist() == [1.0, 0.25]


def test_success_is_a_distance_whatever_the_task_says_and_pays():
    env = corridor(reset_options={"goal": [2.2]})
    assert env.reset(seed=0)[1]["success"] is False
    outcomes = [env.step(np.ones(1))[1:] for _ in range(3)]
    assert [(reward, info["success"]) for reward, _, _, info in outcomes] == [
        (0.0, False),
        (1.0, True),
        (0.0, False),
    ]
    assert not any(terminated for _, terminated, _, _ in outcomes)


def test_a_goal_that_is_reached_ends_the_episode_where_that_is_asked_for():
    env = corridor(reset_options={"goal": [1.0]}, success_ends=True)
    env.reset(seed=0)
    _, reward, terminated, truncated, _ = env.step(np.ones(1))
    assert (reward, terminated, truncated) == (1.0, True, False)


def test_one_goal_or_a_distribution_of_them():
    drawn = {float(corridor().reset(seed=seed)[0]["goal"]["state"][0]) for seed in range(5)}
    assert len(drawn) == 5
    env = corridor(reset_options={"goal": [1.5], "cell": [1, 2]})
    seen, _ = env.reset(seed=0)
    assert seen["goal"]["state"].tolist() == [1.5] and list(env.unwrapped.told) == ["cell"]
    assert env.step(np.zeros(1))[0]["goal"]["state"].tolist() == [1.5]
    assert env.reset(seed=0, options={"goal": [3.0]})[0]["goal"]["state"].tolist() == [3.0]


def test_a_goal_of_another_size_and_entries_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="wrong size") as error:
        corridor(reset_options={"goal": [1.0, 2.0]}).reset(seed=0)
    assert "1 numbers" in str(error.value) and "[1.0, 2.0]" in str(error.value)
    for entries in ([0, 1], [2]):
        with pytest.raises(UserError, match="goal_entries does not fit"):
            corridor(goal_entries=entries)


def test_entries_that_are_not_what_the_task_achieves_are_refused():
    class Away(Corridor):
        def reset(self, **kwargs):
            seen, info = super().reset(**kwargs)
            return {**seen, "achieved_goal": self.place + 1}, info

    with pytest.raises(UserError, match="not what the task calls achieved"):
        Goals(Away(), tolerance=0.5, goal_entries=[1])


def test_an_environment_without_goals_is_refused():
    with pytest.raises(UserError, match="has no goals"):
        Goals(gymnasium.make("Pendulum-v1"), tolerance=0.5)


def test_collectors_see_the_goal_as_a_nested_leaf():
    env = as_torchrl(corridor, seed=0)
    steps = env.rollout(3, auto_reset=True)
    assert steps["observation", "goal", "state"].shape == (3, 1)
    assert steps["next", "observation", "state"].shape == (3, 2)


@pytest.mark.parametrize(
    ("name", "entries"),
    [("goal/point_maze_umaze", (0, 1)), ("fetch/reach", (0, 1, 2)), ("fetch/push", (3, 4, 5))],
)
def test_the_shipped_tasks_judge_as_their_makers_do(name, entries):
    pytest.importorskip("gymnasium_robotics")
    env = envs.make(name, success_ends=False)
    assert Spec.of(env).goal == {"state": entries}
    seen, _ = env.reset(seed=3)
    here = seen["state"][list(entries)]
    for distance in (0.9, 1.1):  # of the tolerance
        goal = here + np.eye(len(entries))[0] * distance * env.tolerance
        seen, info = env.reset(seed=3, options={"goal": goal})
        theirs = env.unwrapped.compute_reward(seen["state"][list(entries)], goal, {})
        assert info["success"] == (distance < 1) == (theirs >= (1 if "maze" in name else 0))
    again, _ = env.reset(seed=3)
    assert np.array_equal(again["state"], env.reset(seed=3)[0]["state"])
    env.close()


def test_a_maze_can_have_its_goal_in_one_cell():
    pytest.importorskip("gymnasium_robotics")
    env = envs.make("goal/point_maze_umaze", reset_options={"goal_cell": [1, 1]})
    goals = np.array([env.reset(seed=seed)[0]["goal"]["state"] for seed in range(10)])
    assert np.ptp(goals, axis=0).max() <= 0.5
    env.close()
