"""What a robot is and what it may do: one file per robot, and every limit in it.

The file's hash travels with every command, so that nobody commands a robot that they think is
another. At run time limits can be tightened and never loosened.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from robo_offline.errors import UserError, nearest

Vector = tuple[float, ...]
ROBOTS = Path(__file__).with_name("robots")


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-parallel box in the base frame."""

    low_m: Vector
    high_m: Vector


@dataclass(frozen=True, slots=True)
class Limits:
    """Everything that a motion must respect. Joint by joint where it is a vector."""

    q_min_rad: Vector
    q_max_rad: Vector
    q_margin_rad: float  # kept from both ends
    v_max_rad_s: Vector
    a_max_rad_s2: Vector
    j_max_rad_s3: Vector
    step_max_rad: Vector  # farthest that a target may be from where the arm is told to be now
    following_max_rad: float  # farthest that the arm may be from where it is told to be
    tcp_v_max_m_s: float
    box_m: Box  # the tool's centre point stays in it ...
    keepouts_m: tuple[Box, ...]  # ... and out of these
    force_max_n: float  # of the measured wrench, where there is one
    torque_max_nm: float
    gripper_v_max_s: float  # share of its way per second

    def tightened(self, other: Limits) -> Limits:
        """Return `other`; UserError naming what is looser in it than here."""
        looser = [name for name in _NAMES if not _tighter(name, self, other)]
        if looser:
            raise UserError(
                "limits can only be tightened at run time",
                expected=", ".join(f"{name} within {_shown(self, name)}" for name in looser),
                found=", ".join(f"{name} {_shown(other, name)}" for name in looser),
                remedy="loosen them in the robot's file, with the robot stopped",
            )
        return other

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the vectors over joints as arrays, lower and upper ends with their margin."""
        return {
            "low": np.array(self.q_min_rad) + self.q_margin_rad,
            "high": np.array(self.q_max_rad) - self.q_margin_rad,
            "v": np.array(self.v_max_rad_s),
            "a": np.array(self.a_max_rad_s2),
            "j": np.array(self.j_max_rad_s3),
        }

    def stop_bound_s(self, faster: Sequence[float] | np.ndarray = ()) -> float:
        """Return the longest time to a stop from the highest speeds, or from `faster` ones."""
        x = self.arrays()
        v = np.maximum(x["v"], np.abs(faster)) if len(faster) else x["v"]
        return float((v / x["a"] + 2 * x["a"] / x["j"]).max())


@dataclass(frozen=True, slots=True)
class Joint:
    """A revolute joint: where its frame is in the one before, and what it turns about."""

    name: str
    xyz_m: Vector
    wxyz: Vector
    axis: Vector


@dataclass(frozen=True, slots=True)
class Timing:
    """When something is too old, and who must be alive."""

    servo_hz: float
    command_timeout_s: float  # without an accepted command the arm stops, and the stop latches
    state_timeout_s: float  # without a new state of the arm likewise
    observation_max_age_s: float  # of what a command was computed from
    lease_s: float
    operator_timeout_s: float  # of the operator's console
    watcher_timeout_s: float  # of robotwatch


@dataclass(frozen=True, slots=True)
class RobotDescriptor:
    """A robot as the rest of the package knows it."""

    name: str
    driver: str  # module under real_robot.drivers
    joints: tuple[Joint, ...]
    tool_xyz_m: Vector
    tool_wxyz: Vector
    home_rad: Vector
    has_gripper: bool
    has_wrench: bool
    timing: Timing
    limits: Limits

    @property
    def dof(self) -> int:
        return len(self.joints)

    @property
    def tick_ns(self) -> int:
        return round(1e9 / self.timing.servo_hz)

    @property
    def hash(self) -> str:
        """Return the SHA-256 of the canonical file: the identity of the robot and its limits."""
        return hashlib.sha256(dump(self).encode()).hexdigest()

    @property
    def stop_bound_s(self) -> float:
        """Return the longest time that a stop from the highest speed takes, with one tick."""
        return self.limits.stop_bound_s() + self.tick_ns / 1e9


def load(name_or_path: str | Path) -> RobotDescriptor:
    """Read a robot's file, or one that is shipped by its name. Raises UserError."""
    path = Path(name_or_path)
    if path.suffix != ".json":
        path = ROBOTS / f"{name_or_path}.json"
        if not path.exists():
            known = [found.stem for found in ROBOTS.glob("*.json")]
            raise UserError(
                f"there is no robot '{name_or_path}'", remedy=nearest(str(name_or_path), known)
            )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("the robot's file cannot be read", where=path, found=error) from None
    return parse(text, str(path))


def parse(text: str, where: str = "robot") -> RobotDescriptor:
    """Build a descriptor from JSON; every key must be there, and none that is not known."""
    try:
        data = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise UserError("the robot's file is not JSON", where=where, found=error) from None
    found: RobotDescriptor = _build(RobotDescriptor, data, where)
    _check(found, where)
    return found


def dump(descriptor: RobotDescriptor) -> str:
    """Return the canonical JSON."""
    return json.dumps(_plain(descriptor), sort_keys=True, separators=(",", ":"), allow_nan=False)


def with_limits(descriptor: RobotDescriptor, **limits: Any) -> RobotDescriptor:
    """Return the robot with tighter limits; UserError where one is looser."""
    return replace(
        descriptor, limits=descriptor.limits.tightened(replace(descriptor.limits, **limits))
    )


_NAMES = tuple(f.name for f in fields(Limits))


def _tighter(name: str, now: Limits, then: Limits) -> bool:
    a, b = getattr(now, name), getattr(then, name)
    if name == "box_m":
        return _inside(b, a)
    if name == "keepouts_m":  # each of the present ones is covered by one of the new
        return all(any(_inside(old, new) for new in b) for old in a)
    low = name in ("q_min_rad", "q_margin_rad")
    first, second = np.atleast_1d(a), np.atleast_1d(b)
    if first.shape != second.shape:
        return False
    return bool(((second >= first) if low else (second <= first)).all())


def _inside(inner: Box, outer: Box) -> bool:
    return all(
        o <= i for o, i in zip(outer.low_m, inner.low_m, strict=True)
    ) and all(i <= o for i, o in zip(inner.high_m, outer.high_m, strict=True))  # fmt: skip


def _shown(limits: Limits, name: str) -> str:
    return json.dumps(_plain(getattr(limits, name)))


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number that a limit can have")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ValueError(f"twice: {', '.join(sorted({k for k in keys if keys.count(k) > 1}))}")
    return dict(pairs)


_NESTED = {"Joint": Joint, "Timing": Timing, "Limits": Limits, "Box": Box}


def _build(kind: type, data: Any, where: str) -> Any:
    names = [f.name for f in fields(kind)]
    if not isinstance(data, dict):
        raise UserError("a table was expected", where=where, expected=names, found=data)
    missing, unknown = set(names) - set(data), set(data) - set(names)
    if missing or unknown:
        raise UserError(
            "the robot's file has other keys than it should",
            where=where,
            expected=f"also {sorted(missing)}" if missing else "no others",
            found=f"{sorted(unknown)}" if unknown else "none of them",
            remedy="units are part of the names: rad, m, s, n, nm",
        )
    return kind(**{f.name: _value(str(f.type), data[f.name], f"{where}: {f.name}") for f in fields(kind)})  # noqa: E501  # fmt: skip


def _value(kind: str, data: Any, where: str) -> Any:
    if kind in _NESTED:
        return _build(_NESTED[kind], data, where)
    if kind.startswith("tuple["):
        inner = _NESTED[kind.removeprefix("tuple[").split(",")[0]]
        if not isinstance(data, list):
            raise UserError("a list was expected", where=where, found=data)
        return tuple(_build(inner, item, f"{where}[{i}]") for i, item in enumerate(data))
    if kind == "Vector":
        if not isinstance(data, list) or not all(_number(item) for item in data):
            raise UserError("a list of numbers was expected", where=where, found=data)
        return tuple(float(item) for item in data)
    if kind == "float":
        if not _number(data):
            raise UserError("a number was expected", where=where, found=data)
        return float(data)
    if not isinstance(data, {"str": str, "bool": bool}[kind]):
        raise UserError(f"{kind} was expected", where=where, found=data)
    return data


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check(robot: RobotDescriptor, where: str) -> None:
    """Refuse what no robot can be; values in degrees are the commonest."""

    def refuse(what: str, found: object, remedy: str = "") -> None:
        raise UserError(what, where=where, found=found, remedy=remedy or None)

    limits, dof = robot.limits, robot.dof
    if not dof or not robot.name.replace("_", "").isalnum() or not robot.driver.isidentifier():
        refuse("a robot has a plain name, a driver and joints", (robot.name, robot.driver, dof))
    for name in ("q_min_rad", "q_max_rad", "v_max_rad_s", "a_max_rad_s2", "j_max_rad_s3", "step_max_rad"):  # noqa: E501  # fmt: skip
        if len(getattr(limits, name)) != dof:
            refuse(f"{name} must have {dof} values, one per joint", getattr(limits, name))
    for name in ("v_max_rad_s", "a_max_rad_s2", "j_max_rad_s3", "step_max_rad"):
        if min(getattr(limits, name)) <= 0:
            refuse(f"{name} must be positive", getattr(limits, name))
    for name in ("following_max_rad", "tcp_v_max_m_s", "force_max_n", "torque_max_nm", "gripper_v_max_s"):  # noqa: E501  # fmt: skip
        if getattr(limits, name) <= 0:
            refuse(f"{name} must be positive", getattr(limits, name))
    x = limits.arrays()
    degrees = "angles are in radians, here some look like degrees"
    if max(map(abs, limits.q_min_rad + limits.q_max_rad)) > 4 * math.pi + 1e-9:
        refuse(degrees, (limits.q_min_rad, limits.q_max_rad))
    if max(limits.v_max_rad_s) > 8 * math.pi or max(limits.step_max_rad) > math.pi:
        refuse(degrees, (limits.v_max_rad_s, limits.step_max_rad))
    if limits.q_margin_rad < 0 or not (x["low"] < x["high"]).all():
        refuse("the joints have no room between q_min, q_max and their margin", _plain(limits))
    if limits.tcp_v_max_m_s > 2.0:
        refuse("tcp_v_max_m_s is in metres per second and at most 2", limits.tcp_v_max_m_s)
    if (
        len(robot.home_rad) != dof
        or not ((x["low"] <= robot.home_rad) & (np.array(robot.home_rad) <= x["high"])).all()
    ):
        refuse("home_rad must lie within the joints' limits", robot.home_rad)
    for box in (limits.box_m, *limits.keepouts_m):
        if len(box.low_m) != 3 or len(box.high_m) != 3 or not all(
            low < high for low, high in zip(box.low_m, box.high_m, strict=True)
        ):  # fmt: skip
            refuse("a box is two corners of three metres, the lower one first", _plain(box))
        if max(map(abs, box.low_m + box.high_m)) > 10:
            refuse("a box lies within 10 m: are these millimetres?", _plain(box))
    for what, vector, length in [("tool_xyz_m", robot.tool_xyz_m, 3), ("tool_wxyz", robot.tool_wxyz, 4)]:  # noqa: E501  # fmt: skip
        if len(vector) != length:
            refuse(f"{what} must have {length} values", vector)
    for joint in robot.joints:
        if (len(joint.xyz_m), len(joint.wxyz), len(joint.axis)) != (3, 4, 3):
            refuse("a joint has xyz_m, wxyz and an axis", joint)
    for vector in [robot.tool_wxyz, *(v for j in robot.joints for v in (j.wxyz, j.axis))]:
        if abs(math.hypot(*vector) - 1) > 1e-6:
            refuse("quaternions (w first) and axes have length 1", vector)
    t = robot.timing
    if not 20 <= t.servo_hz <= 1000:
        refuse("servo_hz lies between 20 and 1000", t.servo_hz)
    for f in fields(t):
        if f.name != "servo_hz" and not 0.004 <= getattr(t, f.name) <= 60:
            refuse(f"{f.name} lies between 0.004 and 60 s", getattr(t, f.name))
