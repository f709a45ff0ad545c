"""What a policy sees and does, in units: read off its world and its weights, never guessed."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
import toy
from gymnasium.spaces import Box

import envs
from real_robot.runtime.contract import Camera, Part
from robo_offline.algos.bc import BC
from robo_offline.encoders.state import State
from robo_offline.errors import UserError
from robo_offline.export import describe
from robo_offline.policies.policy import Policy
from robo_offline.spec import Spec


def policy_for(env: gymnasium.Env, statistics=None, **knobs) -> Policy:
    spec = Spec.of(env)
    return Policy(BC.create(spec, lambda: State(spec, statistics), hidden=(8,), **knobs))


def test_a_robosuite_arm_tells_units_frames_scale_mode_and_rate():
    env = envs.make("robosuite/lift")
    found = describe.contract(policy_for(env), env, None, None)
    [leaf] = found.observation
    assert [(part.name, part.size, part.units, part.frame) for part in leaf.parts] == [
        ("robot0_eef_pos", 3, "m", "world"),
        ("robot0_eef_quat", 4, "quaternion xyzw", "world"),
        ("robot0_gripper_qpos", 2, "m", "joint"),
        ("cube_pos", 3, "m", "world"),
        ("cube_quat", 4, "quaternion xyzw", "world"),
        ("gripper_to_cube_pos", 3, "unknown", "unknown"),
    ]
    assert found.action.mode == "osc_pose delta" and found.rate_hz == 20.0
    position, rotation, gripper = found.action.parts
    assert (position.size, position.units, position.frame, position.scale) == (3, "m", "base", 0.05)
    assert (rotation.size, rotation.units, rotation.frame, rotation.scale) == (
        3,
        "rad",
        "base",
        0.5,
    )
    assert gripper.size == 1
    assert describe.horizon_s(env, 20.0) == 10.0
    env.close()


def test_a_camera_is_told_by_name_size_and_order():
    env = envs.make("robosuite/lift", cameras=["agentview"], image_size=32)
    found = describe.contract(policy_for(env), env, None, None)
    assert [leaf.key for leaf in found.observation] == ["agentview", "state"]
    image, state = found.observation
    assert (image.shape, image.dtype, image.low, image.high) == ((3, 32, 32), "uint8", (0,), (255,))
    assert found.cameras == (Camera("agentview", 32, 32, "CHW", "RGB"),)
    assert state.parts[0].units == "m"
    env.close()


def test_a_full_deflection_is_what_the_arm_really_moves_by():
    env = envs.make("robosuite/lift")
    scale = describe.contract(policy_for(env), env, None, None).action.parts[0].scale
    env.reset(seed=0)
    arm = env.simulation.robots[0].part_controllers["right"]
    goals = []
    for action in (np.zeros(6), np.array([1.0, 0, 0, 0, 0, 0])):  # and no time goes by in between
        arm.set_goal(action)
        goals.append(np.array(arm.goal_pos))
    np.testing.assert_allclose(goals[1] - goals[0], [scale, 0, 0], atol=1e-9)
    env.close()


def test_mujoco_tells_its_rate_and_an_episode_its_seconds():
    env = envs.make("gymnasium/Hopper-v5")
    found = describe.contract(policy_for(env), env, None, None)
    assert found.rate_hz == pytest.approx(125.0)
    assert describe.horizon_s(env, found.rate_hz) == pytest.approx(8.0)
    assert found.action.mode == "unknown"
    env.close()


def test_what_nobody_says_is_unknown():
    found = describe.contract(policy_for(toy.Reach()), toy.Reach(), 20.0, None)
    assert found.observation[0].parts == (Part("observation", 4, "unknown", "unknown", 1.0),)
    assert found.action.parts == (Part("unknown", 2, "unknown", "unknown", 1.0),)
    assert describe.horizon_s(toy.Reach(), 20.0) == toy.HORIZON / 20


def test_a_rate_is_given_known_or_asked_for_and_never_contradicted():
    env = toy.Reach()
    with pytest.raises(UserError, match="--rate HZ"):
        describe.contract(policy_for(env), env, None, None)
    env.dt = 0.05
    assert describe.contract(policy_for(env), env, None, None).rate_hz == 20.0
    assert describe.contract(policy_for(env), env, 20.0, None).rate_hz == 20.0
    with pytest.raises(UserError, match="20 Hz"):
        describe.contract(policy_for(env), env, 10.0, None)


def test_bounds_are_told_where_a_space_has_them():
    env = toy.Reach()
    env.observation_space = Box(np.float32([0, -1, -2, -3]), np.float32(4), (4,), np.float32)
    [leaf] = describe.contract(policy_for(env), env, 20.0, None).observation
    assert (leaf.low, leaf.high) == ((0.0, -1.0, -2.0, -3.0), (4.0,))


def test_statistics_are_told_leaf_by_leaf_and_what_never_moved_is_not_covered():
    env = toy.make_nested()
    statistics = {
        "observation.position": (torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.0])),
        "observation.velocity": (torch.tensor([-1.0, 0.0]), torch.tensor([0.5, 0.25])),
    }
    found = describe.contract(policy_for(env, statistics), env, 20.0, None)
    position, velocity = (leaf.normaliser for leaf in found.observation)
    assert position.mean == (1.0, 2.0) and position.std == pytest.approx((3.0, 0.0), abs=1e-5)
    assert velocity.mean == (-1.0, 0.0) and velocity.std == pytest.approx((0.5, 0.25), abs=1e-5)
    assert (position.covered, velocity.covered) == (1, 2)


def test_without_statistics_there_is_no_normaliser_and_no_robot_fits():
    found = describe.contract(policy_for(toy.Reach()), toy.Reach(), 20.0, None)
    assert found.observation[0].normaliser is None
    assert found.differences(found) == ["observation: no data has normalised it"]


def test_actions_are_bounded_by_the_data_where_the_policy_is():
    scale = torch.tensor([0.5, 0.0])
    policy = policy_for(toy.Reach(), data_range=True, action_scale=scale, chunk=4)
    action = describe.contract(policy, toy.Reach(), 20.0, None).action
    assert (action.low, action.high, action.chunk) == ((-0.5, 0.0), (0.5, 0.0), 4)
    assert str(action.low[1]) == "0.0"
