"""The cache lays a data set out as rows, lets nothing broken in, and notices changes."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import gymnasium
import minari
import numpy as np
import pytest
import torch
from dataset_files import episode, episodes

from robo_offline.datasets import load, store
from robo_offline.datasets.cache import cache_root
from robo_offline.datasets.statistics import observation_statistics, returns, reward_range
from robo_offline.errors import UserError


def test_rows_are_episodes_with_one_closing_row_each():
    store.write("made/walk-v0", episodes())
    steps = load("made/walk-v0").steps
    assert len(steps) == 6 + 8
    assert steps["final"].nonzero().flatten().tolist() == [5, 13]
    assert steps["episode"].tolist() == [0] * 6 + [1] * 8
    assert steps["terminated"].nonzero().flatten().tolist() == [4]
    assert steps["truncated"].nonzero().flatten().tolist() == [12]
    assert steps["success"].nonzero().flatten().tolist() == [4]
    assert torch.equal(steps["observation"][:6], torch.from_numpy(episodes()[0].observation))
    assert not steps["action"][steps["final"]].any() and not steps["reward"][5]


def test_the_spec_is_that_of_the_rows():
    store.write("made/walk-v0", episodes())
    spec = load("made/walk-v0").spec
    assert spec.observation["observation"].shape == (4,) and spec.action_dim == 3


def test_actions_are_rescaled_by_their_bounds_and_then_clipped():
    low, high = np.array([[0, -1, -np.inf], [4, 1, np.inf]], np.float32)
    space = gymnasium.spaces.Box(low, high)
    action = np.array([[0, 0.5, 0.5], [4, 2, 9], [3, -0.5, -9]], np.float32)
    store.write("made/walk-v0", [episode(3, action=action)], action_space=space)
    rows = load("made/walk-v0").steps["action"][:3]
    assert rows.tolist() == [[-1, 0.5, 0.5], [1, 1, 1], [0.5, -0.5, -1]]


def test_pictures_are_kept_channel_first():
    pictures = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 9), np.uint8)
    observation = {"state": np.zeros((6, 2)), "front": pictures}
    store.write("made/seen-v0", [episode(5, observation=observation)])
    dataset = load("made/seen-v0")
    assert torch.equal(dataset.steps["observation", "front"], torch.from_numpy(pictures))
    assert dataset.steps["observation", "state"].dtype == torch.float32
    assert set(dataset.spec.observation["observation"].keys()) == {"state", "front"}


def test_others_pictures_with_the_channel_last_are_turned():
    space = gymnasium.spaces.Box(0, 255, (40, 36, 3), np.uint8)
    pictures = np.full((6, 40, 36, 3), 7, np.uint8)
    one = episode(5, observation=pictures)
    store.write("made/seen-v0", [one], observation_space=space)
    assert load("made/seen-v0").steps["observation"].shape == (6, 3, 40, 36)


def test_a_cache_is_used_again_until_the_source_changes():
    store.write("made/walk-v0", episodes())
    load("made/walk-v0")
    (before,) = cache_root().glob("made--*")
    load("made/walk-v0")
    assert [before] == list(cache_root().glob("made--*"))
    store.write("made/walk-v0", [episode(3)], overwrite=True)
    assert len(load("made/walk-v0").steps) == 4
    (after,) = cache_root().glob("made--*")
    assert after != before


def test_a_change_inside_the_file_is_noticed():
    store.write("made/walk-v0", episodes())
    load("made/walk-v0")
    dataset = minari.load_dataset("made/walk-v0")
    dataset.storage.update_episode_metadata([{"seed": 3}], [0])
    assert len(load("made/walk-v0").steps) == 14
    assert len(list(cache_root().glob("made--*"))) == 1


def test_a_shortened_cache_is_reported_not_filled_with_zeros():
    store.write("made/walk-v0", episodes())
    load("made/walk-v0")
    (path,) = cache_root().glob("made--*")
    with (path / "steps" / "action.memmap").open("r+b") as file:
        file.truncate(20)
    with pytest.raises(UserError, match="delete the folder"):
        load("made/walk-v0")


def test_a_full_disk_leaves_no_cache(monkeypatch):
    store.write("made/walk-v0", episodes())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match="No space left"):
        load("made/walk-v0")
    assert [path.suffix for path in cache_root().iterdir()] == [".lock"]


def test_two_can_build_at_once():
    # Locks belong to open files, so threads stand for processes here.
    store.write("made/walk-v0", episodes())
    with ThreadPoolExecutor(2) as pool:
        loaded = list(pool.map(load, ["made/walk-v0"] * 2))
    assert [len(dataset.steps) for dataset in loaded] == [14, 14]
    assert len(list(cache_root().glob("made--*"))) == 1


@pytest.mark.parametrize("column", ["observation", "action", "reward"])
def test_what_is_not_finite_is_named(column):
    bad = episode(5, seed=3)
    getattr(bad, column)[2] = np.nan
    store.write("made/walk-v0", [episode(5), bad])
    with pytest.raises(UserError, match=rf"(?s){column}.*episode 1, row 2.*doctor made/walk-v0"):
        load("made/walk-v0")


def test_what_overflows_float32_is_named():
    store.write("made/walk-v0", [episode(2, observation=np.full((3, 4), 1e300))])
    with pytest.raises(UserError, match="observation is not finite"):
        load("made/walk-v0")


def test_actions_that_are_no_vectors_are_refused():
    discrete = gymnasium.spaces.Discrete(3)
    store.write("made/walk-v0", [episode(2, action=np.zeros(2, np.int64))], action_space=discrete)
    with pytest.raises(UserError, match="not vectors"):
        load("made/walk-v0")


def test_references_come_from_the_metadata_or_from_d4rl():
    store.write("made/a-v0", episodes(), extra_metadata={"ref_min_score": 1, "ref_max_score": 5})
    store.write("made/b-v0", episodes(), extra_metadata={"environment": {"id": "Hopper-v4"}})
    store.write("made/c-v0", episodes())
    assert load("made/a-v0").score_range == (1.0, 5.0)
    assert load("made/b-v0").score_range == (-20.272305, 3234.3)
    assert load("made/c-v0").score_range is None


def test_a_million_steps_load_at_once():
    # The rows are a sparse file: what is timed is that nothing reads them.
    store.write("made/walk-v0", episodes())
    steps = load("made/walk-v0").steps
    (path,) = cache_root().glob("made--*")
    big = steps[:1].to_tensordict().expand(1_000_000)
    big.memmap_like(path / "big")
    (path / "steps").rename(path / "small")
    (path / "big").rename(path / "steps")
    for file in (path / "small").iterdir():
        file.unlink()
    about = json.loads((path / "dataset.json").read_text())
    about["bytes"] = sum(file.stat().st_size for file in path.rglob("*.memmap"))
    (path / "dataset.json").write_text(json.dumps(about))
    started = time.monotonic()
    assert len(load("made/walk-v0").steps) == 1_000_000
    assert time.monotonic() - started < 1


def test_statistics_are_of_all_rows_with_ddof_zero():
    observation = np.array([[1e6], [1e6 + 2], [1e6 + 4]], np.float32)
    store.write("made/walk-v0", [episode(2, observation=observation)])
    dataset = load("made/walk-v0")
    mean, std = observation_statistics(dataset)["observation"]
    assert mean.tolist() == [1e6 + 2] and std.item() == pytest.approx(np.sqrt(8 / 3))
    assert reward_range(dataset) == (0.0, 1.0) and returns(dataset).tolist() == [1.0]


def test_statistics_leave_pictures_out_and_name_leaves():
    observation = {"state": np.zeros((6, 2)), "front": np.zeros((6, 3, 8, 8), np.uint8)}
    store.write("made/seen-v0", [episode(5, observation=observation)])
    assert list(observation_statistics(load("made/seen-v0"))) == ["observation.state"]
