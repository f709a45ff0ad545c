"""A robosuite task behind robotd: its observables, its episodes, and what its actions mean."""

from types import SimpleNamespace

import numpy as np
import pytest
from simulated import SimCell

from envs.experts import LiftExpert
from real_robot.descriptor import load
from real_robot.kinematics import matrix, quaternion, turned
from real_robot.machine import State
from real_robot.messages import Mode
from real_robot.osc_action import OscPose, pose_target
from real_robot.sim.arm import SimArm
from real_robot.telling import published
from real_robot.testing.still import POLICY

pytest.importorskip("robosuite")


@pytest.fixture(scope="module")
def arm():
    from real_robot.sim.robosuite_scene import RobosuiteScene

    robot = load("robosuite_panda")
    arm = SimArm(robot, RobosuiteScene(robot, "Lift"))
    yield arm
    arm.scene.env.close()


def drawn(arm, random):
    """Put the arm somewhere near its home; return the tool's pose (7,) there."""
    arm.begin(np.array(arm.descriptor.home_rad) + random.uniform(-0.3, 0.3, 7))
    position, rotation = arm.scene.tool()
    return np.concatenate([position, quaternion(rotation)])


def test_an_action_asks_for_the_goal_that_robosuites_own_controller_sets(arm):
    robot = arm.scene.env.simulation.robots[0]
    controller, random = robot.part_controllers["right"], np.random.default_rng(0)
    for _ in range(20):
        tool = drawn(arm, random)
        action = random.uniform(-1.3, 1.3, 7)  # also beyond what is clipped
        robot.composite_controller.update_state()
        controller.new_update = True
        controller.set_goal(action[:6])
        pose, _ = pose_target(action, tool, 0.0)
        assert np.allclose(pose[:3], controller.goal_pos, atol=1e-9)
        assert np.allclose(matrix(pose[3:]), controller.goal_ori, atol=1e-7)


def test_the_last_number_opens_and_closes_as_robosuites_gripper_takes_it(arm):
    gripper, robot = arm.scene.env.simulation.robots[0].gripper["right"], arm.descriptor
    tool = np.array([0.5, 0, 0.2, 0, 1, 0, 0])
    for number in (-1.0, -0.01, 0.0, 0.01, 1.0):
        gripper.current_action = np.zeros(2)
        moved = gripper.format_action(np.array([number]))  # 1 is open for the first finger
        _, opening = pose_target(np.array([0, 0, 0, 0, 0, 0, number]), tool, 0.3)
        assert opening == {1.0: 1.0, -1.0: 0.0, 0.0: 0.3}[float(np.sign(moved[0]))]
    # As fast: a step of 20 Hz moves it by a share of its whole way.
    share = gripper.speed / 2
    assert robot.limits.gripper_v_max_s == pytest.approx(share * 20)


def test_an_action_that_was_executed_as_asked_is_said_to_be_the_action(arm):
    robot, random = arm.descriptor, np.random.default_rng(1)
    actions = OscPose(robot)
    for _ in range(10):
        tool = drawn(arm, random)
        state = {"tool": tool, "tool_set": tool, "gripper_set": 1.0}
        action = np.append(random.uniform(-0.3, 0.3, 6), -1.0)
        pose, opening = actions.target(action, state)
        chain = SimCell(arm).daemon.chain
        x = robot.limits.arrays()
        q = chain.inverse(pose[:3], matrix(pose[3:]), arm.scene.measured()[0], x["low"], x["high"])
        assert np.allclose(actions.executed(q, opening, state), action, atol=5e-3)


def test_a_turn_is_about_the_bases_axes_and_half_a_radian_at_one():
    tool = np.array([0.5, 0, 0.2, *quaternion(turned(np.array([3.0, 0.1, 0])))])
    pose, _ = pose_target(np.array([0, 0, 0, 0, 0, 1.0, 0]), tool, 0.0)
    assert np.allclose(matrix(pose[3:]), turned(np.array([0, 0, 0.5])) @ matrix(tool[3:]))


def test_a_policy_sees_what_it_saw_in_robosuite(arm):
    env = arm.scene.env
    arm.reset(5)
    extra = arm.read().extra
    assert set(extra) == {*env.observation_keys, "success"}
    seen = np.concatenate([extra[key] for key in env.observation_keys])
    assert (seen.astype(np.float32) == env.observe()).all()
    again, _ = env.reset(seed=5)
    assert np.allclose(seen, again, atol=1e-6)  # the episode of that seed, as in training
    arm.reset(5)


def test_a_reset_brings_the_arm_to_where_the_episode_begins_and_forgets_ticks(arm):
    arm.reset(7)
    begin = arm.read().q
    arm.step(0.1)
    assert np.abs(arm.read().q - begin).max() < 1e-3
    assert np.abs(begin - arm.descriptor.home_rad).max() < 0.2


def test_rearranging_moves_the_things_and_not_the_arm(arm):
    arm.reset(0)
    tool = drawn(arm, np.random.default_rng(2))
    fingers = arm.read().extra["robot0_gripper_qpos"]
    places = []
    for seed in (1, 2, 1):
        arm.rearrange(seed)
        arm.step(0.004)
        state = arm.read()
        places.append(state.extra["object-state"][:3])
        position, _ = arm.scene.tool()
        assert np.allclose(position, tool[:3], atol=1e-4)
        assert np.allclose(state.extra["robot0_gripper_qpos"], fingers, atol=2e-3)
        assert not state.fault
    assert np.allclose(places[0], places[2], atol=1e-4)
    assert np.abs(places[0] - places[1]).max() > 0.003


def test_an_expert_of_robosuite_lifts_the_cube_through_the_daemon(arm):
    arm.reset(0)
    cell = SimCell(arm)
    cell.ready()
    # The expert reads where the hand is; it is told of nothing else.
    expert = LiftExpert(SimpleNamespace(unwrapped=arm.scene.env))
    for _ in range(80):
        state = published(cell.daemon, cell.last)
        pose, opening = pose_target(expert(None), np.array(state["tool"]), state["gripper_set"])
        command = cell.command(pose, mode=Mode.POSE, gripper=np.array([opening]))
        cell.tick((POLICY, command.encode()))
        cell.run(0.046)
        if cell.last.measured.extra["success"][0]:
            break
    assert cell.last.measured.extra["success"][0] == 1
    assert cell.daemon.machine.state is State.ACTIVE
