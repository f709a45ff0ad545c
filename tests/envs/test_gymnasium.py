"""Gymnasium environments: in the project's units, by any name, with one way to end."""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

import envs
from envs.gymnasium import Continuous
from robo_offline.errors import UserError


class Toy(gymnasium.Env):
    """Echoes its action, succeeds at the second step."""

    def __init__(self):
        self.action_space = Box(np.array([0.0, -4.0]), np.array([10.0, 4.0]), dtype=np.float64)
        vector = Box(-np.inf, np.inf, (2,), np.float64)
        keys = ("observation", "achieved_goal", "desired_goal")
        self.observation_space = Dict(dict.fromkeys(keys, vector))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self._observation(np.zeros(2)), {}

    def step(self, action):
        self.count += 1
        done = self.count == 2
        return self._observation(action), 0.0, False, done, {"is_success": done}

    def _observation(self, value):
        return {"observation": value, "achieved_goal": value * 0, "desired_goal": value + 1}


def test_every_reset_is_told_its_options_and_a_caller_may_tell_others():
    told = []

    class Told(Toy):
        def reset(self, *, seed=None, options=None):
            told.append(options)
            return super().reset(seed=seed)

    env = Continuous(Told(), reset_options={"cell": [1, 2]})
    env.reset(seed=0)
    env.reset(options={"cell": None})
    Continuous(Told()).reset(seed=0)
    assert told[0]["cell"].tolist() == [1, 2] and told[1] == {"cell": None} and told[2] is None


@pytest.mark.parametrize("size", ["umaze", "medium", "large"])
def test_the_goal_of_a_fixed_maze_stays_in_its_cell_and_the_start_does_not(size):
    pytest.importorskip("gymnasium_robotics")
    env = envs.make(f"point_maze/{size}_fixed")
    seen = np.array([env.reset(seed=seed)[0] for seed in range(20)])
    assert np.ptp(seen[:, 4:], axis=0).max() <= 0.5 and np.ptp(seen[:, :2], axis=0).max() > 1
    env.close()


def test_actions_are_rescaled_and_goals_appended():
    env = Continuous(Toy())
    observation, info = env.reset(seed=0)
    assert observation.dtype == np.float32 and observation.tolist() == [0, 0, 1, 1]
    assert info["success"] is False
    assert env.step(np.array([-1.0, 0.5]))[0].tolist() == [0, 2, 1, 3]
    assert env.step(np.array([9.0, -9.0]))[0].tolist() == [10, -4, 11, -3]
    assert env.action_space == Box(-1.0, 1.0, (2,), np.float32)


@pytest.mark.parametrize(("ends", "expected"), [(False, (False, True)), (True, (True, False))])
def test_success_ends_an_episode_only_where_asked_and_never_as_a_truncation(ends, expected):
    env = Continuous(Toy(), success_ends=ends)
    env.reset(seed=0)
    env.step(np.zeros(2))
    _, _, terminated, truncated, info = env.step(np.zeros(2))
    assert (terminated, truncated) == expected and info["success"] is True


def test_what_is_not_a_vector_of_actions_or_numbers_is_refused():
    env = Toy()
    env.action_space = Discrete(3)
    with pytest.raises(UserError, match="cannot be controlled"):
        Continuous(env)
    env = Toy()
    env.observation_space = Discrete(3)
    with pytest.raises(UserError, match="not made of numbers"):
        Continuous(env)


@pytest.mark.parametrize(
    "name", ["gymnasium/Pendulum-v1", "gymnasium/Hopper-v4", "point_maze/umaze"]
)
def test_the_same_seed_gives_the_same_episode_whatever_came_before(name):
    pytest.importorskip("mujoco")
    env = envs.make(name)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (5, *env.action_space.shape))
    episodes = []
    for seed in (1, 2, 1):
        seen = [env.reset(seed=seed)[0]] + [env.step(action)[0] for action in actions]
        assert all(env.observation_space.contains(observation) for observation in seen)
        episodes.append(np.stack(seen))
    np.testing.assert_array_equal(episodes[0], episodes[2])
    assert (episodes[0] != episodes[1]).any()
    env.close()


def test_a_horizon_replaces_the_registered_time_limit():
    env = envs.make("gymnasium/Pendulum-v1", horizon=3)
    env.reset(seed=0)
    assert [env.step(np.zeros(1))[3] for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gymnasium/Pendulm-v1", "Pendulum-v1"),
        ("gymnasium/Pendulum-v99", "Pendulum-v1"),
        ("gymnasium/Nothing", "registry"),
        ("robosuite/lfit", "robosuite/lift"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, message):
    with pytest.raises(UserError, match=message):
        envs.make(name)


def test_every_shipped_environment_can_be_composed_by_its_name():
    from hydra import compose, initialize_config_module

    assert {"robosuite/lift", "robosuite/door", "point_maze/large"} <= set(envs.names())
    with initialize_config_module("configs", version_base=None):
        for name in envs.names():
            cfg = compose("collect", overrides=[f"env={name}"])
            assert cfg.env._target_.startswith(("envs.", "real_robot."))
