"""Who acts: taking over, pauses, flapping, lost devices; and labels that are always true."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from real_robot.clock import ns
from real_robot.teleop.intervention import Intervention, TwistAction, Who
from real_robot.teleop.sample import TeleopSample

TO_ACTION = TwistAction(linear_m_s=0.1, angular_rad_s=0.5)
POLICY = np.array([0.3, -0.3, 0.3, 0.1, 0.1, 0.1, -1.0])  # with a closed gripper
STEP = ns(0.05)


def push(now, speed=0.1, **said) -> TeleopSample:
    return TeleopSample(now, np.array([speed, 0, 0, 0, 0, 0]), enable=True, **said)


def rest(now, **said) -> TeleopSample:
    return TeleopSample(now, np.zeros(6), **said)


@pytest.fixture
def mux():
    return Intervention(TO_ACTION)


def test_the_policy_acts_while_nobody_takes_over(mux):
    done = mux.step(0, POLICY, rest(0))
    assert done.source is Who.POLICY and not done.intervened
    assert np.array_equal(done.action, POLICY)


@pytest.mark.parametrize(
    ("sample", "who"),
    [
        (push(0), Who.TELEOP),
        (push(0, speed=0.005), Who.POLICY),  # the threshold itself is not above it
        (push(0, speed=np.nextafter(0.005, 1)), Who.TELEOP),
        (TeleopSample(0, np.array([0, 0, 0, 0, 0.02, 0]), enable=True), Who.POLICY),
        (TeleopSample(0, np.array([0, 0, 0, 0, 0.03, 0]), enable=True), Who.TELEOP),
        (TeleopSample(0, np.zeros(6), enable=True), Who.POLICY),
        (TeleopSample(0, np.zeros(6), enable=True, gripper=1.0), Who.TELEOP),
        (rest(0, lost=True), Who.HOLD),
        (rest(0, stop="enough"), Who.HOLD),
    ],
)
def test_who_takes_over(mux, sample, who):
    done = mux.step(0, POLICY, sample)
    assert done.source is who
    assert done.stop == sample.stop
    assert np.array_equal(done.requested, POLICY)


def test_joint_velocities_take_over_too():
    mux = Intervention(lambda sample, last: sample.velocity)
    still, moving = (TeleopSample(0, np.full(7, v), joints=True, enable=True) for v in (0.02, 0.03))
    assert mux.step(0, POLICY, still).source is Who.POLICY
    assert mux.step(0, POLICY, moving).source is Who.TELEOP


def test_the_action_is_the_twist_as_a_share_and_the_gripper_stays(mux):
    done = mux.step(0, POLICY, push(0, speed=0.05))
    assert done.action == pytest.approx([0.5, 0, 0, 0, 0, 0, -1])
    done = mux.step(STEP, -POLICY, push(STEP, speed=0.9, gripper=1.0))
    assert done.action == pytest.approx([1, 0, 0, 0, 0, 0, 1])
    # Now the person's open gripper stays, whatever the policy would like.
    assert mux.step(2 * STEP, POLICY, push(2 * STEP)).action[-1] == 1
    done = mux.step(3 * STEP, POLICY, push(3 * STEP, speed=-0.9, gripper=-1.0))
    assert done.action == pytest.approx([-1, 0, 0, 0, 0, 0, -1])


def test_open_and_closed_are_what_the_environment_calls_them():
    to_action = TwistAction(0.1, 0.5, gripper=(0.2, 0.8))
    for gripper, expected in ((-1.0, 0.2), (1.0, 0.8), (0.5, 0.8), (0.0, -1.0)):
        assert to_action(push(0, gripper=gripper), POLICY)[-1] == expected


def test_an_action_without_gripper_has_six_numbers():
    mux = Intervention(TwistAction(0.1, 0.5, gripper=None))
    assert mux.step(0, POLICY[:6], push(0)).action == pytest.approx([1, 0, 0, 0, 0, 0])
    with pytest.raises(ValueError, match=r"shape \(7,\), the person's \(6,\)"):
        mux.step(0, POLICY, push(0))


@pytest.mark.parametrize(
    ("after", "who"), [(ns(0.3) - 1, Who.TELEOP), (ns(0.3), Who.POLICY), (ns(0.3) + 1, Who.POLICY)]
)
def test_the_person_keeps_the_robot_for_exactly_the_pause(mux, after, who):
    mux.step(0, POLICY, push(0))
    done = mux.step(after, POLICY, rest(after))
    assert done.source is who
    if who is Who.TELEOP:
        assert not done.action[:6].any()  # standing still, not the policy's


def test_a_slow_motion_keeps_the_robot_though_it_would_not_take_it(mux):
    mux.step(0, POLICY, push(0))
    for step in range(1, 40):
        assert mux.step(step * STEP, POLICY, push(step * STEP, speed=0.001)).intervened


@pytest.mark.parametrize("age", [-1, ns(0.15) + 1, ns(5)])
def test_a_sample_of_another_time_holds(mux, age):
    mux.step(0, POLICY, push(0))
    now = ns(10)
    done = mux.step(now, POLICY, push(now - age))
    assert done.source is Who.HOLD
    assert done.action == pytest.approx([0, 0, 0, 0, 0, 0, -1])
    assert mux.step(now, POLICY, rest(now - ns(0.15))).source is Who.POLICY


def test_a_device_that_is_gone_holds_for_good(mux):
    mux.step(0, POLICY, push(0))
    for step in range(1, 100):
        done = mux.step(step * STEP, POLICY, rest(step * STEP, lost=True))
        assert done.source is Who.HOLD and not done.action[:6].any()


def test_an_episode_begins_with_the_policy(mux):
    mux.step(0, POLICY, push(0))
    mux.reset()
    assert mux.step(1, POLICY, rest(1)).source is Who.POLICY


def test_what_was_returned_does_not_change_with_what_was_given(mux):
    action = POLICY.copy()
    done = mux.step(0, action, rest(0))
    action[:] = 9
    assert np.array_equal(done.action, POLICY) and np.array_equal(done.requested, POLICY)
    done.action[-1] = 5
    assert mux.step(1, POLICY, push(1)).action[-1] == -1


def test_at_20_hz_of_flapping_the_person_keeps_the_robot_and_every_label_is_true(mux):
    sources = []
    for step in range(200):  # a step and a change every 50 ms
        now = step * STEP
        sample = push(now) if step % 2 == 0 else rest(now)
        done = mux.step(now, POLICY, sample)
        sources.append(done.source)
        mine = TO_ACTION(sample, POLICY)
        assert np.array_equal(done.action, mine if done.intervened else POLICY)
    assert set(sources) == {Who.TELEOP}


SAMPLES = st.lists(
    st.tuples(
        st.integers(1, 200_000_000),  # time until the step
        st.sampled_from(["push", "slow", "rest", "idle", "lost", "stop", "old", "grip"]),
    ),
    max_size=80,
)


def made(kind: str, now: int) -> TeleopSample:
    return {
        "push": push(now),
        "slow": push(now, speed=0.001),
        "rest": rest(now),
        "idle": TeleopSample(now, np.zeros(6), enable=True),
        "lost": rest(now, lost=True),
        "stop": rest(now, stop="enough"),
        "old": push(now - ns(1)),
        "grip": TeleopSample(now, np.zeros(6), enable=True, gripper=1.0),
    }[kind]


@given(SAMPLES)
def test_every_label_is_the_label_of_what_was_executed(steps):
    mux = Intervention(TO_ACTION)
    now, last, moved = 0, None, None
    for wait, kind in steps:
        now += wait
        sample = made(kind, now)
        requested = np.append(np.full(6, 0.77), 1.0 if now % 2 else -1.0)
        done = mux.step(now, requested, sample)
        base = requested if last is None else last
        expected = {
            Who.POLICY: requested,
            Who.TELEOP: TO_ACTION(sample, base),
            Who.HOLD: np.append(np.zeros(6), base[-1]),
        }[done.source]
        assert np.array_equal(done.action, expected)
        assert (done.source is Who.HOLD) == (kind in ("lost", "stop", "old"))
        if done.source is Who.TELEOP and kind in ("push", "grip", "slow"):
            moved = now
        if done.source is Who.TELEOP:  # never longer than the pause after the last motion
            assert moved is not None and now - moved < ns(0.3)
        if kind in ("push", "grip"):
            assert done.source is Who.TELEOP
        last = done.action


@given(SAMPLES)
def test_between_two_changes_of_hands_there_is_a_pause(steps):
    mux = Intervention(TO_ACTION)
    now, was, moved = 0, Who.POLICY, 0
    for wait, kind in steps:
        now += wait
        source = mux.step(now, POLICY, made(kind, now)).source
        if source is Who.POLICY and was is Who.TELEOP:
            assert now - moved >= ns(0.3)
        if source is Who.TELEOP and kind in ("push", "grip", "slow"):
            moved = now
        was = was if source is Who.HOLD else source
