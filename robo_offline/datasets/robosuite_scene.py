"""The scene a robosuite demonstration was logged in, carried over to today's model of the task.

Names changed between versions (`cube` -> `cube_g0`, `Door` -> `Door_main`, `gripper0_finger_joint1`
-> `gripper0_right_finger_joint1`), so things are matched by what is left of a name without them.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any

import numpy as np

from robo_offline.errors import UserError

MACHINE = ("robot", "gripper", "mount", "fixed_mount")  # today's robot stands as it stands
WIDTHS = {"free": (7, 6), "ball": (4, 3), "hinge": (1, 1), "slide": (1, 1)}  # of qpos and qvel
GEOMETRY = {"sphere": 2, "capsule": 3, "ellipsoid": 4, "cylinder": 5, "box": 6}  # MuJoCo's numbers
MARKER = "contact"  # Wipe's pieces of dirt, which are children of the table
DOOR_PARTS = "Door_"  # version 1.0 named the parts of the door without it


class Scene:
    """Object sizes, fixed object poses and the joint order of one stored model."""

    def __init__(self, xml: str):
        self.world = ElementTree.fromstring(xml).find("worldbody") if xml else None

    def place(self, model: Any) -> None:
        """Give the objects of a robosuite model the sizes and fixed poses of this scene."""
        if self.world is None:
            return
        native = {name: model.geom_name2id(name) for name in model.geom_names if name}
        for geom in self.world.iter("geom"):
            name = geom.get("name", "")
            if geom.get("size") and not name.startswith(MACHINE):
                for number in _geoms(name, native):
                    _resize(model, number, geom)
        bodies = {name: model.body_name2id(name) for name in model.body_names if name}
        markers = [e for e in self.world.iter("body") if e.get("name", "").startswith(MARKER)]
        for body in self.world.findall("body") + markers:
            name = body.get("name", "")
            if not name.startswith(MACHINE) and not _joints(body, deep=False):
                for number in _bodies(name, bodies):
                    _move(model, number, body)

    def translate(self, states: np.ndarray, model: Any, where: str) -> np.ndarray:
        """Reorder flattened states [time, qpos, qvel] to the joints of today's model."""
        native = [(n, *_address(model, n)) for n in model.joint_names if n]
        stored = self._addresses()
        width = 1 + model.nq + model.nv
        matched = _matched([name for name, *_ in stored], [name for name, *_ in native])
        if matched is None:
            if states.shape[1] == width:
                return states
            raise UserError(
                "the states do not fit today's model of the task",
                where=where,
                expected=f"{width} numbers: time, {model.nq} positions, {model.nv} velocities",
                found=f"{states.shape[1]} numbers, joints {[name for name, *_ in stored]}",
                remedy="import it with the robosuite version it was logged in",
            )
        out = np.zeros((len(states), width))
        out[:, 0] = states[:, 0]
        positions = sum(qpos.stop - qpos.start for _, qpos, _ in stored)
        velocities = sum(qvel.stop - qvel.start for _, _, qvel in stored)
        if states.shape[1] != 1 + positions + velocities:
            raise UserError(
                "the states do not fit the model stored with them",
                where=where,
                expected=f"{1 + positions + velocities} numbers",
                found=states.shape[1],
            )
        for (_, qpos, qvel), index in zip(stored, matched, strict=True):
            _, native_qpos, native_qvel = native[index]
            out[:, _shift(native_qpos, 1)] = states[:, _shift(qpos, 1)]
            out[:, _shift(native_qvel, 1 + model.nq)] = states[:, _shift(qvel, 1 + positions)]
        return out

    def _addresses(self) -> list[tuple[str, slice, slice]]:
        found, qpos, qvel = [], 0, 0
        for name, kind in _joints(self.world, deep=True) if self.world is not None else []:
            wide, fast = WIDTHS.get(kind, (1, 1))
            found.append((name, slice(qpos, qpos + wide), slice(qvel, qvel + fast)))
            qpos, qvel = qpos + wide, qvel + fast
        return found


def _joints(body: ElementTree.Element, deep: bool) -> list[tuple[str, str]]:
    """Joints in MuJoCo's order: those of a body before those of its children."""
    own = [(e.get("name", ""), e.get("type", "hinge")) for e in body.findall("joint")]
    own += [(e.get("name", ""), "free") for e in body.findall("freejoint")]
    for child in body.findall("body") if deep else []:
        own += _joints(child, deep)
    return own


def _address(model: Any, name: str) -> tuple[slice, slice]:
    number = model.joint_name2id(name)
    start, fast = int(model.jnt_qposadr[number]), int(model.jnt_dofadr[number])
    kind = ("free", "ball", "slide", "hinge")[int(model.jnt_type[number])]
    return slice(start, start + WIDTHS[kind][0]), slice(fast, fast + WIDTHS[kind][1])


def _shift(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)


def _plain(name: str) -> str:
    name = name.lower().replace("gripper0_right_", "gripper0_").replace("jnt", "joint")
    return re.sub(r"0_joint", "_joint", name)


def _matched(stored: list[str], native: list[str]) -> list[int] | None:
    """For each stored joint the native one; None unless that is one to one."""
    plain = [_plain(name) for name in native]
    matches = []
    for name in map(_plain, stored):
        same = [i for i, other in enumerate(plain) if other == name]
        same = same or [i for i, other in enumerate(plain) if other.endswith(f"_{name}")]
        if len(same) != 1:
            return None
        matches.append(same[0])
    return matches if len(set(matches)) == len(matches) == len(native) else None


def _geoms(name: str, native: dict[str, int]) -> Iterator[int]:
    """Today's geoms of that name, the one that collides and the one that is seen."""
    part = re.fullmatch(r"(.*?)0?-(\d+)", name)  # SquareNut0-3 of version 1.0
    names = [name, f"{name}_g0", DOOR_PARTS + name]
    names += [f"{part[1]}_g{part[2]}"] if part else []
    for candidate in names:
        if candidate in native:
            twins = [candidate, f"{candidate}_vis", f"{candidate}_visual"]
            yield from (native[twin] for twin in twins if twin in native)
            return


def _bodies(name: str, native: dict[str, int]) -> Iterator[int]:
    marker = re.fullmatch(r"contact_?(\d+)(_main)?", name)
    names = [name, f"{name}_main", f"{name.removesuffix('0')}_main"]
    names += [f"contact{marker[1]}_main"] if marker else []
    yield from (native[candidate] for candidate in names if candidate in native)


def _numbers(text: str | None) -> np.ndarray | None:
    values = np.array(text.split(), float) if text else None
    return values if values is not None and np.isfinite(values).all() else None


def _resize(model: Any, number: int, geom: ElementTree.Element) -> None:
    size = _numbers(geom.get("size"))
    kind = int(model.geom_type[number])
    if size is None or kind != GEOMETRY.get(geom.get("type", "sphere")) or len(size) > 3:
        return
    model.geom_size[number, : len(size)] = size
    if kind == GEOMETRY["box"]:  # what MuJoCo's collision detection looks at first
        model.geom_rbound[number] = np.linalg.norm(size)
        model.geom_aabb[number, 3:] = size


def _move(model: Any, number: int, body: ElementTree.Element) -> None:
    position, rotation = _numbers(body.get("pos")), _numbers(body.get("quat"))
    if position is not None and len(position) == 3:
        model.body_pos[number] = position
    if rotation is not None and len(rotation) == 4:
        model.body_quat[number] = rotation / np.linalg.norm(rotation)
