"""OGBench's environments: five tasks in turn, everything from the seed, goals as leaves."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ogbench")

import envs
from envs.ogbench import OGBench
from envs.torchrl import EpisodeSeeds
from robo_offline.errors import UserError
from robo_offline.evaluate import Evaluation, play
from robo_offline.spec import Spec


@pytest.fixture(scope="module")
def maze():
    env = envs.make("ogbench/pointmaze_medium", horizon=20)
    yield env
    env.close()


def episode(env: OGBench, seed: int, task: int = 2) -> np.ndarray:
    """States and goal of a short episode of one seed."""
    seen, _ = env.reset(seed=seed, options={"task_id": task})
    rows = [seen["state"], seen["goal"]["state"]]
    actions = np.random.default_rng(7).uniform(-1, 1, (8, *env.action_space.shape))
    rows += [env.step(action)[0]["state"] for action in actions]
    return np.stack(rows)


def test_the_whole_state_is_the_goal_and_the_spec_says_so(maze):
    assert Spec.of(maze).goal == {"state": None}
    seen, _ = maze.reset(seed=0)
    assert maze.observation_space.contains(seen)


def test_the_same_seed_is_the_same_episode_whatever_numpys_global_stream_holds(maze):
    np.random.seed(1)
    first = episode(maze, 5)
    state = np.random.get_state()[1].copy()
    episode(maze, 6)
    np.random.seed(2)
    second = episode(maze, 5)
    assert np.array_equal(first, second)
    assert not np.array_equal(first, episode(maze, 6))
    np.random.seed(1)
    assert np.array_equal(np.random.get_state()[1], state)  # and it is left alone


def test_episodes_take_the_tasks_in_turn(maze):
    episodes = EpisodeSeeds(maze, seed=0)
    tasks = []
    for _ in range(7):
        tasks.append(episodes.reset()[1]["task"])
        episodes.step(np.zeros(2))
    assert tasks == [1, 2, 3, 4, 5, 1, 2]


def test_a_given_task_is_every_episodes(maze):
    env = envs.make("ogbench/pointmaze_medium", task_id=3)
    assert {EpisodeSeeds(env, 0, first).reset()[1]["task"] for first in range(4)} == {3}
    assert env.reset(seed=0)[1]["task"] == 3
    env.close()


def test_without_an_index_the_seed_draws_the_task(maze):
    drawn = [maze.reset(seed=seed)[1]["task"] for seed in range(20)]
    assert set(drawn) == {1, 2, 3, 4, 5}
    assert drawn == [maze.reset(seed=seed)[1]["task"] for seed in range(20)]


class Towards:
    """A policy that walks straight to the goal."""

    def reset(self, index):
        pass

    def act(self, observation, explore):
        offset = observation["goal"]["state"] - observation["state"]
        return np.clip(offset, -1, 1)


def test_an_evaluation_says_how_each_task_went(maze):
    outcomes = tuple(play(maze, Towards(), 0, index) for index in range(10))
    assert [outcome.task for outcome in outcomes] == [1, 2, 3, 4, 5] * 2
    row = Evaluation(outcomes, 0).row()
    rates = [row[f"success_rate_task_{task}"] for task in range(1, 6)]
    assert np.mean(rates) == pytest.approx(row["success_rate"])


def test_reaching_the_goal_is_success_and_the_end(maze):
    seen, info = maze.reset(seed=0, options={"task_id": 1})
    assert info["success"] is False
    maze.unwrapped.set_xy(seen["goal"]["state"])
    seen, reward, terminated, truncated, info = maze.step(np.zeros(2))
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)
    assert np.linalg.norm(seen["state"] - seen["goal"]["state"]) < 1


def test_entries_of_the_state_can_be_the_goal():
    env = envs.make("ogbench/antmaze_medium", goal_entries=[0, 1], horizon=20)
    seen, _ = env.reset(seed=0)
    assert seen["goal"]["state"].shape == (2,) and Spec.of(env).goal == {"state": (0, 1)}
    env.close()


@pytest.mark.parametrize("values", [{"task_id": 6}, {"goal_entries": [2]}])
def test_values_that_do_not_fit_are_refused(values):
    with pytest.raises(UserError, match="does not fit"):
        envs.make("ogbench/pointmaze_medium", **values)


def test_every_shipped_file_names_an_environment_that_is_registered():
    import gymnasium
    from omegaconf import OmegaConf

    shipped = [name for name in envs.names() if name.startswith("ogbench/")]
    assert len(shipped) >= 12
    for name in shipped:
        values = OmegaConf.load(envs._folder() / f"{name}.yaml")
        assert gymnasium.spec(values.id).max_episode_steps == values.horizon, name


@pytest.mark.slow
def test_a_table_is_a_function_of_its_seed():
    """Its makers draw from an action space that is new, and unseeded, at every look."""
    env = envs.make("ogbench/cube_single", horizon=20)
    first = episode(env, 5)
    episode(env, 6)
    assert np.array_equal(first, episode(env, 5))
    assert Spec.of(env).goal == {"state": None}
    env.close()
