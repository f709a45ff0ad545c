"""What travels between the simulated arm's process and its driver: MessagePack maps over ZeroMQ.

One socket takes ticks and requests in the order in which they were sent, one tells the state
(newest only), and one of its own takes stops, so that robotwatch needs nothing of robotd's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

from real_robot.driver import DriverCommand, DriverState
from real_robot.plain import state_from_plain, state_to_plain

MAX_BYTES = 65_536
REQUESTS, STATES, STOPS = "", ".state", ".stop"  # added to the address


class Garbled(ValueError):
    """The bytes are no message of this wire."""


def pack(message: Mapping[str, Any]) -> bytes:
    """Return a message's bytes."""
    return msgpack.packb(message)


def unpack(raw: bytes) -> dict[str, Any]:
    """Return a message's map; Garbled for anything else."""
    try:
        if len(raw) > MAX_BYTES:
            raise ValueError(f"{len(raw)} bytes")
        found = msgpack.unpackb(raw, max_ext_len=0)
        if not isinstance(found, dict):
            raise ValueError("a map was expected")
    except Exception as error:  # what a parser raises on foreign bytes is an open list
        raise Garbled(str(error)[:200]) from None
    return found


def packed_state(state: DriverState, session: int, cleared: int) -> bytes:
    """Return the bytes of a state.

    `session` is the life of the simulation that it belongs to, `cleared` how often a fault has been
    acknowledged in it.
    """
    return pack(state_to_plain(state) | {"session": session, "cleared": cleared})


def unpacked_state(raw: bytes) -> tuple[DriverState, int, int]:
    """Return a state, its session, and how often faults were acknowledged; or Garbled."""
    found = unpack(raw)
    try:
        state = state_from_plain(found)
        return state, int(found["session"]), int(found["cleared"])
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise Garbled(f"{type(error).__name__}: {error}") from None


def packed_tick(command: DriverCommand, session: int) -> bytes:
    """Return the bytes of a tick for one life of the simulation."""
    return pack(
        {
            "do": "tick",
            "session": session,
            "q": command.q.tolist(),
            "dq": command.dq.tolist(),
            "gripper": float(command.gripper),
        }
    )


def unpacked_tick(message: Mapping[str, Any], dof: int) -> DriverCommand:
    """Build a tick from its map; Garbled where it is none."""
    try:
        q, dq = np.array(message["q"], float), np.array(message["dq"], float)
        found = DriverCommand(q, dq, float(message["gripper"]))
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise Garbled(f"{type(error).__name__}: {error}") from None
    if q.shape != (dof,) or dq.shape != (dof,):
        raise Garbled(f"{dof} joints were expected")
    return found
