"""Environments: what one says about its own numbers, where it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from real_robot.runtime.contract import UNKNOWN, Contract, Part
from robo_offline.export.leaves import FLAT

# Of robosuite's sensors, by the end of their names; the first that fits. What is relative to a
# hand has axes that differ from task to task, so nothing is said of it.
SENSORS = {
    "_joint_pos": ("rad", "joint"),
    "_joint_vel": ("rad/s", "joint"),
    "_gripper_qpos": ("m", "joint"),
    "_gripper_qvel": ("m/s", "joint"),
    "_eef_pos": ("m", "world"),
    "_eef_quat": ("quaternion xyzw", "world"),
    "_eef_quat_site": ("quaternion xyzw", "world"),
    "_pos": ("m", "world"),
    "_quat": ("quaternion xyzw", "world"),
}
RELATIVE = "_to_"
GRIPPER = ("closing: 1 closes, -1 opens", "gripper")


@dataclass(frozen=True)
class Told:
    """What an environment says; empty where it says nothing."""

    observation: dict[str, tuple[Part, ...]]
    action: tuple[Part, ...]
    mode: str
    rate_hz: float | None


def told(env: gymnasium.Env) -> Told:
    """Ask an environment about units, frames, the mode of its actions and its rate."""
    inner: Any = env.unwrapped
    if hasattr(inner, "contract"):  # a robot
        return _robot(inner.contract())
    if hasattr(getattr(inner, "simulation", None), "robots"):
        return _robosuite(inner)
    period = getattr(inner, "dt", None)  # of MuJoCo's in Gymnasium; a render rate is another thing
    return Told({}, (), UNKNOWN, 1 / period if period else None)


def _robot(offered: Contract) -> Told:
    parts = {leaf.key: leaf.parts for leaf in offered.observation}
    return Told(parts, offered.action.parts, offered.action.mode, offered.rate_hz)


def _robosuite(env: Any) -> Told:
    simulation = env.simulation
    values = simulation._get_observations(force_update=True)
    parts = [
        _sensor(name, int(np.size(values[name])))
        for key in env.observation_keys
        for name in _members(simulation, key, values)
    ]
    robot = simulation.robots[0]
    action: list[Part] = []
    modes = []
    for name, controller in robot.part_controllers.items():
        first, last = robot.composite_controller._action_split_indexes[name]
        if hasattr(controller, "input_ref_frame"):  # an arm moved in space
            modes.append(f"{controller.name} {controller.input_type}".lower())
        action += _controlled(name, controller, last - first)
    key = "state" if env.cameras else FLAT
    mode = ", ".join(modes) or UNKNOWN
    return Told({key: tuple(parts)}, tuple(action), mode, float(simulation.control_freq))


def _members(simulation: Any, key: str, values: Any) -> list[str]:
    """List the sensors behind a key: robosuite joins those of one kind under `KIND-state`."""
    if not key.endswith("-state"):
        return [key]
    kind = key.removesuffix("-state")
    sensors = simulation._observables.items()
    found = [name for name, sensor in sensors if sensor.modality == kind and name in values]
    same = sum(np.size(values[name]) for name in found) == np.size(values[key])
    return found if same else [key]


def _sensor(name: str, size: int) -> Part:
    known = next((said for end, said in SENSORS.items() if name.endswith(end)), None)
    units, frame = known if known and RELATIVE not in name else (UNKNOWN, UNKNOWN)
    return Part(name, size, units, frame, 1.0)


def _controlled(name: str, controller: Any, size: int) -> list[Part]:
    if "gripper" in name:
        return [Part(name, size, *GRIPPER, 1.0)]
    if getattr(controller, "name", "") != "OSC_POSE" or size != 6:
        return [Part(name, size, UNKNOWN, UNKNOWN, 1.0)]
    # Full deflection, 1.0, moves the goal by this much.
    reach = np.asarray(controller.output_max) / np.asarray(controller.input_max)
    frame = str(controller.input_ref_frame)
    return [
        Part(f"{name} position", 3, "m", frame, float(reach[0])),
        Part(f"{name} rotation vector", 3, "rad", frame, float(reach[3])),
    ]
