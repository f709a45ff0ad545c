"""Commanders that behave as badly as any can, and a run of the daemon under them.

Each is drawn from a seed, so that what it found can be found again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from real_robot.clock import VirtualClock, ns
from real_robot.daemon import Daemon, Tick
from real_robot.descriptor import Box, RobotDescriptor, load, with_limits
from real_robot.drivers.arithmetic import ArithmeticArm
from real_robot.kinematics import Chain, quaternion, turned
from real_robot.machine import State
from real_robot.messages import Command, Mode, Source, pack
from real_robot.requests import Peer, Role
from real_robot.safety.stages import kept_out, outside
from real_robot.testing.monitor import Monitor, Violation, Watched

OPERATOR, POLICY = Peer("operator", Role.OPERATOR), Peer("policy", Role.POLICY)
TELEOP, VIEWER = Peer("teleop", Role.TELEOP), Peer("viewer", Role.VIEWER)
MOOD_TICKS = (10, 200)
Inbox = list[tuple[Peer, bytes]]


class Wild:
    """An operator who always starts again, and commanders of changing moods.

    `spite` is the share of messages that are nonsense: they are refused, and many stop the arm.
    """

    def __init__(self, daemon: Daemon, random: np.random.Generator, spite: float = 0.02):
        self.daemon, self.random, self.spite = daemon, random, spite
        self.chain, self.robot = daemon.chain, daemon.robot
        self.seq = self.left = self.pause = 0
        self._change()

    def inbox(self) -> Inbox:
        """Return what is said in the next tick."""
        said = [self._say(OPERATOR, type="operator")]
        state = self.daemon.machine.state
        if state.latched and self._chance(0.1):
            wrong = int(self._chance(0.1))
            said.append(self._say(OPERATOR, type="reset", stop_id=self.daemon.machine.stop_id + wrong))  # noqa: E501  # fmt: skip
        elif state is State.IDLE and self._chance(0.2):
            said.append(self._say(OPERATOR, type="arm", descriptor=self.daemon.hash))
        elif not self.daemon.lease.valid(self.daemon.clock.now_ns()):
            said.append(self._say(POLICY, type="lease", source=int(Source.POLICY)))
        else:
            said += self._commander()
        if self._chance(0.002):
            said.append(self._request())
        if self._chance(self.spite):
            said.append(self._nonsense())
        return said

    def _commander(self) -> Inbox:
        if self.left <= 0:
            self._change()
        self.left -= 1
        self.pause -= 1
        if self.pause > 0:
            return []
        self.pause = int(self.random.integers(1, self.every + 1))
        self.seq += 1
        found = replace(self.mood(), seq=self.seq)
        # A burst: the loop was late, and several came at once.
        return [(POLICY, found.encode())] * (2 if self._chance(0.01) else 1)

    def _change(self) -> None:
        """Take another mood, and aim at another place."""
        moods = (self._wander, self._flip, self._press, self._through, self._swing, self._leap, self._chunk, self._small)  # noqa: E501  # fmt: skip
        self.mood: Callable[[], Command] = moods[self.random.integers(len(moods))]
        self.left = int(self.random.integers(*MOOD_TICKS))
        # Seldom more rarely than the watchdog allows.
        longest = self.robot.timing.command_timeout_s * self.robot.timing.servo_hz
        longest *= 1.5 if self._chance(0.1) else 0.9
        self.every = int(self.random.integers(1, int(longest)))
        self.scale = 1.0 if self._chance(0.5) else float(self.random.uniform(1e-3, 1))
        self.anchor = self._place()
        kept = self.daemon.limits.keepouts_m or (self.daemon.limits.box_m,)
        self.other = kept[self.random.integers(len(kept))]
        self.beyond = self.chain.tool(self.daemon.setpoint.q)[0][0]
        self.held = self._inside(0.5)

    def _place(self) -> np.ndarray:
        """Return a point on, in or just beyond a face, an edge or a corner of a box."""
        limits = self.daemon.limits
        boxes = (limits.box_m, *limits.keepouts_m)
        box = boxes[self.random.integers(len(boxes))]
        low, high = np.array(box.low_m), np.array(box.high_m)
        share = self.random.choice([0.0, 1.0, self.random.random()], 3)
        return low + share * (high - low) + self.random.normal(0, 0.01, 3)

    def _inside(self, size_rad: float) -> np.ndarray:
        """Return angles whose tool is where it may be; the way there may leave the box."""
        limits = self.daemon.limits
        q = self.daemon.setpoint.q + self.random.uniform(-size_rad, size_rad, (12, self.robot.dof))
        position, _ = self.chain.tool(q)
        bad = outside(position, limits.box_m) | kept_out(position, limits.keepouts_m)
        return q[int(bad.argmin())]

    # ---- moods ----------------------------------------------------------------------------------

    def _wander(self) -> Command:
        return self._joints(self._inside(10 ** self.random.uniform(-4, 0)))

    def _flip(self) -> Command:
        """Back and forth: each target asks for the opposite of what the arm does now."""
        now = self.daemon.setpoint
        away = np.where(now.v == 0, self.random.choice([-1, 1], self.robot.dof), -np.sign(now.v))
        return self._joints(now.q + away * self.random.uniform(0.01, 0.3))

    def _press(self) -> Command:
        """Towards a face, along whatever way there is."""
        position, rotation = self.chain.tool(self.daemon.setpoint.q)
        way = self.anchor - position[0]
        target = position[0] + way * min(1.0, 0.05 / max(float(np.linalg.norm(way)), 1e-9))
        turn = turned(self.random.normal(0, 0.05, 3)) @ rotation[0]
        return self._poses(np.concatenate([target, quaternion(turn)])[None])

    def _through(self) -> Command:
        """To the other side of a keep-out, or of the middle of the box."""
        position, rotation = self.chain.tool(self.daemon.setpoint.q)
        middle = (np.array(self.other.low_m) + self.other.high_m) / 2
        way = middle - position[0]
        if np.linalg.norm(self.beyond - position[0]) < 0.03 or self._chance(0.02):
            self.beyond = middle + way * self.random.uniform(0.3, 1.0)
        target = np.concatenate([self.beyond, quaternion(rotation[0])])
        return self._poses(target[None])

    def _leap(self) -> Command:
        return self._joints(self.held)

    def _swing(self) -> Command:
        """From corner to corner, as fast as it goes."""
        if np.abs(self.held - self.daemon.setpoint.q).max() < 0.02 or self._chance(0.02):
            self.held = self._inside(0.3)
        return self._joints(self.held)

    def _small(self) -> Command:
        return self._joints(self.daemon.setpoint.q + self.random.normal(0, 1e-7, self.robot.dof))

    def _chunk(self) -> Command:
        k = int(self.random.integers(2, 9))
        steps = self.random.normal(0, 0.05, (k, self.robot.dof)).cumsum(0)
        times = np.cumsum(self.random.integers(1, ns(0.05), k))
        times = times - times[0] * int(self._chance(0.7))
        return replace(
            self._joints(self.daemon.setpoint.q + steps), t_rel_ns=tuple(int(t) for t in times)
        )

    def _joints(self, targets: np.ndarray) -> Command:
        rows = np.atleast_2d(targets)
        limits = self.daemon.limits
        return Command(
            lease=self.daemon.lease.number,
            seq=0,
            obs_seq=max(0, self.daemon.seq - int(self.random.integers(0, 5))),
            source=Source.POLICY,
            mode=Mode.JOINT,
            targets=rows.clip(np.array(limits.q_min_rad) - 0.1, np.array(limits.q_max_rad) + 0.1),
            gripper=self.random.uniform(-0.2, 1.2, len(rows)),
            t_rel_ns=tuple(range(len(rows))),
            valid_ns=int(self.random.integers(ns(0.02), ns(0.2))),
            speed_scale=self.scale,
            policy="wild",
            descriptor=self.daemon.hash,
        )

    def _poses(self, targets: np.ndarray) -> Command:
        return replace(self._joints(np.zeros((len(targets), self.robot.dof))), mode=Mode.POSE, targets=targets)  # noqa: E501  # fmt: skip

    # ---- everything else ------------------------------------------------------------------------

    def _request(self) -> tuple[Peer, bytes]:
        asked = [
            (POLICY, "hold"), (POLICY, "release"), (POLICY, "stop"), (TELEOP, "estop"),
            (OPERATOR, "disarm"), (OPERATOR, "stop"), (VIEWER, "stop"), (VIEWER, "status"),
        ]  # fmt: skip
        who, what = asked[self.random.integers(len(asked))]
        return self._say(who, type=what)

    def _nonsense(self) -> tuple[Peer, bytes]:
        who = (POLICY, POLICY, TELEOP, VIEWER)[self.random.integers(4)]
        self.seq += 1
        good = replace(self._wander(), seq=self.seq)
        wrong = [
            replace(good, targets=np.full_like(good.targets, self.random.choice([np.nan, np.inf]))),
            replace(good, targets=np.sign(good.targets) * 1e308),
            replace(good, lease=good.lease ^ 1),
            replace(good, seq=self.seq - 1),
            replace(good, seq=2**63),
            replace(good, obs_seq=0),
            replace(good, speed_scale=float(self.random.choice([0.0, -1.0, 5e-324, 1e-12]))),
            replace(good, valid_ns=-1),
            replace(good, t_rel_ns=(2**62,)),
            replace(good, descriptor="another"),
            replace(good, source=Source.TELEOP),
            replace(good, mode=Mode.POSE, targets=self.random.normal(0, 1, (1, 7))),
        ]
        raw = bytearray(wrong[self.random.integers(len(wrong))].encode())
        for _ in range(self.random.integers(3)):
            raw[self.random.integers(len(raw))] = self.random.integers(256)
        return who, bytes(raw[: self.random.integers(len(raw) + 1) if self._chance(0.2) else None])

    def _say(self, who: Peer, **message) -> tuple[Peer, bytes]:
        return who, pack(message)

    def _chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)


@dataclass
class Torment:
    """What came of a run: for how long the arm moved, what was decided, and what was violated."""

    ticks: int = 0
    judged: int = 0  # commands that the monitor looked at
    moving: int = 0
    braked: int = 0
    states: Counter = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)


def confined(robot: RobotDescriptor, random: np.random.Generator) -> RobotDescriptor:
    """Return the robot in a box of 10 to 40 cm around its home, among keep-outs thick and thin."""
    limits = robot.limits
    here = Chain(robot).tool(np.array(robot.home_rad))[0][0]
    low = np.maximum(here - random.uniform(0.05, 0.2, 3), limits.box_m.low_m)
    high = np.minimum(here + random.uniform(0.05, 0.2, 3), limits.box_m.high_m)
    kept = []
    for _ in range(random.integers(2, 5)):
        size = 10 ** random.uniform(-2.7, -1, 3)  # 2 mm to 10 cm
        way = random.normal(size=3)
        way /= np.linalg.norm(way)
        # Its nearest point is 1 to 4 cm away from the home.
        middle = here + way * random.uniform(0.01, 0.04) + np.sign(way) * size / 2
        kept.append(Box(tuple((middle - size / 2).tolist()), tuple((middle + size / 2).tolist())))
    around = Box(tuple(low.tolist()), tuple(high.tolist()))
    return with_limits(robot, box_m=around, keepouts_m=tuple(kept))


def torment(
    robot: RobotDescriptor,
    ticks: int,
    seed: int,
    spite: float = 0.02,
    follows: float = 1.0,
    look: Callable[[Daemon, Tick], None] | None = None,
) -> Torment:
    """Run the daemon with wild commanders; a monitor judges what reaches the arm.

    `look` is called after each tick.
    """
    random = np.random.default_rng(seed)
    clock, found = VirtualClock(ns(100.0)), Torment()
    arm, monitor = ArithmeticArm(robot, clock, follows), Monitor(robot)
    numbers = iter(range(1, 2**62, 2))
    daemon = Daemon(Watched(arm, clock, monitor), clock, watched=False, draw=lambda: next(numbers))
    daemon.connect(1.0)
    wild, stuck = Wild(daemon, random, spite), 0
    for _ in range(ticks):
        clock.advance(robot.tick_ns)
        tick = daemon.tick(wild.inbox())
        found.ticks += 1
        found.states[tick.state] += 1
        found.moving += not tick.setpoint.resting
        found.braked += bool(tick.motion & tick.motion.BRAKED)
        if look is not None:
            look(daemon, tick)
        if random.random() < 2e-4:
            arm.estop = True
        elif tick.state.latched:
            arm.estop = False
        # Where the arm cannot be armed, somebody takes it home by hand.
        stuck = stuck + 1 if tick.state is State.IDLE else 0
        if stuck > 50:
            arm.q, stuck = np.array(robot.home_rad), 0
        arm.sent.clear()
        arm.stops.clear()
    found.judged, found.violations = monitor.judged, monitor.violations()
    return found


def soak(
    ticks: int = 1_000_000,
    seed: int = 0,
    names: Sequence[str] = ("sim", "ur5e"),
    spell: int = 20_000,
) -> Torment:
    """Torment robots in turn, after each `spell` among other boxes.

    A million ticks take ten minutes of a processor that has nothing else to do.
    """
    whole = Torment()
    while whole.ticks < ticks:
        for name in names:
            robot = confined(load(name), np.random.default_rng(seed))
            found = torment(robot, min(spell, ticks - whole.ticks), seed)
            whole.ticks += found.ticks
            whole.judged += found.judged
            whole.moving += found.moving
            whole.braked += found.braked
            whole.states += found.states
            whole.violations += found.violations
            seed += 1
    return whole
