"""Stacked images through a whole run: learning, acting, resuming, and a bundle without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pictures
import pytest
import torch
import toy

from envs.torchrl import EpisodeSeeds
from real_robot.runtime import load_bundle
from robo_offline import cli
from robo_offline.checkpoint import Checkpoints
from robo_offline.errors import UserError
from robo_offline.export import export, observations
from robo_offline.policies.policy import Policy
from robo_offline.replay.buffer import Replay, Window
from robo_offline.saved import load_policy

FRAMES = 3
LEARN = [
    "algo=bc", "algo.hidden=[8]", f"algo.frames={FRAMES}", "algo.chunk=2", "encoder=drq",
    "encoder.camera.backbone.width=4", "encoder.camera.backbone.layers=2",
    "encoder.camera.head.dim=8", "env=gymnasium", "env._target_=pictures.make",
    "dataset=pictures", "logger.console=false", "phase.offline.steps=20",
    "phase.offline.batch_size=16", "phase.offline.save_every=10",
    "phase.online={steps: 60, warmup: 20, utd: 0.2, batch_size: 16, save_every: 20}",
    "replay.memory_mapped=true", "replay.capacity=80",
    "evaluation={episodes: 2, workers: 1, video_episodes: 0}",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def data():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("robo_offline.build.load", lambda name: pictures.dataset())
        patch.setattr(observations, "load", lambda name: pictures.dataset())
        patch.setattr(observations, "local_ids", lambda: ["pictures-v0"])
        patch.setattr(observations, "ROWS", 32)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("stacked") / "run"
    assert cli.main(["train", *LEARN, f"run_dir={directory}"]) == 0
    return directory


def lively(directory: Path) -> Policy:
    """The run's policy with larger weights, so that every image shows in its actions."""
    policy = load_policy(directory)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in policy.algo.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return policy


def test_who_acts_decides_by_what_the_replay_gives_for_the_same_rows(run):
    data, policy = pictures.dataset(), lively(run)
    replay = Replay.of_steps(data.steps, Window(0.9, frames=FRAMES))
    for first, steps in replay.episodes:
        policy.reset()
        acted = [policy.act(_raw(data, row), explore=False) for row in range(first, first + steps)]
        decided = policy.algo.act(replay.observe(torch.arange(first, first + steps, 2)), False)
        chunks = policy.algo.action_range.to_environment(decided).flatten(0, 1)[:steps]
        np.testing.assert_allclose(np.stack(acted), chunks.numpy(), atol=1e-6)


def test_the_images_before_change_what_is_decided(run):
    data, policy = pictures.dataset(), lively(run)
    fresh = policy.act(_raw(data, 5), explore=False)
    policy.reset()
    policy.see(_raw(data, 0))
    assert not np.allclose(policy.act(_raw(data, 5), explore=False), fresh)


def test_a_run_that_was_stopped_goes_on_with_the_same_stacks(run, tmp_path, monkeypatch):
    save, count = Checkpoints.save, 0

    def spy(*args, **kwargs):
        nonlocal count
        count += 1
        if count == 6:  # in the middle of the online phase
            raise KeyboardInterrupt
        return save(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", spy)
        assert cli.main(["train", *LEARN, f"run_dir={tmp_path / 'run'}"]) == cli.INTERRUPTED
    assert cli.main(["train", f"resume={tmp_path / 'run'}"]) == 0
    states = [load_policy(folder).algo.state_dict() for folder in (run, tmp_path / "run")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_bundle_keeps_the_history_that_its_policy_keeps(run, tmp_path):
    manifest = export(run, tmp_path / "bundle", rate_hz=20.0, calls=20)
    frames = {leaf.key: leaf.frames for leaf in manifest.contract.observation}
    assert frames == {"front": FRAMES, "wrist": FRAMES, "state": 1}
    assert all(c.channels == "RGB" for c in manifest.contract.cameras)  # a robot shows one image
    policy, bundle = load_policy(run, "best"), load_bundle(tmp_path / "bundle")
    episodes = EpisodeSeeds(pictures.make(), 0)
    for index in range(2):
        observation, _ = episodes.reset()
        policy.reset(index)
        bundle.begin()
        queue, over = [], False
        while not over:
            if queue:
                bundle.see(observation)
            else:
                queue.extend(bundle.act(observation).actions)
            action = policy.act(observation, explore=False)
            np.testing.assert_allclose(queue.pop(0), action, atol=1e-5)
            observation, _, terminated, truncated, _ = episodes.step(action)
            over = terminated or truncated


def test_frames_without_a_camera_are_refused():
    with pytest.raises(UserError, match="there are none"):
        toy.spec().stacked(2)


def _raw(data, row: int) -> dict[str, np.ndarray]:
    return {key: leaf.numpy() for key, leaf in data.steps["observation"][row].items()}
