"""What may be asked of the daemon besides motion, and by whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from real_robot.driver import DriverLost
from real_robot.machine import State
from real_robot.messages import Source
from real_robot.safety.motion import rest

if TYPE_CHECKING:
    from real_robot.daemon import Daemon


class Role(Enum):
    """What a key is for."""

    OPERATOR = "operator"  # arms, resets, stops; and may teleoperate
    POLICY = "policy"
    TELEOP = "teleop"
    VIEWER = "viewer"


@dataclass(frozen=True, slots=True)
class Peer:
    """Who sent a message, by the key that the connection proved."""

    key: str
    role: Role

    def may_command(self, source: Source) -> bool:
        """Say whether this role may send commands with that label.

        An actor passes on what a person does at its side, so a policy's key may say so.
        """
        labels = {
            Role.OPERATOR: (Source.RESET, Source.TELEOP),
            Role.POLICY: tuple(Source),
            Role.TELEOP: (Source.TELEOP,),
            Role.VIEWER: (),
        }
        return source in labels[self.role]

    def may_lead(self, source: Source) -> bool:
        """Say whether this role may ask for the lease with that rank: a policy has no person's."""
        return self.may_command(source) and (self.role, source) != (Role.POLICY, Source.TELEOP)


def answer(daemon: Daemon, peer: Peer, message: Mapping[str, Any], now: int) -> dict[str, Any]:
    """Do what a message asks, where its sender may; return the reply."""
    kind = message["type"]
    if kind not in _REQUESTS:
        return {"ok": False, "why": f"no request '{kind[:40]}'"}
    roles, keys, work = _REQUESTS[kind]
    if peer.role not in roles:
        return {"ok": False, "why": f"a {peer.role.value}'s key may not {kind}"}
    if set(message) != {"type", *keys}:
        return {"ok": False, "why": f"{kind} takes {sorted(keys) or 'nothing else'}"}
    if any(not isinstance(message[k], kind_) or isinstance(message[k], bool) for k, kind_ in keys.items()):  # noqa: E501  # fmt: skip
        return {"ok": False, "why": f"{kind} takes {sorted(keys)} of other types"}
    found = work(daemon, peer, message, now)
    if isinstance(found, str):
        return {"ok": False, "why": found}
    return {"ok": True, **found}


def _lease(daemon: Daemon, peer: Peer, message: Mapping[str, Any], now: int) -> Any:
    try:
        source = Source(message["source"])
    except ValueError:
        return "no such source"
    if not peer.may_lead(source):
        return f"a {peer.role.value}'s key may not act as {source.name.lower()}"
    if daemon.machine.state not in (State.ARMED, State.ACTIVE, State.HOLD):
        return f"the robot is {daemon.machine.state.value}, not armed"
    why = daemon.lease.take(peer.key, source, now)
    if why:
        return why
    daemon.following = daemon.waiting = None  # nobody drives on with another's targets
    daemon.commanded_ns = now  # from here on the watchdog counts
    daemon.refusals.clear()
    return {"lease": daemon.lease.number, "ttl_ns": daemon.lease.ttl_ns}


def _release(daemon: Daemon, peer: Peer, message: Mapping[str, Any], now: int) -> Any:
    if daemon.lease.of(peer.key, now) is None:
        return "you do not hold the lease"
    if not daemon.setpoint.resting:
        return "the arm moves: hold first"
    daemon.lease.revoke()
    daemon.following = daemon.waiting = None
    if daemon.machine.state in (State.ACTIVE, State.HOLD):
        daemon.machine.state = State.ARMED  # waits for a commander, without a watchdog
    return {}


def _hold(daemon: Daemon, peer: Peer, message: Mapping[str, Any], now: int) -> Any:
    """Come to rest and stay, with the lease kept alive: for a commander that has nothing to do."""
    if daemon.lease.of(peer.key, now) is None:
        return "you do not hold the lease"
    daemon.following = daemon.waiting = None
    daemon.lease.renew(now)
    daemon.commanded_ns = now
    return {"resting": daemon.setpoint.resting}


def _stop(daemon: Daemon, peer: Peer, message: Mapping[str, Any], now: int) -> Any:
    daemon.stop(f"asked for by {peer.role.value}")
    return {"stop_id": daemon.machine.stop_id}


def _estop(daemon: Daemon, peer: Peer, message: Mapping[str, Any], now: int) -> Any:
    daemon.stop(f"emergency stop by {peer.role.value}", State.ESTOP)
    return {"stop_id": daemon.machine.stop_id}


def _operator(daemon: Daemon, peer: Peer, message: Mapping[str, Any], now: int) -> Any:
    daemon.operator_ns = now
    return {}


def _reset(daemon: Daemon, peer: Peer, message: Mapping[str, Any], now: int) -> Any:
    if not daemon.standing():
        return "the arm moves, or its state is old"
    if (state := daemon.measured) is not None and state.estop:
        return "the arm's emergency stop is still pressed"
    was = daemon.machine.state
    why = daemon.machine.reset(message["stop_id"])
    if why:
        return why
    if was is not State.STOPPED:  # the arm was stopped by a protective stop of its own
        try:
            daemon.driver.clear_fault()
        except DriverLost as error:
            daemon.stop(f"the fault is not cleared: {error}", State.FAULT)
            return daemon.machine.stop_reason
    daemon.lease.revoke()
    daemon.device_ns = -1
    return {}


def _arm(daemon: Daemon, peer: Peer, message: Mapping[str, Any], now: int) -> Any:
    if daemon.machine.state is not State.IDLE:
        return f"only an idle robot can be armed, this one is {daemon.machine.state.value}"
    if message["descriptor"] != daemon.hash:
        return "this is another robot, or its limits are others, than you believe"
    if not daemon.standing():
        return "the arm moves, or its state is old"
    if not daemon.within_limits():
        return "the arm is outside of its limits: move it by hand"
    assert daemon.measured is not None
    daemon.setpoint, daemon.gripper = rest(daemon.measured.q), float(np.clip(daemon.measured.gripper, 0, 1))  # noqa: E501  # fmt: skip
    daemon.operator_ns = now
    daemon.lease.revoke()
    daemon.machine.state = State.ARMED
    return {}


def _disarm(daemon: Daemon, peer: Peer, message: Mapping[str, Any], now: int) -> Any:
    if daemon.machine.state is not State.ARMED:
        return f"only an armed robot at rest can be disarmed, this one is {daemon.machine.state.value}"  # noqa: E501  # fmt: skip
    daemon.machine.state = State.IDLE
    try:
        daemon.driver.controlled_stop()
    except DriverLost as error:
        daemon.stop(f"the arm is lost: {error}", State.FAULT)
        return daemon.machine.stop_reason
    return {}


def _status(daemon: Daemon, peer: Peer, message: Mapping[str, Any], now: int) -> Any:
    from real_robot.descriptor import dump

    return {"state": daemon.machine.state.value, "descriptor": dump(daemon.robot), "hash": daemon.hash}  # noqa: E501  # fmt: skip


_Request = tuple[frozenset[Role], Mapping[str, type], Callable[..., Any]]
_ALL = frozenset(Role)
_COMMANDERS = frozenset({Role.OPERATOR, Role.POLICY, Role.TELEOP})
_OPERATOR = frozenset({Role.OPERATOR})
_REQUESTS: Mapping[str, _Request] = {
    "lease": (_COMMANDERS, {"source": int}, _lease),
    "release": (_COMMANDERS, {}, _release),
    "hold": (_COMMANDERS, {}, _hold),
    "stop": (_COMMANDERS, {}, _stop),  # whoever sees danger may stop ...
    "estop": (_COMMANDERS, {}, _estop),
    "operator": (_OPERATOR, {}, _operator),
    "reset": (_OPERATOR, {"stop_id": int}, _reset),  # ... and only one starts again
    "arm": (_OPERATOR, {"descriptor": str}, _arm),
    "disarm": (_OPERATOR, {}, _disarm),
    "status": (_ALL, {}, _status),
}
