"""What a robot lived through is on the disk, whole, and nothing else is read from there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

import envs
from real_robot import spool
from real_robot.episodes import FORMAT, Kept, lived
from robo_offline.errors import UserError

pytest.importorskip("mujoco")
INTERVENER = {
    "_target_": "real_robot.tasks.intervener.Intervener",
    "_partial_": True,
    "patience_s": 0.2,
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Two episodes of five steps with a person in them, and what the environment said."""
    folder = tmp_path_factory.mktemp("kept")
    env = Kept(
        envs.make("robot/rehearsal", horizon=12, person=INTERVENER), folder, {"name": "rehearsal"}
    )
    told = []
    for seed in (3, 4):
        observation, _ = env.reset(seed=seed)
        steps, over = [], False
        while not over:
            action = np.full(4, 0.9 if len(steps) < 2 else 0.0)
            after, reward, terminated, truncated, info = env.step(action)
            steps.append((observation, action, reward, terminated, truncated, info))
            observation, over = after, terminated or truncated
        told.append((steps, observation))
    env.close()
    return folder, told


def test_everything_that_was_said_is_kept_in_order(kept):
    folder, told = kept
    found = list(lived(folder))
    assert [one.about["seed"] for one in found] == [3, 4]
    for one, (steps, last) in zip(found, told, strict=True):
        assert (one.observation == np.stack([s[0] for s in steps] + [last])).all()
        for key in ("executed", "requested", "source", "late_ns"):
            assert (one.steps[key] == np.stack([s[5][key] for s in steps])).all(), key
        assert one.steps["truncated"].tolist() == [False] * 11 + [True]
        assert one.joints.shape == (13, 7) and np.ptp(one.joints[:, 0]) >= 0


def test_the_rate_is_the_measured_one_and_the_robot_is_named(kept):
    about = next(lived(kept[0])).about
    assert about["rate_hz"] == pytest.approx(20, abs=0.5) and about["nominal_hz"] == 20
    assert about["robot"] == "sim" and len(about["descriptor"]) > 12
    assert about["environment"] == {"name": "rehearsal"} and about["stop"] == ""


def test_who_acted_is_kept_and_a_person_did_what_the_policy_did_not_ask_for(kept):
    one = next(lived(kept[0]))
    person = one.steps["source"] == 2
    assert person.any() and not person.all()
    assert (one.steps["executed"][person] != one.steps["requested"][person]).any()


def test_an_episode_that_is_not_over_is_not_kept(tmp_path):
    env = Kept(envs.make("robot/rehearsal", horizon=9), tmp_path)
    env.reset(seed=0)
    env.step(np.zeros(4))
    env.close()
    assert list(lived(tmp_path)) == []


def test_half_a_record_after_a_crash_costs_that_record_alone(kept, tmp_path):
    (path,) = kept[0].glob("*.spool")
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes()[:-7])
    assert [one.about["seed"] for one in lived(tmp_path)] == [3]


@pytest.mark.parametrize(
    "foreign", [b"", b"\x08" + bytes(7) + b"{}      ", save({"a": np.ones(2)})]
)
def test_a_record_of_something_else_is_named(tmp_path, foreign):
    spool.Spool(tmp_path).append(foreign)
    with pytest.raises(UserError, match=r"no episode(.|\n)*record 0"):
        list(lived(tmp_path))


def test_columns_that_differ_in_length_are_named(tmp_path):
    arrays = {"observation": np.ones((2, 1)), "joints": np.ones((3, 7)), "reward": np.ones(2)}
    arrays |= {k: np.ones(2) for k in ("executed", "requested", "source", "reason", "late_ns")}
    arrays |= {k: np.ones(2) for k in ("terminated", "truncated", "success")}
    spool.Spool(tmp_path).append(save(arrays, {"format": FORMAT, "about": "{}"}))
    with pytest.raises(UserError, match="length"):
        list(lived(tmp_path))


@settings(max_examples=60, deadline=None)
@given(payload=st.binary(max_size=200))
def test_whatever_lies_in_a_record_ends_in_a_sentence(tmp_path_factory, payload):
    folder = tmp_path_factory.mktemp("fuzz")
    spool.Spool(folder).append(payload)
    with pytest.raises(UserError, match="no episode"):
        list(lived(folder))
