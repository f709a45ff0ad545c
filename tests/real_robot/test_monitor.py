"""The judge is judged: it says nothing of a clean motion, and finds every limit that is left."""

from dataclasses import replace

import numpy as np
import pytest

from real_robot.clock import ns
from real_robot.descriptor import Box, load
from real_robot.driver import DriverCommand
from real_robot.kinematics import Chain
from real_robot.safety.motion import Motion, rest
from real_robot.testing.monitor import BLOCK, Monitor, crossed, tool_position

ROBOT = load("sim")
HOME, TICK_S = np.array(ROBOT.home_rad), ROBOT.tick_ns / 1e9
# Wide enough that each test meets its own limit alone.
FREE = replace(
    ROBOT,
    limits=replace(ROBOT.limits, tcp_v_max_m_s=2.0, box_m=Box((-9.0, -9.0, -9.0), (9.0, 9.0, 9.0))),
)


def motion(robot=ROBOT, way=0.3, ticks=500):
    """A clean motion of all joints, as commands."""
    planner, now = Motion(robot, Chain(robot)), rest(HOME)
    for _ in range(ticks):
        yield DriverCommand(now.q, now.v, 0.5)
        now, _ = planner.towards(now, HOME + way, robot.limits)


def judged(commands, robot=ROBOT, step_ns=None):
    monitor = Monitor(robot)
    for k, command in enumerate(commands):
        monitor.command(ns(100) + k * (step_ns or robot.tick_ns), command)
    return monitor.violations()


def kinds(commands, robot=FREE):
    return {violation.kind for violation in judged(commands, robot)}


def sway(amplitude, hertz, joint=0):
    """A joint that swings, beginning at rest, as commands with exact velocities."""
    t = np.arange(200) * TICK_S
    w = 2 * np.pi * hertz
    # (1 - cos)^2: its first three derivatives are zero at the beginning.
    q = amplitude * (1 - np.cos(w * t)) ** 2 / 4
    v = amplitude * (1 - np.cos(w * t)) * np.sin(w * t) * w / 2
    for a, b in zip(q, v, strict=True):
        move = np.eye(ROBOT.dof)[joint]
        yield DriverCommand(HOME + a * move, b * move, 0.5)


def test_a_motion_that_was_planned_within_the_limits_is_clean():
    assert judged(motion()) == []


def test_its_kinematics_agree_with_the_planners_without_sharing_them():
    random = np.random.default_rng(0)
    for name in ("sim", "ur5e", "franka"):
        robot = load(name)
        q = random.uniform(-3, 3, (50, robot.dof))
        assert np.allclose(tool_position(robot, q), Chain(robot).tool(q)[0], atol=1e-12)


def test_a_slow_sway_is_clean_so_that_only_the_limit_makes_the_next_ones_not():
    assert kinds(sway(0.05, 0.5)) == set()


@pytest.mark.parametrize(
    ("kind", "amplitude", "hertz"),
    [("velocity", 0.7, 0.7), ("acceleration", 0.3, 1.2), ("jerk", 0.02, 4.0)],
)
def test_each_derivative_has_its_own_limit(kind, amplitude, hertz):
    assert kind in kinds(sway(amplitude, hertz))


def test_a_derivative_a_millionth_beyond_its_limit_is_found_and_one_at_it_is_not():
    clean = np.stack([c.q for c in sway(0.4, 0.5)])
    jerk = (np.abs(np.diff(np.vstack([clean[:1]] * 3 + [clean]), 3, axis=0)) / TICK_S**3).max()
    for factor, expected in [(1.0, set()), (1 - 1e-5, {"jerk"})]:
        limits = replace(FREE.limits, j_max_rad_s3=(jerk * factor,) * ROBOT.dof)
        assert kinds(sway(0.4, 0.5), replace(FREE, limits=limits)) & {"jerk"} == expected


def test_both_ends_of_a_joint_are_watched_with_their_margin():
    low = ROBOT.limits.q_min_rad[3] + ROBOT.limits.q_margin_rad
    beyond = HOME.copy()
    beyond[3] = low - 1e-6
    found = judged([DriverCommand(beyond, np.zeros(7), 0.5)], FREE)
    assert [(v.kind, v.where) for v in found] == [("lower end", "panda_joint4")]
    beyond[3] = low
    assert judged([DriverCommand(beyond, np.zeros(7), 0.5)], FREE) == []


def test_the_box_may_be_left_by_a_millimetre_and_not_by_more():
    here = tool_position(ROBOT, HOME[None])[0]
    for away, expected in [(0.0009, set()), (0.0011, {"above the box"})]:
        high = tuple((here + [1, 1, -away]).tolist())
        robot = replace(FREE, limits=replace(FREE.limits, box_m=Box((-9.0, -9.0, -9.0), high)))
        assert kinds([DriverCommand(HOME, np.zeros(7), 0.5)], robot) == expected


def test_a_keep_out_that_is_thinner_than_a_tick_is_long_is_not_jumped_over():
    commands = list(motion(way=np.eye(7)[0] * 0.3))
    tool = tool_position(ROBOT, np.stack([c.q for c in commands]))
    k = int(np.linalg.norm(np.diff(tool, axis=0), axis=1).argmax())
    middle = (tool[k] + tool[k + 1]) / 2  # between two ticks
    thin = Box(tuple((middle - 5e-5).tolist()), tuple((middle + 5e-5).tolist()))
    robot = replace(FREE, limits=replace(FREE.limits, keepouts_m=(thin,)))
    found = judged(commands, robot)
    assert [v.kind for v in found] == ["keep-out"]
    assert found[0].now_ns == ns(100) + (k + 1) * ROBOT.tick_ns


def test_the_tools_speed_is_watched_by_itself():
    assert "tool speed" in kinds(
        sway(0.5, 0.5), replace(FREE, limits=replace(FREE.limits, tcp_v_max_m_s=0.1))
    )


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["q", "dq", "gripper"])
def test_a_number_that_is_none_is_found_wherever_it_is(where, wrong):
    good = DriverCommand(HOME, np.zeros(7), 0.5)
    value = wrong if where == "gripper" else np.array([0.0] * 6 + [wrong])
    assert kinds([good, replace(good, **{where: value}), good]) == {"finite"}


def test_a_command_of_another_shape_is_no_command():
    assert kinds([DriverCommand(HOME[:6], np.zeros(7), 0.5)]) == {"finite"}


def test_a_velocity_that_is_not_the_ways_is_found():
    lying = [replace(c, dq=c.dq * 0.5) for c in motion()]
    assert kinds(lying) == {"velocity sent against the way"}


def test_the_gripper_has_ends_and_a_speed():
    good = DriverCommand(HOME, np.zeros(7), 0.5)
    assert kinds([good, replace(good, gripper=0.6)]) == {"gripper's speed"}
    assert kinds([replace(good, gripper=1.001)]) == {"gripper's end"}


def test_a_motion_that_begins_with_a_jump_is_found_after_a_stop_too():
    monitor = Monitor(FREE)
    for begin in (0, 1):  # armed where it stands: nothing to be found
        monitor.command(ns(begin), DriverCommand(HOME + begin, np.zeros(7), 0.5))
        monitor.controlled_stop(ns(begin) + ROBOT.tick_ns)
    assert monitor.violations() == []
    monitor.command(ns(2), DriverCommand(HOME, np.zeros(7), 0.5))
    monitor.command(ns(2) + ROBOT.tick_ns, DriverCommand(HOME + 0.01, np.zeros(7), 0.5))
    assert {"velocity", "acceleration", "jerk"} <= {v.kind for v in monitor.violations()}


def test_only_a_protective_stop_may_come_while_the_arm_is_told_to_move():
    for stop, expected in [
        ("protective_stop", []),
        ("controlled_stop", ["stopped while it moved"]),
    ]:
        monitor = Monitor(FREE)
        for k, command in enumerate(motion(ticks=50)):
            monitor.command(k * ROBOT.tick_ns, command)
        getattr(monitor, stop)(50 * ROBOT.tick_ns)
        assert [v.kind for v in monitor.violations()] == expected


def test_silence_in_the_middle_of_a_motion_is_found():
    commands = list(motion(ticks=50))
    monitor = Monitor(FREE)
    for k, command in enumerate(commands):
        monitor.command(k * ROBOT.tick_ns, command)
    monitor.command(50 * ROBOT.tick_ns + ns(0.2), commands[0])
    assert [v.kind for v in monitor.violations()] == ["silence"]


def test_what_is_looked_at_in_pieces_is_looked_at_as_a_whole():
    """A violation across the border of two blocks is found, and found once."""
    still = DriverCommand(HOME, np.zeros(7), 0.5)
    moved = DriverCommand(HOME + 1e-4, np.zeros(7), 0.5)
    for border in (BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + 2):
        found = judged([still] * border + [moved] * 5, FREE)
        assert [v.kind for v in found].count("acceleration") == 14, border
        assert {v.now_ns - ns(100) for v in found if v.kind == "acceleration"} == {
            border * ROBOT.tick_ns, (border + 1) * ROBOT.tick_ns
        }  # fmt: skip


def test_asking_twice_in_between_changes_nothing():
    commands = list(sway(0.3, 1.2))
    once, often = Monitor(FREE), Monitor(FREE)
    for k, command in enumerate(commands):
        once.command(k * ROBOT.tick_ns, command)
        often.command(k * ROBOT.tick_ns, command)
        often.violations()
    key = [(v.now_ns, v.kind, v.where) for v in once.violations()]
    assert sorted(key) == sorted((v.now_ns, v.kind, v.where) for v in often.violations()) and key


def test_a_way_through_a_box_has_the_length_that_it_has():
    box = Box((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    ways = np.array(
        [
            [[-1, 0.5, 0.5], [2, 0.5, 0.5]],  # through it
            [[0.5, 0.5, 0.5], [0.5, 0.5, 0.75]],  # inside
            [[-1, 0.5, 0.5], [-0.5, 0.5, 0.5]],  # short of it
            [[-1, 2, 0.5], [2, 2, 0.5]],  # beside it
            [[-1, 1, 0.5], [2, 1, 0.5]],  # along its face
        ]
    )
    assert np.allclose(crossed(ways[:, 0], ways[:, 1], box), [1, 0.25, 0, 0, 0])
