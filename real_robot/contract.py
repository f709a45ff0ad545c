"""What a robot shows and does, in the words of a policy's contract, so that the two can be held
against each other before anything moves."""

from __future__ import annotations

import numpy as np

from real_robot.actions import JointDelta, PoseDelta
from real_robot.env import RealRobotEnv
from real_robot.runtime.contract import UNKNOWN, Action, Camera, Contract, Leaf, Part

FLAT = "observation"  # the key of an observation that is one vector
BASE = "base"
UNITS = {  # of what the daemon publishes, and of what tasks add
    "q": (("rad", "joint"),),
    "q_set": (("rad", "joint"),),
    "dq": (("rad/s", "joint"),),
    "gripper": (("opening: 1 open, 0 closed", "gripper"),),
    "gripper_set": (("opening: 1 open, 0 closed", "gripper"),),
    "goal": (("m", BASE),),
}
POSES = ("tool", "tool_set")  # three metres, then a quaternion
WRENCH = "wrench"


def contract_of(env: RealRobotEnv) -> Contract:
    """Return what this robot offers a policy."""
    key = "state" if env.cameras else FLAT
    parts = tuple(part for name in env.keys for part in _observed(env, name))
    size = sum(part.size for part in parts)
    leaves = [Leaf(key, (size,), "float32", None, None, parts, None)]
    cameras = []
    for name, camera in env.cameras.items():
        shape = (3, camera.spec.height, camera.spec.width)
        pixels = Part(name, int(np.prod(shape)), "share of 255", "camera", 1.0)
        leaves.append(Leaf(name, shape, "uint8", (0.0,), (255.0,), (pixels,), None))
        cameras.append(Camera(name, camera.spec.height, camera.spec.width, "CHW", "RGB"))
    return Contract(
        observation=tuple(leaves),
        cameras=tuple(cameras),
        action=_action(env),
        rate_hz=env.rate_hz,
        descriptor_hash=env.robot.hash,
    )


def _observed(env: RealRobotEnv, name: str) -> list[Part]:
    size = int(np.size(env.value(name)))
    if name in POSES:
        return [
            Part(f"{name} position", 3, "m", BASE, 1.0),
            Part(f"{name} orientation", 4, "quaternion wxyz", BASE, 1.0),
        ]
    if name == WRENCH:
        return [Part("force", 3, "N", "tool", 1.0), Part("torque", 3, "Nm", "tool", 1.0)]
    [(units, frame)] = UNITS.get(name, ((UNKNOWN, UNKNOWN),))
    return [Part(name, size, units, frame, 1.0)]


def _action(env: RealRobotEnv) -> Action:
    actions = env.actions
    mode, parts = UNKNOWN, [Part(UNKNOWN, actions.size, UNKNOWN, UNKNOWN, 1.0)]
    if isinstance(actions, JointDelta):
        mode = "joint delta"
        parts = [Part("joints", env.robot.dof, "rad", "joint", actions.step_rad)]
    elif isinstance(actions, PoseDelta):
        mode = "pose delta"
        parts = [Part("position", 3, "m", BASE, actions.step_m)]
        if actions.turns:
            parts.append(Part("rotation vector", 3, "rad", BASE, actions.step_rad))
    if env.robot.has_gripper and mode != UNKNOWN:
        parts.append(Part("gripper", 1, "closing: 1 closes, -1 opens", "gripper", 1.0))
    ones = (1.0,) * actions.size
    return Action(actions.size, 1, mode, tuple(-x for x in ones), ones, tuple(parts))
