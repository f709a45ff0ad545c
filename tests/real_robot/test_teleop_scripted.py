"""A simulated person: late, noisy within bounds, and the same again for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from real_robot.clock import VirtualClock, ns
from real_robot.teleop.mapping import STRAIGHT
from real_robot.teleop.scripted import Scripted, Wish


def forward(observation):
    return None if observation is None else Wish((observation, 0, 0, 0, 0, 0))


def person(wish=forward, **options):
    clock = VirtualClock()
    return Scripted(wish, clock, **{"noise": 0.0, **options}), clock


def test_nothing_is_done_before_something_was_seen():
    someone, clock = person()
    clock.advance(ns(10))
    assert not someone.poll().enable


def test_what_was_seen_is_answered_after_exactly_the_reaction_time():
    someone, clock = person(reaction_s=0.25)
    someone.observe(1.0)
    clock.advance(ns(0.25) - 1)
    assert not someone.poll().enable
    clock.advance(1)
    assert someone.poll().velocity[0] == pytest.approx(STRAIGHT.linear_m_s)


def test_at_every_moment_the_answer_is_to_the_newest_that_is_old_enough():
    someone, clock = person(reaction_s=0.25)
    for step in range(100):
        someone.observe(step / 100)
        sample = someone.poll()
        if step >= 5:
            expected = STRAIGHT.twist(((step - 5) / 100, 0, 0, 0, 0, 0))
            assert sample.velocity == pytest.approx(expected)
        clock.advance(ns(0.05))
    assert len(someone._seen) <= 7  # what is over is forgotten


def test_hands_off_is_no_dead_man_and_no_motion():
    someone, _ = person(reaction_s=0.0)
    someone.observe(1.0)
    assert someone.poll().enable
    someone.observe(None)
    sample = someone.poll()
    assert not sample.enable and not sample.velocity.any()


def test_another_episode_begins_with_nothing_seen():
    someone, _ = person(reaction_s=0.0)
    someone.observe(1.0)
    someone.forget()
    assert not someone.poll().enable


@given(st.integers(0, 2**32), st.floats(0, 5), st.tuples(*[st.floats(-3, 3)] * 6))
def test_noise_stays_within_the_bounds_and_repeats_with_its_seed(seed, noise, axes):
    runs = []
    for _ in range(2):
        someone, _ = person(lambda _: Wish(axes), noise=noise, seed=seed, reaction_s=0.0)
        someone.observe(0)
        runs.append([someone.poll().velocity for _ in range(5)])
    assert np.array_equal(runs[0], runs[1])
    for twist in runs[0]:
        assert np.linalg.norm(twist[:3]) <= STRAIGHT.linear_m_s * (1 + 1e-12)
        assert np.linalg.norm(twist[3:]) <= STRAIGHT.angular_rad_s * (1 + 1e-12)
        assert not twist[np.array(axes) == 0].any()


def test_noise_is_as_large_as_it_is_said_to_be():
    someone, _ = person(lambda _: Wish((0.5, 0, 0, 0, 0, 0)), noise=0.1, reaction_s=0.0)
    someone.observe(0)
    speeds = np.array([someone.poll().velocity[0] for _ in range(2000)])
    full = STRAIGHT.linear_m_s / (1 - STRAIGHT.dead_band)
    assert speeds.std() == pytest.approx(0.1 * full, rel=0.1)
    assert speeds.mean() == pytest.approx((0.5 - STRAIGHT.dead_band) * full, rel=0.05)


def test_a_wish_moves_the_gripper_and_labels_once():
    wish = Wish((0,) * 6, gripper=-1, success=True)
    someone, _ = person(lambda _: wish, reaction_s=0.0)
    someone.observe(0)
    samples = [someone.poll() for _ in range(3)]
    assert [s.gripper for s in samples] == [-1, -1, -1]
    assert [s.success for s in samples] == [True, False, False]


def test_a_script_that_never_lets_go_is_stuck_like_anybody():
    someone, clock = person(reaction_s=0.0, stuck_after_s=10)
    someone.observe(1.0)
    assert someone.poll().enable
    clock.advance(ns(10) + 1)
    assert "held for 10 s" in someone.poll().stop
