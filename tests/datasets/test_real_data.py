"""Real files of other people import as what they are; skipped where there are none."""

import numpy as np
import pytest

from robo_offline.datasets import doctor, load, store
from robo_offline.datasets.importing import import_source
from robo_offline.errors import UserError

pytestmark = pytest.mark.real_data
LIFT = {  # file -> (demonstrations, steps up to the first success)
    "panda_3_demos_v1.4.0.hdf5": (3, 1351),
    "panda_4_demos_v1.4.1.hdf5": (4, 1906),
    "panda_10_demos_v1.3.1.hdf5": (10, 901),
    "panda_32_demos_v1.3.1.hdf5": (32, 3187),
}
OLD = {  # task folder -> (steps, successes)
    "door": (250, 1),
    "lift": (401, 1),
    "nut-assembly": (1025, 1),
    "pick-place": (1471, 1),
    "stack": (521, 1),
    "wipe": (173, 0),  # 10 states touch a mount that version 1.0 had not: 74 of 100 spots wiped
}


@pytest.mark.parametrize("file", LIFT)
def test_human_demonstrations_of_lift_all_succeed(real_data, file):
    pytest.importorskip("robosuite")
    count, steps = LIFT[file]
    report = import_source(real_data / "robosuite_lift_human" / file, "lift/human")
    assert (report["episodes"], report["steps"], report["successes"]) == (count, steps, count)
    dataset = load("lift/human-v0")
    assert dataset.steps["observation"].shape == (steps + count, 19)
    assert int(dataset.steps["terminated"].sum()) == count
    assert dataset.steps["action"].abs().max() <= 1
    assert doctor.worst(doctor.examine("lift/human-v0")) in (None, "note")


@pytest.mark.parametrize("task", OLD)
def test_demonstrations_of_robosuite_1_0_are_played_back(real_data, task):
    pytest.importorskip("robosuite")
    steps, successes = OLD[task]
    report = import_source(real_data / "robosuite_v1_human" / task, "old/task")
    assert (report["episodes"], report["steps"], report["successes"]) == (1, steps, successes)
    assert len(load("old/task-v0").steps) == steps + 1


def test_adroit_door_keeps_all_that_has_an_outcome(real_data):
    report = import_source(real_data / "adroit_door_human" / "door-v0_demos.pickle", "door/human")
    assert (report["episodes"], report["steps"], report["successes"]) == (25, 6704, 7)
    dataset = load("door/human-v0")
    assert dataset.steps["observation"].shape == (6729, 39)
    assert dataset.score_range == (-56.512833, 2880.5693)


@pytest.mark.parametrize("name", ["Ant", "HalfCheetah", "Hopper", "Walker2d"])
def test_expert_logs_end_at_a_time_limit(real_data, name):
    file = real_data / "gymnasium_expert" / f"expert_data_{name}-v4.pkl"
    report = import_source(file, "expert/log")
    assert (report["episodes"], report["steps"]) == (2, 2000)
    read, _ = store.read("expert/log-v0")
    assert all(one.truncated[-1] and not one.terminated.any() for one in read)
    assert np.isclose(load("expert/log-v0").steps["action"].abs().max(), 1)


@pytest.mark.parametrize("name", ["lerobot_v2_gr1", "rlds_bridge", "README.md"])
def test_what_is_not_read_yet_says_so(real_data, name):
    with pytest.raises(UserError, match="format is not known"):
        import_source(real_data / name, "other/data")
