"""A robot as a Gymnasium environment: the phases that train in simulation train on it unchanged.

A step sends one command, computed from the observation that the policy saw, waits for the next tick
of an absolute schedule and reads what the arm is. `terminated` is success or failure and nothing
else; the time limit and a safety stop truncate. `info` says what was asked for, what was executed
and who acted: what is stored as an action is what the arm did.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict

from real_robot.actions import ActionMap
from real_robot.cameras.camera import StaleFrame
from real_robot.clock import Clock, MonotonicClock, ns
from real_robot.descriptor import RobotDescriptor
from real_robot.link import KEEP_S, Link, Pilot, StaleState
from real_robot.messages import Mode, Source
from real_robot.person import Person
from real_robot.teleop.intervention import Who
from real_robot.verdict import REFUSING, Reason
from robo_offline.errors import UserError

OWN, HUMAN = 1, 2  # who acted, as a replay stores it
MOVING = ("armed", "active", "hold")


class Outcome(Protocol):
    """Judges a state: success classifier, button, or a rule."""

    def __call__(self, state: Mapping[str, Any], observation: Any) -> tuple[float, bool, bool]:
        """Return the reward, whether it succeeded, and whether it failed for good."""


class Reset(Protocol):
    """Brings the arm and its scene to the beginning of an episode."""

    def __call__(self, env: RealRobotEnv, random: np.random.Generator) -> None: ...


class RealRobotEnv(gymnasium.Env):
    """An arm behind robotd.

    The observation is a float32 vector of `keys` of the published state (its `extra` included), or
    with cameras a dict of that vector as `state` and upright uint8 (3, H, W) images.
    """

    metadata = {"render_modes": []}

    def __init__(
        self,
        link: Link,
        robot: RobotDescriptor,
        actions: ActionMap,
        outcome: Outcome,
        reset: Reset,
        *,
        keys: Sequence[str] = ("q", "dq", "tool", "gripper"),
        cameras: Mapping[str, Any] | None = None,
        task: Mapping[str, np.ndarray] | None = None,
        person: Person | None = None,
        rate_hz: float = 20.0,
        horizon: int = 200,
        clock: Clock | None = None,
        policy: str = "policy",
        keep_s: float | None = KEEP_S,
    ):
        self.link, self.robot, self.actions = link, robot, actions
        self.outcome, self.bring, self.person = outcome, reset, person
        self.keys, self.cameras = tuple(keys), dict(cameras or {})
        self.rate_hz, self.horizon = rate_hz, horizon
        self.clock: Clock = MonotonicClock() if clock is None else clock
        self.period_ns = ns(1 / rate_hz)
        if self.period_ns > ns(robot.timing.command_timeout_s):
            raise UserError(
                "the policy is slower than the robot's watchdog allows",
                expected=f"at least {1 / robot.timing.command_timeout_s:.3g} actions per second",
                found=f"{rate_hz:g}",
                remedy="raise rate_hz, or command_timeout_s in the robot's file",
            )
        self.pilot = Pilot(link, robot, Source.POLICY, policy, keep_s)
        self.speed_scale = 1.0  # share of the robot's speed limits
        self.task = dict(task or {})  # what the task adds to what can be observed
        self.state = self._newest()
        self._check_keys()
        self.action_space = Box(-1.0, 1.0, (actions.size,), np.float32)
        vector = Box(-np.inf, np.inf, self._vector().shape, np.float32)
        images = {
            name: Box(0, 255, (3, c.spec.height, c.spec.width), np.uint8)
            for name, c in self.cameras.items()
        }
        self.observation_space = Dict({"state": vector, **images}) if images else vector
        self._steps = 0
        self._next_ns = self._began_ns = 0
        self._images: dict[str, np.ndarray] = {}
        self.lateness_ns: list[int] = []  # of every step of the episode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Bring the robot to the start; UserError where a person has to reset it first."""
        super().reset(seed=seed)
        self.pilot.take()
        self._next_ns = self.clock.now_ns()
        self.bring(self, self.np_random)
        self.state = self._newest()
        observation = self._observe()
        if self.person is not None:
            self.person.begin()
        self.pilot.pause()  # a learner may come first, for seconds
        self._steps, self._next_ns = 0, self.clock.now_ns()
        self.lateness_ns = []
        return observation, {"success": False}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Execute one action, clipped to [-1, 1], for one period."""
        asked = np.clip(np.asarray(action, np.float64), -1, 1)
        if not np.isfinite(asked).all():
            raise ValueError(f"an action is not finite: {action}")
        if self._steps == 0:  # the arm has stood here since the reset, however long that is ago
            with contextlib.suppress(StaleState):  # told after this step, where it is still so
                self.state = self._newest()
            self._next_ns = self.clock.now_ns()
        acted, human = asked, False
        if self.person is not None:
            done = self.person.act(asked, self.state)
            acted, human = np.clip(done.action, -1, 1), done.source is Who.TELEOP
            if done.stop:
                self.link.request({"type": "stop"})
        before = self.state
        seq = self.drive(acted, Source.TELEOP if human else Source.POLICY)
        late = self._wait()
        stopped = ""
        try:
            self.state = self._newest()
            observation = self._observe()
        except (StaleState, StaleFrame) as stale:  # robotd itself, or a camera
            stopped, observation = str(stale), self._observe(stale=True)
        if self.state["state"] not in MOVING:
            stopped = self.state["stop_reason"] or self.state["state"]
        executed = self._executed(seq, acted, before)
        reward, success, failure = self.outcome(self.state, observation)
        if stopped and success:
            # Truncated it bootstraps: reward on top would add up to more than the task gives.
            reward = 0.0
        self._steps += 1
        terminated = bool(success or failure) and not stopped
        truncated = (bool(stopped) or self._steps >= self.horizon) and not terminated
        info = {
            "success": bool(success) and not stopped,
            "executed": executed.astype(np.float32),
            "requested": asked.astype(np.float32),
            "source": HUMAN if human else OWN,
            "reason": int(self.state["applied_reason"]),
            "late_ns": late,
            "obs_seq": before["seq"],
            "stop": stopped,
        }
        if terminated or truncated:
            self._rest(stopped)
        return observation, float(reward), terminated, truncated, info

    def drive(self, action: np.ndarray, source: Source = Source.POLICY) -> int:
        """Send what an action means in the present state; return the command's number."""
        target, gripper = self.actions.target(action, self.state)
        return self.pilot.command(
            target[None],
            np.array([gripper]),
            self.state["seq"],
            (0,),
            # One period to reach the daemon, one to be followed, and half a one for being late.
            round(2.5 * self.period_ns),
            self.actions.mode,
            source,
            self.speed_scale,
        )

    def go(self, q: np.ndarray, gripper: float, timeout_s: float, near_rad: float = 0.01) -> None:
        """Move to angles (dof,) as a reset does. Raises UserError where the arm does not arrive."""
        ends = self.clock.now_ns() + ns(timeout_s)
        while True:
            self.state = self._newest()
            left = np.abs(np.array(self.state["q"]) - q).max()
            still = np.abs(np.array(self.state["dq"])).max() < near_rad
            if left < near_rad and still:
                return
            if self.clock.now_ns() > ends or self.state["state"] not in MOVING:
                raise UserError(
                    "the robot did not come back to where an episode begins",
                    expected=f"within {near_rad} rad after {timeout_s:g} s",
                    found=f"{left:.3f} rad away, {self.state['state']} {self.state['stop_reason']}",
                    remedy="look at the robot; acknowledge the stop and arm it at the console",
                )
            times, valid = (0,), round(2.5 * self.period_ns)
            opening = np.array([gripper])
            seq = self.state["seq"]
            self.pilot.command(q[None], opening, seq, times, valid, Mode.JOINT, Source.RESET)
            self.wait()

    def wait(self) -> None:
        """Let one period pass and read the state: for resets."""
        self.tick()
        self.state = self._newest()

    def contract(self) -> Any:
        """Return what this robot offers a policy, unit by unit (`real_robot.runtime.Contract`)."""
        from real_robot.contract import contract_of

        return contract_of(self)

    def look(self) -> Any:
        """Read the state and observe, commanding nothing."""
        self.state = self._newest()
        return self._observe()

    def tick(self) -> int:
        """Let one period pass, commanding nothing; return how late it was in ns."""
        self._next_ns = max(self._next_ns, self.clock.now_ns() - self.period_ns)
        return self._wait()

    def executed_by_others(self, before: Mapping[str, Any]) -> np.ndarray:
        """Return the action that would have done what somebody else commanded since `before`."""
        q = np.array(self.state["applied_q"])
        return self.actions.executed(q, float(self.state["gripper_set"]), before)

    def measured_rate(self) -> float:
        """Return the actions per second that this episode really had."""
        span = (self.clock.now_ns() - self._began_ns) / 1e9 if self._steps else 0.0
        return self._steps / span if span > 0 else 0.0

    def close(self) -> None:
        """Let go of the lease and the cameras."""
        self.pilot.close()
        for camera in self.cameras.values():
            camera.close()

    def _wait(self) -> int:
        """Sleep to the next tick of the schedule; a tick that is over is skipped, not made up."""
        if self._steps == 0:
            self._began_ns = self._next_ns
        self._next_ns += self.period_ns
        late = self.clock.sleep_until_ns(self._next_ns)
        if late > self.period_ns:
            self._next_ns += (late // self.period_ns) * self.period_ns
        self.lateness_ns.append(late)
        return late

    def _rest(self, stopped: str) -> None:
        try:
            self.pilot.pause()
        except StaleState:
            if not stopped:
                raise

    def _newest(self) -> dict[str, Any]:
        return self.link.state(self.robot.timing.observation_max_age_s / 2)

    def _observe(self, stale: bool = False) -> Any:
        vector = self._vector()
        if not self.cameras:
            return vector
        if stale:  # the episode ends here: what was last seen closes it
            return {"state": vector, **self._images}
        age = ns(1.5 / self.rate_hz)
        self._images = {
            name: np.ascontiguousarray(c.latest(age).image.transpose(2, 0, 1))
            for name, c in self.cameras.items()
        }
        return {"state": vector, **self._images}

    def _vector(self) -> np.ndarray:
        parts = [np.atleast_1d(self.value(key)) for key in self.keys]
        return np.concatenate(parts).astype(np.float32)

    def value(self, key: str) -> np.ndarray:
        """Return what is observed under a key, of the newest state."""
        for place in (self.task, self.state, self.state.get("extra", {})):
            if key in place:
                return np.asarray(place[key], np.float64)
        raise KeyError(key)

    def _check_keys(self) -> None:
        for key in self.keys:
            try:
                self.value(key)
            except KeyError:
                known = [k for k, v in self.state.items() if isinstance(v, list | float)]
                raise UserError(
                    f"the robot's state has no {key!r}",
                    expected=sorted([*known, *self.state.get("extra", {})]),
                    remedy="change env.keys",
                ) from None

    def _executed(self, seq: int, acted: np.ndarray, before: Mapping[str, Any]) -> np.ndarray:
        """Return the action that the arm was really made to follow."""
        state = self.state
        if state["applied_seq"] != seq:  # refused, or lost: it stayed or went on without us
            return self.actions.nothing(before)
        if Reason(state["applied_reason"]) & ~REFUSING == Reason.NONE:
            return acted
        q = np.array(state["applied_q"])
        return self.actions.executed(q, float(state["gripper_set"]), before)
