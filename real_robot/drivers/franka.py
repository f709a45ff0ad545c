"""Franka arms (FR3, system 5.9 and later) through `franky`: joint impedance, streamed references.

The vendor's 1 kHz loop runs in the library's own thread and follows the newest reference; it does
not mind when none comes, so that the daemon and robotwatch must. What may wait (looking while
nothing is commanded, starting, stopping, the gripper) is done by threads of its own, so that no
tick waits for a network that is gone: the library notices a dead peer after a second only.

A reflex ends the motion and stays until `clear_fault`. An arm that is lost stays lost: robotd is
started again.
"""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np

from real_robot.descriptor import RobotDescriptor
from real_robot.driver import DriverCommand, DriverLost, DriverState
from real_robot.drivers.aside import Aside
from real_robot.drivers.franka_hand import Hand
from real_robot.drivers.gate import Gate
from real_robot.drivers.recovery import Recovery
from robo_offline.errors import UserError

PORT = 1337  # of the FCI
LOOK_S = 0.001
HELD_S = 0.5  # longest that taking hold of the arm may take
# Nm/rad and Nms/rad of libfranka's own joint impedance example: stiff enough that the arm is
# within 0.02 rad of its reference, soft enough to give way.
STIFFNESS = (600.0, 600.0, 600.0, 600.0, 250.0, 150.0, 50.0)
DAMPING = (50.0, 50.0, 50.0, 50.0, 30.0, 25.0, 15.0)


def emergency_stop(address: str) -> None:
    """Say that there is no second way: an FCI arm is stopped by ending robotd.

    Only the process that holds the FCI connection can command the arm. When that process ends, its
    sockets close and the controller stops the arm by itself, within its own limits; so robotwatch
    kills robotd. Raises DriverLost, always: nothing was sent.
    """
    raise DriverLost(
        f"the arm at {address} has no stop from outside of its connection: end robotd, and the "
        "controller stops the arm"
    )


def judged(mode: str, errors: str) -> tuple[str, bool]:
    """Return why the arm has stopped by itself, if it has, and whether by a person's button.

    `mode` is the name of the robot's mode, `errors` the list that the library prints.
    """
    why = [] if errors in ("", "[]") else [errors.strip("[]")]
    if mode == "Reflex" and not why:
        why.append("reflex")
    return ", ".join(why), mode == "UserStopped"


class Driver:
    """One Franka arm at an address, with its hand where the robot's file says so."""

    def __init__(self, descriptor: RobotDescriptor, address: str):
        self.descriptor, self.address = descriptor, address
        self._robot: Any = None
        self._motion: Any = None  # that follows references
        self._look: Aside | None = None  # reads states
        self._work: Aside | None = None  # starts, stops, recovers
        self._hand: Hand | None = None
        self._state: DriverState | None = None
        self._gate = Gate()
        self._recovery = Recovery()
        self._taken_s = 0.0  # since when the arm is to be held
        self._problem = self._lost = ""

    def connect(self, timeout_s: float) -> None:
        if self._look is not None:
            raise UserError("this driver is connected already", where=self.address)
        if importlib.util.find_spec("franky") is None:
            raise UserError(
                "franky is not installed, Franka arms are reached through it",
                remedy="pip install 'robo-offline[franka]'",
            )
        until = time.monotonic() + timeout_s
        try:  # first without the library, which may wait for minutes
            socket.create_connection((self.address, PORT), timeout_s).close()
        except OSError as error:
            raise UserError(
                "no Franka controller answers",
                where=f"{self.address}:{PORT}",
                found=error,
                remedy="check address and cable, and that FCI is activated in Desk",
            ) from None
        self._lost = self._problem = ""
        self._look = Aside("franka look", self._see, LOOK_S)
        self._work = Aside("franka work")
        self._work.do(self._open)
        while self._state is None:
            if self._lost or time.monotonic() > until:
                found = self._lost or f"no state of the arm within {timeout_s:g} s"
                self.close()
                raise UserError(
                    "the Franka arm does not answer as it should",
                    where=self.address,
                    found=found,
                    remedy="unlock the joints and activate FCI in Desk; end other programs",
                )
            time.sleep(0.002)
        if self.descriptor.has_gripper:
            try:
                self._hand = Hand(self.address, max(until - time.monotonic(), 0.01))
            except DriverLost as error:
                self.close()
                raise UserError("the hand does not answer", where=self.address, found=error) from None  # noqa: E501  # fmt: skip

    def read(self) -> DriverState:
        state, hand = self._state, self._hand
        if state is None or self._look is None or self._work is None:
            raise DriverLost("not connected")
        if lost := self._lost or self._look.failed or self._work.failed:
            raise DriverLost(lost)
        why = [state.fault, self._problem, hand.problem if hand is not None else ""]
        if self._taken_s and time.monotonic() - self._taken_s > HELD_S:
            why.append("the arm could not be taken hold of")
        fault = self._recovery.heard(", ".join(filter(None, why)))
        if fault or state.estop:
            self._gate.close()
        return DriverState(
            q=state.q,
            dq=state.dq,
            device_time_ns=state.device_time_ns,
            gripper=hand.opening if hand is not None else 0.0,
            wrench=state.wrench,
            fault=fault,
            estop=state.estop,
        )

    def write(self, command: DriverCommand) -> None:
        if self._state is None or self._work is None:
            raise DriverLost(self._lost or "not connected")
        if self._gate.admit(command, self._state.q):
            self._taken_s = time.monotonic()
            self._work.do(lambda: self._take(command))
        elif self._motion is not None:
            # Until the arm is held it stands where the first tick was; a motion is a few ms behind.
            self._motion.set_reference(self._reference(command))
        if self._hand is not None:
            self._hand.wanted(command.gripper)

    def controlled_stop(self) -> None:
        self._end(self._let_go)

    def protective_stop(self) -> None:
        self._end(self._stop)

    def clear_fault(self) -> None:
        """Run the vendor's error recovery, which releases a reflex; nothing moves by that."""
        if self._work is None:
            raise DriverLost("not connected")
        self._gate.close()
        self._problem, self._taken_s = "", 0.0
        self._recovery.begin()
        self._work.do(self._recover)

    def close(self) -> None:
        if self._hand is not None:
            self._hand.close()
        for thread, last in ((self._look, None), (self._work, self._stop)):
            if thread is not None:
                if last is not None and self._motion is not None:
                    thread.do(last)
                thread.close(2.0)  # a look at a dead peer takes the library a second
        self._robot = self._look = self._work = self._hand = self._state = None
        self._motion = None
        self._gate.close()

    # ---- in threads of their own ----------------------------------------------------------------

    def _open(self) -> None:
        import franky

        # On a kernel that is real-time, its guarantees are asked for; elsewhere the arm itself
        # stops where packets come late.
        fast = Path("/sys/kernel/realtime").exists()
        config = franky.RealtimeConfig.Enforce if fast else franky.RealtimeConfig.Ignore
        try:
            self._robot = franky.Robot(self.address, realtime_config=config)
        except Exception as error:
            self._lost = str(error)

    def _see(self) -> None:
        robot = self._robot
        if robot is None or self._lost:
            return
        try:
            found = robot.state
            motion = self._motion
            if motion is not None and not robot.is_in_control:
                self._ended(robot, motion)
        except Exception as error:  # also what the network library below raises
            self._lost = str(error)
            return
        fault, estop = judged(found.robot_mode.name, str(found.current_errors))
        self._state = DriverState(
            q=np.array(found.q),
            dq=np.array(found.dq),
            device_time_ns=found.time.to_msec() * 1_000_000,
            wrench=np.array(found.O_F_ext_hat_K),
            fault=fault,
            estop=estop,
        )

    def _ended(self, robot: Any, motion: Any) -> None:
        """Say why a motion is over that nobody has ended."""
        try:
            robot.poll_motion()
            why = "the arm has ended the motion"
        except Exception as error:
            why = str(error)
        if self._motion is motion:
            self._motion, self._problem = None, why

    def _take(self, command: DriverCommand) -> None:
        import franky

        motion = franky.JointImpedanceTrackingMotion(
            stiffness=np.array(STIFFNESS), damping=np.array(DAMPING)
        )
        motion.set_reference(self._reference(command))
        with contextlib.suppress(Exception):  # how the one before ended is known
            self._robot.join_motion(HELD_S)  # of a stop that is not over yet
        try:
            self._robot.move(motion, asynchronous=True)
        except Exception as error:
            self._problem = str(error)
            return
        self._motion, self._taken_s = motion, 0.0

    def _end(self, how: Any) -> None:
        self._gate.close()
        if self._work is None:
            raise DriverLost("not connected")
        self._taken_s = 0.0
        self._work.do(how)

    def _let_go(self) -> None:
        import franky

        motion, self._motion = self._motion, None
        if motion is None:
            return
        try:  # from the last torque to damping alone; the arm's own controller holds it after that
            self._robot.move(franky.TorqueStopMotion(), asynchronous=True)
        except Exception as error:
            self._problem = str(error)

    def _stop(self) -> None:
        self._motion = None
        try:
            self._robot.stop()
        except Exception as error:
            self._problem = f"the stop was not taken: {error}"

    def _recover(self) -> None:
        try:
            self._robot.recover_from_errors()
            self._recovery.done()
        except Exception as error:
            self._problem = f"not recovered: {error}"
            self._recovery.failed()

    @staticmethod
    def _reference(command: DriverCommand) -> Any:
        import franky

        return franky.JointReference(q=command.q, dq=command.dq)
