"""The store keeps episodes whole, as anyone's Minari data set, or not at all."""

import errno

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from dataset_files import episode, episodes, same

from robo_offline.datasets import store
from robo_offline.errors import UserError


def test_what_is_written_is_read_back():
    store.write("made/walk", episodes())
    read, metadata = store.read("made/walk-v0")
    assert all(same(a, b) for a, b in zip(read, episodes(), strict=True))
    assert metadata["total_steps"] == 12


def test_success_extras_and_seed_come_back():
    one = episode(4, extra={"timestamp": np.arange(4.0)})
    one.seed = 11
    store.write("made/walk-v1", [one])
    (read,) = store.read("made/walk-v1")[0]
    assert read.success.tolist() == [False, False, False, True]
    assert read.extra["timestamp"].tolist() == [0, 1, 2, 3] and read.seed == 11


def test_minari_reads_it_with_its_spaces():
    store.write("made/walk-v0", episodes(), algorithm="a walk")
    read = minari.load_dataset("made/walk-v0")
    assert read.total_steps == 12 and len(read) == 2
    assert read[0].observations.shape == (6, 4) and read[1].truncations[-1]
    assert read.action_space == gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    assert list(minari.list_local_datasets()) == ["made/walk-v0"]


def test_given_action_bounds_are_kept():
    space = gymnasium.spaces.Box(-2, 2, (3,), np.float32)
    store.write("made/walk-v0", episodes(), action_space=space)
    assert store.Store("made/walk-v0").action_space == space


def test_pictures_survive_to_the_last_bit():
    pictures = np.random.default_rng(0).integers(0, 256, (6, 3, 40, 40), np.uint8)
    observation = {"state": np.zeros((6, 2), np.float32), "front": pictures}
    store.write("made/seen-v0", [episode(5, observation=observation)])
    (read,) = store.read("made/seen-v0")[0]
    assert np.array_equal(read.observation["front"], pictures)
    assert np.array_equal(minari.load_dataset("made/seen-v0")[0].observations["front"], pictures)


def test_two_writings_give_the_same_arrays():
    for name in ("made/one-v0", "made/two-v0"):
        store.write(name, episodes())
    one, two = (list(store.read(name)[0]) for name in ("made/one-v0", "made/two-v0"))
    assert all(same(a, b) for a, b in zip(one, two, strict=True))


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    create = h5py.Group.create_dataset
    calls = []

    def full(self, name, *args, **kwargs):
        calls.append(name)
        if len(calls) > 7:
            raise OSError(errno.ENOSPC, "No space left on device")
        return create(self, name, *args, **kwargs)

    monkeypatch.setattr(h5py.Group, "create_dataset", full)
    with pytest.raises(UserError, match="No space left"):
        store.write("made/walk-v0", episodes())
    assert [p for p in (tmp_path / "minari").rglob("*") if p.is_file()] == []
    assert store.local_ids() == []


def test_an_interruption_leaves_the_old_data_set_as_it_was(tmp_path):
    store.write("made/walk-v0", episodes())

    def interrupted():
        yield episode(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write("made/walk-v0", interrupted(), overwrite=True)
    assert len(store.Store("made/walk-v0")) == 2
    assert [p.name for p in (tmp_path / "minari" / "made").iterdir()] == ["walk-v0"]


def test_errors_of_the_source_are_not_called_a_full_disk():
    def broken():
        yield episode(3)
        raise RuntimeError("the simulator fell over")

    with pytest.raises(RuntimeError, match="fell over"):
        store.write("made/walk-v0", broken())


def test_a_data_set_is_replaced_only_when_told_to():
    store.write("made/walk-v0", episodes())
    with pytest.raises(UserError, match="exists already"):
        store.write("made/walk-v0", episodes())
    store.write("made/walk-v0", [episode(3)], overwrite=True)
    assert store.Store("made/walk-v0").lengths == [3]


def test_a_data_set_is_never_put_inside_or_over_others(tmp_path):
    store.write("made/walk-v0", episodes())
    with pytest.raises(UserError, match="another data set"):
        store.write("made/walk-v0/inner-v0", episodes())
    (tmp_path / "minari" / "space-v0" / "deep-v0").mkdir(parents=True)
    with pytest.raises(UserError, match="not a data set"):
        store.write("space-v0", episodes(), overwrite=True)


@pytest.mark.parametrize("name", ["", "../up", "a b", "/abs/x-v0", "x" * 300, "made/"])
def test_a_bad_name_is_refused(name):
    with pytest.raises(UserError, match="not a name"):
        store.write(name, episodes())


def test_an_unknown_id_names_the_nearest():
    store.write("lift/human-v0", episodes())
    with pytest.raises(UserError, match="did you mean lift/human-v0"):
        store.read("lift/humans-v0")


def test_an_episode_of_another_shape_is_named():
    other = episode(5, observation=np.zeros((6, 9), np.float32))
    with pytest.raises(UserError, match="episode 1"):
        store.write("made/walk-v0", [episode(5), other])


@pytest.mark.parametrize(
    "wrong", [{"reward": np.zeros(4)}, {"observation": np.zeros((5, 4), np.float32)}]
)
def test_columns_of_the_wrong_length_are_refused(wrong):
    with pytest.raises(UserError, match="wrong number of rows"):
        store.write("made/walk-v0", [episode(5, **wrong)])


def test_no_episode_and_no_step_are_refused():
    with pytest.raises(UserError, match="no episode"):
        store.write("made/walk-v0", [])
    with pytest.raises(UserError, match="no step"):
        store.write("made/walk-v0", [episode(0)])
