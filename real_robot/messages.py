"""What travels on the wire: MessagePack maps of numbers and short strings, strictly parsed.

MessagePack holds data and no code. Sizes are bounded before anything is built, keys must be exactly
those that are known, and numbers may be anything: whether they are finite is a stage's question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Any

import msgpack
import numpy as np

MAX_BYTES = 16_384
MAX_TARGETS = 64  # of one chunk
POSE = 7  # x, y, z in metres, then a quaternion with w first


class Mode(IntEnum):
    """How targets are given."""

    JOINT = 0  # (dof,) rad
    POSE = 1  # (7,)


class Source(IntEnum):
    """Who commands; a higher one takes the lease from a lower one."""

    POLICY = 0
    RESET = 1
    TELEOP = 2


class Malformed(ValueError):
    """The bytes are no message."""


@dataclass(frozen=True, slots=True)
class Command:
    """Where to go, and from what observation that was computed.

    Target i holds from `t_rel_ns[i]` after the robot's own stamp of observation `obs_seq` on, so no
    clocks need to agree. One that could not be begun within `valid_ns` of its time is late.
    """

    lease: int
    seq: int
    obs_seq: int
    source: Source
    mode: Mode
    targets: np.ndarray  # (k, dof) or (k, 7)
    gripper: np.ndarray  # (k,) 0 closed, 1 open
    t_rel_ns: tuple[int, ...]  # (k,) increasing
    valid_ns: int
    speed_scale: float  # in (0, 1]: share of the speed limits
    policy: str  # version of the weights
    descriptor: str  # hash of the robot that the sender believes it commands

    def encode(self) -> bytes:
        """Return the bytes to send."""
        return pack(
            {
                "type": "command",
                "lease": self.lease,
                "seq": self.seq,
                "obs_seq": self.obs_seq,
                "source": int(self.source),
                "mode": int(self.mode),
                "targets": np.asarray(self.targets, float).tolist(),
                "gripper": np.asarray(self.gripper, float).tolist(),
                "t_rel_ns": list(self.t_rel_ns),
                "valid_ns": self.valid_ns,
                "speed_scale": float(self.speed_scale),
                "policy": self.policy,
                "descriptor": self.descriptor,
            }
        )


def pack(message: Mapping[str, Any]) -> bytes:
    """Return a message's bytes."""
    return msgpack.packb(message, use_bin_type=True)


def unpack(raw: bytes) -> dict[str, Any]:
    """Return a message's map; Malformed for anything else. Never raises anything else."""
    if len(raw) > MAX_BYTES:
        raise Malformed(f"{len(raw)} bytes, {MAX_BYTES} are allowed")
    try:
        found = msgpack.unpackb(
            raw,
            raw=False,
            strict_map_key=True,
            max_str_len=256,
            max_bin_len=0,
            max_ext_len=0,
            max_array_len=MAX_TARGETS,
            max_map_len=32,
        )
    except Exception as error:  # what a parser raises on foreign bytes is an open list
        raise Malformed(f"not MessagePack: {type(error).__name__}") from None
    if not isinstance(found, dict) or not isinstance(found.get("type"), str):
        raise Malformed("a map with a type was expected")
    return found


_WHOLE = ("lease", "seq", "obs_seq", "source", "mode", "valid_ns")
_KEYS = {*_WHOLE, "type", "targets", "gripper", "t_rel_ns", "speed_scale", "policy", "descriptor"}


def command(message: Mapping[str, Any], dof: int) -> Command:
    """Build a command from a map; Malformed naming what is wrong with it."""
    if set(message) != _KEYS:
        odd = sorted(_KEYS ^ set(message), key=str)
        raise Malformed(f"keys: {', '.join(map(str, odd))[:200]}")
    for name in _WHOLE:
        if not _whole(message[name]):
            raise Malformed(f"{name} is not a whole number")
    for name in ("policy", "descriptor"):
        if not isinstance(message[name], str):
            raise Malformed(f"{name} is not a string")
    times = message["t_rel_ns"]
    if not isinstance(times, list) or not times or not all(map(_whole, times)):
        raise Malformed("t_rel_ns is not a list of whole numbers")
    if any(b <= a for a, b in pairwise(times)):
        raise Malformed("t_rel_ns does not increase")
    try:
        source, mode = Source(message["source"]), Mode(message["mode"])
    except ValueError as error:
        raise Malformed(str(error)) from None
    return Command(
        lease=message["lease"],
        seq=message["seq"],
        obs_seq=message["obs_seq"],
        source=source,
        mode=mode,
        targets=_numbers(message["targets"], (len(times), POSE if mode == Mode.POSE else dof)),
        gripper=_numbers(message["gripper"], (len(times),)),
        t_rel_ns=tuple(times),
        valid_ns=message["valid_ns"],
        speed_scale=float(_numbers(message["speed_scale"], ())),
        policy=message["policy"],
        descriptor=message["descriptor"],
    )


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _numbers(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    rows = value if shape else [value]
    flat = [x for row in rows for x in row] if len(shape) == 2 and _rows(rows) else rows
    if not isinstance(flat, list) or not all(type(x) in (int, float) for x in flat):
        raise Malformed("numbers were expected")
    if len(shape) == 2 and any(len(row) != shape[1] for row in rows):
        raise Malformed(f"rows of {shape[1]} numbers were expected")
    try:
        found = np.array(flat, dtype=np.float64)
        return found.reshape(shape)
    except (ValueError, OverflowError):
        raise Malformed(f"{shape} numbers were expected, not {len(flat)}") from None


def _rows(value: Any) -> bool:
    if not isinstance(value, list) or not all(isinstance(row, list) for row in value):
        raise Malformed("rows of numbers were expected")
    return True
