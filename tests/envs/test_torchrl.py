"""Environments under TorchRL: keys, and episodes that are a function of seed and index."""

import functools
import gc
import pickle
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from tensordict.nn import TensorDictModule

from envs.torchrl import EpisodeSeeds, as_torchrl, episode_seed

LENGTH = 3


class Walk(gymnasium.Env):
    """Adds up random numbers; nested observations on request."""

    def __init__(self, nested=False):
        self.nested = nested
        self.action_space = Box(-1.0, 1.0, (2,), np.float32)
        vector = Box(-np.inf, np.inf, (2,), np.float32)
        image = Box(0, 255, (3, 4, 4), np.uint8)
        self.observation_space = Dict({"state": vector, "wrist": image}) if nested else vector

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self._observe(), {"success": False}

    def step(self, action):
        self.count += 1
        end = self.count == LENGTH
        return self._observe(), 1.0, end, False, {"success": end}

    def _observe(self):
        state = self.np_random.normal(size=2).astype(np.float32)
        image = np.full((3, 4, 4), self.count, np.uint8)
        return {"state": state, "wrist": image} if self.nested else state


def first_observation(seed, index):
    return Walk().reset(seed=episode_seed(seed, index))[0]


def actor():
    return TensorDictModule(torch.nn.Linear(2, 2), ["observation"], ["action"])


def collectors():
    with warnings.catch_warnings():  # TorchRL warns of its own subclasses while it is imported
        warnings.simplefilter("ignore")
        from torchrl.collectors import Collector, MultiSyncCollector

    def ahead(make, policy, **options):
        return MultiSyncCollector([make], policy, **options)

    return {"in process": Collector, "in a second process": ahead}


def test_seeds_of_episodes_are_fixed_and_differ():
    assert episode_seed(0, 0) == 1484405855
    seeds = {episode_seed(seed, index) for seed in range(10) for index in range(100)}
    assert len(seeds) == 1000 and all(0 <= seed < 2**31 for seed in seeds)


def test_an_episode_begins_with_its_first_step():
    env = EpisodeSeeds(Walk(), seed=4, first_episode=2)
    first, info = env.reset()
    again, _ = env.reset(seed=99)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, first_observation(4, 2))
    assert info["episode"] == 2
    assert env.step(np.zeros(2))[-1]["episode"] == 2
    second, info = env.reset()
    np.testing.assert_array_equal(second, first_observation(4, 3))
    assert info["episode"] == 3


def test_the_keys_are_those_of_the_project():
    td = as_torchrl(Walk, seed=0, first_episode=7).rollout(LENGTH)
    assert set(td.keys()) >= {"observation", "action", "is_init", "episode", "success", "next"}
    after = td["next"]
    assert set(after.keys()) >= {"observation", "reward", "terminated", "truncated", "done"}
    assert td["observation"].dtype == torch.float32 and after["episode"].dtype == torch.int64
    assert td["is_init"].squeeze(-1).tolist() == [True, False, False]
    assert after["success"].squeeze(-1).tolist() == [False, False, True]
    assert after["success"].dtype == torch.bool
    assert after["episode"].squeeze(-1).tolist() == [7, 7, 7]
    assert after["terminated"].squeeze(-1).tolist() == [False, False, True]


def test_leaves_of_a_dict_observation_are_nested_under_observation():
    td = as_torchrl(functools.partial(Walk, nested=True), seed=0).rollout(2)
    assert td["observation", "state"].shape == (2, 2)
    assert td["next", "observation", "wrist"].dtype == torch.uint8
    assert td["next", "observation", "wrist"][:, 0, 0, 0].tolist() == [1, 2]


@pytest.mark.parametrize("where", ["in process", "in a second process"])
def test_collectors_deliver_from_the_first_episode_on_and_skip_none(where):
    make = functools.partial(as_torchrl, Walk, 4, 5)
    pickle.dumps(make)
    collector = collectors()[where](
        make,
        actor(),
        frames_per_batch=1,
        total_frames=-1,
        trajs_per_batch=1,
        traj_format="cat",
    )
    try:
        for index, batch in zip((5, 6, 7), collector, strict=False):
            assert batch.shape == (LENGTH,)
            assert batch["next", "episode"].squeeze(-1).tolist() == [index] * LENGTH
            np.testing.assert_array_equal(batch["observation"][0], first_observation(4, index))
    finally:
        collector.shutdown()
        # Left to the interpreter's end, TorchRL's weight sync waits for a thread that never starts.
        del collector
        gc.collect()


def test_what_an_environment_says_it_executed_is_what_is_stored():
    class Limited(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

        def reset(self, *, seed=None, options=None):
            return np.zeros(2, np.float32), {"success": False}

        def step(self, action):
            executed = np.clip(action, -0.5, 0.5)
            info = {"success": False, "executed": executed, "source": 2}
            return np.zeros(2, np.float32), 0.0, False, False, info

    env = as_torchrl(Limited, seed=0)
    td = env.reset()
    td["action"] = torch.tensor([0.9, -0.2])
    after = env.step(td)["next"]
    assert torch.allclose(after["executed"], torch.tensor([0.5, -0.2]))
    assert after["source"].tolist() == [2]
