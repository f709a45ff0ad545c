"""Scripted experts: they succeed without noise, and fail more the more of it they get."""

import numpy as np
import pytest

import envs
from envs.experts import expert_for
from robo_offline.errors import UserError

pytest.importorskip("robosuite")


def play(env, seed, noise=0.0):
    observation, _ = env.reset(seed=seed)
    expert = expert_for(env, noise, np.random.default_rng(seed))
    steps, over, info = 0, False, {}
    while not over:
        observation, _, terminated, truncated, info = env.step(expert(observation))
        over, steps = terminated or truncated, steps + 1
    return info["success"], steps


@pytest.mark.parametrize(
    ("name", "episodes", "within"),
    [
        ("robosuite/lift", 4, 80),
        ("robosuite/door", 2, 150),
        ("point_maze/umaze", 5, 300),
        ("point_maze/large", 3, 800),
    ],
)
def test_an_expert_without_noise_succeeds(name, episodes, within):
    env = envs.make(name)
    for seed in range(episodes):
        success, steps = play(env, seed)
        assert success and steps < within
    env.close()


def test_a_noisy_expert_is_slower_and_is_fixed_by_its_generator():
    env = envs.make("point_maze/umaze")
    clean = sum(play(env, seed)[1] for seed in range(5))
    noisy = [play(env, seed, noise=1.0) for seed in range(5)]
    assert sum(steps for _, steps in noisy) > clean
    assert play(env, 0, noise=1.0) == noisy[0]
    env.close()


def test_a_task_without_an_expert_is_refused_with_what_to_do():
    with pytest.raises(UserError, match="policy=random"):
        expert_for(envs.make("gymnasium/Pendulum-v1"))
