"""The fake UR controller's arm: joints, safety, the running program and the dashboard's words."""

from __future__ import annotations

import math
import time
from typing import Any

# The controller's brakes and stops, rad/s^2: a program's end, a protective stop, the brakes.
PROGRAM_END, PROTECTIVE, BRAKES = 4.0, 20.0, 200.0
V_MAX = math.pi
REALTIME = {6, 9, 10, 11, 24, 99}  # commands that the script does not answer with "done"
SERVOJ, SERVO_STOP, PROTECTIVE_STOP, STOPJ, WATCHDOG, END = 11, 16, 31, 34, 35, 255


class Arm:
    """What a person or a test may set is a plain attribute."""

    def __init__(self, q: list[float]):
        self.q, self.v = list(q), [0.0] * 6
        self.wrench = [0.0] * 6
        self.protective = False  # stop
        self.estop = False
        self.safeguard = False
        self.remote = True  # control
        self.deaf = False  # to what is written over RTDE
        self.obeys = True  # the dashboard
        self.robot_mode = 7  # running
        self.patience = 1.0  # of the watchdog; where client and arm share a busy machine, more
        self.unlock_after_s = 5.0  # the real one refuses before
        self.unlocks = self.programs = 0  # how often
        self.foreign = False  # somebody else's program runs
        self.began = time.monotonic()
        self._protected_at = 0.0
        self._program = False
        self._script_state = 0  # output_int_register_0
        self._busy = False
        self._target: list[float] | None = None  # of servoj
        self._lookahead_s, self._braking = 0.1, PROGRAM_END
        self._watchdog_s, self._silent_s = math.inf, 0.0

    @property
    def script_state(self) -> int:
        return self._script_state

    @property
    def program(self) -> bool:
        """Whether the control script runs; setting it False ends it."""
        return self._program

    @program.setter
    def program(self, on: bool) -> None:
        self._program = on
        self._target, self._braking = None, PROGRAM_END
        self._script_state = int(on)
        self._watchdog_s = math.inf

    def run(self, script: str) -> None:
        """Run a script that came over the network, where the arm can."""
        if self._stopped() or not self.remote or "rtde_control" not in script:
            return
        self.program = True
        self.programs += 1
        self._busy = False

    def command(self, number: int, x: list[float]) -> None:
        """Do what the control script does when its command register is written."""
        self._silent_s = 0.0
        if not self._program:
            return
        if number == 0:
            self._busy, self._script_state = False, 1
        elif number in REALTIME:
            self._script_state = 1
            if number == SERVOJ:
                self._target, self._lookahead_s = x[:6], x[9]
        elif not self._busy:
            self._busy, self._script_state = True, 2
            if number in (SERVO_STOP, STOPJ):
                # In metres of the tool, or in radians: at an arm's length they are alike.
                self._target, self._braking = None, x[0]
                self._script_state = 0  # until it stands
            elif number == PROTECTIVE_STOP:
                self.protective = True
            elif number == WATCHDOG:
                self._watchdog_s = 1 / x[0]
            elif number == END:
                self.program = False

    def step(self, dt: float) -> None:
        """Let time pass."""
        if self._stopped() and self._program:
            self.program = False
        if self.protective and not self._protected_at:
            self._protected_at = time.monotonic()
        self._silent_s += min(dt, 0.02)  # a controller runs on time; this process may not
        if self._silent_s > self._watchdog_s * self.patience:
            self.program = False
        braking = BRAKES if self.estop else PROTECTIVE if self._stopped() else self._braking
        for i in range(6):
            if self._target is not None:
                # servoj comes closer by a share of the way that its lookahead time sets.
                share = 1 - math.exp(-dt / (self._lookahead_s / 2))
                wanted = (self._target[i] - self.q[i]) * share / max(dt, 1e-6)
                self.v[i] = min(max(wanted, -V_MAX), V_MAX)
            else:
                slower = max(abs(self.v[i]) - braking * dt, 0.0)
                self.v[i] = math.copysign(slower, self.v[i])
            self.q[i] += self.v[i] * dt
        if self._busy and self._script_state == 0 and not any(self.v):
            self._script_state = 2

    def _stopped(self) -> bool:
        return self.protective or self.estop or self.safeguard or self.robot_mode != 7

    def state(self) -> dict[str, Any]:
        """Return the RTDE fields, and what else a test may want to know."""
        bits = 1 << 2 if self.protective else 0
        bits |= (1 << 4 | 1 << 10) if self.safeguard else 0
        bits |= (1 << 6 | 1 << 7) if self.estop else 0
        mode = 7 if self.estop else 5 if self.safeguard else 3 if self.protective else 1
        running = self._program or self.foreign
        return {
            "timestamp": time.monotonic() - self.began,
            "actual_q": list(self.q),
            "actual_qd": list(self.v),
            "actual_TCP_force": list(self.wrench),
            "robot_mode": self.robot_mode,
            "safety_mode": mode,
            "runtime_state": 2 if running else 1,
            "robot_status_bits": 1 | (2 if running else 0),
            "safety_status_bits": bits or 1,
            "programs": self.programs,
            "unlocks": self.unlocks,
            "servoing": self._target is not None,
        }

    def dashboard(self, line: str) -> str:
        """Return the dashboard's answer."""
        running = self._program or self.foreign
        if not self.obeys and line in ("stop", "power off"):
            return f"Failed to execute: {line}"
        if line == "stop":
            self.program, self.foreign = False, False
            return "Stopped"
        if line == "power off":
            self.program, self.robot_mode = False, 3
            return "Powering off"
        if line == "unlock protective stop":
            if time.monotonic() - self._protected_at < self.unlock_after_s:
                return "Cannot unlock protective stop until 5s after occurrence."
            self.unlocks += self.protective
            self.protective, self._protected_at = False, 0.0
            return "Protective stop releasing"
        safety = self.state()["safety_mode"]
        names = {1: "NORMAL", 3: "PROTECTIVE_STOP", 5: "SAFEGUARD_STOP", 7: "ROBOT_EMERGENCY_STOP"}
        mode = "RUNNING" if self.robot_mode == 7 else "POWER_OFF"
        answers = {
            "PolyscopeVersion": "URSoftware 5.11.0.108249 (Feb 01 2022)",
            "get serial number": "20225500001",
            "is in remote control": str(self.remote).lower(),
            "running": f"Program running: {str(running).lower()}",
            "robotmode": f"Robotmode: {mode}",
            "safetystatus": f"Safetystatus: {names[safety]}",
            "close safety popup": "closing safety popup",
            "close popup": "closing popup",
        }
        return answers.get(line, f"could not understand: '{line}'")
