"""The doctor finds each planted fault, and none in sound data."""

import io
import json

import gymnasium
import h5py
import numpy as np
import pytest
from dataset_files import episode
from rich.console import Console

from robo_offline.datasets import doctor, store
from robo_offline.errors import UserError


def sound(count: int = 6) -> list:
    """Attempts that begin at a place of their own and mostly succeed."""
    return [episode(20 + n, over=True, seed=n) for n in range(count)]


def codes(logged, **options) -> dict[str, doctor.Finding]:
    store.write("made/walk-v0", logged, overwrite=True, **options)
    return {finding.code: finding for finding in doctor.examine("made/walk-v0")}


def stored() -> h5py.File:
    return h5py.File(store.folder("made/walk-v0") / store.DATA_FILE, "r+")


def test_sound_data_has_no_fault():
    assert codes(sound()) == {}


@pytest.mark.parametrize("column", ["observation", "action", "reward"])
def test_what_is_not_finite_is_found_where_it_is(column):
    logged = sound()
    getattr(logged[2], column)[3:5] = np.inf
    found = codes(logged)[f"not-finite-{column}"]
    assert (found.severity, found.episode, found.row, found.count) == ("error", 2, 3, 2)


def test_actions_out_of_bounds_are_counted():
    logged = sound()
    logged[1].action[4] = 3.75
    found = codes(logged)["action-out-of-bounds"]
    assert (found.severity, found.episode, found.row, found.count) == ("warning", 1, 4, 1)
    wide = gymnasium.spaces.Box(-4, 4, (3,), np.float32)
    assert "action-out-of-bounds" not in codes(logged, action_space=wide)


def test_a_step_into_another_episode_is_found():
    logged = sound()
    parts = logged[:2]
    start = parts[0].observation[:1] + 40  # the next attempt begins elsewhere
    merged = episode(
        41,
        observation=np.concatenate([parts[0].observation[:20], start + parts[1].observation]),
        action=np.concatenate([parts[0].action, parts[1].action]),
    )
    found = codes([*logged[2:], merged])["next-of-another-episode"]
    assert (found.severity, found.episode, found.row, found.count) == ("error", 4, 19, 1)


def test_one_number_that_jumps_is_no_reset():
    logged = sound()
    logged[0].observation[5:, 0] += 1000  # a flipped sign, a contact
    assert "next-of-another-episode" not in codes(logged)


def test_a_repeated_last_observation_is_found():
    logged = sound()
    for one in logged:
        one.observation[-1] = one.observation[-2]
    assert codes(logged)["repeated-last-observation"].count == 6


def test_time_limits_marked_as_terminals_are_found():
    unsuccessful = [episode(30, over=True, seed=n, success=np.zeros(30, bool)) for n in range(4)]
    found = codes(unsuccessful)["time-limit-as-terminal"]
    assert found.count == 4 and found.row == 29
    unknown = [episode(30, over=True, seed=n, success=None) for n in range(4)]
    assert "time-limit-as-terminal" in codes(unknown)
    assert "time-limit-as-terminal" not in codes([episode(30, seed=n) for n in range(4)])


def test_an_end_that_nothing_explains_is_found():
    odd = episode(9, over=True, success=np.zeros(9, bool), reward=np.zeros(9))
    found = codes([*sound(), odd])["unexplained-terminal"]
    assert (found.episode, found.row) == (6, 8)


def test_a_constant_reward_is_found():
    assert "constant-reward" in codes(
        [episode(20, reward=np.ones(20)), episode(21, reward=np.ones(21))]
    )


def test_failed_short_and_repeated_episodes_are_found():
    logged = [*sound(), sound()[3], episode(1, over=False, seed=9)]
    found = codes(logged)
    assert found["duplicate-episode"].episode == 6
    assert found["fragment"].episode == 7
    assert found["failed-episode"].severity == "note"


def test_idle_actions_are_found_with_the_gripper_held():
    logged = sound()
    for one in logged:
        one.action[2:, :2] = 0
    found = codes(logged)["idle-actions"]
    assert "%" in found.message and found.severity == "note"


def test_late_steps_are_found():
    time = np.arange(20) * 0.05
    time[8:] += 0.4
    found = codes([episode(20, extra={"timestamp": time})])["sampling-gap"]
    assert (found.row, found.count) == (7, 1)


def test_open_and_early_ends_are_found():
    logged = sound()
    logged[0].terminated[:] = False
    logged[1].truncated[4] = True
    found = codes(logged)
    assert found["open-end"].episode == 0
    assert (found["end-inside-episode"].episode, found["end-inside-episode"].row) == (1, 4)


def test_what_others_stored_wrong_is_found():
    store.write("made/walk-v0", sound())
    with stored() as file:
        del file["episode_1/observations"], file["episode_2/rewards"]
        file["episode_1/observations"] = np.zeros((22, 9))
        file["episode_2/rewards"] = np.zeros(3)
        file["episode_3/actions"].resize((0, 3))
        del file["episode_4/terminations"]
    found = {finding.code: finding for finding in doctor.examine("made/walk-v0")}
    assert found["shape-change"].episode == 1
    assert found["column-length"].episode == 2
    assert found["empty-episode"].episode == 3
    assert found["unreadable"].episode == 4
    assert doctor.worst(found.values()) == "error"


def test_a_damaged_file_is_a_finding():
    store.write("made/walk-v0", sound())
    path = store.folder("made/walk-v0") / store.DATA_FILE
    path.write_bytes(path.read_bytes()[:3000])
    (found,) = doctor.examine("made/walk-v0")
    assert found.code == "unreadable"


def test_an_unknown_name_is_an_error_of_the_user():
    with pytest.raises(UserError, match="no data set"):
        doctor.examine("made/absent-v0")


def test_findings_are_json_and_print():
    logged = sound()
    logged[0].action[:] = 3
    logged[1].reward[3] = np.nan
    found = list(codes(logged).values())
    assert [row["severity"] for row in json.loads(doctor.to_json(found))] == ["error", "warning"]
    page = io.StringIO()
    Console(file=page, width=100).print(doctor.render(found))
    assert "episode 1, row 3" in page.getvalue() and "1 error, 1 warning" in page.getvalue()
