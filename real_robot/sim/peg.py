"""A peg that the hand holds fast, and a plate with a hole for it, on springs.

The plate gives way, so that a peg that comes down beside the hole presses some newtons, and one
that goes on pressing meets the robot's limit of force.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envs.graphics import mujoco
from real_robot.descriptor import RobotDescriptor

PLATE = "plate"
PEG_RADIUS_M, PEG_HALF_M = 0.008, 0.03
TIP_M = 0.05  # of the peg's end beyond the tool's point
HOLE_HALF_M = 0.0105  # of the square hole
PLATE_HALF_M, THICK_HALF_M = 0.1, 0.012
PLATE_KG, SPRING_N_M, DAMPING_N_S_M = 1.0, 600.0, 40.0


def add_peg(link: Any, robot: RobotDescriptor, touches: tuple[int, int]) -> None:
    """Fix the peg to the last link, along the tool's third axis."""
    hand = link.add_body(name="peg", pos=robot.tool_xyz_m, quat=robot.tool_wxyz)
    hand.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        pos=[0, 0, TIP_M - PEG_HALF_M - PEG_RADIUS_M],
        size=[PEG_RADIUS_M, PEG_HALF_M, 0],
        mass=0.05,
        rgba=[0.82, 0.34, 0.04, 1],
        friction=[0.3, 0.005, 1e-4],
        contype=touches[0],
        conaffinity=touches[1],
    )


def add_plate(spec: Any, hole_m: Sequence[float], touches: tuple[int, int]) -> None:
    """Put the plate where the middle of its hole, in its upper face, is at `hole_m`."""
    plate = spec.worldbody.add_body(name=PLATE, pos=[*hole_m], gravcomp=1)
    for name, axis in (("x", [1, 0, 0]), ("y", [0, 1, 0]), ("z", [0, 0, 1])):
        plate.add_joint(
            name=f"plate_{name}",
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=axis,
            stiffness=SPRING_N_M,
            damping=DAMPING_N_S_M,
        )
    half = (PLATE_HALF_M - HOLE_HALF_M) / 2  # of a bar beside the hole
    middle = HOLE_HALF_M + half
    for x, y in ((middle, 0), (-middle, 0), (0, middle), (0, -middle)):
        plate.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[x, y, -THICK_HALF_M],
            size=[half, PLATE_HALF_M, THICK_HALF_M] if x else [HOLE_HALF_M, half, THICK_HALF_M],
            mass=PLATE_KG / 4,
            rgba=[0.2, 0.5, 0.75, 1],
            friction=[0.3, 0.005, 1e-4],
            contype=touches[0],
            conaffinity=touches[1],
        )
