"""What a policy's action in [-1, 1] means to an arm, and what an arm's target means to a policy.

Both directions are pure. The second exists because what is stored as an action is what was
executed: where a limit shortened a target, the shorter one is what the policy is said to have done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from real_robot.descriptor import RobotDescriptor
from real_robot.kinematics import Chain, matrix, quaternion, rotation_vector, turned
from real_robot.messages import Mode

State = Mapping[str, Any]  # what the daemon publishes


class ActionMap(Protocol):
    """Between actions and targets."""

    mode: Mode
    size: int  # numbers of an action

    def target(self, action: np.ndarray, state: State) -> tuple[np.ndarray, float]:
        """Return the target that an action (size,) means in a state, and the gripper's."""

    def executed(self, q: np.ndarray, gripper: float, state: State) -> np.ndarray:
        """Return the action (size,) whose target would have been the angles `q` (dof,)."""

    def nothing(self, state: State) -> np.ndarray:
        """Return the action that stays where the arm is."""


@dataclass(frozen=True)
class JointDelta:
    """Each number moves a joint from where the arm is told to be, at most `step_rad` each way."""

    robot: RobotDescriptor
    step_rad: float
    mode = Mode.JOINT

    @property
    def size(self) -> int:
        return self.robot.dof + self.robot.has_gripper

    def target(self, action: np.ndarray, state: State) -> tuple[np.ndarray, float]:
        q = np.array(state["q_set"]) + self.step_rad * action[: self.robot.dof]
        return q, _opening(action, self.robot)

    def executed(self, q: np.ndarray, gripper: float, state: State) -> np.ndarray:
        found = (q - np.array(state["q_set"])) / self.step_rad
        return _with_gripper(found, gripper, self.robot)

    def nothing(self, state: State) -> np.ndarray:
        return _with_gripper(np.zeros(self.robot.dof), state["gripper_set"], self.robot)


@dataclass(frozen=True)
class PoseDelta:
    """Three numbers move the tool along the base's axes, three turn it about them.

    As in robosuite's OSC_POSE controller: the goal lies `step_m` or `step_rad` times the number
    from the measured pose, and the last number closes the gripper (1) or opens it (-1). `plane`
    leaves the orientation alone and takes three numbers.
    """

    robot: RobotDescriptor
    step_m: float
    step_rad: float
    turns: bool = True
    mode = Mode.POSE

    @property
    def size(self) -> int:
        return (6 if self.turns else 3) + self.robot.has_gripper

    def target(self, action: np.ndarray, state: State) -> tuple[np.ndarray, float]:
        position, rotation = self._base(state)
        position = position + self.step_m * action[:3]
        if self.turns:
            rotation = turned(self.step_rad * action[3:6]) @ rotation
        return np.concatenate([position, quaternion(rotation)]), _opening(action, self.robot)

    def executed(self, q: np.ndarray, gripper: float, state: State) -> np.ndarray:
        position, rotation = self._base(state)
        reached, orientation = Chain(self.robot).tool(q)
        found = (reached[0] - position) / self.step_m
        if self.turns:
            turn = rotation_vector(orientation[0] @ rotation.T) / self.step_rad
            found = np.concatenate([found, turn])
        return _with_gripper(found, gripper, self.robot)

    def nothing(self, state: State) -> np.ndarray:
        size = 6 if self.turns else 3
        return _with_gripper(np.zeros(size), state["gripper_set"], self.robot)

    def _base(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        # Without turns the orientation is the one that was told, so that it does not creep.
        tool = np.array(state["tool" if self.turns else "tool_set"])
        return np.array(state["tool"])[:3], matrix(tool[3:])


def _opening(action: np.ndarray, robot: RobotDescriptor) -> float:
    return float((1 - action[-1]) / 2) if robot.has_gripper else 0.0


def _with_gripper(found: np.ndarray, gripper: float, robot: RobotDescriptor) -> np.ndarray:
    closing = [1 - 2 * gripper] if robot.has_gripper else []
    return np.concatenate([found, closing]).clip(-1, 1)
