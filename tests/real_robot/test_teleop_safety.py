"""What every device shares: limits, the dead-man, the stuck button, two devices as one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from real_robot.clock import VirtualClock, ns
from real_robot.teleop.labelled import Labelled
from real_robot.teleop.mapping import STRAIGHT, Mapping
from real_robot.teleop.sample import TeleopSample
from real_robot.teleop.sampler import STUCK_AFTER_S, Buttons, DeadMan, Sampler

PUSH = (1.0, 0, 0, 0, 0, 0)
HELD = frozenset({0})
FREE: frozenset[int] = frozenset()


def sampler(clock, **options):
    return Sampler(clock, STRAIGHT, Buttons(enable=0, stop=9), **options)


ANY = st.floats(allow_nan=True, allow_infinity=True)


@given(st.tuples(*[ANY] * 6), st.floats(0, 0.9), st.floats(0.01, 2), st.floats(0.01, 6))
def test_a_twist_is_finite_and_no_faster_than_it_may_be(axes, dead_band, linear, angular):
    mapping = replace(STRAIGHT, dead_band=dead_band, linear_m_s=linear, angular_rad_s=angular)
    twist = mapping.twist(axes)
    assert twist.shape == (6,) and np.isfinite(twist).all()
    assert np.linalg.norm(twist[:3]) <= linear * (1 + 1e-12)
    assert np.linalg.norm(twist[3:]) <= angular * (1 + 1e-12)
    for axis, component in zip(axes, twist, strict=True):
        assert component == 0 or (abs(axis) > dead_band and math.copysign(1, axis) * component > 0)


@pytest.mark.parametrize(
    ("axis", "velocity"), [(0.0, 0), (0.2, 0), (0.6, 0.05), (1.0, 0.1), (-0.6, -0.05), (7, 0.1)]
)
def test_motion_begins_at_zero_beyond_the_dead_band(axis, velocity):
    mapping = replace(STRAIGHT, dead_band=0.2, linear_m_s=0.1)
    assert mapping.twist((axis, 0, 0, 0, 0, 0))[0] == pytest.approx(velocity)


def test_axes_are_exchanged_turned_round_and_switched_off():
    mapping = Mapping((2, 0, 1, 3, 4, 5), (-1, 1, 0, 1, 1, 1), dead_band=0, linear_m_s=1)
    assert mapping.twist((0.1, 0.2, 0.3, 0, 0, 0))[:3] == pytest.approx([-0.3, 0.1, 0])


@pytest.mark.parametrize(
    "bad",
    [
        {"source": (0, 1, 2)},
        {"source": (0, 1, 2, 3, 4, 6)},
        {"sign": (1, 1, 1, 1, 1, 2)},
        {"dead_band": 1.0},
        {"dead_band": math.nan},
        {"linear_m_s": 0.0},
        {"angular_rad_s": math.inf},
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        replace(STRAIGHT, **bad)


def test_released_is_at_rest_in_the_same_poll():
    clock = VirtualClock()
    teleop = sampler(clock)
    assert teleop.sample(PUSH, HELD).velocity[0] == pytest.approx(STRAIGHT.linear_m_s)
    sample = teleop.sample(PUSH, FREE)
    assert not sample.enable and not sample.velocity.any()


@given(st.integers(1, 10**12), st.integers(0, 10**15))
def test_a_dead_man_is_stuck_one_nanosecond_after_its_limit(limit, start):
    dead_man = DeadMan(limit / 1e9)
    limit = dead_man.stuck_after_ns
    assert dead_man.update(True, start) == (True, "")
    assert dead_man.update(True, start + limit) == (True, "")
    enabled, stop = dead_man.update(True, start + limit + 1)
    assert not enabled and "stuck" in stop
    assert dead_man.update(False, start + limit + 2) == (False, "")
    assert dead_man.update(True, start + limit + 3) == (True, "")
    assert dead_man.update(True, start + 2 * limit + 3) == (True, "")


def test_ten_minutes_of_a_held_button_stop_everything():
    clock = VirtualClock()
    teleop = sampler(clock)
    teleop.sample(PUSH, HELD)
    clock.advance(ns(600))
    assert teleop.sample(PUSH, HELD).enable
    clock.advance(1)
    for _ in range(2):
        sample = teleop.sample(PUSH, HELD)
        assert sample.stop == "the dead-man has been held for 600 s: stuck?"
        assert not sample.enable and not sample.velocity.any()
    assert STUCK_AFTER_S == 600


def test_a_release_begins_the_time_anew():
    clock = VirtualClock()
    teleop = sampler(clock)
    for _ in range(30):
        assert not teleop.sample(PUSH, HELD).stop
        clock.advance(ns(599))
        assert not teleop.sample(PUSH, HELD).stop
        teleop.sample(PUSH, FREE)


STEPS = st.lists(
    st.tuples(st.sets(st.sampled_from([0, 9])), st.integers(0, 400), st.booleans()), max_size=40
)


@given(STEPS)
def test_whatever_is_pressed_motion_needs_the_dead_man_and_no_stop(steps):
    clock = VirtualClock()
    teleop = sampler(clock, stuck_after_s=600)
    since, stopped = None, False
    before: set[int] = set()
    for held, seconds, stop in steps:
        clock.advance(ns(seconds))
        if 0 not in held:
            since = None
        elif since is None:
            since = clock.now_ns()
        if not held:
            stopped = False
        stopped = stopped or stop or (9 in held and 9 not in before)
        before = held
        sample = teleop.sample(PUSH, frozenset(held), stop="said so" if stop else "")
        stuck = since is not None and clock.now_ns() - since > ns(600)
        assert sample.enable == (0 in held and not stopped and not stuck)
        assert bool(sample.stop) == (stopped or stuck)
        assert sample.velocity.any() == sample.enable


@pytest.mark.parametrize(
    "bad",
    [
        {"velocity": np.zeros(5)},
        {"velocity": np.full(6, math.nan), "enable": True},
        {"velocity": np.array([0, 0, math.inf, 0, 0, 0]), "enable": True},
        {"velocity": np.ones(6)},
        {"gripper": 1.0},
        {"gripper": math.nan, "enable": True},
        {"gripper": 1.5, "enable": True},
        {"velocity": np.zeros((1, 6)), "joints": True},
    ],
)
def test_a_sample_that_could_move_something_wrongly_cannot_be_made(bad):
    with pytest.raises(ValueError, match=r"shape|finite|enabled"):
        TeleopSample(**{"stamp_ns": 0, "velocity": np.zeros(6), **bad})


def test_a_sample_says_nothing_that_it_was_not_told():
    sample = TeleopSample(3, np.zeros(6))
    assert not (sample.success or sample.failure or sample.rerecord or sample.stop)
    assert not (sample.enable or sample.lost or sample.joints or sample.gripper)


class Fixed:
    """A device that says the same again and again."""

    def __init__(self, **said):
        self.said, self.closed = said, False

    def poll(self):
        return TeleopSample(**{"stamp_ns": 5, "velocity": np.zeros(6), **self.said})

    def close(self):
        self.closed = True


MOVING = {"velocity": np.ones(6), "enable": True, "gripper": 1.0}


def test_labels_of_one_device_join_the_motion_of_another():
    both = Labelled(Fixed(**MOVING, failure=True), Fixed(success=True, rerecord=True))
    sample = both.poll()
    assert sample.velocity.all() and sample.enable and sample.gripper == 1
    assert (sample.success, sample.failure, sample.rerecord) == (True, True, True)
    both.close()
    assert both.motion.closed and both.labels.closed


@pytest.mark.parametrize("said", [{"stop": "enough"}, {"lost": True}])
def test_the_one_with_the_labels_stops_the_one_with_the_motion(said):
    sample = Labelled(Fixed(**MOVING), Fixed(**said)).poll()
    assert not sample.enable and not sample.velocity.any() and not sample.gripper
    assert (sample.stop, sample.lost) == (said.get("stop", ""), said.get("lost", False))
