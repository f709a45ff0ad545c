"""Wild commanders against the daemon, judged by a monitor that knows nothing of its code."""

from dataclasses import replace

import numpy as np
import pytest

from real_robot.descriptor import load
from real_robot.driver import DriverCommand
from real_robot.kinematics import Chain
from real_robot.machine import State
from real_robot.safety.motion import Motion, Setpoint
from real_robot.testing.fuzz import confined, soak, torment
from real_robot.testing.monitor import Monitor


@pytest.mark.parametrize("name", ["sim", "ur5e"])
def test_whatever_is_commanded_no_limit_is_left(name):
    robot = confined(load(name), np.random.default_rng(1))
    found = torment(robot, 4000, 1)
    assert [str(violation) for violation in found.violations] == []
    # And it was tried: the arm moved, was braked, and stopped in every way.
    assert found.judged > 2500 and found.moving > 1500 and found.braked > 20
    assert set(found.states) >= {State.ACTIVE, State.HOLD, State.STOPPING, State.STOPPED}


@pytest.mark.slow
def test_no_limit_is_left_among_many_boxes():
    found = soak(20_000, seed=50, spell=2500)
    assert [str(violation) for violation in found.violations] == []
    assert found.ticks == 20_000 and found.braked > 200


def test_a_fast_tool_does_not_cut_the_corner_of_a_thin_keep_out():
    """Where a stop is looked at, the distance between two looks must not grow with the speed."""
    slow = load("ur5e")
    limits = replace(
        slow.limits, tcp_v_max_m_s=1.0, v_max_rad_s=(3.0,) * 6, step_max_rad=(0.6,) * 6
    )
    robot = confined(replace(slow, limits=limits), np.random.default_rng(1))
    assert [str(violation) for violation in torment(robot, 300, 1).violations] == []


def test_a_tool_that_gains_speed_while_its_joints_brake_is_seen_before_it_does():
    """One joint stops, and what it took away from another's motion is missing: 0.2514 m/s."""
    robot = load("sim")
    now = Setpoint(
        q=np.array([-0.6202, -1.0657, 0.4874, -2.68, 0.438, 1.7628, 1.3665]),
        v=np.array([0.2274, -0.3687, 0.343, -0.1945, -0.1892, 1.0705, -0.3241]),
        a=np.array([-0.8, 0.8, -0.8, 0.8, 0.6098, 4.2, 0.8]),
    )
    motion = Motion(robot, Chain(robot))
    assert not motion.can_stop(now, robot.limits)
    monitor = Monitor(replace(robot, limits=replace(robot.limits, j_max_rad_s3=(1e9,) * 7)))
    for k in range(100):  # what it would have been
        monitor.command(k * robot.tick_ns, DriverCommand(now.q, now.v, 0.0))
        now = motion.braking(now, robot.limits)
    assert "tool speed" in {violation.kind for violation in monitor.violations()}


def test_a_daemon_with_a_wrong_limit_is_found_out(monkeypatch):
    """The fuzz would notice: it is not clean because it looks at nothing."""
    robot = confined(load("ur5e"), np.random.default_rng(2))

    def careless(self, now, limits):
        return True

    monkeypatch.setattr("real_robot.safety.motion.Motion.can_stop", careless)
    kinds = {violation.kind for violation in torment(robot, 1500, 2).violations}
    assert "keep-out" in kinds


def test_the_same_seed_is_the_same_torment():
    robot = confined(load("ur5e"), np.random.default_rng(5))
    seen = [[], []]
    for found in seen:
        torment(robot, 300, 5, look=lambda daemon, tick, to=found: to.append(tick.setpoint.q.tobytes()))  # noqa: E501  # fmt: skip
    assert seen[0] == seen[1]
