import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from real_robot.descriptor import Box, load, with_limits
from real_robot.kinematics import Chain
from real_robot.safety.motion import Motion, rest

NAMES = ("sim", "ur5e")


def small(name):
    """A robot with little room: a box of 20 cm around its home, and something to go around."""
    robot = load(name)
    here = Chain(robot).tool(np.array(robot.home_rad))[0][0]
    kept = Box(tuple(here + [0.05, 0.05, 0.02]), tuple(here + [0.09, 0.09, 0.09]))
    low, high = np.maximum(here - 0.1, robot.limits.box_m.low_m), here + 0.1
    return with_limits(robot, box_m=Box(tuple(low), tuple(high)), keepouts_m=(kept,))


def wander(robot, seed, ticks, every=40):
    """Yield setpoints of a motion towards targets that leap about."""
    motion, random = Motion(robot, Chain(robot)), np.random.default_rng(seed)
    now = target = rest(np.array(robot.home_rad))
    x = robot.limits.arrays()
    target = now.q
    for k in range(ticks):
        if k % every == 0:
            target = (now.q + random.uniform(-0.5, 0.5, robot.dof)).clip(x["low"], x["high"])
        now, _ = motion.towards(now, target, robot.limits)
        yield now


@pytest.mark.parametrize("name", NAMES)
def test_a_motion_reaches_its_target_and_stands_still(name):
    robot = load(name)
    motion = Motion(robot, Chain(robot))
    now = rest(np.array(robot.home_rad))
    target = now.q + 0.1
    for _ in range(round(3 * robot.timing.servo_hz)):
        now, _ = motion.towards(now, target, robot.limits)
    assert np.allclose(now.q, target, atol=1e-9) and now.resting


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_no_limit_is_left_whatever_the_targets_do(name, seed):
    robot = small(name)
    chain, limits = Chain(robot), robot.limits
    x, tick = limits.arrays(), robot.tick_ns / 1e9
    points = [rest(np.array(robot.home_rad)), *wander(robot, seed, 500)]
    q, v, a = (np.stack([getattr(p, name) for p in points]) for name in "qva")
    assert (q >= x["low"] - 1e-9).all() and (q <= x["high"] + 1e-9).all()
    assert (np.abs(v) <= x["v"] * (1 + 1e-9)).all()
    assert (np.abs(a) <= x["a"] * (1 + 1e-9)).all()
    assert (np.abs(np.diff(a, axis=0)) <= x["j"] * tick * (1 + 1e-6)).all()
    assert np.allclose(np.diff(q, axis=0) / tick, (v[1:] + v[:-1]) / 2, atol=2e-3)
    tool = chain.tool(q)[0]
    assert (tool >= np.array(limits.box_m.low_m) - 1e-3).all()
    assert (tool <= np.array(limits.box_m.high_m) + 1e-3).all()
    kept = limits.keepouts_m[0]
    assert not ((tool > kept.low_m) & (tool < kept.high_m)).all(1).any()
    assert (np.linalg.norm(np.diff(tool, axis=0), axis=1) / tick <= limits.tcp_v_max_m_s).all()
    assert np.abs(v).max() > 0.05  # it did move


@pytest.mark.parametrize("seed", range(3))
def test_a_stop_ends_within_its_bound_from_any_moment(seed):
    robot = load("sim")
    motion = Motion(robot, Chain(robot))
    for k, now in enumerate(wander(robot, seed, 300)):
        if k % 20:
            continue
        ticks = 0
        while not now.resting:
            now = motion.braking(now, robot.limits)
            ticks += 1
        assert ticks * robot.tick_ns / 1e9 <= robot.stop_bound_s


def test_half_the_speed_scale_is_at_most_half_the_speed():
    robot = load("sim")
    motion = Motion(robot, Chain(robot))
    highest = {}
    for scale in (1.0, 0.5, 0.25):
        now, speeds = rest(np.array(robot.home_rad)), []
        for _ in range(250):
            before = now
            now, _ = motion.towards(now, before.q + 0.3 * np.eye(7)[0], robot.limits, scale)
            tool = motion.chain.tool(np.stack([before.q, now.q]))[0]
            speeds.append(np.linalg.norm(tool[1] - tool[0]) / motion.tick_s)
        highest[scale] = max(speeds)
        assert highest[scale] <= scale * robot.limits.tcp_v_max_m_s
    assert highest[0.25] < highest[0.5] < highest[1.0]


def test_the_same_setpoint_and_target_give_the_same_bits_again():
    robot = load("sim")
    one, two = Motion(robot, Chain(robot)), Motion(robot, Chain(robot))
    points = list(wander(robot, 5, 60))
    for _ in one.towards(points[10], points[40].q, robot.limits):
        pass  # whatever it planned before must not matter
    for point in points:
        a, _ = one.towards(point, points[0].q, robot.limits)
        b, _ = two.towards(point, points[0].q, robot.limits)
        assert all((getattr(a, n) == getattr(b, n)).all() for n in "qva")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=7, max_size=7))
def test_a_target_beyond_the_joints_never_takes_them_there(offset):
    robot = load("sim")
    motion, x = Motion(robot, Chain(robot)), robot.limits.arrays()
    now, target = rest(np.array(robot.home_rad)), np.array(robot.home_rad) + offset
    for _ in range(60):
        now, _ = motion.towards(now, target, robot.limits)
        assert (now.q >= x["low"] - 1e-9).all() and (now.q <= x["high"] + 1e-9).all()
