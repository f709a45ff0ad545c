"""The robot daemon, tick by tick: read, judge, move, check what is sent, send, tell.

A tick is a function of the clock, the arm's state and the messages that came in, and of nothing
else: a recorded tick can be run again and decides the same. Sockets, files and sleeping are
elsewhere (`robotd`), so everything here is tested on a clock that stands still.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from real_robot import messages
from real_robot.clock import Clock, ns
from real_robot.descriptor import Limits, RobotDescriptor
from real_robot.driver import DriverCommand, DriverLost, DriverState, RobotDriver
from real_robot.kinematics import Chain
from real_robot.lease import Draw, Lease, random_number
from real_robot.machine import Machine, State
from real_robot.messages import Command, Malformed
from real_robot.requests import Peer, answer
from real_robot.safety.last import fit_to_send
from real_robot.safety.motion import Motion, Setpoint, rest
from real_robot.safety.stages import Situation, judge
from real_robot.verdict import REFUSING, Reason

REMEMBERED_S = 5.0  # stamps of observations
REFUSALS, REFUSALS_S = 10, 1.0  # so many in so long stop the arm
MISSES = 5  # ticks in a row that came late: hold
STILL_RAD_S = 0.02  # measured; slower is standing
AGAIN_S = 0.1  # between two protective stops, while the arm has answered none


@dataclass(frozen=True, slots=True)
class Following:
    """The chunk that is being followed: judged targets as angles, times by our clock."""

    seq: int
    q: np.ndarray  # (k, dof)
    gripper: np.ndarray  # (k,)
    begins_ns: tuple[int, ...]
    ends_ns: int
    scale: float
    reason: int  # what the stages changed

    def index(self, now_ns: int) -> int | None:
        """Return which target holds now; None before the first and after the last."""
        if now_ns > self.ends_ns:
            return None
        due = [i for i, moment in enumerate(self.begins_ns) if moment <= now_ns]
        return due[-1] if due else None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of a message."""

    peer: Peer
    raw: bytes
    reason: Reason
    reply: dict[str, Any]


@dataclass(slots=True)
class Tick:
    """Everything that happened in one tick: what is published and recorded."""

    seq: int
    now_ns: int
    state: State
    measured: DriverState | None
    setpoint: Setpoint
    sent: DriverCommand | None
    judgements: list[Judgement] = field(default_factory=list)
    motion: Reason = Reason.NONE
    late_ns: int = 0


class Daemon:
    """One robot."""

    def __init__(
        self,
        driver: RobotDriver,
        clock: Clock,
        *,
        watched: bool = True,
        attended: bool = True,
        draw: Draw = random_number,
    ):
        self.robot: RobotDescriptor = driver.descriptor
        self.driver, self.clock = driver, clock
        self.watched, self.attended = watched, attended  # by robotwatch, by an operator's console
        self.hash = self.robot.hash
        self.limits: Limits = self.robot.limits
        self.chain = Chain(self.robot)
        self.motion = Motion(self.robot, self.chain)
        self.machine = Machine()
        self.lease = Lease(ns(self.robot.timing.lease_s), draw=draw)
        self.setpoint = rest(np.array(self.robot.home_rad))
        self.gripper = 0.0
        self.following: Following | None = None
        self.waiting: Following | None = None  # its first target lies ahead
        self.applied: dict[str, Any] = {"seq": -1, "index": -1, "reason": 0, "q": []}
        self.measured: DriverState | None = None
        self.seq = 0
        self.stamps: deque[tuple[int, int]] = deque(maxlen=int(REMEMBERED_S * self.robot.timing.servo_hz))  # noqa: E501  # fmt: skip
        self.device_ns, self.fresh_ns = -1, 0  # the arm's own time, and when it last moved on
        self.commanded_ns = 0  # the last accepted command
        self.operator_ns = self.watcher_ns = 0
        self.refusals: deque[int] = deque(maxlen=REFUSALS)
        self.counts: dict[str, int] = {}
        self.misses = 0
        self.braked = 0  # ticks of the stop under way
        self.braking_s = 0.0  # that it may take
        self.unanswered_ns = 0  # when the last protective stop failed; 0: it was answered

    def connect(self, timeout_s: float) -> None:
        """Open the arm; it stays where it is."""
        self.driver.connect(timeout_s)
        now = self.clock.now_ns()
        self.machine.state = State.IDLE
        self.fresh_ns = self.operator_ns = self.watcher_ns = now

    def tick(self, inbox: Sequence[tuple[Peer, bytes]] = (), late_ns: int = 0) -> Tick:
        """Do one tick with the messages that came in since the last one."""
        now = self.clock.now_ns()
        self._read(now)
        found = Tick(self.seq, now, self.machine.state, self.measured, self.setpoint, None)
        found.late_ns = late_ns
        for peer, raw in inbox:
            found.judgements.append(self._receive(peer, raw, now))
        self._watch(now, late_ns)
        if self.unanswered_ns and now - self.unanswered_ns >= ns(AGAIN_S):
            self._protective_stop()
        found.motion = self._move(now)
        found.sent = self._send(now)
        found.state, found.setpoint = self.machine.state, self.setpoint
        return found

    def beat(self, watcher_ns: int) -> None:
        """Note when robotwatch was last alive, by our clock."""
        self.watcher_ns = max(self.watcher_ns, watcher_ns)

    def stop(self, reason: str, into: State = State.STOPPING) -> None:
        """Begin a stop that stays until it is reset."""
        if self.machine.stop(reason, self.clock.now_ns(), into):
            self.following = self.waiting = None
            self.braked = 0
            self.braking_s = self.limits.stop_bound_s(self.setpoint.v) + self.motion.tick_s
            self.lease.revoke()
            if self.machine.state in (State.ESTOP, State.FAULT):
                self._protective_stop()
                self.setpoint = rest(self.setpoint.q)

    # ---- reading --------------------------------------------------------------------------------

    def _read(self, now: int) -> None:
        if self.machine.state is State.DISCONNECTED:
            return
        try:
            state = self.driver.read()
        except DriverLost as error:
            self.stop(f"the arm is lost: {error}", State.FAULT)
            return
        if not _whole(state, self.robot.dof):
            self.stop("the arm's state is not finite or has another shape", State.FAULT)
            return
        self.measured = state
        self.seq += 1
        self.stamps.append((self.seq, now))
        on, back = state.device_time_ns > self.device_ns, state.device_time_ns < self.device_ns
        # An arm that was started anew counts anew; while it is commanded that is no fresh state.
        if on or (back and not self.machine.state.commanding):
            self.device_ns, self.fresh_ns = state.device_time_ns, now
        if state.estop:
            self.stop("the arm's emergency stop is pressed", State.ESTOP)
        elif state.fault:
            self.stop(f"the arm reports: {state.fault}", State.FAULT)
        if not self.machine.state.commanding:
            self.setpoint, self.gripper = rest(state.q), state.gripper

    # ---- messages -------------------------------------------------------------------------------

    def _receive(self, peer: Peer, raw: bytes, now: int) -> Judgement:
        try:
            message = messages.unpack(raw)
            if message["type"] != "command":
                return Judgement(peer, raw, Reason.NONE, answer(self, peer, message, now))
            command = messages.command(message, self.robot.dof)
        except Malformed as error:
            return self._refused(peer, raw, Reason.MALFORMED, now, str(error))
        reason = self._command(peer, command, now)
        if reason & REFUSING:
            return self._refused(peer, raw, reason, now, command.seq)
        self._count("accepted")
        return Judgement(peer, raw, reason, {"ok": True, "seq": command.seq, "reason": int(reason)})

    def _command(self, peer: Peer, command: Command, now: int) -> Reason:
        if not peer.may_command(command.source):
            return Reason.ROLE
        if self.machine.state not in (State.ARMED, State.ACTIVE, State.HOLD):
            return Reason.STATE
        situation = Situation(
            now_ns=now,
            robot=self.robot,
            limits=self.limits,
            chain=self.chain,
            hash=self.hash,
            q=self.setpoint.q,
            stamp_ns=self._stamp(command.obs_seq),
            lease=self.lease.of(peer.key, now),
            last_seq=self.lease.last_seq,
        )
        judged, reason = judge(command, situation)
        if reason & REFUSING:
            return reason
        self.lease.last_seq = command.seq
        self.lease.renew(now)
        self.commanded_ns = now
        self._adopt(judged, reason, situation.stamp_ns or now, now)
        return reason

    def _adopt(self, command: Command, reason: Reason, stamp: int, now: int) -> None:
        found = Following(
            seq=command.seq,
            q=command.targets,
            gripper=command.gripper,
            begins_ns=tuple(stamp + t for t in command.t_rel_ns),
            ends_ns=stamp + command.t_rel_ns[-1] + command.valid_ns,
            scale=command.speed_scale,
            reason=int(reason),
        )
        if found.begins_ns[0] <= now:
            self.following, self.waiting = found, None
        else:
            self.waiting = found
        self.machine.state = State.ACTIVE

    def _stamp(self, obs_seq: int) -> int | None:
        if not self.stamps or not self.stamps[0][0] <= obs_seq <= self.stamps[-1][0]:
            return None
        return self.stamps[obs_seq - self.stamps[0][0]][1]

    def _refused(
        self, peer: Peer, raw: bytes, reason: Reason, now: int, about: object
    ) -> Judgement:
        self._count((reason & REFUSING).name or "refused")
        # Only who commands can stop the arm by nonsense: a stranger must not be able to.
        if self.lease.of(peer.key, now) is not None:
            self.refusals.append(now)
            many = len(self.refusals) == REFUSALS
            if many and now - self.refusals[0] <= ns(REFUSALS_S):
                self.refusals.clear()
                self.stop(f"{REFUSALS} commands refused within {REFUSALS_S:g} s, last: {reason!r}")
        return Judgement(peer, raw, reason, {"ok": False, "seq": about, "reason": int(reason)})

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # ---- who is alive ---------------------------------------------------------------------------

    def _watch(self, now: int, late_ns: int) -> None:
        state, t = self.machine.state, self.robot.timing
        if state is State.DISCONNECTED:
            return
        if now - self.fresh_ns > ns(t.state_timeout_s):
            self.stop(f"no new state of the arm for {t.state_timeout_s:g} s", State.FAULT)
        if not self.machine.state.commanding:
            return
        if self.attended and now - self.operator_ns > ns(t.operator_timeout_s):
            self.stop(f"no operator for {t.operator_timeout_s:g} s")
        if self.watched and now - self.watcher_ns > ns(t.watcher_timeout_s):
            self.stop(f"no robotwatch for {t.watcher_timeout_s:g} s")
        moving = self.machine.state in (State.ACTIVE, State.HOLD)
        if moving and now - self.commanded_ns > ns(t.command_timeout_s):
            self.stop(f"watchdog: no command for {t.command_timeout_s:g} s")
        # Half a tick: where deadlines are skipped, lateness swings around whole ones.
        self.misses = self.misses + 1 if late_ns > self.robot.tick_ns // 2 else 0
        if self.misses >= MISSES and self.machine.state is State.ACTIVE:
            self.following = self.waiting = None
        self._look_at_the_arm()

    def _look_at_the_arm(self) -> None:
        assert self.measured is not None
        error = np.abs(self.measured.q - self.setpoint.q).max()
        if error > self.limits.following_max_rad:
            self.stop(f"the arm is {error:.3f} rad from where it is told to be")
        wrench = self.measured.wrench
        if wrench is None:
            return
        force, torque = np.linalg.norm(wrench[:3]), np.linalg.norm(wrench[3:])
        if force > self.limits.force_max_n or torque > self.limits.torque_max_nm:
            self.stop(f"contact: {force:.0f} N, {torque:.1f} Nm")

    # ---- moving ---------------------------------------------------------------------------------

    def _move(self, now: int) -> Reason:
        state = self.machine.state
        if state is State.STOPPING:
            return self._stopping(now)
        if state not in (State.ACTIVE, State.HOLD):
            return Reason.NONE
        if self.waiting is not None and self.waiting.begins_ns[0] <= now:
            self.following, self.waiting = self.waiting, None
        index = self.following.index(now) if self.following is not None else None
        if self.following is None or index is None:
            self.machine.state = State.HOLD
            self.setpoint = self.motion.braking(self.setpoint, self.limits)
            return Reason.EXHAUSTED
        self.machine.state = State.ACTIVE
        target = self.following.q[index]
        self.setpoint, braked = self.motion.towards(
            self.setpoint, target, self.limits, self.following.scale
        )
        way = self.limits.gripper_v_max_s * self.motion.tick_s
        self.gripper += float(np.clip(self.following.gripper[index] - self.gripper, -way, way))
        self.applied = {
            "seq": self.following.seq,
            "index": index,
            "reason": self.following.reason,
            "q": target.tolist(),
        }
        return Reason.BRAKED if braked else Reason.NONE

    def _stopping(self, now: int) -> Reason:
        if self.setpoint.resting:  # and the arm has been told so
            self.machine.state = State.STOPPED
            try:
                self.driver.controlled_stop()
            except DriverLost as error:
                self.stop(f"the arm is lost: {error}", State.FAULT)
            return Reason.NONE
        # Counted in ticks: where they come late, the arm is told to brake more slowly.
        self.braked += 1
        self.setpoint = self.motion.braking(self.setpoint, self.limits)
        if self.braked * self.motion.tick_s > self.braking_s:
            self.stop("the controlled stop took too long", State.FAULT)
        return Reason.NONE

    # ---- sending --------------------------------------------------------------------------------

    def _send(self, now: int) -> DriverCommand | None:
        if not self.machine.state.commanding:
            return None
        command = DriverCommand(self.setpoint.q.copy(), self.setpoint.v.copy(), self.gripper)
        if not fit_to_send(command, self.limits):
            self.stop("what was to be sent breaks a limit: this is a defect", State.FAULT)
            return None
        try:
            self.driver.write(command)
        except DriverLost as error:
            self.stop(f"the arm is lost: {error}", State.FAULT)
            return None
        return command

    def _protective_stop(self) -> None:
        if self.machine.state not in (State.ESTOP, State.FAULT):  # reset since
            self.unanswered_ns = 0
            return
        try:
            self.driver.protective_stop()
            self.unanswered_ns = 0
        except DriverLost:
            self._count("protective stop not answered")  # robotwatch has its own way
            self.unanswered_ns = self.clock.now_ns()

    # ---- telling --------------------------------------------------------------------------------

    def standing(self) -> bool:
        """Say whether the arm is measured to stand still, with a state that is fresh."""
        if self.measured is None:
            return False
        old = self.clock.now_ns() - self.fresh_ns > ns(self.robot.timing.state_timeout_s)
        return not old and bool((np.abs(self.measured.dq) < STILL_RAD_S).all())

    def within_limits(self) -> bool:
        """Say whether a motion may begin from where the arm is."""
        return self.measured is not None and self.motion.can_stop(
            rest(self.measured.q), self.limits
        )

    def tighten(self, limits: Limits) -> None:
        """Take tighter limits; UserError for looser ones."""
        self.limits = self.limits.tightened(limits)


def _whole(state: DriverState, dof: int) -> bool:
    vectors = [state.q, state.dq, *([] if state.wrench is None else [state.wrench])]
    shapes = state.q.shape == (dof,) and state.dq.shape == (dof,)
    return shapes and all(np.isfinite(v).all() for v in vectors) and np.isfinite(state.gripper)
