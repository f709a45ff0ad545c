"""OGBench's npz files become episodes that keep every transition and end at no goal."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robo_offline.datasets import Dataset, load, ogbench
from robo_offline.datasets.importing import import_source, open_source
from robo_offline.errors import UserError


def columns(lengths=(4, 3), images=False, **changes) -> dict:
    """Trajectories of these lengths; every row says by its numbers which one it is."""
    rows = sum(lengths) + len(lengths)
    number = np.arange(rows)
    terminals = np.zeros(rows, bool)
    terminals[np.cumsum(np.array(lengths) + 1) - 1] = True
    seen = np.stack([number, -number], 1).astype(np.float32)
    if images:
        seen = np.broadcast_to(number[:, None, None, None], (rows, 8, 6, 3)).astype(np.uint8)
        seen = seen + np.array([0, 50, 100], np.uint8)  # a channel of its own per colour
    held = {
        "observations": seen,
        "actions": np.stack([number, number], 1).astype(np.float32) / rows,
        "terminals": terminals,
    }
    return {key: value for key, value in (held | changes).items() if value is not None}


def write(path, **held):
    np.savez_compressed(path, **held)
    return path


def opened(path):
    iterator, source = open_source(path)
    return list(iterator), source


def test_every_transition_is_kept_and_the_last_dummy_action_is_not(tmp_path):
    episodes, source = opened(write(tmp_path / "pointmaze-medium-navigate-v0.npz", **columns()))
    assert [len(one) for one in episodes] == [4, 3]
    assert episodes[0].observation["state"][:, 0].tolist() == [0, 1, 2, 3, 4]
    assert episodes[1].observation["state"][:, 0].tolist() == [5, 6, 7, 8]
    assert np.allclose(episodes[1].action[:, 0] * 9, [5, 6, 7])
    assert source.environment == {"simulator": "ogbench", "id": "pointmaze-medium-v0"}
    assert source.total == 2 and not source.counts


def test_what_it_calls_terminal_is_a_cut(tmp_path):
    episodes, _ = opened(write(tmp_path / "x.npz", **columns()))
    for one in episodes:
        assert not one.terminated.any() and one.truncated.tolist() == [False] * (len(one) - 1) + [
            True
        ]
        assert one.success is None and not one.reward.any()


def test_a_single_tasks_masks_end_episodes_and_lose_nothing(tmp_path):
    held = columns((4, 3))
    masks = np.ones(9, np.float32)
    masks[[1, 6, 7]] = 0  # within, and twice in a row at the end
    rewards = np.arange(9) / 9 - 1
    episodes, source = opened(write(tmp_path / "x.npz", **held, masks=masks, rewards=rewards))
    assert [len(one) for one in episodes] == [2, 2, 2, 1]
    assert [bool(one.terminated[-1]) for one in episodes] == [True, False, True, True]
    assert episodes[1].observation["state"][:, 0].tolist() == [2, 3, 4]
    told = np.concatenate([one.reward for one in episodes])
    assert np.allclose(told, rewards[[0, 1, 2, 3, 5, 6, 7]])
    assert source.total >= len(episodes)


def test_images_come_channel_first_and_stay_bytes(tmp_path):
    episodes, _ = opened(write(tmp_path / "visual-x-v0.npz", **columns(images=True)))
    image = episodes[1].observation["pixels"]
    assert image.shape == (4, 3, 8, 6) and image.dtype == np.uint8
    assert image[:, 0, 0, 0].tolist() == [5, 6, 7, 8] and image[0, :, 0, 0].tolist() == [5, 55, 105]


def test_validation_data_beside_it_is_named_and_left_alone(tmp_path):
    write(tmp_path / "cube-single-play-v0-val.npz", **columns((2,)))
    _, source = opened(write(tmp_path / "cube-single-play-v0.npz", **columns()))
    assert "cube-single-play-v0-val.npz" in source.notes[0]
    episodes, source = opened(tmp_path / "cube-single-play-v0-val.npz")
    assert len(episodes) == 1 and source.environment["id"] == "cube-single-v0"


@pytest.mark.parametrize(
    ("stem", "found"),
    [
        ("antmaze-large-stitch-v0", "antmaze-large-v0"),
        ("cube-double-play-singletask-task2-v0", "cube-double-v0"),
        ("visual-puzzle-4x4-noisy-v0-val", "visual-puzzle-4x4-v0"),
    ],
)
def test_the_name_of_the_file_says_what_it_was_logged_in(tmp_path, stem, found):
    assert ogbench.environment(tmp_path / f"{stem}.npz") == found


def test_it_becomes_a_data_set_like_any_other(tmp_path):
    path = write(tmp_path / "pointmaze-medium-navigate-v0.npz", **columns(), qpos=np.ones((9, 2)))
    report = import_source(path, "maze/navigate")
    data: Dataset = load(report["name"])
    assert report["episodes"] == 2 and report["steps"] == 7
    assert data.steps["observation", "state"][:, 0].tolist() == list(range(9))
    assert data.steps["final"].tolist() == [False] * 4 + [True] + [False] * 3 + [True]


def test_rows_behind_the_last_end_are_left_out_and_counted(tmp_path):
    held = columns()
    held["terminals"][-1] = False
    episodes, source = opened(write(tmp_path / "x.npz", **held))
    assert len(episodes) == 1 and source.counts["rows behind the last end, left out"] == 4


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"terminals": None}, "holds no trajectories"),
        ({"actions": np.zeros((3, 2), np.float32)}, "differ in length"),
        ({"actions": np.zeros((9, 2), np.int32)}, "not vectors"),
        ({"actions": np.full((9, 2), "a")}, "do not hold numbers"),
        ({"observations": np.zeros((9, 2), np.int64)}, "neither vectors nor images"),
        ({"terminals": np.zeros(9, bool)}, "no trajectory of the file ends"),
    ],
)
def test_what_is_no_data_of_this_kind_is_refused_by_name(tmp_path, changes, match):
    path = write(tmp_path / "x.npz", **columns(**changes))
    with pytest.raises(UserError, match=match) as error:
        opened(path)
    assert "x.npz" in str(error.value)


def test_nothing_pickled_is_read(tmp_path):
    path = write(tmp_path / "x.npz", **columns(actions=np.array([{"a": 1}] * 9, object)))
    with pytest.raises(UserError):
        opened(path)


@given(st.data())
def test_damaged_bytes_end_in_a_user_error(tmp_path_factory, data):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **columns())
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("npz") / "x.npz"
    path.write_bytes(content[: data.draw(st.integers(8, len(content)))])
    try:
        episodes, _ = opened(path)
    except UserError:
        return
    assert all(len(one) + 1 == len(one.observation["state"]) for one in episodes)


def test_a_file_that_promises_more_than_it_holds_is_refused(tmp_path):
    held = columns()
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as file:
        for name, column in held.items():
            buffer = io.BytesIO()
            np.save(buffer, column)
            content = buffer.getvalue()
            file.writestr(f"{name}.npy", content[:-4] if name == "observations" else content)
    with pytest.raises(UserError, match="cannot be read"):
        opened(path)
