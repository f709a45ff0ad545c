"""The simulated arm in lock-step with the real daemon, on a clock that stands still."""

from dataclasses import replace

import numpy as np
import pytest
from simulated import SimCell

from envs.graphics import mujoco
from real_robot.clock import ns
from real_robot.descriptor import load
from real_robot.driver import DriverCommand
from real_robot.drivers.fault import Faulty, no_answer
from real_robot.kinematics import quaternion
from real_robot.machine import State
from real_robot.messages import Mode
from real_robot.sim import models
from real_robot.sim.arm import SimArm
from real_robot.sim.line import Trouble
from real_robot.testing.still import OPERATOR
from real_robot.verdict import REFUSING

AWAY = np.array([0.2, 0.15, -0.2, 0.1, 0.2, -0.1, 0.3])


def build(name="sim", model=models.capsules, cube_m=None, **arm):
    robot = load(name)
    return SimArm(robot, model(robot, cube_m), **arm)


def cell_of(arm):
    cell = SimCell(arm)
    cell.ready()
    return cell


def ticks(arm, *commands):
    """Send ticks one after another, without a daemon."""
    for command in commands:
        arm.write(command)
        arm.step(arm.descriptor.tick_ns / 1e9)


def swinging(arm, n=100, rad_s=0.8, joint=0):
    """Ticks of a joint that moves evenly."""
    q, v = np.array(arm.read().q), np.zeros(arm.descriptor.dof)
    for k in range(n):
        v[joint] = rad_s * min(1.0, k / 20)
        q = q + v * arm.descriptor.tick_ns / 1e9
        yield DriverCommand(q.copy(), v.copy(), 0.0)


# ---- following -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sim", "ur5e"])
def test_the_arm_follows_the_daemon_far_within_the_limit(name):
    cell = cell_of(build(name))
    away, error = AWAY[: cell.robot.dof], 0.0
    for _ in range(25):
        cell.drive(cell.home + away, 0.05)
        error = max(error, np.abs(cell.arm.scene.measured()[0] - cell.last.setpoint.q).max())
    assert error < cell.robot.limits.following_max_rad / 50
    assert np.abs(cell.arm.read().q - cell.home - away).max() < 1e-3
    assert cell.daemon.machine.state is State.ACTIVE


def test_robosuites_panda_follows_as_well_as_capsules():
    pytest.importorskip("robosuite")
    cell = cell_of(build(model=models.robosuite_panda))
    cell.drive(cell.home + AWAY, 0.5)
    error = np.abs(cell.arm.scene.measured()[0] - cell.last.setpoint.q).max()
    assert error < cell.robot.limits.following_max_rad / 50
    cell.send(cell.home + AWAY, gripper=np.array([1.0]))
    cell.drive(cell.home + AWAY, 0.2)
    assert cell.daemon.machine.state is State.ACTIVE


def test_an_arm_that_is_told_nothing_stands_against_gravity():
    arm = build("ur5e")
    arm.step(0.5)
    assert np.abs(arm.read().q - arm.descriptor.home_rad).max() < 1e-9


def test_the_model_needs_not_step_as_often_as_the_servo_does():
    arm = build()
    arm.scene.model.opt.timestep = 0.003
    for _ in range(30):
        arm.step(0.004)
    assert arm.now_ns == ns(0.120)


def test_the_same_seed_gives_the_same_bits_with_every_trouble_on():
    def run():
        arm = build(seed=4)
        arm.trouble(Trouble(0.01, 0.006, 0.2))
        ticks(arm, *swinging(arm))
        return arm.read()

    one, two = run(), run()
    assert one.q.tobytes() == two.q.tobytes() and one.device_time_ns == two.device_time_ns


# ---- stops -----------------------------------------------------------------------------------


def test_ticks_that_end_brake_the_arm_and_it_takes_no_more_until_that_is_acknowledged():
    arm = build(hold_after_s=0.05)
    ticks(arm, *swinging(arm))
    arm.step(0.046)
    assert arm.read().fault == "" and 0.2 < arm.read().dq[0] < 0.7  # it slows down already
    arm.step(0.3)
    state = arm.read()
    assert state.fault == "no tick for 0.05 s" and np.abs(state.dq).max() < 1e-3
    where = state.q
    ticks(arm, *[DriverCommand(where + 0.001 * k, np.zeros(7), 0.0) for k in range(10)])
    assert np.abs(arm.read().q - where).max() < 1e-3
    arm.clear_fault()
    ticks(arm, *swinging(arm))
    assert arm.read().fault == "" and arm.read().q[0] > where[0] + 0.1


def test_a_daemon_that_stops_hanging_finds_the_arm_stopped_and_latches():
    cell = cell_of(build())
    cell.drive(cell.home + AWAY, 0.3)
    cell.clock.advance(ns(0.5))  # robotd was not there
    cell.arm.step(0.5)
    cell.tick()
    assert cell.daemon.machine.state is State.FAULT and "no tick" in cell.daemon.machine.stop_reason


def test_a_protective_stop_is_quicker_than_a_controlled_one_and_latches():
    ways = {}
    for stop in ("controlled_stop", "protective_stop"):
        arm = build()
        ticks(arm, *swinging(arm))
        before = arm.read().q
        getattr(arm, stop)()
        arm.step(0.3)
        state = arm.read()
        assert np.abs(state.dq).max() < 2e-3
        assert bool(state.fault) == (stop == "protective_stop")
        ways[stop] = state.q[0] - before[0]
    assert 0 < ways["protective_stop"] < ways["controlled_stop"] < 0.1


def test_after_a_controlled_stop_only_a_motion_from_where_it_stands_is_followed():
    arm = build()
    ticks(arm, *swinging(arm))
    arm.controlled_stop()
    arm.step(0.3)
    where = arm.read().q
    ticks(arm, *[DriverCommand(where - 0.1, np.zeros(7), 0.0)] * 10)
    assert np.abs(arm.read().q - where).max() < 1e-3 and arm.read().fault == ""
    ticks(arm, *swinging(arm))
    assert arm.read().q[0] > where[0] + 0.1


def test_an_emergency_stop_is_not_cleared_while_it_is_pressed():
    arm = build()
    arm.press(True)
    arm.clear_fault()
    arm.step(0.004)
    assert arm.read().estop and arm.read().fault
    arm.press(False)
    arm.clear_fault()
    arm.step(0.004)
    assert not arm.read().estop and not arm.read().fault


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 0.5])
def test_a_tick_that_nobody_can_mean_locks_the_arm(wrong):
    arm = build()
    ticks(arm, *swinging(arm, 30))
    here = arm.read().q
    bad = here.copy()
    bad[2] += wrong
    ticks(arm, DriverCommand(bad, np.zeros(7), 0.0))
    arm.step(0.2)
    assert arm.read().fault and np.abs(arm.read().q - here).max() < 0.05


def test_one_reset_leads_back_from_an_emergency_stop_though_the_arm_has_locked_itself():
    cell = cell_of(build())
    cell.drive(cell.home + AWAY, 0.3)
    cell.ask(OPERATOR, "estop")
    cell.run(0.3)
    assert cell.daemon.machine.state is State.ESTOP
    assert cell.ask(OPERATOR, "reset", stop_id=cell.daemon.machine.stop_id)["ok"]
    cell.run(0.1)
    assert cell.daemon.machine.state is State.IDLE
    assert cell.ask(OPERATOR, "arm", descriptor=cell.daemon.hash)["ok"]


@pytest.mark.parametrize("call", ["clear_fault", "controlled_stop"])
def test_an_arm_that_does_not_answer_the_operator_is_a_fault_and_not_the_daemons_end(call):
    arm = build()
    cell = SimCell(arm)
    cell.arm_it()
    cell.daemon.driver = Faulty(arm, cell.clock, [no_answer(0, ns(1000), call)])
    if call == "controlled_stop":
        assert not cell.ask(OPERATOR, "disarm")["ok"]
    else:
        cell.ask(OPERATOR, "estop")
        cell.run(0.1)
        assert not cell.ask(OPERATOR, "reset", stop_id=1)["ok"]
    assert cell.daemon.machine.state is State.FAULT


# ---- a bad connection ------------------------------------------------------------------------


def test_a_state_is_exactly_as_old_as_the_latency():
    arm = build()
    arm.trouble(Trouble(latency_s=0.012))
    for _ in range(10):
        arm.step(0.004)
    assert arm.now_ns - arm.read().device_time_ns == ns(0.012)


def test_a_fifth_of_the_ticks_may_be_lost():
    cell = cell_of(build())
    cell.arm.trouble(Trouble(dropped=0.2))
    for _ in range(20):
        cell.drive(cell.home + AWAY, 0.05)
        assert np.abs(cell.arm.scene.measured()[0] - cell.last.setpoint.q).max() < 0.02
    assert cell.daemon.machine.state is State.ACTIVE


def test_too_much_latency_is_seen_as_an_arm_that_is_not_where_it_should_be():
    cell = cell_of(build())
    cell.arm.trouble(Trouble(latency_s=0.15))
    cell.drive(cell.home + 3 * AWAY, 1.0)
    assert cell.daemon.machine.stop_id == 1


# ---- touching --------------------------------------------------------------------------------


def test_a_wall_in_the_way_is_felt_and_stops_the_arm():
    cell = cell_of(build())
    here = cell.arm.scene.tool()[0]
    cell.arm.scene.wall(here + [0.02, 0, 0], np.array([-1.0, 0, 0]))
    position, rotation = cell.daemon.chain.tool(cell.home)
    pose = np.concatenate([position[0] + [0.1, 0, 0], quaternion(rotation[0])])
    forces = []
    for _ in range(40):
        cell.send(pose, mode=Mode.POSE)
        for _ in range(12):
            cell.tick()
        forces.append(cell.arm.read().wrench)
        if cell.daemon.machine.state.latched:
            break
    assert "contact" in cell.daemon.machine.stop_reason
    pushed = max(forces, key=lambda w: np.linalg.norm(w[:3]))
    assert pushed[0] < -20 and np.abs(pushed[1:3]).max() < abs(pushed[0])
    assert cell.arm.scene.tool()[0][0] < here[0] + 0.03


def test_the_wrench_is_what_pulls_at_the_tool_and_its_lever():
    arm = build()
    scene = arm.scene
    arm.step(0.01)
    assert (arm.read().wrench == 0).all()
    hand = mujoco.mj_name2id(scene.model, mujoco.mjtObj.mjOBJ_BODY, "hand")
    force, torque = np.array([3.0, -2.0, 5.0]), np.array([0.1, 0.2, -0.3])
    scene.data.xfrc_applied[hand] = [*force, *torque]
    arm.step(0.01)
    lever = scene.data.xipos[hand] - scene.tool()[0]
    assert np.allclose(arm.read().wrench[:3], force, atol=1e-9)
    assert np.allclose(arm.read().wrench[3:], torque + np.cross(lever, force), atol=1e-3)


def test_an_arm_without_a_force_sensor_says_so():
    robot = replace(load("sim"), has_wrench=False)
    assert SimArm(robot, models.capsules(robot)).read().wrench is None


def test_a_cube_can_be_gripped_and_lifted():
    arm = build(cube_m=(0.5, 0.0, models.CUBE_M))
    cell = cell_of(arm)
    cell.run(0.02)
    down = np.array([0.0, 1.0, 0.0, 0.0])

    def go(position, gripper, seconds):
        pose = np.concatenate([position, down])
        for _ in range(round(seconds / 0.048)):
            reason = cell.reason(pose, mode=Mode.POSE, gripper=np.array([gripper]))
            assert not reason & REFUSING
            for _ in range(11):
                cell.tick()

    cube = arm.read().extra["cube"]
    assert np.allclose(cube[:3], [0.5, 0, models.CUBE_M], atol=1e-3)
    go([0.5, 0, 0.12], 1.0, 2.5)
    go([0.5, 0, 0.02], 1.0, 1.2)
    go([0.5, 0, 0.02], 0.0, 0.6)
    assert 0.3 < arm.read().gripper < 0.7  # the cube is between the fingers
    go([0.5, 0, 0.15], 0.0, 1.2)
    assert arm.read().extra["cube"][2] > 0.1
    assert cell.daemon.machine.state is State.ACTIVE
