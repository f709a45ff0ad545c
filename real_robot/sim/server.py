"""The simulated arm's process: physics at real time, a few sockets, a clean end."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from real_robot.clock import MonotonicClock, ns
from real_robot.realtime import context_first
from real_robot.sim import wire
from real_robot.sim.arm import SimArm
from real_robot.sim.line import Trouble
from robo_offline.errors import UserError

PRIORITY = 40  # of the thread that sends: a real arm shares no processor with others
LOOPS_PER_TICK = 2  # so that a tick waits half of one at most
BEHIND_S = 0.05  # farther behind the clock than this, the arm's time waits instead of racing
TAKEN = 256  # messages of one socket in one loop

Reply = dict[str, Any]


class Server:
    """One simulated arm behind its sockets. `address` is ipc://PATH, for this user alone."""

    def __init__(self, arm: SimArm, address: str):
        self.arm = arm
        self.session = secrets.randbits(63)
        self.period_s = arm.descriptor.tick_ns / 1e9 / LOOPS_PER_TICK
        self.cleared = 0  # faults that were acknowledged
        self._paths = [Path((address + s).removeprefix("ipc://")) for s in (wire.REQUESTS, wire.STATES, wire.STOPS)]  # noqa: E501  # fmt: skip
        self._context = context_first(PRIORITY)
        try:
            self._open(address)
        except BaseException:
            self._context.destroy(0)
            raise

    def run(self, alive: Callable[[], bool]) -> None:
        """Run until `alive` says no."""
        clock, period_ns = MonotonicClock(), ns(self.period_s)
        due = clock.now_ns()
        try:
            while alive():
                self.serve()
                self.arm.step(self.period_s)
                self._states.send(self._state())
                due += period_ns
                late = clock.sleep_until_ns(due)
                if late > ns(BEHIND_S):
                    due += late
        finally:
            self.close()

    def serve(self) -> None:
        """Do what was asked for since the last time."""
        for _ in range(TAKEN):  # stops first
            if not self._take(self._stops, _STOPS):
                break
        for _ in range(TAKEN):
            if not self._take(self._requests, _REQUESTS):
                break

    def close(self) -> None:
        """Let go of the sockets and their files."""
        self._context.destroy(0)
        for path in self._paths:
            path.unlink(missing_ok=True)

    def _open(self, address: str) -> None:
        if not address.startswith("ipc://"):
            raise UserError("a simulated arm listens on this machine", expected="ipc://PATH", found=address)  # noqa: E501  # fmt: skip
        folder = self._paths[0].parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._requests = self._context.socket(zmq.ROUTER)
        self._states = self._context.socket(zmq.PUB)
        self._stops = self._context.socket(zmq.ROUTER)
        self._states.sndhwm = 8
        for socket, suffix in (
            (self._requests, wire.REQUESTS), (self._states, wire.STATES), (self._stops, wire.STOPS)
        ):  # fmt: skip
            socket.linger = 0
            socket.maxmsgsize = wire.MAX_BYTES
            try:
                socket.bind(address + suffix)
            except zmq.ZMQError as error:
                raise UserError("the simulated arm cannot listen", where=address + suffix, found=error) from None  # noqa: E501  # fmt: skip

    def _state(self) -> bytes:
        return wire.packed_state(self.arm.read(), self.session, self.cleared)

    def _take(self, socket: zmq.Socket, known: Mapping[str, Callable[..., None]]) -> bool:
        """Do one message and answer it; say whether there was one."""
        try:
            parts = socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return False
        if len(parts) != 3:
            return True
        sender, number, raw = parts
        try:
            message = wire.unpack(raw)
            what = message.pop("do", None)
            if what == "tick" and known is _REQUESTS:
                self._tick(message)  # never answered: nobody waits
                return True
            if what not in known:
                raise wire.Garbled(f"there is no request {str(what)[:40]!r}")
            known[what](self.arm, **message)
            self.cleared += what == "clear_fault"
            reply: Reply = {"ok": True, "cleared": self.cleared}
        except (wire.Garbled, UserError, TypeError, ValueError, ArithmeticError) as error:
            reply = {"ok": False, "why": str(error)[:400]}
        with contextlib.suppress(zmq.ZMQError):  # whoever asked has gone
            socket.send_multipart([sender, number, wire.pack(reply)], zmq.NOBLOCK)
        return True

    def _tick(self, message: Mapping[str, Any]) -> None:
        # A tick that was meant for an earlier life of the simulation moves nothing in this one.
        if message.get("session") != self.session:
            return
        try:
            self.arm.write(wire.unpacked_tick(message, self.arm.descriptor.dof))
        except wire.Garbled:
            self.arm.protective_stop()


def orphaned(parent: int) -> bool:
    """Say whether the process that started this one is gone."""
    return os.getppid() != parent


def _trouble(arm: SimArm, latency_s: float, jitter_s: float, dropped: float) -> None:
    numbers = np.array([latency_s, jitter_s, dropped], float)
    if not ((numbers >= 0) & (numbers <= [10, 10, 1])).all():
        raise UserError("trouble is 0 to 10 s, 0 to 10 s and a share", found=numbers.tolist())
    arm.trouble(Trouble(*numbers.tolist()))


def _wall(arm: SimArm, position: list[float] | None, normal: list[float]) -> None:
    where = None if position is None else np.array(position, float).reshape(3)
    arm.scene.wall(where, np.array(normal, float).reshape(3))


def _press(arm: SimArm, pressed: bool) -> None:
    arm.press(bool(pressed))


def _emergency(arm: SimArm) -> None:
    arm.lock("stopped from outside")


_STOPS: Mapping[str, Callable[..., None]] = {"stop": _emergency}
_REQUESTS: Mapping[str, Callable[..., None]] = {
    "controlled_stop": SimArm.controlled_stop,
    "protective_stop": SimArm.protective_stop,
    "clear_fault": SimArm.clear_fault,
    "trouble": _trouble,
    "wall": _wall,
    "press": _press,
    "reset": SimArm.reset,
    "rearrange": SimArm.rearrange,
}
