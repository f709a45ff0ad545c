"""robosuite's operational space controller without what it repeats 25 times per control step.

Of each control step the first physics step runs robosuite's own code. For the others the goal, the
base of the arm and the fingers' command are the same, so only the arm's torques are computed anew:
by robosuite's own equations on the same numbers, in the same order. Physics is bit for bit the
same (the tests say so), and a step takes a third less time.

Khatib. A Unified Approach for Motion and Force Control of Robot Manipulators. 1987.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.graphics import mujoco


def shorten(simulation: Any) -> None:
    """Shorten the control of every arm to which the reasoning above applies; after each reset."""
    for robot in simulation.robots:
        if _applies(robot):
            robot.control = _Control(robot)


def _applies(robot: Any) -> bool:
    from robosuite.controllers.parts.arm.osc import OperationalSpaceController
    from robosuite.controllers.parts.gripper.simple_grip import SimpleGripController
    from robosuite.robots.fixed_base_robot import FixedBaseRobot

    if type(robot) is not FixedBaseRobot or len(robot.arms) != 1:
        return False
    parts = dict(robot.part_controllers)
    arm = parts.pop(robot.arms[0])
    return (
        type(arm) is OperationalSpaceController
        and arm.interpolator_pos is None
        and arm.interpolator_ori is None
        and arm.input_ref_frame == "base"
        and arm.uncoupling
        and arm.lite_physics
        and arm.num_ref_sites == 1
        and all(type(part) is SimpleGripController for part in parts.values())
    )


class _Control:
    """Stands in for `robot.control` of one simulation."""

    def __init__(self, robot: Any):
        from robosuite.utils import control_utils

        self.equations = control_utils
        self.whole = type(robot).control.__get__(robot)
        name = robot.arms[0]
        self.arm = robot.part_controllers[name]
        self.model, self.data = robot.sim.model._model, robot.sim.data._data
        self.site = robot.sim.model.site_name2id(self.arm.ref_name)
        self.actuators = robot._ref_actuators_indexes_dict[name]
        self.limits = self.model.actuator_ctrlrange[self.actuators].T.copy()
        self.joints, self.velocities = self.arm.qpos_index, self.arm.qvel_index
        self.jacobian = np.zeros((2, 3, self.model.nv))  # of position and of rotation
        self.inertia = np.zeros((self.model.nv, self.model.nv))

    def __call__(self, action: np.ndarray, policy_step: bool = False) -> None:
        arm = self.arm
        if policy_step:
            self.whole(action, policy_step=True)
            self.goal_position = arm.origin_pos + np.dot(arm.origin_ori, arm.goal_pos)
            self.goal_rotation = np.dot(arm.origin_ori, arm.goal_ori)
            return
        torques = np.clip(self._torques(), *self.limits)
        self.data.ctrl[self.actuators] = torques

    def _torques(self) -> np.ndarray:
        arm, model, data = self.arm, self.model, self.data
        mujoco.mj_jacSite(model, data, self.jacobian[0], self.jacobian[1], self.site)
        mujoco.mj_fullM(model, self.inertia, data.qM)
        inertia = self.inertia[self.velocities, :][:, self.velocities]
        j_position = self.jacobian[0][:, self.velocities]
        j_rotation = self.jacobian[1][:, self.velocities]
        for kept, new in ((arm.J_pos, j_position), (arm.J_ori, j_rotation)):
            kept[:, :] = new  # the controller's own arrays, for their memory layout
        arm.J_full[:3], arm.J_full[3:] = j_position, j_rotation
        rotation = data.site_xmat[self.site].reshape(3, 3)

        position_error = self.goal_position - data.site_xpos[self.site]
        rotation_error = self.equations.orientation_error(self.goal_rotation, rotation)
        velocity = np.dot(self.jacobian[0], data.qvel)
        spin = np.dot(self.jacobian[1], data.qvel)
        force = position_error * arm.kp[0:3] - velocity * arm.kd[0:3]
        torque = rotation_error * arm.kp[3:6] - spin * arm.kd[3:6]
        _, mass, moment, nullspace = self.equations.opspace_matrices(
            inertia, arm.J_full, arm.J_pos, arm.J_ori
        )
        wrench = np.concatenate([np.dot(mass, force), np.dot(moment, torque)])
        torques = np.dot(arm.J_full.T, wrench) + data.qfrc_bias[self.velocities]
        torques += self.equations.nullspace_torques(
            inertia,
            nullspace,
            arm.initial_joint,
            data.qpos[self.joints],
            data.qvel[self.velocities],
        )
        return torques
