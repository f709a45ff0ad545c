"""Targets that leap, and policies that press against every limit for ever: judged by a monitor."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from real_robot.clock import ns
from real_robot.descriptor import RobotDescriptor, load
from real_robot.driver import DriverCommand
from real_robot.kinematics import quaternion
from real_robot.messages import Mode
from real_robot.testing.fuzz import confined, torment
from real_robot.testing.still import POLICY, Cell
from real_robot.verdict import REFUSING
from robo_offline.bench.faults import Fault, Measured
from robo_offline.bench.faults.commands import ready, watched

NAMES = ("sim", "ur5e", "franka", "robosuite_panda")
LEAP_RAD, LEAP_M = 1.0, 0.5
EVERY_S = 0.13  # less often than ten refusals within a second
SPELL = 5_000  # ticks among the same boxes


def leaps(folder: Path, whole: bool) -> Measured:
    """Command leaps of every joint and of the tool; compare what is sent with v, a and j."""
    random, peaks = np.random.default_rng(0), np.zeros(3)
    seen: Counter[str] = Counter()
    for name in NAMES:
        cell, monitor = watched(load(name))
        for _ in range(10_000 if whole else 40):
            if not cell.daemon.machine.state.commanding:
                cell.tick(*ready(cell))
            seen[_leap(cell, random)] += 1
            cell.run(EVERY_S)
        peaks = np.maximum(peaks, shares(cell.robot, cell.arm.sent))
        seen["ticks"] += monitor.judged
        seen["violations"] += len(monitor.violations())
    v, a, j = peaks
    return Measured(
        f"{seen['violations']} limits left in {seen['ticks']:,} ticks of {len(NAMES)} robots; "
        f"highest shares: v {v:.7f}, a {a:.7f}, j {j:.7f}; of the leaps {seen['shortened']:,} "
        f"shortened, {seen['refused']:,} refused, {seen['as they were']:,} followed as they were",
        seen["violations"] == 0 and bool((peaks <= 1 + 1e-6).all()) and seen["shortened"] > 0,
        {"violations": seen["violations"], "ticks": seen["ticks"], "share_v": float(v),
         "share_a": float(a), "share_j": float(j)},
    )  # fmt: skip


def _leap(cell: Cell, random: np.random.Generator) -> str:
    """Command one; return what became of it."""
    if random.random() < 0.5:
        which = random.random(cell.robot.dof) < random.choice([0.2, 1.0])
        way = LEAP_RAD * random.choice([-1, 1], cell.robot.dof) * which
        target = cell.daemon.setpoint.q + way
        raw = cell.command(target, valid_ns=ns(0.3)).encode()
    else:
        position, rotation = cell.daemon.chain.tool(cell.daemon.setpoint.q)
        way = random.normal(size=3)
        way *= LEAP_M / np.linalg.norm(way)
        pose = np.concatenate([position[0] + way, quaternion(rotation[0])])
        raw = cell.command(pose, mode=Mode.POSE, valid_ns=ns(0.3)).encode()
    reason = cell.tick((POLICY, raw)).judgements[0].reason
    return "refused" if reason & REFUSING else "shortened" if reason else "as they were"


def shares(robot: RobotDescriptor, sent: list[tuple[int, DriverCommand]]) -> np.ndarray:
    """Return the highest share (3,) of v, a and j that positions sent tick by tick differ by."""
    times = np.array([now for now, _ in sent])
    q = np.stack([command.q for _, command in sent])
    limits, dt = robot.limits, robot.tick_ns / 1e9
    found = np.zeros(3)
    for motion in np.split(q, np.flatnonzero(np.diff(times) != robot.tick_ns) + 1):
        motion = np.concatenate([motion[:1]] * 3 + [motion])  # at rest before
        most = (limits.v_max_rad_s, limits.a_max_rad_s2, limits.j_max_rad_s3)
        for i, allowed in enumerate(most):
            made = np.abs(np.diff(motion, i + 1, axis=0)) / dt ** (i + 1) / np.array(allowed)
            found[i] = max(found[i], made.max())
    return found


def pressed(folder: Path, whole: bool) -> Measured:
    """Torment robots with commanders of all moods, each among boxes and keep-outs of its own."""
    ticks, spell = (1_000_000, SPELL) if whole else (2_500, 500)
    done, judged, moving, seed, kinds = 0, 0, 0, 0, Counter[str]()
    while done < ticks:
        for robot in robots():
            found = torment(confined(robot, np.random.default_rng(seed)), spell, seed)
            done, judged, seed = done + found.ticks, judged + found.judged, seed + 1
            moving += found.moving
            kinds.update(violation.kind for violation in found.violations)
    many = sum(kinds.values())
    return Measured(
        f"{many} limits left in {done:,} ticks of {len(robots())} robots, {moving:,} of them in "
        f"motion {dict(kinds) or ''}".strip(),
        many == 0 and moving > done / 5,
        {"violations": many, "ticks": done, "judged": judged, "moving": moving},
    )


def robots() -> list[RobotDescriptor]:
    """Return those that are shipped, and one that is as fast as its joints allow."""
    found = [load(name) for name in NAMES]
    slow = load("ur5e")
    fast = replace(slow.limits, tcp_v_max_m_s=1.0, v_max_rad_s=(3.0,) * 6, step_max_rad=(0.6,) * 6)
    return [*found, replace(slow, name="ur5e_fast", limits=fast)]


WILD = (
    Fault(
        6,
        "targets 1 rad away in some joints or all, or 0.5 m away in the tool, of four robots",
        "shortened to a step, or refused; followed within the limits",
        "velocity, acceleration and jerk of every tick sent within the limits, to 1e-6 of them "
        "(finite differences of the positions)",
        leaps,
    ),
    Fault(
        7,
        "commanders who wander, flip, swing, press at joint limits, box and keep-outs, of five "
        "robots, each in boxes drawn anew",
        "the arm brakes before every face",
        "0 limits left: joints within their margin, tool at most 1 mm outside of its box",
        pressed,
    ),
)
