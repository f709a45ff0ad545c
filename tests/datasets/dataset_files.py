"""Tiny files of every format, two episodes each: one terminated, one cut off."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import h5py
import numpy as np

from robo_offline.datasets.episode import Episode

OBSERVATION, ACTION = 4, 3


def episode(steps: int = 5, *, over: bool = True, seed: int = 0, **changes) -> Episode:
    """A random walk; `over` ends it in success."""
    random = np.random.default_rng(seed)
    terminated, truncated = np.zeros(steps, bool), np.zeros(steps, bool)
    terminated[-1:], truncated[-1:] = over, not over
    values = {
        "observation": random.normal(size=(steps + 1, OBSERVATION)).cumsum(0).astype(np.float32),
        "action": random.uniform(-1, 1, (steps, ACTION)).astype(np.float32),
        "reward": terminated.astype(np.float32),
        "terminated": terminated,
        "truncated": truncated,
        "success": terminated.copy(),
    }
    return Episode(**(values | changes))


def episodes() -> list[Episode]:
    return [episode(5, over=True, seed=1), episode(7, over=False, seed=2)]


def same(a: Episode, b: Episode) -> bool:
    """Say whether two episodes hold the same transitions."""
    keys = ("observation", "action", "reward", "terminated", "truncated")
    return all(np.array_equal(getattr(a, key), getattr(b, key)) for key in keys)


def robomimic(path: Path, logged: list[Episode], *, next_obs: bool = True, images: bool = False):
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        arguments = {"env_name": "Lift", "type": 1, "env_kwargs": {"robots": ["Panda"]}}
        data.attrs["env_args"] = json.dumps(arguments)
        for number, one in enumerate(logged):
            demo = data.create_group(f"demo_{number}")
            demo["actions"], demo["rewards"] = one.action, one.reward
            demo["dones"] = (one.terminated | one.truncated).astype(np.int64)
            for group, rows in (("obs", slice(None, -1)), ("next_obs", slice(1, None))):
                if group == "next_obs" and not next_obs:
                    continue
                demo[f"{group}/robot0_eef_pos"] = one.observation[rows, :3]
                demo[f"{group}/object"] = one.observation[rows, 3:]
                if images:
                    picture = np.arange(len(one) * 8 * 8 * 3) % 255
                    demo[f"{group}/agentview_image"] = picture.reshape(-1, 8, 8, 3).astype(np.uint8)
        file["mask/train"] = np.array([b"demo_0"])


def d4rl(path: Path, logged: list[Episode], *, successors: bool, timeouts: bool = True):
    with h5py.File(path, "w") as file:
        file["observations"] = np.concatenate([one.observation[:-1] for one in logged])
        file["actions"] = np.concatenate([one.action for one in logged])
        file["rewards"] = np.concatenate([one.reward for one in logged])[:, None]
        file["terminals"] = np.concatenate([one.terminated for one in logged])[:, None]
        if timeouts:
            file["timeouts"] = np.concatenate([one.truncated for one in logged])
        if successors:
            file["next_observations"] = np.concatenate([one.observation[1:] for one in logged])


def dapg(path: Path, logged: list[Episode]):
    trajectories = [
        {
            "observations": one.observation[:-1],
            "actions": one.action,
            "rewards": one.reward,
            "init_state_dict": {"qpos": np.zeros(3)},
        }
        for one in logged
    ]
    path.write_bytes(pickle.dumps(trajectories, protocol=2))


def berkeley(path: Path, logged: list[Episode]):
    trajectories = [
        {
            "observation": one.observation[:-1],
            "next_observation": one.observation[1:],
            "action": one.action,
            "reward": one.reward,
            "terminal": one.terminated | one.truncated,
        }
        for one in logged
    ]
    path.write_bytes(pickle.dumps(trajectories))
