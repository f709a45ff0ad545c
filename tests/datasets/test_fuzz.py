"""Damaged files end in a UserError or are read: nothing crashes, hangs or fills the memory."""

import contextlib
import resource

import numpy as np
import pytest
from dataset_files import berkeley, d4rl, dapg, episode, episodes, robomimic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robo_offline.datasets import doctor, load, pickles, store
from robo_offline.datasets.importing import open_source
from robo_offline.errors import UserError

QUICK = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SLOW = settings(QUICK, max_examples=10)
MEMORY_KIB = 4 << 20


def damages():
    """Ways to damage a file: cut it, flip bytes of it, or move a piece of it elsewhere."""
    place = st.floats(0, 1, exclude_max=True)
    flips = st.lists(st.tuples(place, st.integers(0, 255)), min_size=1, max_size=8)
    return st.one_of(
        st.tuples(st.just("cut"), place),
        st.tuples(st.just("flip"), flips),
        st.tuples(st.just("splice"), st.tuples(place, place, st.integers(1, 64))),
    )


def damaged(data: bytes, damage) -> bytes:
    kind, how = damage
    if kind == "cut":
        return data[: int(how * len(data))]
    changed = bytearray(data)
    if kind == "flip":
        for place, value in how:
            changed[int(place * len(data))] = value
    else:
        start, to, length = int(how[0] * len(data)), int(how[1] * len(data)), how[2]
        changed[to : to + length] = data[start : start + length]
    return bytes(changed)


@contextlib.contextmanager
def only_user_errors():
    with contextlib.suppress(UserError):
        yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < MEMORY_KIB


def few() -> list:
    return [episode(3, seed=1), episode(4, over=False, seed=2)]


@pytest.mark.parametrize("write", [dapg, berkeley])
def test_damaged_pickles(tmp_path, write):
    write(tmp_path / "whole", few())
    whole = (tmp_path / "whole").read_bytes()

    @QUICK
    @given(damages())
    def survives(damage):
        (tmp_path / "x.pkl").write_bytes(damaged(whole, damage))
        with only_user_errors():
            list(open_source(tmp_path / "x.pkl")[0])

    survives()


@QUICK
@given(st.binary(max_size=200))
def test_arbitrary_bytes_as_a_pickle(tmp_path, data):
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04" + data)
    with only_user_errors():
        pickles.load(tmp_path / "x.pkl")


@pytest.mark.parametrize("form", ["robomimic", "d4rl"])
def test_damaged_hdf5_files(tmp_path, form):
    if form == "robomimic":
        robomimic(tmp_path / "whole", few())
    else:
        d4rl(tmp_path / "whole", few(), successors=True)
    whole = (tmp_path / "whole").read_bytes()

    @SLOW
    @given(damages())
    def survives(damage):
        (tmp_path / "x.hdf5").write_bytes(damaged(whole, damage))
        with only_user_errors():
            list(open_source(tmp_path / "x.hdf5")[0])

    survives()


def test_a_damaged_store_is_reported_by_load_and_doctor():
    store.write("made/walk-v0", few())
    path = store.folder("made/walk-v0") / store.DATA_FILE
    whole = path.read_bytes()

    @SLOW
    @given(damages())
    def survives(damage):
        path.write_bytes(damaged(whole, damage))
        with only_user_errors():
            load("made/walk-v0")
        with only_user_errors():
            doctor.examine("made/walk-v0")

    survives()


def test_damaged_metadata_is_reported():
    store.write("made/walk-v0", few())
    path = store.folder("made/walk-v0") / "metadata.json"
    whole = path.read_bytes()

    @SLOW
    @given(damages())
    def survives(damage):
        path.write_bytes(damaged(whole, damage))
        with only_user_errors():
            load("made/walk-v0")

    survives()


def test_a_file_that_claims_a_terabyte_is_refused(tmp_path):
    import h5py

    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file.create_dataset("observations", (10**11, 2), "f8", chunks=(1024, 2))
        for key in ("actions", "rewards", "terminals"):
            file[key] = np.zeros(3)
    with pytest.raises(UserError, match="claims"):
        open_source(tmp_path / "x.hdf5")


def test_links_out_of_a_file_are_not_followed(tmp_path):
    import h5py

    d4rl(tmp_path / "secret.hdf5", episodes(), successors=True)
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file["observations"] = h5py.ExternalLink("secret.hdf5", "observations")
    with pytest.raises(UserError, match="link to elsewhere"):
        open_source(tmp_path / "x.hdf5")
