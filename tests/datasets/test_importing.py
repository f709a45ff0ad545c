"""Files of every format become the same episodes, whatever their writers called things."""

import pickle

import h5py
import numpy as np
import pytest
from dataset_files import berkeley, d4rl, dapg, episode, episodes, robomimic, same

from robo_offline.datasets import d4rl as d4rl_format
from robo_offline.datasets import pickles, store
from robo_offline.datasets.importing import import_source, open_source
from robo_offline.errors import UserError


def opened(path, **options):
    iterator, source = open_source(path, **options)
    return list(iterator), source


def test_robomimic_keeps_every_step_and_the_true_successor(tmp_path):
    robomimic(tmp_path / "x.hdf5", episodes())
    read, source = opened(tmp_path / "x.hdf5")
    assert all(same(a, b) for a, b in zip(read, episodes(), strict=True))
    assert source.environment["task"] == "Lift"


def test_robomimic_without_successors_loses_its_last_step(tmp_path):
    robomimic(tmp_path / "x.hdf5", episodes(), next_obs=False)
    read, source = opened(tmp_path / "x.hdf5")
    assert [len(one) for one in read] == [4, 6] and all(one.truncated[-1] for one in read)
    assert source.counts["last steps without an outcome, left out"] == 2


def test_robomimic_is_cut_at_success_unless_the_tail_is_kept(tmp_path):
    success = np.array([0, 0, 1, 1, 1], bool)
    robomimic(tmp_path / "x.hdf5", [episode(5, reward=success * 1.0, terminated=success)])
    (cut,), _ = opened(tmp_path / "x.hdf5")
    (whole,), _ = opened(tmp_path / "x.hdf5", keep_tail=True)
    assert len(cut) == 3 and cut.terminated.tolist() == [False, False, True]
    assert len(whole) == 5 and whole.terminated.sum() == 1


def test_robomimic_takes_chosen_keys_cameras_and_demonstrations(tmp_path):
    robomimic(tmp_path / "x.hdf5", episodes(), images=True)
    (read,), _ = opened(
        tmp_path / "x.hdf5", keys=["object"], cameras=["agentview"], filter_key="train"
    )
    assert read.observation["state"].shape == (6, 1)
    assert read.observation["agentview"].shape == (6, 3, 8, 8)
    with pytest.raises(UserError, match="did you mean train"):
        open_source(tmp_path / "x.hdf5", filter_key="trains")
    with pytest.raises(UserError, match="no observation 'objekt'"):
        open_source(tmp_path / "x.hdf5", keys=["objekt"])
    with pytest.raises(UserError, match="no images"):
        open_source(tmp_path / "x.hdf5", cameras=["wrist"])


def test_d4rl_with_successors_keeps_every_step(tmp_path):
    d4rl(tmp_path / "hopper_medium-v2.hdf5", episodes(), successors=True)
    read, source = opened(tmp_path / "hopper_medium-v2.hdf5")
    assert all(same(a, b) for a, b in zip(read, episodes(), strict=True))
    assert source.environment["id"] == "hopper"


def test_d4rl_finds_ends_that_nothing_marks(tmp_path):
    d4rl(
        tmp_path / "x.hdf5",
        [episode(5, over=False), episode(6, seed=1)],
        successors=True,
        timeouts=False,
    )
    read, _ = opened(tmp_path / "x.hdf5")
    assert [len(one) for one in read] == [5, 6] and read[0].truncated[-1]


def test_d4rl_without_successors_drops_the_step_before_a_timeout(tmp_path):
    d4rl(tmp_path / "x.hdf5", episodes(), successors=False)
    read, source = opened(tmp_path / "x.hdf5")
    assert [len(one) for one in read] == [5, 6]
    assert read[0].terminated[-1] and read[1].truncated[-1]
    assert source.counts["last steps without an outcome, left out"] == 1


def test_d4rl_without_timeouts_is_cut_at_the_horizon(tmp_path):
    d4rl(tmp_path / "x.hdf5", [episode(10, over=False)], successors=False, timeouts=False)
    read, _ = opened(tmp_path / "x.hdf5", horizon=5)
    assert [len(one) for one in read] == [4, 4]
    (one,), source = opened(tmp_path / "x.hdf5")
    assert len(one) == 9 and "horizon" in source.notes[0]


def test_no_row_of_d4rl_crosses_an_episode_in_any_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(d4rl_format, "CHUNK_ROWS", 3)
    d4rl(tmp_path / "x.hdf5", episodes(), successors=True)
    assert [len(one) for one in opened(tmp_path / "x.hdf5")[0]] == [5, 7]


def test_dapg_uses_its_last_observation_as_an_outcome(tmp_path):
    dapg(tmp_path / "x.pickle", episodes())
    read, _ = opened(tmp_path / "x.pickle")
    assert [len(one) for one in read] == [4, 6] and all(one.truncated[-1] for one in read)
    assert np.array_equal(read[0].observation, episodes()[0].observation[:-1])


def test_a_terminal_at_the_time_limit_is_a_truncation(tmp_path):
    berkeley(tmp_path / "expert_Hopper-v4.pkl", episodes())
    read, source = opened(tmp_path / "expert_Hopper-v4.pkl", horizon=7)
    assert read[0].terminated[-1] and read[1].truncated[-1]
    assert source.counts["time limits marked as terminal, now truncated"] == 1
    assert source.environment["id"] == "Hopper-v4"
    assert same(read[0], episodes()[0])


def test_arrays_of_every_pickle_protocol_are_read(tmp_path):
    wanted = [{"a": np.arange(6.0).reshape(2, 3, order="F"), "b": np.float32(2), "c": ["x", None]}]
    for protocol in range(2, 6):
        (tmp_path / "x.pkl").write_bytes(pickle.dumps(wanted, protocol=protocol))
        (read,) = pickles.load(tmp_path / "x.pkl")
        assert np.array_equal(read["a"], wanted[0]["a"])
        assert read["b"] == 2 and read["c"] == ["x", None]


class Malicious:
    def __init__(self, function, *arguments):
        self.parts = (function, arguments)

    def __reduce__(self):
        return self.parts


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, protocol):
    victim = tmp_path / "victim"
    victim.write_text("alive")
    bad = [{"observations": Malicious(eval, f"__import__('os').remove({str(victim)!r})")}]
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(bad, protocol=protocol))
    with pytest.raises(UserError, match=r"eval|more than plain data"):
        pickles.load(tmp_path / "x.pkl")
    assert victim.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04r\xff\xff\xff\x7f.",  # a memo of two thousand million entries
        b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.",  # a byte array of a terabyte
        b"\x80\x04cnumpy\nndarray\n(J\xff\xff\xff\x7ftR.",  # an array by its constructor
        pickle.dumps([Malicious(bytearray, 10**12)]),
        pickle.dumps(np.array([object], dtype=object)),
    ],
)
def test_a_pickle_that_only_asks_for_memory_is_refused(tmp_path, data):
    (tmp_path / "x.pkl").write_bytes(data)
    with pytest.raises(UserError):
        pickles.load(tmp_path / "x.pkl")


def test_a_pickle_of_something_else_says_what_it_holds(tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([{"weights": np.zeros(3)}]))
    with pytest.raises(UserError, match="a dict of weights"):
        open_source(tmp_path / "x.pkl")


def test_the_format_is_told_by_content_not_by_name(tmp_path):
    d4rl(tmp_path / "data.pkl", episodes(), successors=True)
    assert opened(tmp_path / "data.pkl")[1].format == "D4RL"


@pytest.mark.parametrize("content", [b"", b"PAR1....", b"PK\x03\x04", b"hello world"])
def test_an_unknown_format_lists_the_known_ones(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UserError, match=r"(?s)not known.*robomimic.*found"):
        open_source(tmp_path / "x")


def test_an_unknown_hdf5_says_what_is_in_it(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["weights/layer"] = np.zeros(3)
    with pytest.raises(UserError, match="weights/layer"):
        open_source(tmp_path / "x.h5")


def test_an_import_stores_counts_and_reports(tmp_path):
    d4rl(tmp_path / "a.hdf5", episodes(), successors=True)
    seen = []
    report = import_source(
        tmp_path / "a.hdf5", "made/a", progress=lambda done, total: seen.append((done, total))
    )
    assert (report["name"], report["episodes"], report["steps"]) == ("made/a-v0", 2, 12)
    assert seen == [(1, 2), (2, 2)]
    assert store.Store("made/a-v0").metadata["import"][0]["file"] == "a.hdf5"


def test_several_files_of_one_kind_become_one_data_set(tmp_path):
    for name in ("hopper_a.hdf5", "hopper_b.hdf5"):
        d4rl(tmp_path / name, episodes(), successors=True)
    files = [tmp_path / "hopper_a.hdf5", tmp_path / "hopper_b.hdf5"]
    assert import_source(files, "made/both")["episodes"] == 4


def test_files_of_two_kinds_are_not_mixed(tmp_path):
    d4rl(tmp_path / "a.hdf5", episodes(), successors=True)
    robomimic(tmp_path / "b.hdf5", episodes())
    with pytest.raises(UserError, match="not logged in the same environment"):
        import_source([tmp_path / "a.hdf5", tmp_path / "b.hdf5"], "made/both")


def test_a_taken_name_is_refused_before_anything_is_read(tmp_path):
    store.write("made/a-v0", episodes())
    with pytest.raises(UserError, match="exists already"):
        import_source(tmp_path / "absent", "made/a-v0")


def test_a_local_minari_id_is_a_source():
    store.write("made/a-v0", episodes(), extra_metadata={"environment": {"task": "Lift"}})
    report = import_source("made/a-v0", "made/b-v0")
    assert report["episodes"] == 2 and report["environment"] == {"task": "Lift"}


def test_an_id_that_cannot_be_downloaded_says_so(monkeypatch):
    import minari

    def unreachable(name):
        print("Downloading", name)
        raise ConnectionError("no network")

    monkeypatch.setattr(minari, "download_dataset", unreachable)
    with pytest.raises(UserError, match="could not be downloaded"):
        import_source("D4RL/door/human-v2", "door/human")


def test_a_missing_file_says_so():
    with pytest.raises(UserError, match="no such file"):
        import_source("/nowhere/demo.hdf5", "made/a")
