from dataclasses import replace

import numpy as np
import pytest

from real_robot.clock import ns
from real_robot.descriptor import Box, load, with_limits
from real_robot.kinematics import quaternion
from real_robot.messages import Mode
from real_robot.safety.stages import STAGES, Situation, judge
from real_robot.testing.still import Cell
from real_robot.verdict import REFUSING, Reason

HOUR = 3600.0


@pytest.fixture
def cell():
    cell = Cell()
    cell.ready()
    return cell


def situation(cell, **changed):
    found = {
        "now_ns": cell.clock.now_ns(),
        "robot": cell.robot,
        "limits": cell.daemon.limits,
        "chain": cell.daemon.chain,
        "hash": cell.daemon.hash,
        "q": cell.home,
        "stamp_ns": cell.clock.now_ns(),
        "lease": cell.lease,
        "last_seq": 0,
    }
    return Situation(**{**found, **changed})


def pose(cell, offset=(0.0, 0.0, 0.0)):
    position, rotation = cell.daemon.chain.tool(cell.home)
    return np.concatenate([position[0] + offset, quaternion(rotation[0])])


def test_a_good_command_passes_unchanged(cell):
    command = cell.command(cell.home + 0.1)
    judged, reason = judge(command, situation(cell))
    assert reason == Reason.NONE and (judged.targets == command.targets).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e308, -1e7])
@pytest.mark.parametrize("field", ["targets", "gripper", "speed_scale"])
def test_a_number_that_is_none_is_refused(cell, field, value):
    command = cell.command(cell.home)
    bad = value
    if field != "speed_scale":
        bad = getattr(command, field).copy()
        bad[..., -1] = value
    reason = judge(replace(command, **{field: bad}), situation(cell))[1]
    assert reason & (Reason.NOT_FINITE | Reason.RANGE)


def test_denormal_numbers_are_numbers(cell):
    assert judge(cell.command(cell.home + 5e-324), situation(cell))[1] == Reason.NONE


def test_an_observation_is_too_old_exactly_one_nanosecond_after_its_age(cell):
    age = ns(cell.robot.timing.observation_max_age_s)
    now = cell.clock.now_ns()
    command = cell.command(cell.home, valid_ns=ns(1.0))
    assert judge(command, situation(cell, stamp_ns=now - age))[1] == Reason.NONE
    assert judge(command, situation(cell, stamp_ns=now - age - 1))[1] == Reason.STALE
    assert judge(command, situation(cell, stamp_ns=None))[1] == Reason.STALE


def test_a_chunk_is_late_exactly_one_nanosecond_after_its_last_target(cell):
    now = cell.clock.now_ns()
    command = cell.command(np.stack([cell.home] * 2), t_rel_ns=(0, 1000), valid_ns=500)
    assert judge(command, situation(cell, stamp_ns=now - 1500))[1] == Reason.NONE
    assert judge(command, situation(cell, stamp_ns=now - 1501))[1] == Reason.LATE


def test_another_robots_hash_another_lease_and_an_old_number_are_refused(cell):
    command = cell.command(cell.home)
    assert judge(replace(command, descriptor="x"), situation(cell))[1] == Reason.DESCRIPTOR
    assert judge(replace(command, lease=99), situation(cell))[1] == Reason.LEASE
    assert judge(command, situation(cell, lease=None))[1] == Reason.LEASE
    assert judge(command, situation(cell, last_seq=command.seq))[1] == Reason.SEQUENCE


@pytest.mark.parametrize(
    "changed",
    [
        {"speed_scale": 0.0},
        {"speed_scale": 1.5},
        {"valid_ns": -1},
        {"valid_ns": ns(HOUR)},
        {"t_rel_ns": (-1,)},
    ],
)
def test_scales_and_times_that_nobody_means_are_refused(cell, changed):
    assert judge(replace(cell.command(cell.home), **changed), situation(cell))[1] == Reason.RANGE


def test_a_leap_is_shortened_along_its_line(cell):
    way = np.linspace(-1, 1, 7) * 0.9
    judged, reason = judge(cell.command((cell.home + way).clip(-2.7, 2.7)), situation(cell))
    made = judged.targets[0] - cell.home
    limit = np.array(cell.robot.limits.step_max_rad)
    assert reason & Reason.STEP and not reason & REFUSING
    assert (np.abs(made) / limit).max() == pytest.approx(1)


def test_a_chunk_is_shortened_target_by_target(cell):
    leap = np.zeros(7)
    leap[0] = 1.0
    judged, reason = judge(cell.command(np.stack([cell.home + leap] * 3)), situation(cell))
    assert reason & Reason.STEP
    assert np.allclose(judged.targets[:, 0] - cell.home[0], [0.3, 0.6, 0.9])


def test_angles_stay_within_the_margin(cell):
    q = np.array([0, -np.pi / 4, 0, -3 * np.pi / 4, 0, np.pi / 2, 2.8])
    target = q.copy()
    target[6] = 3.0
    judged, reason = judge(cell.command(target), situation(cell, q=q))
    assert reason & Reason.JOINT and judged.targets[0, 6] == pytest.approx(2.8973 - 0.05)


def test_a_pose_becomes_angles_that_reach_it(cell):
    command = cell.command(pose(cell, (0.02, 0.01, -0.02)), mode=Mode.POSE)
    judged, reason = judge(command, situation(cell))
    assert reason == Reason.NONE and judged.mode is Mode.JOINT
    reached = cell.daemon.chain.tool(judged.targets)[0][0]
    assert np.abs(reached - command.targets[0, :3]).max() < 2e-4


def test_more_poses_than_a_tick_has_time_for_are_refused(cell):
    chunk = np.stack([pose(cell)] * 9)
    reason = judge(cell.command(chunk, mode=Mode.POSE, valid_ns=ns(1)), situation(cell))[1]
    assert reason == Reason.RANGE


def test_a_pose_outside_of_the_box_is_brought_into_it(cell):
    judged, reason = judge(cell.command(pose(cell, (-0.2, 0, 0)), mode=Mode.POSE), situation(cell))
    assert reason & Reason.BOX
    if not reason & REFUSING:
        assert cell.daemon.chain.tool(judged.targets)[0][0, 0] >= 0.2


def test_a_quaternion_of_another_length_is_unreachable(cell):
    target = pose(cell)
    target[3:] *= 1.01
    reason = judge(cell.command(target, mode=Mode.POSE), situation(cell))[1]
    assert reason & Reason.UNREACHABLE


def test_angles_whose_tool_is_outside_or_kept_out_are_refused(cell):
    here = cell.daemon.chain.tool(cell.home)[0][0]
    block = Box(tuple(here - 0.02), tuple(here + 0.02))
    limits = with_limits(load("sim"), keepouts_m=(block,)).limits
    assert judge(cell.command(cell.home), situation(cell, limits=limits))[1] & Reason.KEEPOUT
    away = with_limits(load("sim"), box_m=Box((0.5, -0.5, 0.01), (0.8, 0.5, 0.8))).limits
    assert judge(cell.command(cell.home), situation(cell, limits=away))[1] & REFUSING


def test_a_refusal_ends_the_row():
    called = []

    def refuse(command, s):
        called.append("refuse")
        return command, Reason.STALE

    def never(command, s):
        called.append("never")
        return command, Reason.NONE

    cell = Cell()
    assert judge(cell.command(cell.home), situation(cell), [refuse, never])[1] == Reason.STALE
    assert called == ["refuse"]


def test_no_stage_changes_the_command_it_was_given(cell):
    command = cell.command(np.full(7, 3.0), gripper=np.array([2.0]))
    before = command.targets.copy()
    for stage in STAGES:
        stage(command, situation(cell))
    assert (command.targets == before).all() and command.gripper[0] == 2.0
