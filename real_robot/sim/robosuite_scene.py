"""A task of robosuite behind robotd: what a policy learned there is rehearsed with every limit on.

The physics, the scene and the observables are robosuite's; its controllers are not used: the arm
follows robotd's ticks like any other. `extra` of a state holds what the policy saw in robosuite,
under the same names, and `success`. The robot's file is `robosuite_panda`.
"""

from __future__ import annotations

import numpy as np

from envs.graphics import mujoco
from envs.robosuite import Robosuite
from real_robot.descriptor import RobotDescriptor
from real_robot.sim.scene import Finger, Scene

TOOL, BASE = "gripper0_right_grip_site", "robot0_base"
FINGERS = (
    Finger("gripper0_right_gripper_finger_joint1", 0.0, 0.04),
    Finger("gripper0_right_gripper_finger_joint2", 0.0, -0.04),
)


class RobosuiteScene(Scene):
    """One task with a Panda."""

    def __init__(self, robot: RobotDescriptor, task: str = "Lift", seed: int = 0):
        self.env = Robosuite(task)
        self.env.reset(seed=seed)
        sim = self.env.simulation.sim
        super().__init__(
            robot, sim.model._model, data=sim.data._data, tool=TOOL, base=BASE, fingers=FINGERS
        )

    def extra(self) -> dict[str, np.ndarray]:
        """Return robosuite's observation of the present state, key by key, and `success`."""
        values = self.env.simulation._get_observations(force_update=True)
        found = {key: np.atleast_1d(values[key]) for key in self.env.observation_keys}
        return found | {"success": np.array([float(self.env.success())])}

    def reset(self, seed: int) -> None:
        """Begin the episode that `envs.robosuite` begins with this seed. Takes about a second."""
        self.env.reset(seed=seed)
        self._bind()

    def rearrange(self, seed: int) -> None:
        """Draw anew where the task's things are; the arm and the gripper stay as they are."""
        simulation = self.env.simulation
        joints = {int(j): mujoco.mj_id2name(self.model, mujoco.mjtObj.mjOBJ_JOINT, j) for j in self._own_joints()}  # noqa: E501  # fmt: skip
        before = {name: self.data.joint(j).qpos.copy() for j, name in joints.items()}
        ctrl = self.data.ctrl.copy()
        simulation.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        simulation.hard_reset = False  # a new model takes a second, and robotd waits 50 ms
        try:
            simulation.reset()
        finally:
            simulation.hard_reset = True
        self.env._enable_sensors()
        self._bind()
        for name, qpos in before.items():
            self.data.joint(name).qpos[:] = qpos
        self.data.qvel[:], self.data.ctrl[:] = 0, ctrl
        mujoco.mj_forward(self.model, self.data)

    def _own_joints(self) -> np.ndarray:
        """Return the joints of the robot and its gripper."""
        roots = self.model.body_rootid[self.model.jnt_bodyid]
        return np.flatnonzero(roots == self._root)

    def _bind(self) -> None:
        sim = self.env.simulation.sim
        self.bind(sim.model._model, sim.data._data)
