"""Stages: each judges one thing about a command; none has state, none knows the others.

A stage returns the command, perhaps changed, and the reasons. A refusal ends the row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from real_robot.descriptor import Box, Limits, RobotDescriptor
from real_robot.kinematics import Chain, matrix
from real_robot.messages import Command, Mode
from real_robot.verdict import REFUSING, Reason

KEPT_M = 0.002  # from the faces of boxes: what a motion may round off stays inside
FARTHEST_NS = 10_000_000_000  # that a target may lie ahead
MAX_POSES = 4  # of one chunk: each is searched for, within the tick
SLOWEST = 1e-3  # scale of the speed: a motion with less would take hours, and none can be planned


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known when a command is judged."""

    now_ns: int
    robot: RobotDescriptor
    limits: Limits  # the robot's, or tighter
    chain: Chain
    hash: str  # of the descriptor
    q: np.ndarray  # (dof,) where the arm is told to be now
    stamp_ns: int | None  # of the observation that the command names; None for one not known
    lease: int | None  # that is valid for the sender
    last_seq: int


Judged = tuple[Command, Reason]
Stage = Callable[[Command, Situation], Judged]


def finite(command: Command, s: Situation) -> Judged:
    """Refuse numbers that are none, and such as cannot be meant."""
    numbers = (command.targets, command.gripper, np.array(command.speed_scale))
    # Larger than any joint or pose: its square would overflow somewhere below.
    fine = all(np.isfinite(x).all() and (np.abs(x) < 1e6).all() for x in numbers)
    return command, Reason.NONE if fine else Reason.NOT_FINITE


def addressed(command: Command, s: Situation) -> Judged:
    """Refuse what is meant for another robot, comes from somebody else, or came before."""
    reason = Reason.NONE
    if command.descriptor != s.hash:
        reason |= Reason.DESCRIPTOR
    if s.lease is None or command.lease != s.lease:
        reason |= Reason.LEASE
    elif command.seq <= s.last_seq:
        reason |= Reason.SEQUENCE
    return command, reason


def fresh(command: Command, s: Situation) -> Judged:
    """Refuse what was computed from an old observation, and chunks whose time is over."""
    if s.stamp_ns is None:
        return command, Reason.STALE
    if s.now_ns - s.stamp_ns > s.robot.timing.observation_max_age_s * 1e9:
        return command, Reason.STALE
    if s.now_ns > s.stamp_ns + command.t_rel_ns[-1] + command.valid_ns:
        return command, Reason.LATE
    return command, Reason.NONE


def sensible(command: Command, s: Situation) -> Judged:
    """Refuse scales and times that no sender can mean."""
    times = (*command.t_rel_ns, command.valid_ns)
    fine = SLOWEST <= command.speed_scale <= 1 and all(0 <= t <= FARTHEST_NS for t in times)
    fine = fine and (command.mode != Mode.POSE or len(command.targets) <= MAX_POSES)
    return command, Reason.NONE if fine else Reason.RANGE


def gripper(command: Command, s: Situation) -> Judged:
    """Bring the gripper's target into [0, 1]."""
    inside = command.gripper.clip(0, 1)
    if (inside == command.gripper).all():
        return command, Reason.NONE
    return replace(command, gripper=inside), Reason.GRIPPER


def box(command: Command, s: Situation) -> Judged:
    """Bring poses into the box, and refuse those in a keep-out."""
    if command.mode != Mode.POSE:
        return command, Reason.NONE
    low, high = np.array(s.limits.box_m.low_m) + KEPT_M, np.array(s.limits.box_m.high_m) - KEPT_M
    position = command.targets[:, :3].clip(low, high)
    if kept_out(position, s.limits.keepouts_m).any():
        return command, Reason.KEEPOUT
    if (position == command.targets[:, :3]).all():
        return command, Reason.NONE
    targets = np.concatenate([position, command.targets[:, 3:]], 1)
    return replace(command, targets=targets), Reason.BOX


def joints(command: Command, s: Situation) -> Judged:
    """Turn poses into angles near those before; refuse what cannot be reached."""
    if command.mode != Mode.POSE:
        return command, Reason.NONE
    x = s.limits.arrays()
    found, q = [], s.q
    for target in command.targets:
        if abs(np.linalg.norm(target[3:]) - 1) > 1e-3:
            return command, Reason.UNREACHABLE
        rotation = matrix(target[3:] / np.linalg.norm(target[3:]))
        reached = s.chain.inverse(target[:3], rotation, q, x["low"], x["high"])
        if reached is None:
            return command, Reason.UNREACHABLE
        q = reached
        found.append(q)
    return replace(command, mode=Mode.JOINT, targets=np.stack(found)), Reason.NONE


def margin(command: Command, s: Situation) -> Judged:
    """Bring angles into the joints' limits less their margin."""
    x = s.limits.arrays()
    inside = command.targets.clip(x["low"], x["high"])
    if (inside == command.targets).all():
        return command, Reason.NONE
    return replace(command, targets=inside), Reason.JOINT


def step(command: Command, s: Situation) -> Judged:
    """Bring a target nearer, along the straight line, that is too far from the one before it."""
    q, found, changed = s.q, [], False
    for target in command.targets:
        share = np.abs(target - q).max() and (np.abs(target - q) / s.limits.step_max_rad).max()
        if share > 1:
            target, changed = q + (target - q) / share, True
        found.append(target)
        q = target
    if not changed:
        return command, Reason.NONE
    return replace(command, targets=np.stack(found)), Reason.STEP


def predicted(command: Command, s: Situation) -> Judged:
    """Refuse angles whose tool lies outside of the box or in a keep-out."""
    position, _ = s.chain.tool(command.targets)
    if outside(position, s.limits.box_m).any():
        return command, Reason.BOX | Reason.UNREACHABLE
    if kept_out(position, s.limits.keepouts_m).any():
        return command, Reason.KEEPOUT
    return command, Reason.NONE


STAGES: Sequence[Stage] = (
    finite, addressed, sensible, fresh, gripper, box, joints, margin, step, predicted,
)  # fmt: skip


def judge(command: Command, s: Situation, stages: Sequence[Stage] = STAGES) -> Judged:
    """Send a command through the stages; it is refused where a reason is one of REFUSING."""
    reasons = Reason.NONE
    for stage in stages:
        command, reason = stage(command, s)
        reasons |= reason
        if reason & REFUSING:
            break
    return command, reasons


def outside(position: np.ndarray, box: Box, kept: float = 0.0) -> np.ndarray:
    """Return which positions (K, 3) lie outside of a box, or nearer to its faces than `kept`."""
    low, high = np.array(box.low_m) + kept, np.array(box.high_m) - kept
    return ~((position >= low) & (position <= high)).all(-1)


def kept_out(position: np.ndarray, boxes: Sequence[Box], kept: float = KEPT_M) -> np.ndarray:
    """Return which positions (K, 3) lie in one of the boxes, or nearer to one than `kept`."""
    found = np.zeros(len(position), bool)
    for one in boxes:
        found |= ~outside(position, one, -kept)
    return found
