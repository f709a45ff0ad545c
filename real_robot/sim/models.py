"""Where the model of a scene comes from: any MJCF file, robosuite's Panda, or the robot's file.

The last one needs nothing but MuJoCo: joints where the file has them, capsules between them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from envs.graphics import mujoco
from real_robot.descriptor import RobotDescriptor
from real_robot.sim import peg
from real_robot.sim.scene import WALL, Finger, Scene
from robo_offline.errors import UserError

TIMESTEP_S = 1e-3
TOOL = "real_robot_tool"
CAMERA = "beside"  # that looks at the arm's workspace
CUBE, CUBE_M = "cube", 0.02  # half of its side
# Who touches whom: (contype, conaffinity). The arm's own capsules overlap at the joints.
ARM, THINGS = (2, 1), (1, 3)
RADIUS_M, LINK_KG, ARMATURE = 0.045, 2.0, 0.1
FINGER_M = (0.01, 0.004, 0.01)  # half of its sides
OPEN_M = 0.04  # way of one finger
HARD = [0.004, 1.0]  # s and damping of a contact: a grip presses light things


def default(robot: RobotDescriptor, cube_m: Sequence[float] | None = None) -> Scene:
    """Build the nicest model that there is here: robosuite's where the robot is a Panda."""
    panda = all(j.name == f"panda_joint{i + 1}" for i, j in enumerate(robot.joints))
    if panda and robot.dof == 7 and importlib.util.find_spec("robosuite"):
        return robosuite_panda(robot, cube_m)
    return capsules(robot, cube_m)


def from_file(
    robot: RobotDescriptor,
    path: Path,
    *,
    tool: str,
    base: str | None = None,
    fingers: Sequence[Finger] = (),
    objects: Sequence[str] = (),
    cube_m: Sequence[float] | None = None,
) -> Scene:
    """Build a scene from an MJCF file; its joints have the names of the robot's file."""
    try:
        spec = mujoco.MjSpec.from_file(str(path))
    except (ValueError, OSError) as error:
        raise UserError("the model cannot be read", where=path, found=error) from None
    return _scene(robot, spec, tool, base, fingers, objects, cube_m)


def robosuite_panda(robot: RobotDescriptor, cube_m: Sequence[float] | None = None) -> Scene:
    """Compose robosuite's Panda and its hand, with the tool where the robot's file has it."""
    found = importlib.util.find_spec("robosuite")
    if found is None or found.origin is None:
        raise UserError("robosuite is not installed", remedy="pip install 'robo-offline[sim]'")
    assets = Path(found.origin).parent / "models" / "assets"
    arm = mujoco.MjSpec.from_file(str(assets / "robots" / "panda" / "robot.xml"))
    hand = mujoco.MjSpec.from_file(str(assets / "grippers" / "panda_gripper.xml"))
    for spec in (arm, hand):
        _undress(spec)
    arm.attach(hand, prefix="", frame=arm.body("right_hand").add_frame())
    names = {f"joint{i + 1}": joint.name for i, joint in enumerate(robot.joints)}
    for motor in arm.actuators:
        motor.target = names.get(motor.target, motor.target)
    for name, wanted in names.items():
        arm.joint(name).name = wanted
    _add_tool(arm.body("link7"), robot)
    _add_floor(arm)
    fingers = [Finger(f"gripper_finger_joint{i}", 0.0, s * OPEN_M) for i, s in ((1, 1), (2, -1))]
    return _scene(robot, arm, TOOL, "link0", fingers, (), cube_m)


def capsules(
    robot: RobotDescriptor,
    cube_m: Sequence[float] | None = None,
    hole_m: Sequence[float] | None = None,
) -> Scene:
    """Build the arm from the robot's file alone; with `hole_m` it holds a peg above a plate."""
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    spec.worldbody.add_camera(
        name=CAMERA, pos=[1.2, -0.85, 0.75], xyaxes=[0.65, 0.76, 0, -0.25, 0.21, 0.945]
    )
    body = base = spec.worldbody.add_body(name="base")
    ends = [np.array(joint.xyz_m) for joint in robot.joints[1:]] + [np.array(robot.tool_xyz_m)]
    limits = robot.limits
    for i, (joint, end) in enumerate(zip(robot.joints, ends, strict=True)):
        body = body.add_body(name=f"link{i + 1}", pos=joint.xyz_m, quat=joint.wxyz)
        body.add_joint(
            name=joint.name,
            type=mujoco.mjtJoint.mjJNT_HINGE,
            axis=joint.axis,
            range=[limits.q_min_rad[i], limits.q_max_rad[i]],
            armature=ARMATURE,
        )
        _add_arm_geom(body, mujoco.mjtGeom.mjGEOM_SPHERE, size=[RADIUS_M, 0, 0], mass=LINK_KG / 2)
        # The last one ends where the fingers, or the tool's point, begin.
        length = float(np.linalg.norm(end))
        if i == robot.dof - 1:
            end = end * max(0.0, 1 - (2 * FINGER_M[2] + RADIUS_M) / max(length, 1e-9))
        if length > RADIUS_M and np.linalg.norm(end) > 1e-3:
            _add_arm_geom(
                body,
                mujoco.mjtGeom.mjGEOM_CAPSULE,
                fromto=[0, 0, 0, *end],
                size=[RADIUS_M, 0, 0],
                mass=LINK_KG,
            )
    _add_tool(body, robot)
    fingers = _add_fingers(spec, body, robot) if robot.has_gripper else []
    _add_floor(spec)
    objects = []
    if hole_m is not None:
        peg.add_peg(body, robot, ARM)
        peg.add_plate(spec, hole_m, THINGS)
        objects = [peg.PLATE]
    return _scene(robot, spec, TOOL, base.name, fingers, objects, cube_m)


def _scene(
    robot: RobotDescriptor,
    spec: Any,
    tool: str,
    base: str | None,
    fingers: Sequence[Finger],
    objects: Sequence[str],
    cube_m: Sequence[float] | None,
) -> Scene:
    wall = spec.worldbody.add_body(name=WALL, mocap=True)
    wall.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.5, 0.5, 0.05], contype=0, conaffinity=0)
    if cube_m is not None:
        objects = (*objects, CUBE)
        cube = spec.worldbody.add_body(name=CUBE, pos=cube_m)
        cube.add_freejoint()
        cube.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX, size=[CUBE_M] * 3, mass=0.05, condim=4,
            friction=[1.5, 0.01, 1e-4], solref=HARD, contype=THINGS[0], conaffinity=THINGS[1],
        )  # fmt: skip
    try:
        model = spec.compile()
    except ValueError as error:
        raise UserError("the model cannot be compiled", found=error) from None
    return Scene(robot, model, tool=tool, base=base, fingers=fingers, objects=objects)


def _undress(spec: Any) -> None:
    """Leave out what is only looked at: it takes most of the time to load."""
    for geom in list(spec.geoms):
        if not geom.contype and not geom.conaffinity:
            spec.delete(geom)
    used = {geom.meshname for geom in spec.geoms}
    for thing in [*spec.materials, *(m for m in spec.meshes if m.name not in used)]:
        spec.delete(thing)


def _add_tool(body: Any, robot: RobotDescriptor) -> None:
    body.add_site(name=TOOL, pos=robot.tool_xyz_m, quat=robot.tool_wxyz)


def _add_floor(spec: Any) -> None:
    spec.option.timestep = TIMESTEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.worldbody.add_geom(
        type=mujoco.mjtGeom.mjGEOM_PLANE, size=[2, 2, 0.1],
        contype=THINGS[0], conaffinity=THINGS[1],
    )  # fmt: skip


def _add_arm_geom(body: Any, kind: Any, **geom: Any) -> None:
    body.add_geom(type=kind, contype=ARM[0], conaffinity=ARM[1], **geom)


def _add_fingers(spec: Any, link: Any, robot: RobotDescriptor) -> list[Finger]:
    """Two pads that close along the tool's second axis."""
    hand = link.add_body(name="hand", pos=robot.tool_xyz_m, quat=robot.tool_wxyz)
    found = []
    for name, side in (("left", 1.0), ("right", -1.0)):
        pad = hand.add_body(name=name, pos=[0, side * FINGER_M[1], -FINGER_M[2]])
        pad.add_joint(
            name=f"{name}_finger", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[0, side, 0],
            range=[0, OPEN_M], armature=1.0, damping=100.0,
        )  # fmt: skip
        pad.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX, size=FINGER_M, mass=0.05, condim=4,
            friction=[2, 0.05, 1e-4], solref=HARD, contype=ARM[0], conaffinity=ARM[1],
        )  # fmt: skip
        motor = spec.add_actuator(
            name=f"{name}_finger", target=f"{name}_finger",
            trntype=mujoco.mjtTrn.mjTRN_JOINT, forcelimited=True, forcerange=[-20, 20],
        )  # fmt: skip
        motor.set_to_position(kp=1000)
        found.append(Finger(f"{name}_finger", 0.0, OPEN_M))
    return found
