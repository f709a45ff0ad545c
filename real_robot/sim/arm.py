"""A simulated arm that is stepped by hand: the driver of tests on a virtual clock, and the inside
of the process that runs at real time."""

from __future__ import annotations

import numpy as np

from envs.graphics import mujoco
from real_robot.clock import ns
from real_robot.descriptor import RobotDescriptor
from real_robot.driver import DriverCommand, DriverState
from real_robot.sim.line import Line, Trouble
from real_robot.sim.scene import Scene
from real_robot.sim.servo import Mode, Servo

HOLD_AFTER_S = 0.1
STIFFNESS_HZ = 8.0  # of the joints about their aim, critically damped
BRAKES_S = 0.02  # time constant of the brakes on the motors
STILL_RAD_S = 0.02


class SimArm:
    """A `RobotDriver` whose time passes in `step`."""

    def __init__(
        self,
        robot: RobotDescriptor,
        scene: Scene,
        *,
        hold_after_s: float = HOLD_AFTER_S,
        seed: int = 0,
    ):
        self.descriptor, self.scene = robot, scene
        self.servo = Servo(robot, hold_after_s)
        self.estop = False
        self.now_ns = 0  # the arm's own clock
        random = np.random.default_rng(seed)
        self.ticks: Line[DriverCommand] = Line(random)
        self.states: Line[DriverState] = Line(random)
        self._left_ns = 0  # of time that was asked for and is shorter than a step
        self.begin(scene.measured()[0])

    def begin(self, q: np.ndarray) -> None:
        """Stand at `q` (dof,) with the gripper as it is."""
        self.scene.place(q)
        self.scene.grip(self.scene.opening())
        self.servo.stand(q)
        self.ticks.clear()
        self._wrench = np.zeros(6)
        self.state = self._now()

    def step(self, dt_s: float) -> None:
        """Let time pass."""
        scene, step_s = self.scene, self.scene.model.opt.timestep
        step_ns = ns(step_s)
        steps, self._left_ns = divmod(self._left_ns + ns(dt_s), step_ns)
        for i in range(steps):
            if (command := self.ticks.take(self.now_ns)) is not None:
                self._follow(command)
            self.servo.step(self.now_ns, step_s)
            scene.drive(self._acceleration())
            mujoco.mj_step2(scene.model, scene.data)
            self.now_ns += step_ns
            if i == steps - 1 and self.descriptor.has_wrench:
                self._wrench = scene.wrench()
            mujoco.mj_step1(scene.model, scene.data)
        self.states.put(self._now(), self.now_ns)

    def trouble(self, trouble: Trouble) -> None:
        """Make the connection bad, or good again. States are late like ticks, and never dropped."""
        self.ticks.trouble = trouble
        self.states.trouble = Trouble(trouble.latency_s, trouble.jitter_s)

    def lock(self, why: str) -> None:
        """Put the brakes on, and say why."""
        self.ticks.clear()
        self.servo.lock(self.scene.measured()[0], why)

    def press(self, pressed: bool) -> None:
        """Press the emergency stop's button, or let go of it."""
        self.estop = pressed
        if pressed:
            self.lock("emergency stop")

    def reset(self, seed: int) -> None:
        """Begin another episode of the scene's task. The arm is put where it begins, too."""
        self.scene.reset(seed)
        self.begin(self.scene.measured()[0])

    def rearrange(self, seed: int) -> None:
        """Put the things of the scene's task elsewhere; the arm stays."""
        self.scene.rearrange(seed)

    # ---- a driver -------------------------------------------------------------------------------

    def connect(self, timeout_s: float) -> None:
        """There is nothing to open."""

    def read(self) -> DriverState:
        """Return the newest state that has arrived."""
        self.state = self.states.take(self.now_ns) or self.state
        return self.state

    def write(self, command: DriverCommand) -> None:
        """Send a tick."""
        self.ticks.put(command, self.now_ns)

    def controlled_stop(self) -> None:
        """Come to a stand along the way, and take new ticks from there."""
        self.ticks.clear()
        self.servo.brake()

    def protective_stop(self) -> None:
        """Put the brakes on."""
        self.lock("protective stop")

    def clear_fault(self) -> None:
        """Let go of the brakes, unless the emergency stop is pressed."""
        self.ticks.clear()
        if not self.estop:
            self.servo.clear(self.scene.measured()[0])
            # What is under way still speaks of the fault.
            self.states.clear()
            self.state = self._now()

    def close(self) -> None:
        """There is nothing to let go of."""

    # ---- inside ---------------------------------------------------------------------------------

    def _follow(self, command: DriverCommand) -> None:
        self.servo.follow(command, self.now_ns)
        if self.servo.mode is Mode.FOLLOWING:
            self.scene.grip(float(np.clip(command.gripper, 0, 1)))

    def _acceleration(self) -> np.ndarray:
        """Return what the joints are to be accelerated by, rad/s^2."""
        servo, (q, dq) = self.servo, self.scene.measured()
        if servo.mode is Mode.LOCKED and np.abs(dq).max() > STILL_RAD_S:
            servo.q = q  # brakes hold where they come to a stand, not where they were put on
            return -dq / BRAKES_S
        stiff = 2 * np.pi * STIFFNESS_HZ
        return stiff**2 * (servo.q - q) + 2 * stiff * (servo.v - dq)

    def _now(self) -> DriverState:
        q, dq = self.scene.measured()
        return DriverState(
            q=q,
            dq=dq,
            device_time_ns=self.now_ns,
            gripper=self.scene.opening() if self.descriptor.has_gripper else 0.0,
            wrench=self._wrench.copy() if self.descriptor.has_wrench else None,
            fault=self.servo.fault,
            estop=self.estop,
            extra=self.scene.extra(),
        )
