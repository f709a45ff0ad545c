"""Files and contracts that are wrong in one thing each: whatever one can be wrong about."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from real_robot.descriptor import RobotDescriptor, dump
from real_robot.runtime.contract import Contract, Leaf, Part

DEGREES = 180 / math.pi
LOOSER = 1.01  # times as much
ANGLES = ("q_min_rad", "q_max_rad", "v_max_rad_s", "step_max_rad")  # where degrees can be told
RADIANS = (*ANGLES, "a_max_rad_s2", "j_max_rad_s3")

Named = tuple[str, Contract]


def contracts(fits: Contract) -> Iterator[Named]:
    """Yield contracts that differ from one that fits in one thing, with what it is."""
    for i, leaf in enumerate(fits.observation):
        for name, changed in _leaves(leaf):
            if leaf.dtype != "uint8":
                yield f"{leaf.key}: {name}", _observing(fits, i, changed)
    if len(fits.observation) > 1:
        for camera in fits.cameras:
            yield f"without {camera.name}", _without(fits, camera.name)
    for i, camera in enumerate(fits.cameras):
        turned = (camera.height, camera.width, len(camera.channels))
        changes: dict[str, dict[str, Any]] = {
            "BGR": {"channels": camera.channels[::-1]},
            "another name": {"name": "hand"},
            "wider": {"width": camera.width + 1},
            "higher": {"height": camera.height + 1},
            "colours last": {"layout": "HWC"},
        }
        for name, change in changes.items():
            seen = replace(camera, **change)
            shape = turned if name == "colours last" else (3, seen.height, seen.width)
            yield f"camera {camera.name}: {name}", _seeing(fits, i, seen, shape)
    for name, part in _parts(fits.action.parts):
        yield f"action: {name}", replace(fits, action=replace(fits.action, parts=part))
    yield "another mode", replace(fits, action=replace(fits.action, mode="absolute position"))
    for factor in (0.5, 2.0, 1.001):
        yield f"{factor:g} times the rate", replace(fits, rate_hz=factor * fits.rate_hz)
    yield "another robot", replace(fits, descriptor_hash="0" * 64)


def limits(robot: RobotDescriptor) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield tables of limits that are looser than the robot's, in degrees, or none at all."""
    known = json.loads(dump(robot))["limits"]
    for name, value in known.items():
        if isinstance(value, list) and value and isinstance(value[0], float):
            for i in range(len(value)):
                yield f"{name}[{i}] looser", {name: _changed(value, i, _loose(name, value[i]))}
            yield f"{name} without its last", {name: value[:-1]}
        elif isinstance(value, float):
            yield f"{name} looser", {name: _loose(name, value)}
            yield f"{name} negative", {name: -value}
        yield f"{name} as text", {name: "1.0"}
        yield f"{name} as nothing", {name: None}
    for name in RADIANS:
        degrees = [x * DEGREES for x in known[name]]
        yield f"{name} in degrees", {name: degrees}
        for i in range(len(degrees)):
            yield f"{name}[{i}] in degrees", {name: _changed(known[name], i, degrees[i])}
    box = known["box_m"]
    for corner, way in (("low_m", -0.01), ("high_m", 0.01)):
        for axis in range(3):
            moved = box | {corner: _changed(box[corner], axis, box[corner][axis] + way)}
            yield f"box {corner}[{axis}] looser", {"box_m": moved}
    yield "box in millimetres", {"box_m": {k: [1e3 * x for x in v] for k, v in box.items()}}
    yield "a limit that is none", {"speed_m_s": 0.1}
    yield "a speed in millimetres", {"tcp_v_max_m_s": 1e3 * known["tcp_v_max_m_s"]}


def _loose(name: str, value: float) -> float:
    """Return a value that allows more than this one."""
    away = max(abs(value) * (LOOSER - 1), 1e-3)
    return value - away if name in ("q_min_rad", "q_margin_rad") else value + away


def _changed(values: list[float], i: int, value: float) -> list[float]:
    return [*values[:i], value, *values[i + 1 :]]


def _leaves(leaf: Leaf) -> Iterator[tuple[str, Leaf]]:
    yield "another key", replace(leaf, key=f"{leaf.key}_")
    yield "another shape", replace(leaf, shape=(*leaf.shape, 1))
    yield "never normalised", replace(leaf, normaliser=None)
    if leaf.normaliser is not None:
        constant = replace(leaf.normaliser, covered=0)
        yield "normalised by what never changed", replace(leaf, normaliser=constant)
    for name, parts in _parts(leaf.parts):
        yield name, replace(leaf, parts=parts)
    first, *rest = leaf.parts
    if rest:
        fewer = (leaf.size - first.size,)
        yield (
            f"without {first.name}",
            replace(leaf, parts=tuple(rest), shape=fewer, normaliser=None),
        )


def _parts(parts: tuple[Part, ...]) -> Iterator[tuple[str, tuple[Part, ...]]]:
    for i, part in enumerate(parts):
        units = {"rad": "deg", "m": "mm", "rad/s": "deg/s"}.get(part.units, "other")
        changes: dict[str, dict[str, Any]] = {
            f"in {units}": {"units": units},
            "in another frame": {"frame": "elsewhere"},
            "of another scale": {"scale": part.scale * 2},
            "of another name": {"name": f"{part.name}_"},
        }
        for name, change in changes.items():
            yield f"{part.name} {name}", (*parts[:i], replace(part, **change), *parts[i + 1 :])
    for i in range(len(parts) - 1):
        swapped = (*parts[:i], parts[i + 1], parts[i], *parts[i + 2 :])
        yield f"{parts[i].name} and {parts[i + 1].name} swapped", swapped


def _observing(fits: Contract, i: int, leaf: Leaf) -> Contract:
    return replace(fits, observation=(*fits.observation[:i], leaf, *fits.observation[i + 1 :]))


def _without(fits: Contract, name: str) -> Contract:
    return replace(
        fits,
        observation=tuple(leaf for leaf in fits.observation if leaf.key != name),
        cameras=tuple(camera for camera in fits.cameras if camera.name != name),
    )


def _seeing(fits: Contract, i: int, camera: Any, shape: tuple[int, ...]) -> Contract:
    index = [leaf.key for leaf in fits.observation].index(fits.cameras[i].name)
    leaf = fits.observation[index]
    pixels = replace(leaf.parts[0], size=math.prod(shape))
    leaf = replace(leaf, key=camera.name, shape=shape, parts=(pixels,), normaliser=None)
    cameras = (*fits.cameras[:i], camera, *fits.cameras[i + 1 :])
    return replace(
        fits,
        observation=(*fits.observation[:index], leaf, *fits.observation[index + 1 :]),
        cameras=cameras,
    )
