"""UR arms (CB3, e-Series) through `ur_rtde`: servoj, with the controller's own watchdog on.

The library lives in a process of its own (`ur_process`), so that neither its waiting nor its
crashes reach the daemon. When the daemon dies that process stops the arm; when both are stopped or
cut off, the controller ends the program after 0.1 s without a packet.

An arm that is lost stays lost: robotd is started again. A stop of the arm itself is a fault, which
`clear_fault` unlocks after the operator asked for it.
"""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time

import numpy as np

from real_robot.descriptor import RobotDescriptor
from real_robot.driver import DriverCommand, DriverLost, DriverState
from real_robot.drivers import ur_process as protocol
from real_robot.drivers.aside import Aside
from real_robot.drivers.gate import Gate
from real_robot.drivers.recovery import Recovery
from real_robot.drivers.ur_dashboard import Dashboard, check_ready, emergency_stop
from real_robot.drivers.ur_process import Sample
from robo_offline.errors import UserError

__all__ = ["Driver", "emergency_stop"]

RUNNING = 7  # robot mode
PLAYING = 2  # runtime state
ESTOP = 1 << 5 | 1 << 6 | 1 << 7  # of the system, of the robot, of either
STOPS = {
    1 << 2: "protective stop",
    1 << 3: "recovery mode",
    1 << 4: "safeguard stop",
    1 << 8: "a safety limit is violated",
    1 << 9: "a fault of the safety system",
    1 << 10: "stopped due to safety",
}
REMOTE_S = 0.5  # how often remote control is asked for: the packages do not tell
PROTECT_S = 0.1  # without an answer to a protective stop, the dashboard is asked


def judged(sample: Sample) -> tuple[str, bool]:
    """Return why the arm has stopped by itself, if it has, and whether by an emergency stop."""
    why = [text for bit, text in STOPS.items() if sample.safety & bit]
    if sample.robot_mode != RUNNING:
        why.append(f"robot mode {sample.robot_mode}, {RUNNING} is running")
    elif sample.runtime != PLAYING:
        why.append("the program has stopped")
    return ", ".join(why), bool(sample.safety & ESTOP)


class Driver:
    """One UR arm at an address. Connecting ends no program of others: it refuses."""

    def __init__(self, descriptor: RobotDescriptor, address: str):
        self.descriptor, self.address = descriptor, address
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._aside: Aside | None = None
        self._dashboard: Dashboard | None = None
        self._sample: Sample | None = None
        self._gate = Gate()
        self._lost = ""
        self._ready = False  # the library's program runs
        self._wrote = False
        self._answers: dict[bytes, bool] = {}
        self._recovery = Recovery()
        self._problem = ""
        self._remote = True

    def connect(self, timeout_s: float) -> None:
        if self._link is not None:
            raise UserError("this driver is connected already", where=self.address)
        if importlib.util.find_spec("rtde_control") is None:
            raise UserError(
                "ur_rtde is not installed, UR arms are reached through it",
                remedy="pip install 'robo-offline[ur]'",
            )
        until = time.monotonic() + timeout_s
        check_ready(self.address, timeout_s)
        self._start()
        try:
            # The first states are from before the program began.
            while self._sample is None or not self._ready or judged(self._sample)[0]:
                self._listen()
                if time.monotonic() > until:
                    why = judged(self._sample)[0] if self._sample else "there is no state of it"
                    raise DriverLost(f"{why}, after {timeout_s:g} s")
                time.sleep(0.002)
        except DriverLost as error:
            if self._process is not None:
                self._process.kill()  # it may wait for the controller for ever
            self.close()
            raise UserError(
                "the UR arm does not answer as it should", where=self.address, found=error
            ) from None
        self._aside = Aside("ur aside", self._ask_remote, REMOTE_S)

    def read(self) -> DriverState:
        self._listen()
        sample = self._sample
        assert sample is not None
        if self._aside is not None and self._aside.failed:
            raise DriverLost(self._aside.failed)
        if not self._wrote:
            self._send(protocol.KICK)  # nothing is commanded: the watchdog must know it is meant
        self._wrote = False
        why, estop = judged(sample)
        local = "" if self._remote else "the arm is in local control"
        fault = self._recovery.heard(", ".join(filter(None, [why, self._problem, local])))
        if fault or estop:
            self._gate.close()
        return DriverState(
            q=np.array(sample.q),
            dq=np.array(sample.dq),
            device_time_ns=round(sample.time_s * 1e9),
            wrench=np.array(sample.wrench),
            fault=fault,
            estop=estop,
        )

    def write(self, command: DriverCommand) -> None:
        self._listen()
        assert self._sample is not None
        self._gate.admit(command, np.array(self._sample.q))
        if self._recovery.running:
            if command.dq.any():
                raise DriverLost("the program is not running yet")
            return  # the arm stands where it is told to be
        self._wrote = True
        self._send(protocol.SERVO + protocol.TARGET.pack(*command.q))

    def controlled_stop(self) -> None:
        self._gate.close()
        self._listen()
        self._send(protocol.STOP)

    def protective_stop(self) -> None:
        """Trigger the controller's protective stop, the dashboard's where that is not answered."""
        self._gate.close()
        if self._aside is None:
            raise DriverLost("not connected")
        self._answers.pop(protocol.PROTECT, None)
        try:
            self._send(protocol.PROTECT)
        except DriverLost:
            self._aside.do(self._stop_by_dashboard)
            raise
        asked = time.monotonic()
        self._aside.do(lambda: self._see_protected(asked))

    def clear_fault(self) -> None:
        """Unlock a protective stop and run the program again; nothing moves by that."""
        self._listen()
        if self._aside is None:
            raise DriverLost("not connected")
        self._gate.close()
        self._problem = ""
        self._recovery.begin()
        self._aside.do(self._resume)

    def close(self) -> None:
        if self._aside is not None:
            self._aside.close(3.0)
        if self._dashboard is not None:
            self._dashboard.close()
        if self._link is not None:
            self._link.close()  # which ends the process, after a stop
        if self._process is not None:
            try:
                self._process.wait(1.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._aside = self._dashboard = self._link = self._process = None
        self._gate.close()

    # ---- the library's process ------------------------------------------------------------------

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        hz = self.descriptor.timing.servo_hz
        self._process = subprocess.Popen(
            [sys.executable, "-m", protocol.__name__, self.address, str(hz), str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C is robotd's, which stops the arm first
        )
        theirs.close()
        self._link, self._lost, self._sample, self._ready = ours, "", None, False
        self._problem, self._remote = "", True

    def _listen(self) -> None:
        """Take in what the process has sent; DriverLost where it has ended."""
        while self._link is not None and not self._lost:
            try:
                packet = self._link.recv(4096)
            except BlockingIOError:
                return
            except OSError as error:
                packet, self._lost = b"", str(error)
            what, data = packet[:1], packet[1:]
            if what == protocol.STATE:
                self._sample = Sample.unpack(data)
            elif what == protocol.READY:
                self._ready = True
            elif what == protocol.DONE:
                self._answered(data[:1], data[1:] == b"\1")
            elif what == protocol.FAILED:
                self._lost = data.decode(errors="replace")
            else:
                self._lost = self._lost or "the client library's process has ended"
        raise DriverLost(self._lost or "not connected")

    def _answered(self, what: bytes, well: bool) -> None:
        self._answers[what] = well
        if what == protocol.RESUME:
            self._resumed("" if well else "the program does not run again")
        elif what == protocol.SERVO and not self._recovery.running:
            self._problem = "servoj was not taken"

    def _resumed(self, problem: str) -> None:
        self._problem = problem
        (self._recovery.failed if problem else self._recovery.done)()

    def _send(self, packet: bytes) -> None:
        if self._link is None:
            raise DriverLost("not connected")
        try:
            self._link.send(packet)
        except BlockingIOError:
            raise DriverLost("the client library's process does not take commands") from None
        except OSError as error:
            raise DriverLost(f"the client library's process is gone: {error}") from None

    # ---- the dashboard, aside of the servo thread -----------------------------------------------

    def _ask_remote(self) -> None:
        try:
            if self._dashboard is None:
                self._dashboard = Dashboard(self.address)
            self._remote = self._dashboard.say("is in remote control") != "false"
        except DriverLost:  # asked again later: the state and its age tell what is lost
            if self._dashboard is not None:
                self._dashboard.close()
            self._dashboard = None

    def _resume(self) -> None:
        try:
            with Dashboard(self.address) as dashboard:
                dashboard.say("close safety popup")
                if self._sample is not None and self._sample.safety & 1 << 2:
                    answer = dashboard.say("unlock protective stop")
                    if "cannot" in answer.lower():
                        raise DriverLost(answer)
                self._remote = dashboard.say("is in remote control") != "false"
            self._send(protocol.RESUME)
        except DriverLost as error:
            self._resumed(f"not cleared: {error}")

    def _see_protected(self, asked: float) -> None:
        while time.monotonic() < asked + PROTECT_S:
            if protocol.PROTECT in self._answers:
                return
            time.sleep(0.005)
        self._stop_by_dashboard()

    def _stop_by_dashboard(self) -> None:
        try:
            emergency_stop(self.address)
        except DriverLost as error:
            self._problem = str(error)
