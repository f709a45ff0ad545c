"""The daemon's whole state as numbers, strings and lists: what a later tick depends on, to the bit.

A restored daemon that is given the same times, states and messages decides the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from real_robot.daemon import Daemon, Following
from real_robot.descriptor import Box, Limits, RobotDescriptor, dump, parse
from real_robot.machine import State
from real_robot.messages import Source
from real_robot.plain import state_from_plain, state_to_plain
from real_robot.safety.motion import Setpoint

# What is copied as it is.
SAME = (
    "watched", "attended", "gripper", "seq", "device_ns", "fresh_ns", "commanded_ns", "operator_ns",
    "watcher_ns", "misses", "braked", "braking_s", "unanswered_ns",
)  # fmt: skip


def snapshot(daemon: Daemon) -> dict[str, Any]:
    """Return everything of a daemon that its next tick depends on."""
    machine, lease, stamps = daemon.machine, daemon.lease, daemon.stamps
    return {
        **{name: getattr(daemon, name) for name in SAME},
        "robot": dump(daemon.robot),
        "now_ns": daemon.clock.now_ns(),
        "limits": _plain(daemon.limits, daemon.robot),
        "machine": [machine.state.value, machine.stop_id, machine.stop_reason, machine.stop_ns],
        "lease": [lease.number, lease.holder, int(lease.source), lease.expires_ns, lease.last_seq],
        "setpoint": [x.tolist() for x in (daemon.setpoint.q, daemon.setpoint.v, daemon.setpoint.a)],
        "following": _chunk(daemon.following),
        "waiting": _chunk(daemon.waiting),
        "applied": dict(daemon.applied),
        "measured": None if daemon.measured is None else state_to_plain(daemon.measured),
        # Their numbers follow each other.
        "stamps": [stamps[0][0] if stamps else 0, [moment for _, moment in stamps]],
        "refusals": list(daemon.refusals),
        "counts": dict(daemon.counts),
    }


def robot_of(data: Mapping[str, Any]) -> RobotDescriptor:
    """Return the robot of a snapshot."""
    return parse(data["robot"], "snapshot")


def restore(daemon: Daemon, data: Mapping[str, Any]) -> None:
    """Bring a daemon of the same robot into the state of a snapshot. Its clock is not touched."""
    for name in SAME:
        setattr(daemon, name, data[name])
    daemon.limits = _limits(data["limits"], daemon.robot)
    m, lease = daemon.machine, daemon.lease
    state, m.stop_id, m.stop_reason, m.stop_ns = data["machine"]
    m.state = State(state)
    lease.number, lease.holder, source, lease.expires_ns, lease.last_seq = data["lease"]
    lease.source = Source(source)
    daemon.setpoint = Setpoint(*(np.array(x, float) for x in data["setpoint"]))
    daemon.following, daemon.waiting = _following(data["following"]), _following(data["waiting"])
    daemon.applied = dict(data["applied"])
    measured = data["measured"]
    daemon.measured = None if measured is None else state_from_plain(measured)
    first, moments = data["stamps"]
    daemon.stamps.clear()
    daemon.stamps.extend((first + i, moment) for i, moment in enumerate(moments))
    daemon.refusals.clear()
    daemon.refusals.extend(data["refusals"])
    daemon.counts = dict(data["counts"])


def _chunk(following: Following | None) -> dict[str, Any] | None:
    if following is None:
        return None
    return {
        "seq": following.seq,
        "q": following.q.tolist(),
        "gripper": following.gripper.tolist(),
        "begins_ns": list(following.begins_ns),
        "ends_ns": following.ends_ns,
        "scale": following.scale,
        "reason": following.reason,
    }


def _following(data: Mapping[str, Any] | None) -> Following | None:
    if data is None:
        return None
    return Following(
        seq=data["seq"],
        q=np.array(data["q"], float),
        gripper=np.array(data["gripper"], float),
        begins_ns=tuple(data["begins_ns"]),
        ends_ns=data["ends_ns"],
        scale=data["scale"],
        reason=data["reason"],
    )


def _plain(limits: Limits, robot: RobotDescriptor) -> Any:
    """Return limits in the form of a robot's file, None where they are the robot's own."""
    if limits is robot.limits:
        return None
    return {f.name: _listed(getattr(limits, f.name)) for f in fields(limits)}


def _limits(data: Any, robot: RobotDescriptor) -> Limits:
    if data is None:
        return robot.limits
    found: dict[str, Any] = {
        name: tuple(x) if isinstance(x, list) else x for name, x in data.items()
    }
    found["box_m"] = _box(data["box_m"])
    found["keepouts_m"] = tuple(_box(box) for box in data["keepouts_m"])
    return Limits(**found)


def _listed(value: Any) -> Any:
    if isinstance(value, Box):
        return [list(value.low_m), list(value.high_m)]
    return [_listed(x) for x in value] if isinstance(value, tuple) else value


def _box(data: Any) -> Box:
    low, high = data
    return Box(tuple(low), tuple(high))
