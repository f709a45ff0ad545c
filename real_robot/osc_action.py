"""The actions of robosuite's OSC_POSE controller as targets for a real arm.

Seven numbers in [-1, 1]: three move the goal from the measured position along the axes of the
robot's base, 5 cm at 1; three turn it about them, 0.5 rad at 1; the sign of the last closes the
gripper or opens it, as robosuite's Panda takes it, and 0 leaves it.
(Zhu et al. robosuite. 2020. arXiv 2009.12293.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from real_robot.actions import PoseDelta, State
from real_robot.kinematics import matrix, quaternion, turned

STEP_M, STEP_RAD = 0.05, 0.5


def pose_target(action: np.ndarray, tool: np.ndarray, gripper: float) -> tuple[np.ndarray, float]:
    """Return the pose (7,) and the gripper's opening that an action (7,) asks for.

    `tool` (7,) is the measured pose of the tool in the base, quaternion w first; `gripper` is the
    opening that was asked for last.
    """
    action = np.clip(np.asarray(action, float), -1, 1)
    rotation = turned(STEP_RAD * action[3:6]) @ matrix(tool[3:])
    opening = gripper if action[6] == 0 else float(action[6] < 0)
    return np.concatenate([tool[:3] + STEP_M * action[:3], quaternion(rotation)]), opening


@dataclass(frozen=True)
class OscPose(PoseDelta):
    """An action map for the environment of an arm: robosuite's actions, executed by robotd."""

    step_m: float = STEP_M
    step_rad: float = STEP_RAD

    def target(self, action: np.ndarray, state: State) -> tuple[np.ndarray, float]:
        return pose_target(action, np.array(state["tool"]), float(state["gripper_set"]))
