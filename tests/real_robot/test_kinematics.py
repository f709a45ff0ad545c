import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from real_robot.descriptor import load
from real_robot.kinematics import Chain, matrix, quaternion, rotation_vector, turned

ROBOTS = ("sim", "ur5e", "franka")


def some(robot, seed, spread=1.0):
    x = robot.limits.arrays()
    random = np.random.default_rng(seed)
    return random.uniform(np.maximum(x["low"], -2.5), np.minimum(x["high"], 2.5)) * spread


@pytest.mark.parametrize("name", ROBOTS)
def test_the_jacobian_is_the_derivative_of_the_pose(name):
    chain, robot = Chain(load(name)), load(name)
    q, h = some(robot, 0), 1e-6
    jacobian, position, rotation = chain.jacobian(q)
    assert np.allclose(position, chain.tool(q)[0][0]) and np.allclose(rotation, chain.tool(q)[1][0])
    for i in range(robot.dof):
        step = h * np.eye(robot.dof)[i]
        (p1, r1), (p0, r0) = chain.tool(q + step), chain.tool(q - step)
        assert np.allclose(jacobian[:3, i], (p1 - p0)[0] / (2 * h), atol=1e-8)
        assert np.allclose(jacobian[3:, i], rotation_vector(r1[0] @ r0[0].T) / (2 * h), atol=1e-6)


@pytest.mark.parametrize("name", ROBOTS)
def test_angles_are_found_for_a_pose_nearby(name):
    robot = load(name)
    chain, x = Chain(robot), robot.limits.arrays()
    for seed in range(20):
        q = some(robot, seed).clip(x["low"], x["high"])
        start = (q + np.random.default_rng(seed).uniform(-0.1, 0.1, robot.dof)).clip(
            x["low"], x["high"]
        )
        position, rotation = chain.tool(q)
        found = chain.inverse(position[0], rotation[0], start, x["low"], x["high"])
        assert found is not None
        assert np.abs(chain.tool(found)[0] - position).max() < 2e-4
        assert (found >= x["low"]).all() and (found <= x["high"]).all()


def test_a_pose_out_of_reach_has_no_angles():
    robot = load("sim")
    chain, x = Chain(robot), robot.limits.arrays()
    far = np.array([3.0, 0, 0])
    assert chain.inverse(far, np.eye(3), np.array(robot.home_rad), x["low"], x["high"]) is None


def test_many_configurations_at_once_are_each_by_itself():
    robot = load("sim")
    chain, q = Chain(robot), np.stack([some(robot, s) for s in range(5)])
    together = chain.tool(q)
    for i in range(5):
        assert np.allclose(together[0][i], chain.tool(q[i])[0][0])


@settings(max_examples=200, deadline=None)
@given(st.tuples(*[st.floats(-1, 1)] * 3), st.floats(0, np.pi - 1e-3))
def test_rotations_come_back_from_vectors_and_quaternions(axis, angle):
    axis = np.array(axis)
    if np.linalg.norm(axis) < 1e-3:
        return
    vector = axis / np.linalg.norm(axis) * angle
    rotation = turned(vector)
    assert np.allclose(rotation @ rotation.T, np.eye(3))
    assert np.allclose(rotation_vector(rotation), vector, atol=1e-7)
    assert np.allclose(matrix(quaternion(rotation)), rotation)


@pytest.mark.parametrize("axis", np.eye(3))
def test_half_a_turn_is_a_quaternion_of_length_one(axis):
    found = quaternion(turned(axis * np.pi))
    assert np.linalg.norm(found) == pytest.approx(1) and np.isfinite(found).all()
