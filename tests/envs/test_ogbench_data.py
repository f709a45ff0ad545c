"""OGBench's data is made here as there: same kinds of goals, a function of the seed."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ogbench")

import envs
from envs.ogbench_data import Navigate, Play, Stitch, at_distance, corners
from robo_offline.collect import collect, play
from robo_offline.datasets import load
from robo_offline.errors import UserError

MAZE = np.array(
    [
        [1, 1, 1, 1, 1, 1],
        [1, 0, 0, 0, 0, 1],
        [1, 0, 1, 1, 0, 1],
        [1, 0, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1],
    ]
)


@pytest.fixture(scope="module")
def maze():
    env = envs.make("ogbench/pointmaze_medium", collecting=True, horizon=60)
    yield env
    env.close()


def test_goals_lie_where_ways_part_turn_or_end():
    assert corners(MAZE) == [(1, 1), (1, 4), (2, 4), (3, 1)]


def test_cells_at_a_distance_are_those_of_the_shortest_way():
    assert at_distance(MAZE, (3, 1), 4) == [(1, 3)]
    assert at_distance(MAZE, (3, 1), 9) == []


def test_the_same_seed_gives_the_same_data_and_another_one_begins_elsewhere(maze):
    first, again, other = (play(maze, Navigate(0.5), 0, index) for index in (3, 3, 4))
    assert np.array_equal(first.observation["state"], again.observation["state"])
    assert np.array_equal(first.action, again.action)
    assert not np.array_equal(first.observation["state"][0], other.observation["state"][0])


def test_it_walks_on_after_a_goal_and_a_stitcher_stays(maze):
    env = envs.make("ogbench/pointmaze_medium", collecting=True, horizon=300)
    reached = play(env, Navigate(0.1), 0, 1)
    assert 1 <= reached.success.sum() <= 20 and not reached.terminated.any()
    stayed = play(env, Stitch(0.1), 0, 1)
    assert stayed.success[-20:].mean() > 0.8
    states = stayed.observation["state"]
    assert 8 < np.abs(states[-1] - states[0]).sum() < 24  # four cells of 4 m, around corners too
    env.close()


def test_it_becomes_a_data_set_without_goals(maze, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("ROBO_OFFLINE_CACHE", str(tmp_path / "cache"))

    def make():
        return envs.make("ogbench/pointmaze_medium", collecting=True, horizon=20)

    collect(make, Navigate(0.5), episodes=2, seed=0, name="maze/navigate")
    data = load("maze/navigate-v0")
    assert list(data.steps["observation"].keys()) == ["state"] and len(data.steps) == 42


def test_an_environment_to_be_solved_makes_no_data():
    env = envs.make("ogbench/pointmaze_medium")
    with pytest.raises(UserError, match="collecting=true"):
        play(env, Navigate(0.5), 0, 0)
    env.close()


def test_each_way_of_making_data_has_its_environments(maze):
    with pytest.raises(UserError, match="for another environment"):
        play(maze, Play(0.1, 0.5), 0, 0)
    ant = envs.make("ogbench/antmaze_medium", collecting=True)
    with pytest.raises(UserError, match="only a point"):
        play(ant, Navigate(0.5), 0, 0)
    ant.close()


@pytest.mark.slow
def test_a_plan_carries_the_cube():
    env = envs.make("ogbench/cube_single", collecting=True, horizon=100)
    first, again = play(env, Play(0.1, 0.5), 0, 3), play(env, Play(0.1, 0.5), 0, 3)
    assert np.array_equal(first.action, again.action)
    assert np.array_equal(first.observation["state"], again.observation["state"])
    cube = first.observation["state"][:, 19:22]  # tenths of a metre
    assert np.ptp(cube, axis=0).max() > 0.5
    env.close()
