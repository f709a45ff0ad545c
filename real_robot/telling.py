"""What the daemon tells everybody who may look, once per tick."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from real_robot.daemon import Daemon, Tick
from real_robot.kinematics import quaternion


def published(daemon: Daemon, tick: Tick) -> dict[str, Any]:
    """Return the state message of a tick: plain numbers, lists and short strings."""
    found: dict[str, Any] = {
        "type": "state",
        "seq": tick.seq,
        "stamp_ns": tick.now_ns,
        "robot": daemon.robot.name,
        "descriptor": daemon.hash,
        "state": tick.state.value,
        "stop_id": daemon.machine.stop_id,
        "stop_reason": daemon.machine.stop_reason,
        "late_ns": tick.late_ns,
        "motion": int(tick.motion),
        "applied_seq": daemon.applied["seq"],
        "applied_index": daemon.applied["index"],
        "applied_reason": daemon.applied["reason"],
        "applied_q": daemon.applied["q"],
        "source": int(daemon.lease.source) if daemon.lease.valid(tick.now_ns) else -1,
        "counts": dict(daemon.counts),
        "q_set": tick.setpoint.q.tolist(),
        "gripper_set": daemon.gripper,
    }
    if tick.measured is None:
        return found
    position, rotation = daemon.chain.tool(np.stack([tick.measured.q, tick.setpoint.q]))
    tool, tool_set = ([*position[i].tolist(), *quaternion(rotation[i]).tolist()] for i in range(2))
    wrench = tick.measured.wrench
    return found | {
        "q": tick.measured.q.tolist(),
        "dq": tick.measured.dq.tolist(),
        "gripper": float(tick.measured.gripper),
        "device_ns": tick.measured.device_time_ns,
        "tool": tool,
        "tool_set": tool_set,
        "wrench": None if wrench is None else wrench.tolist(),
        "extra": _lists(tick.measured.extra),
    }


def _lists(extra: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    return {name: np.asarray(value, float).ravel().tolist() for name, value in extra.items()}
