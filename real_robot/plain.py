"""A state of the arm as numbers, strings and lists, to the bit: for wires and snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from real_robot.driver import DriverState


def state_to_plain(state: DriverState) -> dict[str, Any]:
    """Return a map that MessagePack and JSON can hold."""
    return {
        "q": np.asarray(state.q, float).tolist(),
        "dq": np.asarray(state.dq, float).tolist(),
        "device_ns": int(state.device_time_ns),
        "gripper": float(state.gripper),
        "wrench": None if state.wrench is None else np.asarray(state.wrench, float).tolist(),
        "fault": state.fault,
        "estop": bool(state.estop),
        "extra": {name: np.asarray(x, float).tolist() for name, x in state.extra.items()},
    }


def state_from_plain(data: Mapping[str, Any]) -> DriverState:
    """Build a state from its map. KeyError, TypeError, ValueError or ArithmeticError for others."""
    return DriverState(
        q=np.array(data["q"], float),
        dq=np.array(data["dq"], float),
        device_time_ns=int(data["device_ns"]),
        gripper=float(data["gripper"]),
        wrench=None if data["wrench"] is None else np.array(data["wrench"], float),
        fault=str(data["fault"]),
        estop=bool(data["estop"]),
        extra={str(name): np.array(x, float) for name, x in dict(data["extra"]).items()},
    )
